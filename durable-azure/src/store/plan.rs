//! A commit, checked against what is stored and turned into rows. Nothing is written here.

use std::collections::{BTreeMap, HashMap};

use durable_core::machine::model::{
    EventSeq, ExecutionKey, ExecutionNumber, InstanceId, RunNumber, RuntimeStatus, Timestamp,
};
use durable_core::machine::store::{Begins, Commit, HistoryAppend, InstanceWrite, RowChange};
use durable_core::store::StoreError;
use uuid::Uuid;

use super::keys;
use super::known::{Known, StartFacts};
use super::ops::{Body, Rows};
use super::rows::{
    Counts, history_columns, id_columns, number, set_created, set_due, set_nonce, set_purged,
    set_uncounted, set_waiting, status_body, status_columns,
};
use crate::service::{Columns, Etag};

/// What a commit has to know of an instance.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    pub(super) known: Option<Known>,
    /// Its acceptance row, where there is one and it was looked for.
    pub(super) start: Option<StartFacts>,
    /// The version of its status row, where that was read.
    pub(super) etag: Option<Etag>,
}

/// Rows that nobody can reach any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Garbage {
    /// All of a run.
    Run { instance: InstanceId, run: RunNumber, created: u64 },
    /// The history of executions before this one.
    Executions { instance: InstanceId, run: RunNumber, before: ExecutionNumber },
}

/// What the instance writes of a commit come to.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) rows: Rows,
    /// The instances as they are after it; `None` for those that ended or are gone.
    pub(super) changes: Vec<(InstanceId, Option<Known>)>,
    /// Runs that begin.
    pub(super) begun: Vec<(InstanceId, RunNumber)>,
    /// Sums that clients could not write.
    pub(super) counted: Counts,
    pub(super) garbage: Vec<Garbage>,
    /// Blobs that no row names after it.
    pub(super) blobs: Vec<String>,
}

/// One instance while the writes of a commit are gone through.
struct One {
    known: Option<Known>,
    start: Option<StartFacts>,
    etag: Option<Etag>,
    begun: bool,
    /// How the histories that the commit touches go on.
    next: BTreeMap<ExecutionNumber, EventSeq>,
    /// The execution that was current before.
    execution: ExecutionNumber,
}

/// Goes through a commit.
pub(super) struct Planner<'a> {
    commit: &'a Commit,
    /// Partition key, and what names the commit in blob names.
    partition: &'a str,
    commit_id: &'a str,
    partitions: u16,
    instances: HashMap<InstanceId, One>,
    plan: Plan,
    /// Gives the numbers by which instances are listed.
    sequence: &'a (dyn Fn() -> u64 + Sync),
}

impl<'a> Planner<'a> {
    pub(super) fn new(
        commit: &'a Commit,
        partition: &'a str,
        commit_id: &'a str,
        partitions: u16,
        facts: HashMap<InstanceId, Facts>,
        sequence: &'a (dyn Fn() -> u64 + Sync),
    ) -> Self {
        let one = |facts: Facts| One {
            execution: facts.known.as_ref().map_or(ExecutionNumber(0), |known| known.execution),
            start: facts.start.or_else(|| facts.known.as_ref()?.start.clone()),
            known: facts.known,
            etag: facts.etag,
            begun: false,
            next: BTreeMap::new(),
        };
        let instances = facts.into_iter().map(|(instance, facts)| (instance, one(facts))).collect();
        Self {
            commit,
            partition,
            commit_id,
            partitions,
            instances,
            plan: Plan::default(),
            sequence,
        }
    }

    /// The rows, or why the commit contradicts what is stored.
    pub(super) fn plan(mut self) -> Result<Plan, StoreError> {
        for write in &self.commit.instances {
            let instance = &write.key.instance;
            if instance.partition(self.partitions) != self.commit.partition {
                return Err(self.contradiction(write, "belongs to another partition"));
            }
            let facts = self.instances.remove(instance);
            let mut one = facts.ok_or_else(|| self.contradiction(write, "was not looked up"))?;
            self.write(write, &mut one)?;
            self.instances.insert(instance.clone(), one);
        }
        for key in &self.commit.purges {
            self.purge(key)?;
        }
        for (instance, one) in self.instances {
            let Some(mut known) = one.known else { continue };
            if let Some(next) = one.next.get(&known.execution) {
                known.next = *next;
            } else if known.execution != one.execution {
                known.next = EventSeq(0);
            }
            known.start = one.start.filter(|start| start.run == known.run);
            if known.execution > one.execution && !one.begun {
                let (run, before) = (known.run, known.execution);
                let instance = instance.clone();
                self.plan.garbage.push(Garbage::Executions { instance, run, before });
            }
            let active = !known.status.is_terminal();
            self.plan.changes.push((instance, active.then_some(known)));
        }
        Ok(self.plan)
    }

    fn contradiction(&self, write: &InstanceWrite, what: &str) -> StoreError {
        StoreError::Unusable(format!("commit {}: {}: {what}", self.commit.number, write.key))
    }

    /// The status row is marked, so that nobody sees the instance any more; its rows are garbage from then on.
    fn purge(&mut self, key: &ExecutionKey) -> Result<(), StoreError> {
        let contradiction = |what: &str| {
            let text = format!("commit {}: purge of {key}: {what}", self.commit.number);
            Err(StoreError::Unusable(text))
        };
        let instance = &key.instance;
        if instance.partition(self.partitions) != self.commit.partition {
            return contradiction("belongs to another partition");
        }
        if self.commit.instances.iter().any(|write| write.key.instance == *instance) {
            return contradiction("is written by the same commit");
        }
        let known = self.instances.remove(instance).and_then(|one| one.known);
        let Some(known) = known.filter(|known| !known.purged) else {
            return contradiction("does not exist");
        };
        if known.run != key.run {
            return contradiction("is not the stored run");
        }
        if !known.status.is_terminal() {
            return contradiction("has not ended");
        }
        let mut columns = Columns::new();
        set_purged(&mut columns, true);
        self.plan.rows.merge(keys::status(instance), columns, None);
        self.discard(instance, known.run, known.created);
        self.plan.changes.push((instance.clone(), None));
        Ok(())
    }

    fn write(&mut self, write: &InstanceWrite, one: &mut One) -> Result<(), StoreError> {
        if write.begins.a_run() {
            if write.status.is_none() || write.history.is_none() {
                return Err(self.contradiction(write, "begins without status row or history"));
            }
            self.begin(write, one)?;
        } else {
            let Some(known) = &one.known else {
                return Err(self.contradiction(write, "does not exist"));
            };
            if known.purged && known.run == write.key.run {
                return Err(self.contradiction(write, "was purged"));
            }
            if known.run != write.key.run {
                self.wait_in_place(write, one)?;
            }
        }
        if let Some(append) = &write.history {
            self.append(write, append, one)?;
        }
        let Some(known) = &mut one.known else { return Ok(()) };
        if let Some(status) = &write.status {
            let body = Body { bytes: status_body(status), blob: self.blob_name(write) };
            let key = keys::status(&write.key.instance);
            self.plan.rows.merge(key, status_columns(status), Some(body));
            self.plan.blobs.extend(known.status_blob.take());
            known.status = status.status;
            known.execution = status.execution;
        }
        self.in_flight(write, known);
        if let Some(timer) = &write.timer {
            if timer.from != known.timer && !write.begins.a_run() {
                return Err(self.contradiction(write, "moves a timer that is elsewhere"));
            }
            self.move_timer(&write.key.instance, known, timer.to);
        }
        Ok(())
    }

    /// A new run: what is stored of earlier ones goes.
    fn begin(&mut self, write: &InstanceWrite, one: &mut One) -> Result<(), StoreError> {
        let instance = &write.key.instance;
        let mut base = Columns::new();
        set_due(&mut base, None);
        if write.begins == Begins::Asked && one.start.is_some() {
            return Err(self.contradiction(write, "a start of the id was accepted meanwhile"));
        }
        let accepted = one.start.take_if(|start| start.run <= write.key.run);
        if let Some(start) = accepted {
            self.plan.rows.delete(keys::acceptance(instance));
            self.plan.blobs.extend(start.blob);
            set_waiting(&mut base, None);
            if let Some(nonce) = start.nonce {
                set_nonce(&mut base, nonce, write.key.run);
            }
        }
        self.take_place(write, one, base)?;
        if let Some(known) = one.known.as_mut().filter(|known| known.uncounted) {
            // The acceptance row that counted for it goes.
            known.uncounted = false;
            *self.plan.counted.entry(RuntimeStatus::Pending).or_default() += 1;
            let mut columns = Columns::new();
            set_uncounted(&mut columns, false);
            self.plan.rows.merge(keys::status(instance), columns, None);
        }
        one.begun = true;
        self.plan.begun.push((instance.clone(), write.key.run));
        Ok(())
    }

    /// A start that cannot begin yet shows why, in place of the run that has ended.
    fn wait_in_place(&mut self, write: &InstanceWrite, one: &mut One) -> Result<(), StoreError> {
        let ended = one.known.as_ref().is_some_and(|known| known.status.is_terminal());
        let accepted = one.start.as_ref().is_some_and(|start| start.run == write.key.run);
        if !(ended && accepted && write.status.is_some() && write.history.is_none()) {
            return Err(self.contradiction(write, "is not the stored run"));
        }
        let mut base = Columns::new();
        set_due(&mut base, None);
        self.take_place(write, one, base)
    }

    /// The run of this write becomes the one that its status row shows.
    fn take_place(
        &mut self,
        write: &InstanceWrite,
        one: &mut One,
        mut base: Columns,
    ) -> Result<(), StoreError> {
        let instance = &write.key.instance;
        let key = keys::status(instance);
        let mut known = Known {
            run: write.key.run,
            execution: write.key.execution,
            next: EventSeq(0),
            status: RuntimeStatus::Pending,
            timer: None,
            in_flight: false,
            created: 0,
            uncounted: false,
            purged: false,
            start: None,
            status_blob: None,
            in_flight_blob: None,
        };
        match one.known.take() {
            Some(old) if write.begins == Begins::Fresh => {
                let what = format!("begins under an id that has run {}", old.run);
                return Err(self.contradiction(write, &what));
            }
            Some(old) => {
                let same = old.run == write.key.run;
                if same && (old.next > EventSeq(0) || old.purged) {
                    return Err(self.contradiction(write, "has begun before"));
                }
                if old.purged {
                    set_purged(&mut base, false);
                }
                if let Some(due) = old.timer {
                    self.plan.rows.delete(keys::timer(due, instance));
                }
                if old.in_flight {
                    self.plan.rows.delete(keys::in_flight(instance));
                    self.plan.blobs.extend(old.in_flight_blob);
                }
                known.created = old.created;
                known.uncounted = old.uncounted;
                if !same {
                    known.created = self.list(instance, &mut base);
                    self.discard(instance, old.run, old.created);
                }
                known.status_blob = old.status_blob;
                match one.etag.take().filter(|_| write.begins == Begins::Asked) {
                    // A start that is accepted from here on changes the row.
                    Some(etag) => self.plan.rows.amend(key, base, etag),
                    None => self.plan.rows.merge(key, base, None),
                }
            }
            None => {
                known.created = self.list(instance, &mut base);
                set_uncounted(&mut base, false);
                self.plan.rows.insert(key, base, None);
            }
        }
        one.next.clear();
        one.execution = known.execution;
        one.known = Some(known);
        Ok(())
    }

    /// A new place in the list.
    fn list(&mut self, instance: &InstanceId, base: &mut Columns) -> u64 {
        let created = (self.sequence)();
        set_created(base, created);
        let mut columns = id_columns(instance);
        set_created(&mut columns, created);
        self.plan.rows.put(keys::listed(created, instance), columns, None, false);
        created
    }

    fn discard(&mut self, instance: &InstanceId, run: RunNumber, created: u64) {
        let mut columns = id_columns(instance);
        columns.insert(super::rows::RUN.into(), number(run.0));
        set_created(&mut columns, created);
        self.plan.rows.put(keys::garbage(instance, run), columns, None, false);
        let instance = instance.clone();
        self.plan.garbage.push(Garbage::Run { instance, run, created });
    }

    fn append(
        &mut self,
        write: &InstanceWrite,
        append: &HistoryAppend,
        one: &mut One,
    ) -> Result<(), StoreError> {
        let Some(known) = &one.known else { return Ok(()) };
        let (execution, current) = (write.key.execution, known.execution);
        let next = match one.next.get(&execution) {
            Some(next) => *next,
            None if execution == current => known.next,
            None if execution > current => EventSeq(0),
            None => return Err(self.contradiction(write, "appends to an earlier execution")),
        };
        // A rewind begins the next execution of a run that has ended.
        if known.status.is_terminal() && execution <= current {
            return Err(self.contradiction(write, "appends to an instance that has ended"));
        }
        if append.first != next {
            let what = format!("appends event {} where {next} is next", append.first);
            return Err(self.contradiction(write, &what));
        }
        let instance = &write.key.instance;
        let key = keys::history(instance, write.key.run, execution, append.first);
        let body = Body { bytes: append.body.clone(), blob: self.blob_name(write) };
        self.plan.rows.put(key, history_columns(instance, append), Some(body), false);
        one.next.insert(execution, EventSeq(append.first.0 + u64::from(append.count)));
        Ok(())
    }

    fn in_flight(&mut self, write: &InstanceWrite, known: &mut Known) {
        let instance = &write.key.instance;
        match &write.in_flight {
            RowChange::Keep => return,
            RowChange::Set(bytes) => {
                let body = Body { bytes: bytes.clone(), blob: self.blob_name(write) };
                let columns = id_columns(instance);
                let there = known.in_flight;
                self.plan.rows.put(keys::in_flight(instance), columns, Some(body), there);
                known.in_flight = true;
            }
            RowChange::Delete => {
                if std::mem::take(&mut known.in_flight) {
                    self.plan.rows.delete(keys::in_flight(instance));
                }
            }
        }
        self.plan.blobs.extend(known.in_flight_blob.take());
    }

    fn move_timer(&mut self, instance: &InstanceId, known: &mut Known, to: Option<Timestamp>) {
        if let Some(due) = known.timer {
            self.plan.rows.delete(keys::timer(due, instance));
        }
        if let Some(due) = to {
            let mut columns = id_columns(instance);
            columns.insert("due_time".into(), super::rows::calendar(due));
            self.plan.rows.put(keys::timer(due, instance), columns, None, false);
        }
        known.timer = to;
        let mut columns = Columns::new();
        set_due(&mut columns, to);
        self.plan.rows.merge(keys::status(instance), columns, None);
    }

    /// Used for one body only.
    fn blob_name(&self, write: &InstanceWrite) -> String {
        format!(
            "{}/{}/{}-{}/{}-{}",
            self.partition,
            keys::plain(&write.key.instance),
            write.key.run,
            write.key.execution,
            self.commit_id,
            Uuid::new_v4().simple()
        )
    }
}
