//! The database file: connections, schema, and what the hub was created with.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, TransactionBehavior, params};

use super::super::memory::host_clock;
use super::super::{HubInfo, StoreError};
use super::SqliteOptions;
use super::failure::{Failure, Trouble, damaged};

/// "drbl": tells a hub from other SQLite files.
const APPLICATION_ID: i32 = 0x6472_626c;

/// Older ones can corrupt a WAL when two connections checkpoint at once.
const SQLITE_VERSION_MIN: i32 = 3_051_003;

/// Each step leads from one schema version to the next, the first from an empty file. A step is never
/// changed once it was released.
pub(super) const SCHEMA: &[&str] =
    &[include_str!("schema.sql"), include_str!("schema-2.sql"), include_str!("schema-3.sql")];

/// What the WAL is grown to when an owner opens a partition. A file that grows with each commit makes
/// commits 1.5 times slower, until its first recycling at about this size (autocheckpoint).
pub(super) const WAL_BYTES: u64 = 4 * 1024 * 1024;

/// Pages in the WAL from which on a commit checkpoints.
const AUTOCHECKPOINT_PAGES: u32 = 1000;

const PAGE_BYTES: u32 = 4096;

/// Statements of one connection that stay prepared; more than there are.
const STATEMENTS: usize = 128;

/// Opens the hub for writing, creating or migrating it where that is needed.
pub(super) fn open_hub(path: &Path, options: &SqliteOptions) -> Result<Connection, StoreError> {
    let found = rusqlite::version_number();
    if found < SQLITE_VERSION_MIN {
        return Err(StoreError::Unusable(format!(
            "SQLite {} is too old: the engine needs 3.51.3 or newer, because older ones have a bug that corrupts the WAL",
            rusqlite::version()
        )));
    }
    if path.as_os_str() == ":memory:" || path.as_os_str().is_empty() {
        return Err(StoreError::Unusable(
            "a hub needs a file; use MemoryStore for one that lives in memory".into(),
        ));
    }
    let mut conn = connect(path, options, OpenFlags::SQLITE_OPEN_CREATE)
        .map_err(|error| not_a_hub(path, error))?;
    migrate(&mut conn, SCHEMA, options.busy_timeout)
        .and_then(|()| hub_row(&mut conn, path, options))
        .map_err(|failure| match failure {
            Failure::Refused(error) => error,
            Failure::Sql(error) => not_a_hub(path, error),
        })?;
    Ok(conn)
}

/// A further connection for writing, to a hub that is open already.
pub(super) fn reopen(path: &Path, options: &SqliteOptions) -> rusqlite::Result<Connection> {
    connect(path, options, OpenFlags::empty())
}

/// A connection that only reads.
pub(super) fn reader(path: &Path, options: &SqliteOptions) -> rusqlite::Result<Connection> {
    let conn = connect(path, options, OpenFlags::empty())?;
    conn.pragma_update(None, "query_only", true)?;
    Ok(conn)
}

fn connect(path: &Path, options: &SqliteOptions, extra: OpenFlags) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | extra;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(options.busy_timeout)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    // Only an empty file takes the page size.
    conn.pragma_update(None, "page_size", PAGE_BYTES)?;
    let kib = i64::try_from(options.cache_bytes / 1024).unwrap_or(i64::MAX);
    conn.pragma_update(None, "cache_size", -kib)?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    conn.pragma_update(None, "wal_autocheckpoint", AUTOCHECKPOINT_PAGES)?;
    Ok(conn)
}

fn not_a_hub(path: &Path, error: rusqlite::Error) -> StoreError {
    let path = path.display();
    match Trouble::of(&error) {
        Trouble::Damaged(what) => StoreError::Unusable(format!(
            "{path} is not a task hub, or it is damaged: SQLite says {what}"
        )),
        Trouble::Unusable(what) => StoreError::Unusable(format!("{path} cannot be opened: {what}")),
        other @ (Trouble::Busy { .. } | Trouble::Io(_) | Trouble::Unknown(_)) => other.into(),
    }
}

/// Brings the file to the newest schema, in one transaction: an interruption leaves the old one.
pub(super) fn migrate(
    conn: &mut Connection,
    steps: &[&str],
    busy_timeout: Duration,
) -> Result<(), Failure> {
    let supported = u32::try_from(steps.len()).expect("a handful of schema versions");
    if checked_version(conn, supported)? == supported {
        return Ok(());
    }
    // The journal mode cannot change inside a transaction, and belongs to the file from then on.
    conn.pragma_update(None, "journal_mode", "WAL")?;
    conn.busy_timeout(busy_timeout)?;
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Again, now that no other process can migrate it meanwhile.
    let version = checked_version(&tx, supported)?;
    for step in steps.iter().skip(usize::try_from(version).unwrap_or(usize::MAX)) {
        tx.execute_batch(step)?;
    }
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.pragma_update(None, "user_version", supported)?;
    tx.commit()?;
    Ok(())
}

/// The schema version of a file that is a hub or may become one; 0 for an empty one.
fn checked_version(conn: &Connection, supported: u32) -> Result<u32, Failure> {
    let read = |pragma: &str| conn.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let application = read("application_id")?;
    let version = read("user_version")?;
    let objects: i64 =
        conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application == 0 && version == 0 && objects == 0 {
        return Ok(0);
    }
    if application != i64::from(APPLICATION_ID) {
        return Err(StoreError::Unusable(
            "the file is an SQLite database of another program, not a task hub".into(),
        )
        .into());
    }
    let found = u32::try_from(version)
        .map_err(|_| damaged("the schema version", format!("{version} is not a version")))?;
    if found > supported {
        return Err(StoreError::NewerSchema { found, supported }.into());
    }
    Ok(found)
}

fn hub_row(conn: &mut Connection, path: &Path, options: &SqliteOptions) -> Result<(), Failure> {
    let asked = HubInfo { name: options.hub.clone(), partitions: options.partitions };
    if !(1..=64).contains(&asked.partitions) {
        return Err(StoreError::Unusable(format!(
            "a hub has 1 to 64 partitions, not {}",
            asked.partitions
        ))
        .into());
    }
    let stored = |conn: &Connection| {
        conn.query_row("SELECT name, partitions FROM hub", [], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, u16>(1)?))
        })
        .optional()
    };
    let mut found = stored(conn)?;
    if found.is_none() {
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        tx.execute(
            "INSERT OR IGNORE INTO hub (one, name, partitions, created_at) VALUES (1, ?1, ?2, ?3)",
            params![asked.name.as_str(), asked.partitions, host_clock().as_micros()],
        )?;
        found = stored(&tx)?;
        tx.commit()?;
    }
    let (name, partitions) = found.ok_or_else(|| damaged("the hub row", "it is not there"))?;
    if name != asked.name.as_str() {
        return Err(StoreError::Unusable(format!(
            "{} holds the task hub {name:?}, not {:?}",
            path.display(),
            asked.name.as_str()
        ))
        .into());
    }
    if partitions != asked.partitions {
        return Err(StoreError::Unusable(format!(
            "the task hub in {} was created with {partitions} partitions, not {}; the number is fixed at creation",
            path.display(),
            asked.partitions
        ))
        .into());
    }
    Ok(())
}

/// Grows the WAL file once, by writing into it what is then rolled back: the database keeps its size.
/// Best effort; nothing depends on it but speed.
pub(super) fn grow_wal(conn: &Connection, path: &Path) {
    let wal = wal_path(path);
    if std::fs::metadata(&wal).is_ok_and(|wal| wal.len() >= WAL_BYTES) {
        return;
    }
    let grow = || -> rusqlite::Result<()> {
        let pages: i64 = conn.pragma_query_value(None, "cache_size", |row| row.get(0))?;
        // With a tiny cache the pages of an open transaction spill into the WAL.
        conn.pragma_update(None, "cache_size", 16)?;
        let written = conn.execute_batch(&format!(
            "BEGIN IMMEDIATE;
             CREATE TABLE wal_grown (filler BLOB);
             INSERT INTO wal_grown VALUES (zeroblob({WAL_BYTES}));
             ROLLBACK;"
        ));
        if written.is_err() && !conn.is_autocommit() {
            conn.execute_batch("ROLLBACK")?;
        }
        conn.pragma_update(None, "cache_size", pages)
    };
    if let Err(error) = grow() {
        tracing::debug!(%error, "the WAL was not grown in advance");
    }
}

pub(super) fn wal_path(path: &Path) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}
