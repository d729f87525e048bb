-- Places have gaps, so that a waiter can be moved between two others. lim NULL: the policy only pauses.
ALTER TABLE drover_policy ALTER COLUMN lim DROP NOT NULL;
UPDATE drover_pend SET place = place * 65536 WHERE place IS NOT NULL;
UPDATE drover_active SET place = place * 65536 WHERE place IS NOT NULL;
UPDATE drover_done SET place = place * 65536 WHERE place IS NOT NULL;
