-- A task hub in one file, schema version 1. docs/design/storage.md has the reason for every table and index.
-- Times are microseconds since 1970-01-01T00:00:00Z. Bodies are the JSON of the codec, checksum included.

-- What was fixed when the hub was created.
CREATE TABLE hub (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    name TEXT NOT NULL,
    partitions INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

-- One row for each partition: who may write to it, and its head.
CREATE TABLE partitions (
    partition INTEGER PRIMARY KEY,
    fence INTEGER NOT NULL,
    last_commit INTEGER NOT NULL,
    head TEXT NOT NULL
) STRICT;

-- One row for each instance id: its current run. A new run has a new, higher key, so that the order of
-- keys is the order of starts.
CREATE TABLE instances (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    run INTEGER NOT NULL,
    execution INTEGER NOT NULL,
    log INTEGER NOT NULL,           -- history.log of the current execution
    status INTEGER NOT NULL,        -- code of the status; the view `overview` has its name
    due INTEGER,                    -- earliest due time: where its row in `timers` is
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    nonce BLOB,                     -- of the last start of this id that began
    nonce_run INTEGER,              -- the run that it began
    name TEXT NOT NULL,             -- of the orchestrator
    body TEXT                       -- the rest of the status row; NULL where it is in large_bodies
) STRICT;

-- Bodies of status rows that would make `instances` slow to scan and costly to update.
CREATE TABLE large_bodies (
    key INTEGER PRIMARY KEY,
    body TEXT NOT NULL
) STRICT;

-- Events, appended: the order of rows is the order of commits.
CREATE TABLE history (
    row INTEGER PRIMARY KEY,
    log INTEGER NOT NULL,           -- one number for each execution
    first INTEGER NOT NULL,         -- position of the first event of the row
    events INTEGER NOT NULL,        -- how many they are
    at INTEGER NOT NULL,            -- when the last of them was recorded
    body ANY NOT NULL
) STRICT;
CREATE INDEX history_log ON history (log);

-- Histories of older runs and executions, unreachable already, deleted in portions.
CREATE TABLE garbage (
    log INTEGER PRIMARY KEY
) STRICT;

-- Work in flight, by instances.key: what a new owner has to look at.
CREATE TABLE in_flight (
    key INTEGER PRIMARY KEY,
    body ANY NOT NULL
) STRICT;

-- The earliest due time of each instance that has one.
CREATE TABLE timers (
    partition INTEGER NOT NULL,
    due INTEGER NOT NULL,
    id TEXT NOT NULL,
    PRIMARY KEY (partition, due, id)
) STRICT, WITHOUT ROWID;

-- Starts that were accepted and have not begun. A number is never used again: readers go on behind the
-- last one that they saw.
CREATE TABLE acceptances (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    partition INTEGER NOT NULL,
    id TEXT NOT NULL UNIQUE,
    run INTEGER NOT NULL,
    nonce BLOB NOT NULL,
    body TEXT NOT NULL
) STRICT;

-- Commands from outside that no commit has consumed.
CREATE TABLE inbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    partition INTEGER NOT NULL,
    envelope TEXT NOT NULL UNIQUE,
    body TEXT NOT NULL
) STRICT;

-- Ids of consumed commands, for one hour, in the order of their times.
CREATE TABLE consumed (
    row INTEGER PRIMARY KEY,
    partition INTEGER NOT NULL,
    envelope TEXT NOT NULL,
    at INTEGER NOT NULL,
    UNIQUE (partition, envelope)
) STRICT;

-- Messages to other partitions whose application was not confirmed.
CREATE TABLE outbox (
    sender INTEGER NOT NULL,
    receiver INTEGER NOT NULL,
    number INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (sender, receiver, number)
) STRICT, WITHOUT ROWID;

-- Instances in each status.
CREATE TABLE counts (
    status INTEGER PRIMARY KEY,
    n INTEGER NOT NULL
) STRICT;

-- Workers that said they live. Only the one that holds the lock file counts.
CREATE TABLE members (
    worker TEXT PRIMARY KEY,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Rows that could not be read and were moved out of the way, for a person to look at.
CREATE TABLE dead_letters (
    number INTEGER PRIMARY KEY,
    came_from TEXT NOT NULL,
    at INTEGER NOT NULL,
    reason TEXT NOT NULL,
    body ANY
) STRICT;

-- For people: SELECT * FROM overview LIMIT 20.
CREATE VIEW overview AS
SELECT
    i.id,
    CASE i.status
        WHEN 0 THEN 'Running' WHEN 1 THEN 'Completed' WHEN 2 THEN 'ContinuedAsNew' WHEN 3 THEN 'Failed'
        WHEN 4 THEN 'Canceled' WHEN 5 THEN 'Terminated' WHEN 6 THEN 'Pending' WHEN 7 THEN 'Suspended'
    END AS status,
    i.name,
    i.run,
    i.execution,
    datetime(i.created_at / 1000000, 'unixepoch') AS created,
    datetime(i.updated_at / 1000000, 'unixepoch') AS updated,
    (SELECT sum(h.events) FROM history h WHERE h.log = i.log) AS events
FROM instances i
ORDER BY i.key DESC;
