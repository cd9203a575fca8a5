//! What the writer knows of instances without asking the file.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _};

use durable_machine::model::{
    EventSeq, ExecutionNumber, InstanceId, RunNumber, RuntimeStatus, Timestamp,
};

use super::failure::Failure;
use super::rows::{number, status_code};

/// Instances of one of the two generations: some 20 MiB at the most.
const GENERATION: usize = 65_536;

/// The columns of an instance that commits are checked against.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: i64,
    pub(super) run: RunNumber,
    pub(super) execution: ExecutionNumber,
    pub(super) log: i64,
    pub(super) status: RuntimeStatus,
    pub(super) due: Option<Timestamp>,
    pub(super) large: bool,
    /// Position of the next event of `log`; read when it is first needed.
    pub(super) next: Option<EventSeq>,
}

/// A bounded map from ids to [`Entry`], so that a commit need not look each id up in the text index.
///
/// Only the writer's connection changes `instances` in this process, and each of its changes goes through
/// [`Keys::set`] or [`Keys::forget`]. A change that is rolled back is forgotten; when another process
/// wrote, everything is. The old generation goes when the young one is full.
#[derive(Default)]
pub(super) struct Keys {
    young: HashMap<InstanceId, Entry>,
    old: HashMap<InstanceId, Entry>,
    changed: Vec<InstanceId>,
}

impl Keys {
    /// The instance as of now, the open transaction included.
    pub(super) fn get(
        &mut self,
        conn: &Connection,
        id: &InstanceId,
    ) -> Result<Option<Entry>, Failure> {
        if let Some(entry) = self.young.get(id) {
            return Ok(Some(entry.clone()));
        }
        if let Some(entry) = self.old.remove(id) {
            self.insert(id.clone(), entry.clone());
            return Ok(Some(entry));
        }
        let Some(entry) = read(conn, id)? else { return Ok(None) };
        self.insert(id.clone(), entry.clone());
        Ok(Some(entry))
    }

    /// Notes what the open transaction made of the instance.
    pub(super) fn set(&mut self, id: &InstanceId, entry: Entry) {
        self.changed.push(id.clone());
        if entry.status.is_terminal() {
            // Hardly anybody asks again, and the map is for those that run.
            self.forget(id);
        } else {
            self.old.remove(id);
            self.insert(id.clone(), entry);
        }
    }

    pub(super) fn forget(&mut self, id: &InstanceId) {
        self.young.remove(id);
        self.old.remove(id);
    }

    /// Where a savepoint begins.
    pub(super) fn mark(&self) -> usize {
        self.changed.len()
    }

    /// Forgets what was changed since the mark; 0 is the begin of the transaction.
    pub(super) fn roll_back(&mut self, mark: usize) {
        for id in self.changed.split_off(mark) {
            self.forget(&id);
        }
    }

    /// The transaction is committed.
    pub(super) fn keep(&mut self) {
        self.changed.clear();
    }

    /// Another process wrote, or the connection is new.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn insert(&mut self, id: InstanceId, entry: Entry) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(id, entry);
    }
}

fn read(conn: &Connection, id: &InstanceId) -> Result<Option<Entry>, Failure> {
    let mut statement = conn.prepare_cached(
        "SELECT key, run, execution, log, status, due, body IS NULL FROM instances WHERE id = ?1",
    )?;
    let found = statement
        .query_row([id.as_str()], |row| {
            let status: i64 = row.get(4)?;
            let entry = Entry {
                key: row.get(0)?,
                run: RunNumber(number(row, 1)?),
                execution: ExecutionNumber(row.get(2)?),
                log: row.get(3)?,
                status: RuntimeStatus::Pending,
                due: row.get::<_, Option<i64>>(5)?.map(Timestamp::from_micros),
                large: row.get(6)?,
                next: None,
            };
            Ok((entry, status))
        })
        .optional()?;
    found
        .map(|(entry, status)| Ok(Entry { status: status_code(status, id.as_str())?, ..entry }))
        .transpose()
}

/// Position of the next event of a log.
pub(super) fn next_event(conn: &Connection, log: i64) -> Result<EventSeq, Failure> {
    let mut statement = conn.prepare_cached(
        "SELECT first + events FROM history WHERE log = ?1 ORDER BY row DESC LIMIT 1",
    )?;
    Ok(EventSeq(statement.query_row([log], |row| number(row, 0)).optional()?.unwrap_or(0)))
}
