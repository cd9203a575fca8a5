//! What the writer thread does between groups: old rows go in portions, and the WAL stays bounded.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _};

use super::super::StoreError;
use super::failure::{Failure, Trouble};
use super::file::wal_path;
use super::writer::{Tx, Writer};

/// Between two portions: old rows go at up to 40 000 a second, and a commit waits for one portion at
/// the most.
pub(super) const PAUSE: Duration = Duration::from_millis(25);
pub(super) const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(1);

/// Rows of one portion: some milliseconds.
const PORTION_ROWS: usize = 1000;

/// How long the id of a consumed command is remembered, in microseconds.
pub(super) const CONSUMED_KEPT_MICROS: i64 = 3600 * 1_000_000;

/// Transactions between two looks at the size of the WAL.
pub(super) const WAL_CHECK_EVERY: u64 = 1000;

/// Beyond this the WAL is emptied at the price of waiting for readers. Ordinary checkpoints keep it at a
/// few MiB unless long reads overlap all the time.
const WAL_BYTES_MAX: u64 = 64 * 1024 * 1024;
const READERS_WAIT: Duration = Duration::from_millis(50);

/// Whether a portion was all.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Left {
    Nothing,
    More,
}

/// Removes one portion of what nobody can reach any more.
pub(super) fn portion(writer: &mut Writer) -> Result<Left, StoreError> {
    let there = writer
        .conn()
        .and_then(|conn| {
            conn.prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM garbage) OR EXISTS (SELECT 1 FROM consumed)",
            )
            .and_then(|mut statement| statement.query_row([], |row| row.get::<_, bool>(0)))
            .map_err(|error| Trouble::of(&error))
        })
        .map_err(StoreError::from)?;
    if !there {
        return Ok(Left::Nothing);
    }
    let mut left = Left::Nothing;
    writer.chore(&mut |tx| {
        let removed = histories(tx)? + consumed(tx)?;
        left = if removed >= PORTION_ROWS { Left::More } else { Left::Nothing };
        Ok(())
    })?;
    Ok(left)
}

fn histories(tx: &mut Tx<'_>) -> Result<usize, Failure> {
    let mut removed = 0;
    while removed < PORTION_ROWS {
        let log: Option<i64> = tx
            .conn
            .prepare_cached("SELECT log FROM garbage LIMIT 1")?
            .query_row([], |row| row.get(0))
            .optional()?;
        let Some(log) = log else { break };
        let rest = PORTION_ROWS - removed;
        let rows = tx
            .conn
            .prepare_cached(
                "DELETE FROM history WHERE row IN (SELECT row FROM history WHERE log = ?1 LIMIT ?2)",
            )?
            .execute((log, i64::try_from(rest).unwrap_or(i64::MAX)))?;
        removed += rows;
        if rows < rest {
            tx.conn.prepare_cached("DELETE FROM garbage WHERE log = ?1")?.execute([log])?;
            // Counts too: ten thousand empty ones are work.
            removed += 1;
        }
    }
    Ok(removed)
}

/// Forgets ids after an hour, by the times that commits brought. Rows are in the order of time.
fn consumed(tx: &mut Tx<'_>) -> Result<usize, Failure> {
    let Some(latest) = tx.state.latest else { return Ok(0) };
    Ok(tx
        .conn
        .prepare_cached(
            "DELETE FROM consumed WHERE row IN (
                 SELECT row FROM (SELECT row, at FROM consumed ORDER BY row LIMIT ?2) WHERE at < ?1)",
        )?
        .execute((
            latest.as_micros().saturating_sub(CONSUMED_KEPT_MICROS),
            i64::try_from(PORTION_ROWS).unwrap_or(i64::MAX),
        ))?)
}

/// Empties the WAL where ordinary checkpoints did not keep it bounded.
pub(super) fn bound_wal(conn: &Connection, path: &Path) {
    if std::fs::metadata(wal_path(path)).is_ok_and(|wal| wal.len() <= WAL_BYTES_MAX) {
        return;
    }
    let emptied = conn
        .busy_timeout(READERS_WAIT)
        .and_then(|()| conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)));
    match emptied {
        Ok(0_i64) => {}
        Ok(_) => tracing::debug!("long reads keep the WAL from being emptied"),
        Err(error) => tracing::debug!(%error, "the WAL was not emptied"),
    }
}
