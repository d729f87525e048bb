-- Lending: whose turn a job borrows. The lines of borrowers have keys of a kind of their own, chr(29), whose turns are granted under
-- the lock of drover_line. drover_pend.mode 6: a lender that waits for its turn to come back, which it holds.
ALTER TABLE drover_job ADD COLUMN lender uuid;
INSERT INTO drover_regime (kind, free) VALUES (chr(29), false);
