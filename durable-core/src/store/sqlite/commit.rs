//! A commit of a partition, row by row.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension as _, params};

use durable_machine::codec::encode_row;
use durable_machine::model::{
    EventSeq, ExecutionKey, ExecutionNumber, Fence, InstanceId, PartitionId, RuntimeStatus,
    StatusRow, Timestamp,
};
use durable_machine::store::{
    Begins, Commit, Consumed, HistoryAppend, InstanceWrite, OutboxWrite, RowChange,
};

use super::super::StoreError;
use super::failure::Failure;
use super::keys::{Entry, next_event};
use super::rows::{Body, LARGE_BODY_BYTES, int, limit, status_body};
use super::writer::{Tx, owned};

/// Applies a commit. On `Err` the caller rolls back what was done so far.
pub(super) fn apply(
    tx: &mut Tx<'_>,
    partitions: u16,
    fence: Fence,
    commit: &Commit,
) -> Result<(), Failure> {
    owned(tx.conn, commit.partition, fence)?;
    let mut logs = OtherLogs::default();
    for write in &commit.instances {
        let mut one = One { tx, commit, write, logs: &mut logs };
        if write.key.instance.partition(partitions) != commit.partition {
            return Err(one.contradiction("belongs to another partition"));
        }
        if write.begins.a_run() { one.begin()? } else { one.go_on()? }
    }
    logs.close(tx, commit)?;
    for key in &commit.purges {
        purge(tx, partitions, commit, key)?;
    }
    for consumed in &commit.consumed {
        consume(tx, commit, consumed)?;
    }
    for (status, delta) in &commit.counts {
        count(tx, *status, *delta)?;
    }
    for outbox in &commit.outbox {
        post(tx, commit.partition, outbox)?;
    }
    for (to, number) in &commit.outbox_done {
        tx.conn
            .prepare_cached(
                "DELETE FROM outbox WHERE sender = ?1 AND receiver = ?2 AND number <= ?3",
            )?
            .execute((commit.partition.0, to.0, int(number.0)))?;
    }
    if commit.head_changed {
        tx.conn
            .prepare_cached(
                "UPDATE partitions SET head = ?2, last_commit = ?3 WHERE partition = ?1",
            )?
            .execute((commit.partition.0, Body(&encode_row(&commit.head)), int(commit.number.0)))?;
    }
    tx.applied(commit.partition, fence, commit.number);
    tx.state.latest = tx.state.latest.max(Some(commit.at));
    Ok(())
}

/// Histories of executions that are not the current one of their instance while a commit is applied:
/// the one that a continue-as-new ends, and those between.
#[derive(Default)]
struct OtherLogs(BTreeMap<(InstanceId, ExecutionNumber), (i64, EventSeq)>);

impl OtherLogs {
    /// Once the commit is applied nobody can reach them.
    fn close(self, tx: &mut Tx<'_>, commit: &Commit) -> Result<(), Failure> {
        for ((id, execution), (log, next)) in self.0 {
            let current = tx.entry(&id)?.map(|entry| entry.execution);
            if current.is_none_or(|current| current < execution) {
                return Err(StoreError::Unusable(format!(
                    "commit {}: {id}: has history of execution {execution}, which its status row does not name",
                    commit.number
                ))
                .into());
            }
            if next > EventSeq(0) {
                discard(tx, log, &id)?;
            }
        }
        Ok(())
    }
}

/// Leaves a history of an instance to be removed in portions.
fn discard(tx: &mut Tx<'_>, log: i64, id: &InstanceId) -> Result<(), Failure> {
    tx.conn
        .prepare_cached("INSERT OR IGNORE INTO garbage (log, id) VALUES (?1, ?2)")?
        .execute((log, id.as_str()))?;
    tx.state.chores = true;
    Ok(())
}

/// One write of a commit, being applied.
struct One<'a, 't> {
    tx: &'a mut Tx<'t>,
    commit: &'a Commit,
    write: &'a InstanceWrite,
    logs: &'a mut OtherLogs,
}

impl One<'_, '_> {
    fn contradiction(&self, what: &str) -> Failure {
        StoreError::Unusable(format!("commit {}: {}: {what}", self.commit.number, self.write.key))
            .into()
    }

    /// A new run: what is stored of earlier ones goes.
    fn begin(&mut self) -> Result<(), Failure> {
        let (Some(status), Some(append)) = (self.write.status.as_deref(), &self.write.history)
        else {
            return Err(self.contradiction("begins without status row or history"));
        };
        let id = &self.write.key.instance;
        let nonce = match self.write.begins {
            Begins::Asked if self.was_accepted()? => {
                return Err(self.contradiction("a start of the id was accepted meanwhile"));
            }
            Begins::Asked => None,
            Begins::No | Begins::Fresh | Begins::Accepted => self.accepted()?,
        };
        let due = self.write.timer.as_ref().and_then(|timer| timer.to);
        let entry = match self.tx.entry(id)? {
            // The row that its acceptance made.
            Some(mut entry) if entry.run == self.write.key.run => {
                if self.next(&mut entry)? > EventSeq(0) {
                    discard(self.tx, entry.log, id)?;
                    entry.log = self.tx.new_key()?;
                    entry.next = Some(EventSeq(0));
                }
                clear(self.tx, id, self.commit.partition, &entry)?;
                entry.execution = status.execution;
                entry.due = due;
                update(self.tx, &mut entry, status)?;
                if let Some((nonce, run)) = nonce {
                    self.tx
                        .conn
                        .prepare_cached(
                            "UPDATE instances SET nonce = ?2, nonce_run = ?3 WHERE key = ?1",
                        )?
                        .execute((entry.key, nonce, run))?;
                }
                entry
            }
            Some(old) if self.write.begins == Begins::Fresh => {
                let what = format!("begins under an id that has run {}", old.run);
                return Err(self.contradiction(&what));
            }
            Some(old) => {
                let kept = replace(self.tx, id, self.commit.partition, &old)?;
                insert(self.tx, status, due, nonce.or(kept))?
            }
            None => insert(self.tx, status, due, nonce)?,
        };
        self.tx.state.keys.set(id, entry.clone());
        let entry = self.append(entry, append)?;
        if let Some(due) = due {
            add_timer(self.tx, self.commit.partition, due, id)?;
        }
        self.in_flight(entry.key)?;
        self.tx.state.keys.set(id, entry);
        Ok(())
    }

    /// Whether a start of the id waits that this run does not come from.
    fn was_accepted(&self) -> Result<bool, Failure> {
        let id = self.write.key.instance.as_str();
        Ok(self.tx.conn.prepare_cached("SELECT 1 FROM acceptances WHERE id = ?1")?.exists([id])?)
    }

    /// Takes the acceptance that this run comes from.
    fn accepted(&mut self) -> Result<Option<Nonce>, Failure> {
        let id = self.write.key.instance.as_str();
        let found: Option<(i64, Vec<u8>, i64)> = self
            .tx
            .conn
            .prepare_cached("SELECT seq, nonce, run FROM acceptances WHERE id = ?1")?
            .query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        let Some((seq, nonce, run)) = found else { return Ok(None) };
        if run.cast_unsigned() > self.write.key.run.0 {
            return Ok(None);
        }
        self.tx.conn.prepare_cached("DELETE FROM acceptances WHERE seq = ?1")?.execute([seq])?;
        Ok(Some((nonce, int(self.write.key.run.0))))
    }

    /// A start that cannot begin yet shows why, in place of the run that has ended, or was purged.
    fn wait_in_place_of(&mut self, old: Option<&Entry>) -> Result<Entry, Failure> {
        let id = &self.write.key.instance;
        let accepted = self
            .tx
            .conn
            .prepare_cached("SELECT 1 FROM acceptances WHERE id = ?1 AND run = ?2")?
            .exists((id.as_str(), int(self.write.key.run.0)))?;
        let status = self
            .write
            .status
            .as_deref()
            .filter(|_| old.is_none_or(|old| old.status.is_terminal()))
            .filter(|_| self.write.history.is_none() && accepted)
            .ok_or_else(|| match old {
                Some(_) => self.contradiction("is not the stored run"),
                None => self.contradiction("does not exist"),
            })?;
        let kept = match old {
            Some(old) => replace(self.tx, id, self.commit.partition, old)?,
            None => None,
        };
        insert(self.tx, status, None, kept)
    }

    /// Goes on with the stored run.
    fn go_on(&mut self) -> Result<(), Failure> {
        let id = &self.write.key.instance;
        let mut entry = match self.tx.entry(id)? {
            Some(entry) if entry.run == self.write.key.run => entry,
            other => self.wait_in_place_of(other.as_ref())?,
        };
        if let Some(append) = &self.write.history {
            // A rewind begins the next execution of a run that has ended.
            if entry.status.is_terminal() && self.write.key.execution <= entry.execution {
                return Err(self.contradiction("appends to an instance that has ended"));
            }
            entry = self.append(entry, append)?;
        }
        if let Some(timer) = &self.write.timer {
            if timer.from != entry.due {
                return Err(self.contradiction("moves a timer that is elsewhere"));
            }
            if let Some(due) = timer.from {
                remove_timer(self.tx, self.commit.partition, due, id)?;
            }
            if let Some(due) = timer.to {
                add_timer(self.tx, self.commit.partition, due, id)?;
            }
            entry.due = timer.to;
        }
        self.in_flight(entry.key)?;
        if let Some(status) = self.write.status.as_deref() {
            if status.execution != entry.execution {
                self.switch(&mut entry, status.execution)?;
            }
            update(self.tx, &mut entry, status)?;
        } else if self.write.timer.is_some() {
            self.tx
                .conn
                .prepare_cached("UPDATE instances SET due = ?2 WHERE key = ?1")?
                .execute((entry.key, entry.due.map(Timestamp::as_micros)))?;
        }
        self.tx.state.keys.set(id, entry);
        Ok(())
    }

    fn next(&self, entry: &mut Entry) -> Result<EventSeq, Failure> {
        if let Some(next) = entry.next {
            return Ok(next);
        }
        let next = next_event(self.tx.conn, entry.log)?;
        entry.next = Some(next);
        Ok(next)
    }

    fn append(&mut self, mut entry: Entry, append: &HistoryAppend) -> Result<Entry, Failure> {
        let other = (self.write.key.execution != entry.execution)
            .then(|| (self.write.key.instance.clone(), self.write.key.execution));
        let (log, next) = match &other {
            None => (entry.log, self.next(&mut entry)?),
            Some(other) => match self.logs.0.get(other) {
                Some(known) => *known,
                None => (self.tx.new_key()?, EventSeq(0)),
            },
        };
        if append.first != next {
            return Err(
                self.contradiction(&format!("appends event {} where {next} is next", append.first))
            );
        }
        self.tx
            .conn
            .prepare_cached(
                "INSERT INTO history (log, first, events, at, body) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![
                log,
                int(append.first.0),
                append.count,
                append.at.as_micros(),
                Body(&append.body)
            ])?;
        self.tx.appended(self.tx.conn.last_insert_rowid(), log, append.first.0);
        let next = EventSeq(append.first.0 + u64::from(append.count));
        match other {
            None => entry.next = Some(next),
            Some(other) => {
                self.logs.0.insert(other, (log, next));
            }
        }
        Ok(entry)
    }

    /// Makes another execution the current one.
    fn switch(&mut self, entry: &mut Entry, execution: ExecutionNumber) -> Result<(), Failure> {
        let id = &self.write.key.instance;
        let ended = (entry.log, self.next(entry)?);
        self.logs.0.insert((id.clone(), entry.execution), ended);
        let (log, next) = match self.logs.0.remove(&(id.clone(), execution)) {
            Some(known) => known,
            None => (self.tx.new_key()?, EventSeq(0)),
        };
        entry.execution = execution;
        entry.log = log;
        entry.next = Some(next);
        Ok(())
    }

    fn in_flight(&mut self, key: i64) -> Result<(), Failure> {
        match &self.write.in_flight {
            RowChange::Keep => {}
            RowChange::Set(body) => {
                self.tx
                    .conn
                    .prepare_cached("INSERT OR REPLACE INTO in_flight (key, body) VALUES (?1, ?2)")?
                    .execute((key, Body(body)))?;
            }
            RowChange::Delete => {
                self.tx
                    .conn
                    .prepare_cached("DELETE FROM in_flight WHERE key = ?1")?
                    .execute([key])?;
            }
        }
        Ok(())
    }
}

/// Nonce of a start, and the run that it began.
pub(super) type Nonce = (Vec<u8>, i64);

/// A new row for an id that has none.
pub(super) fn insert(
    tx: &mut Tx<'_>,
    status: &StatusRow,
    due: Option<Timestamp>,
    nonce: Option<Nonce>,
) -> Result<Entry, Failure> {
    let key = tx.new_key()?;
    let body = status_body(status);
    let large = body.len() > LARGE_BODY_BYTES;
    if large {
        put_large(tx, key, &body)?;
    }
    let (nonce, nonce_run) = nonce.unzip();
    tx.conn
        .prepare_cached(
            "INSERT INTO instances (key, id, run, execution, log, status, due, created_at, updated_at,
                 nonce, nonce_run, name, body)
             VALUES (?1, ?2, ?3, ?4, ?1, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?
        .execute(params![
            key,
            status.instance.as_str(),
            int(status.run.0),
            status.execution.0,
            status.status.code(),
            due.map(Timestamp::as_micros),
            status.created_at.as_micros(),
            status.updated_at.as_micros(),
            nonce,
            nonce_run,
            &*status.name,
            (!large).then_some(Body(&body)),
        ])?;
    Ok(Entry {
        key,
        run: status.run,
        execution: status.execution,
        log: key,
        status: status.status,
        due,
        large,
        next: Some(EventSeq(0)),
    })
}

/// Writes a status row over the stored one, with `log` and `due` of the entry.
fn update(tx: &mut Tx<'_>, entry: &mut Entry, status: &StatusRow) -> Result<(), Failure> {
    let body = status_body(status);
    let large = body.len() > LARGE_BODY_BYTES;
    if large {
        put_large(tx, entry.key, &body)?;
    } else if entry.large {
        drop_large(tx, entry.key)?;
    }
    tx.conn
        .prepare_cached(
            "UPDATE instances SET run = ?2, execution = ?3, log = ?4, status = ?5, due = ?6,
                 created_at = ?7, updated_at = ?8, name = ?9, body = ?10
             WHERE key = ?1",
        )?
        .execute(params![
            entry.key,
            int(status.run.0),
            status.execution.0,
            entry.log,
            status.status.code(),
            entry.due.map(Timestamp::as_micros),
            status.created_at.as_micros(),
            status.updated_at.as_micros(),
            &*status.name,
            (!large).then_some(Body(&body)),
        ])?;
    entry.run = status.run;
    entry.status = status.status;
    entry.large = large;
    Ok(())
}

/// Removes an instance row with all that belongs to its run, so that a new one can take the id. Gives
/// back what is remembered of its start.
pub(super) fn replace(
    tx: &mut Tx<'_>,
    id: &InstanceId,
    partition: PartitionId,
    old: &Entry,
) -> Result<Option<Nonce>, Failure> {
    let nonce: (Option<Vec<u8>>, Option<i64>) = tx
        .conn
        .prepare_cached("DELETE FROM instances WHERE key = ?1 RETURNING nonce, nonce_run")?
        .query_row([old.key], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if old.large {
        drop_large(tx, old.key)?;
    }
    clear(tx, id, partition, old)?;
    discard(tx, old.log, id)?;
    tx.state.keys.forget(id);
    Ok(nonce.0.zip(nonce.1))
}

/// Rows of a history that go within the commit of its purge. Of a longer one the rest is left to be removed in
/// portions.
const PURGED_AT_ONCE: usize = 256;

/// An instance that has ended goes. A start of its id that was accepted meanwhile stays.
fn purge(
    tx: &mut Tx<'_>,
    partitions: u16,
    commit: &Commit,
    key: &ExecutionKey,
) -> Result<(), Failure> {
    let contradiction = |what: &str| {
        let text = format!("commit {}: purge of {key}: {what}", commit.number);
        Failure::from(StoreError::Unusable(text))
    };
    let id = &key.instance;
    if id.partition(partitions) != commit.partition {
        return Err(contradiction("belongs to another partition"));
    }
    if commit.instances.iter().any(|write| write.key.instance == *id) {
        return Err(contradiction("is written by the same commit"));
    }
    let Some(entry) = tx.entry(id)? else { return Err(contradiction("does not exist")) };
    if entry.run != key.run {
        return Err(contradiction("is not the stored run"));
    }
    if !entry.status.is_terminal() {
        return Err(contradiction("has not ended"));
    }
    tx.keep_keys_growing()?;
    let removed = tx
        .conn
        .prepare_cached(
            "DELETE FROM history WHERE row IN (SELECT row FROM history WHERE log = ?1 LIMIT ?2)",
        )?
        .execute((entry.log, limit(PURGED_AT_ONCE)))?;
    if removed == PURGED_AT_ONCE {
        discard(tx, entry.log, id)?;
    }
    tx.conn.prepare_cached("DELETE FROM instances WHERE key = ?1")?.execute([entry.key])?;
    if entry.large {
        drop_large(tx, entry.key)?;
    }
    clear(tx, id, commit.partition, &entry)?;
    tx.state.keys.forget(id);
    Ok(())
}

/// Removes the rows of work in flight and of the timer.
fn clear(
    tx: &mut Tx<'_>,
    id: &InstanceId,
    partition: PartitionId,
    entry: &Entry,
) -> Result<(), Failure> {
    if entry.status != RuntimeStatus::Pending {
        tx.conn.prepare_cached("DELETE FROM in_flight WHERE key = ?1")?.execute([entry.key])?;
    }
    if let Some(due) = entry.due {
        remove_timer(tx, partition, due, id)?;
    }
    Ok(())
}

fn put_large(tx: &mut Tx<'_>, key: i64, body: &[u8]) -> Result<(), Failure> {
    tx.conn
        .prepare_cached("INSERT OR REPLACE INTO large_bodies (key, body) VALUES (?1, ?2)")?
        .execute((key, Body(body)))?;
    Ok(())
}

fn drop_large(tx: &mut Tx<'_>, key: i64) -> Result<(), Failure> {
    tx.conn.prepare_cached("DELETE FROM large_bodies WHERE key = ?1")?.execute([key])?;
    Ok(())
}

fn add_timer(
    tx: &mut Tx<'_>,
    partition: PartitionId,
    due: Timestamp,
    id: &InstanceId,
) -> Result<(), Failure> {
    tx.conn
        .prepare_cached("INSERT OR IGNORE INTO timers (partition, due, id) VALUES (?1, ?2, ?3)")?
        .execute((partition.0, due.as_micros(), id.as_str()))?;
    Ok(())
}

fn remove_timer(
    tx: &mut Tx<'_>,
    partition: PartitionId,
    due: Timestamp,
    id: &InstanceId,
) -> Result<(), Failure> {
    tx.conn
        .prepare_cached("DELETE FROM timers WHERE partition = ?1 AND due = ?2 AND id = ?3")?
        .execute((partition.0, due.as_micros(), id.as_str()))?;
    Ok(())
}

pub(super) fn count(tx: &mut Tx<'_>, status: RuntimeStatus, delta: i64) -> Result<(), Failure> {
    tx.conn
        .prepare_cached(
            "INSERT INTO counts (status, n) VALUES (?1, ?2)
             ON CONFLICT (status) DO UPDATE SET n = n + excluded.n",
        )?
        .execute((status.code(), delta))?;
    Ok(())
}

fn consume(tx: &mut Tx<'_>, commit: &Commit, consumed: &Consumed) -> Result<(), Failure> {
    tx.conn.prepare_cached("DELETE FROM inbox WHERE envelope = ?1")?.execute([&*consumed.id.0])?;
    if consumed.remember {
        tx.conn
            .prepare_cached(
                "INSERT OR REPLACE INTO consumed (partition, envelope, at) VALUES (?1, ?2, ?3)",
            )?
            .execute((commit.partition.0, &*consumed.id.0, commit.at.as_micros()))?;
        tx.state.chores = true;
    }
    Ok(())
}

fn post(tx: &mut Tx<'_>, sender: PartitionId, outbox: &OutboxWrite) -> Result<(), Failure> {
    for message in &outbox.messages {
        tx.conn
            .prepare_cached(
                "INSERT OR REPLACE INTO outbox (sender, receiver, number, body)
                 VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute((sender.0, outbox.to.0, int(message.number.0), Body(&encode_row(message))))?;
    }
    Ok(())
}
