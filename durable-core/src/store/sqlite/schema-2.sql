-- Schema version 2: instances that failed, were terminated or are held are found among any number of others.
-- A run that goes its way from start to end costs nothing here.
CREATE INDEX instances_troubled ON instances (key) WHERE status IN (3, 5, 7);
