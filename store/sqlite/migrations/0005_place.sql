-- Places have gaps, so that a waiter can be moved between two others.
UPDATE drover_job SET place = place * 65536 WHERE place <> 0;
