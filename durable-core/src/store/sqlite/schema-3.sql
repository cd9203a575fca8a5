-- Schema version 3: a history that is left to be removed says whose it was, so that a purge is answered only
-- once nothing of its instance is left. Older rows do not say it; they go within seconds.
ALTER TABLE garbage ADD COLUMN id TEXT;
