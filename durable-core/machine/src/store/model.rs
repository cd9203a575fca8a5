//! The reference of every store: plain maps, one call after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{
    AcceptOutcome, AcceptedStart, ArrivalPosition, Arrivals, Begins, Commit, Head, HistoryPage,
    HistoryRow, HistoryToken, InstanceWrite, ListPage, ListQuery, ListToken, Remains, RowChange,
    SendOutcome, Snapshot, StoredInstance, TimerPage, WorkResult,
};
use crate::model::{
    Acceptance, CommitNumber, Envelope, EnvelopeId, EventSeq, ExecutionKey, ExecutionNumber, Fence,
    InstanceId, Message, PartitionId, ReusePolicy, RunNumber, RuntimeStatus, StartNonce, StatusRow,
    Timestamp,
};

/// How long the id of a consumed message is remembered.
const CONSUMED_KEPT: Duration = Duration::from_secs(3600);

/// A commit that the store did not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// A newer owner holds the partition.
    Fenced {
        /// The newest fence.
        newest: Fence,
    },
    /// The commit begins a run under an id for which a start was accepted meanwhile, or that is not as new as
    /// it says. What its partition has in memory is older than what is stored.
    Outdated(String),
    /// The commit contradicts what is stored. A correct engine never causes it.
    Contradiction(String),
}

/// A whole hub, as values. Every rule that stores have to keep is spelled out here once.
#[derive(Debug, Clone, Default)]
pub struct StoreModel {
    partitions: BTreeMap<PartitionId, PartitionRows>,
    instances: BTreeMap<InstanceId, InstanceRows>,
    acceptances: BTreeMap<InstanceId, (u64, Acceptance)>,
    /// Nonce and run of the last start that began, so that a repeated accept is recognised.
    begun: BTreeMap<InstanceId, (StartNonce, RunNumber)>,
    envelopes: BTreeMap<u64, Envelope>,
    results: BTreeMap<u64, WorkResult>,
    sequence: u64,
    counts: BTreeMap<RuntimeStatus, i64>,
    partition_count: u16,
}

#[derive(Debug, Clone, Default)]
struct PartitionRows {
    fence: Fence,
    head: Head,
    last_commit: CommitNumber,
    timers: BTreeSet<(Timestamp, InstanceId)>,
    outbox: BTreeMap<(PartitionId, crate::model::MessageNumber), Message>,
    consumed: BTreeMap<EnvelopeId, Timestamp>,
}

#[derive(Debug, Clone)]
struct InstanceRows {
    created: u64,
    status: StatusRow,
    history: BTreeMap<(ExecutionNumber, EventSeq), (u32, Vec<u8>)>,
    in_flight: Option<Vec<u8>>,
    timer: Option<Timestamp>,
}

/// What the writes in front of one, in the same commit, do to its instance.
#[derive(Default)]
struct Before<'a> {
    begun: BTreeMap<&'a InstanceId, RunNumber>,
    timers: BTreeMap<&'a InstanceId, Option<Timestamp>>,
}

impl StoreModel {
    /// An empty hub with this many partitions.
    #[must_use]
    pub fn new(partition_count: u16) -> Self {
        Self { partition_count, ..Self::default() }
    }

    /// The number of partitions, fixed at creation.
    #[must_use]
    pub fn partition_count(&self) -> u16 {
        self.partition_count
    }

    /// Takes over a partition: every earlier owner is fenced off from here on.
    ///
    /// # Panics
    ///
    /// Never: an hour fits the clock.
    pub fn open(&mut self, partition: PartitionId) -> Snapshot {
        let count = self.partition_count;
        let in_flight = self
            .instances
            .iter()
            .filter(|(id, rows)| id.partition(count) == partition && rows.in_flight.is_some())
            .map(|(id, _)| id.clone())
            .collect();
        let rows = self.partitions.entry(partition).or_default();
        rows.fence = rows.fence.next();
        rows.last_commit = CommitNumber(0);
        rows.head.unclean_opens += 1;
        let oldest = Timestamp::from_micros(rows.head.time.as_micros().saturating_sub(
            i64::try_from(CONSUMED_KEPT.as_micros()).expect("an hour in microseconds fits"),
        ));
        rows.consumed.retain(|_, at| *at >= oldest);
        Snapshot {
            fence: rows.fence,
            head: rows.head.clone(),
            in_flight,
            outbox: rows.outbox.values().cloned().collect(),
            consumed: rows.consumed.iter().map(|(id, at)| (id.clone(), *at)).collect(),
        }
    }

    /// Gives a partition up in good order: the next opening does not count as unclean.
    ///
    /// # Errors
    ///
    /// [`Refusal::Fenced`] where another owner took over.
    pub fn release(&mut self, partition: PartitionId, fence: Fence) -> Result<(), Refusal> {
        let rows = self.owned(partition, fence)?;
        rows.head.unclean_opens = 0;
        rows.head.probing = None;
        Ok(())
    }

    /// The number of the last commit applied since the partition was opened: settles a commit whose
    /// answer was lost.
    ///
    /// # Errors
    ///
    /// [`Refusal::Fenced`] where another owner took over.
    pub fn last_commit(
        &mut self,
        partition: PartitionId,
        fence: Fence,
    ) -> Result<CommitNumber, Refusal> {
        Ok(self.owned(partition, fence)?.last_commit)
    }

    /// One instance as stored; `None` where nothing names it.
    #[must_use]
    pub fn load(&self, instance: &InstanceId) -> Option<StoredInstance> {
        let acceptance = self.acceptances.get(instance).map(|(_, acceptance)| acceptance.clone());
        let Some(rows) = self.instances.get(instance) else {
            return acceptance.map(|acceptance| StoredInstance {
                status: None,
                acceptance: Some(acceptance),
                history: Vec::new(),
                in_flight: None,
                timer: None,
            });
        };
        let history = if rows.status.status.is_terminal() {
            Vec::new()
        } else {
            rows.history_rows(rows.status.execution)
        };
        Some(StoredInstance {
            status: Some(rows.status.clone()),
            acceptance,
            history,
            in_flight: rows.in_flight.clone(),
            timer: rows.timer,
        })
    }

    /// Due times behind `after`, earliest first.
    #[must_use]
    pub fn timers(
        &self,
        partition: PartitionId,
        after: Option<&(Timestamp, InstanceId)>,
        limit: usize,
    ) -> TimerPage {
        let Some(rows) = self.partitions.get(&partition) else { return TimerPage::default() };
        let mut rest = rows.timers.iter().filter(|timer| after.is_none_or(|after| *timer > after));
        let timers: Vec<_> = rest.by_ref().take(limit).cloned().collect();
        TimerPage { timers, more: rest.next().is_some() }
    }

    /// Starts and commands that reached the partition behind `after`, oldest first.
    #[must_use]
    pub fn arrivals(
        &self,
        partition: PartitionId,
        after: ArrivalPosition,
        limit: usize,
    ) -> Arrivals {
        let mine = |id: &InstanceId| id.partition(self.partition_count) == partition;
        let mut acceptances: Vec<_> = self
            .acceptances
            .values()
            .filter(|(seq, acceptance)| *seq > after.acceptances && mine(&acceptance.instance))
            .collect();
        acceptances.sort_by_key(|(seq, _)| *seq);
        let mut envelopes: Vec<_> = self
            .envelopes
            .range(after.envelopes + 1..)
            .filter(|(_, envelope)| mine(&envelope.instance))
            .collect();
        let mut results: Vec<_> = self
            .results
            .range(after.results + 1..)
            .filter(|(_, result)| mine(&result.attempt.key.instance))
            .collect();
        let more = acceptances.len() > limit || envelopes.len() > limit || results.len() > limit;
        results.truncate(limit);
        acceptances.truncate(limit);
        envelopes.truncate(limit);
        Arrivals {
            position: ArrivalPosition {
                acceptances: acceptances.last().map_or(after.acceptances, |(seq, _)| *seq),
                envelopes: envelopes.last().map_or(after.envelopes, |(seq, _)| **seq),
                results: results.last().map_or(after.results, |(seq, _)| **seq),
            },
            acceptances: acceptances
                .into_iter()
                .map(|(_, acceptance)| AcceptedStart {
                    acceptance: acceptance.clone(),
                    fresh: false,
                })
                .collect(),
            envelopes: envelopes.into_iter().map(|(_, envelope)| envelope.clone()).collect(),
            posts: Vec::new(),
            dead: Vec::new(),
            results: results.into_iter().map(|(_, result)| result.clone()).collect(),
            more,
        }
    }

    /// Applies a commit as a whole, or changes nothing.
    ///
    /// # Errors
    ///
    /// [`Refusal`]: the owner is not the newest, or the commit contradicts what is stored.
    pub fn commit(&mut self, fence: Fence, commit: &Commit) -> Result<(), Refusal> {
        self.owned(commit.partition, fence)?;
        let mut before = Before::default();
        for write in &commit.instances {
            self.check(commit, write, &mut before)?;
        }
        for key in &commit.purges {
            self.check_purge(commit, key)?;
        }
        for write in &commit.instances {
            self.apply(commit.partition, write);
        }
        for key in &commit.purges {
            if !planted!(PurgedRowsStay) {
                self.instances.remove(&key.instance);
            }
            self.begun.remove(&key.instance);
        }
        for consumed in &commit.consumed {
            self.envelopes.retain(|_, envelope| envelope.id != consumed.id);
            self.results.retain(|_, result| result.id != consumed.id);
        }
        for (status, delta) in &commit.counts {
            *self.counts.entry(*status).or_default() += delta;
        }
        let rows = self.partitions.entry(commit.partition).or_default();
        rows.head = commit.head.clone();
        rows.last_commit = commit.number;
        for outbox in &commit.outbox {
            for message in &outbox.messages {
                rows.outbox.insert((outbox.to, message.number), message.clone());
            }
        }
        for (to, number) in &commit.outbox_done {
            rows.outbox.retain(|(receiver, n), _| receiver != to || n > number);
        }
        for consumed in commit.consumed.iter().filter(|consumed| consumed.remember) {
            rows.consumed.insert(consumed.id.clone(), commit.at);
        }
        Ok(())
    }

    /// Makes a start durable.
    pub fn accept(&mut self, acceptance: &Acceptance) -> AcceptOutcome {
        if let Some((_, earlier)) = self.acceptances.get(&acceptance.instance) {
            return if earlier.nonce == acceptance.nonce {
                AcceptOutcome::Accepted { run: earlier.run, fresh: false }
            } else {
                AcceptOutcome::Active(Box::new(StatusRow::pending(earlier)))
            };
        }
        // Above what was purged, too, of which nothing is stored. It matters only where a clock was ahead; a store
        // whose clients cannot look may leave it out, if all have one clock.
        let partition = acceptance.instance.partition(self.partition_count);
        let purged = self.partitions.get(&partition).and_then(|rows| rows.head.purged);
        let mut run = acceptance.run.max(purged.map_or(RunNumber(0), RunNumber::next));
        if let Some(rows) = self.instances.get(&acceptance.instance) {
            if let Some((nonce, run)) = self.begun.get(&acceptance.instance)
                && *nonce == acceptance.nonce
                && !planted!(NonceForgotten)
            {
                return AcceptOutcome::Accepted { run: *run, fresh: false };
            }
            run = run.max(rows.status.run.next());
            if !rows.status.status.is_terminal() && acceptance.reuse != ReusePolicy::ReplaceActive {
                return AcceptOutcome::Active(Box::new(rows.status.clone()));
            }
        }
        let acceptance = Acceptance { run, ..acceptance.clone() };
        self.sequence += 1;
        // A row that is there is its owner's alone, also that of a run which has ended.
        if !self.instances.contains_key(&acceptance.instance) {
            let row = InstanceRows::new(self.sequence, StatusRow::pending(&acceptance));
            self.instances.insert(acceptance.instance.clone(), row);
            *self.counts.entry(RuntimeStatus::Pending).or_default() += 1;
        }
        self.acceptances.insert(acceptance.instance.clone(), (self.sequence, acceptance));
        AcceptOutcome::Accepted { run, fresh: false }
    }

    /// Makes a command durable, if its instance is there and can be told so.
    ///
    /// See [`Command::is_for`](crate::model::Command::is_for).
    pub fn send(&mut self, envelope: &Envelope) -> SendOutcome {
        let Some(status) = self.status(&envelope.instance) else { return SendOutcome::NotFound };
        if !envelope.command.is_for(status.status) {
            return SendOutcome::Ended(Box::new(status));
        }
        let known = self.envelopes.values().any(|known| known.id == envelope.id)
            || self
                .partitions
                .get(&envelope.instance.partition(self.partition_count))
                .is_some_and(|rows| rows.consumed.contains_key(&envelope.id));
        if !known {
            self.sequence += 1;
            self.envelopes.insert(self.sequence, envelope.clone());
        }
        SendOutcome::Sent
    }

    /// Makes the result of an offered attempt durable, until a commit lists it as consumed.
    pub fn report(&mut self, result: WorkResult) {
        self.sequence += 1;
        self.results.insert(self.sequence, result);
    }

    /// The results that no commit has consumed.
    pub fn results(&self) -> impl Iterator<Item = &WorkResult> {
        self.results.values()
    }

    /// The status of one instance. A start that was accepted shows as `Pending` from then on.
    #[must_use]
    pub fn status(&self, instance: &InstanceId) -> Option<StatusRow> {
        match (self.instances.get(instance), self.acceptances.get(instance)) {
            (Some(rows), Some((_, acceptance))) if acceptance.run > rows.status.run => {
                Some(StatusRow::pending(acceptance))
            }
            (Some(rows), _) => Some(rows.status.clone()),
            (None, Some((_, acceptance))) => Some(StatusRow::pending(acceptance)),
            (None, None) => None,
        }
    }

    /// Instances, newest start first.
    #[must_use]
    pub fn list(&self, query: &ListQuery, after: Option<ListToken>, limit: usize) -> ListPage {
        let mut rows: Vec<_> = self
            .instances
            .values()
            .filter(|rows| after.is_none_or(|after| rows.created < after.0))
            .filter(|rows| query.holds(&rows.status))
            .collect();
        rows.sort_by_key(|rows| std::cmp::Reverse(rows.created));
        let more = rows.len() > limit;
        rows.truncate(limit);
        ListPage {
            next: rows.last().filter(|_| more).map(|rows| ListToken(rows.created)),
            rows: rows.into_iter().map(|rows| rows.status.clone()).collect(),
        }
    }

    /// How far these runs are gone. Here a purge removes everything at once.
    #[must_use]
    pub fn remains(&self, runs: &[(InstanceId, RunNumber)]) -> Vec<Remains> {
        let remains = |(instance, run): &(InstanceId, RunNumber)| match self.instances.get(instance)
        {
            Some(rows) if rows.status.run == *run => Remains::There,
            Some(_) => Remains::Replaced,
            None => Remains::Nothing,
        };
        runs.iter().map(remains).collect()
    }

    /// How many instances are in each status; statuses that nobody has are left out.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<RuntimeStatus, u64> {
        self.counts
            .iter()
            .filter_map(|(status, n)| {
                u64::try_from(*n).ok().filter(|n| *n > 0).map(|n| (*status, n))
            })
            .collect()
    }

    /// The stored history of the current execution, also of an instance that has ended.
    #[must_use]
    pub fn history(&self, instance: &InstanceId) -> Option<Vec<HistoryRow>> {
        self.instances.get(instance).map(|rows| rows.history_rows(rows.status.execution))
    }

    /// The same in pages: at most `limit` rows behind `after`.
    #[must_use]
    pub fn history_page(
        &self,
        instance: &InstanceId,
        after: Option<HistoryToken>,
        limit: usize,
    ) -> Option<HistoryPage> {
        let rows = self.instances.get(instance)?;
        let (run, execution) = (rows.status.run, rows.status.execution);
        let mut page = rows.history_rows(execution);
        page.retain(|row| after.is_none_or(|after| row.first.0 > after.0));
        let more = page.len() > limit;
        page.truncate(limit);
        let next = page.last().filter(|_| more).map(|row| HistoryToken(row.first.0));
        Some(HistoryPage { run, execution, rows: page, next })
    }

    /// Damages what is stored, for tests of what happens then: applied to the last history row.
    pub fn damage(&mut self, instance: &InstanceId, damage: impl FnOnce(&mut Vec<u8>)) {
        if let Some((_, body)) =
            self.instances.get_mut(instance).and_then(|rows| rows.history.values_mut().next_back())
        {
            damage(body);
        }
    }

    fn owned(
        &mut self,
        partition: PartitionId,
        fence: Fence,
    ) -> Result<&mut PartitionRows, Refusal> {
        let rows = self.partitions.entry(partition).or_default();
        if rows.fence == fence || planted!(StaleFenceAccepted) {
            Ok(rows)
        } else {
            Err(Refusal::Fenced { newest: rows.fence })
        }
    }

    fn check<'a>(
        &self,
        commit: &Commit,
        write: &'a InstanceWrite,
        before: &mut Before<'a>,
    ) -> Result<(), Refusal> {
        let id = &write.key.instance;
        let contradiction = |what: &str| {
            Err(Refusal::Contradiction(format!("commit {}: {}: {what}", commit.number, write.key)))
        };
        if id.partition(self.partition_count) != commit.partition {
            return contradiction("belongs to another partition");
        }
        if write.begins.a_run() {
            if write.status.is_none() || write.history.is_none() {
                return contradiction("begins without status row or history");
            }
            let unknown = !before.begun.contains_key(id)
                && match write.begins {
                    Begins::No | Begins::Accepted => false,
                    Begins::Fresh => self.instances.contains_key(id),
                    Begins::Asked => self.acceptances.contains_key(id),
                };
            if unknown && !planted!(AcceptedStartIgnored) {
                return Err(Refusal::Outdated(format!(
                    "commit {}: {}: the id was used meanwhile",
                    commit.number, write.key
                )));
            }
            before.begun.insert(id, write.key.run);
            return Ok(());
        }
        if let Some(run) = before.begun.get(id) {
            return if *run == write.key.run {
                Ok(())
            } else {
                contradiction("is not the run that began before it")
            };
        }
        // A start that cannot begin yet shows why, in place of the run that has ended, or was purged.
        let waits = || {
            write.status.is_some()
                && write.history.is_none()
                && self.acceptances.get(id).is_some_and(|(_, a)| a.run == write.key.run)
        };
        let Some(rows) = self.instances.get(id) else {
            return if waits() { Ok(()) } else { contradiction("does not exist") };
        };
        if rows.status.run != write.key.run {
            let ended = rows.status.status.is_terminal();
            return if ended && waits() { Ok(()) } else { contradiction("is not the stored run") };
        }
        if let Some(append) = &write.history {
            let next = rows.next_seq(write.key.execution);
            if append.first != next {
                return contradiction(&format!(
                    "appends event {} where {next} is next",
                    append.first
                ));
            }
            // A rewind begins the next execution of a run that has ended.
            if rows.status.status.is_terminal() && write.key.execution <= rows.status.execution {
                return contradiction("appends to an instance that has ended");
            }
        }
        if let Some(timer) = &write.timer {
            let stored = before.timers.get(id).copied().unwrap_or(rows.timer);
            if timer.from != stored {
                return contradiction("moves a timer that is elsewhere");
            }
            before.timers.insert(id, timer.to);
        }
        Ok(())
    }

    fn check_purge(&self, commit: &Commit, key: &ExecutionKey) -> Result<(), Refusal> {
        let contradiction = |what: &str| {
            let text = format!("commit {}: purge of {key}: {what}", commit.number);
            Err(Refusal::Contradiction(text))
        };
        let id = &key.instance;
        if id.partition(self.partition_count) != commit.partition {
            return contradiction("belongs to another partition");
        }
        if commit.instances.iter().any(|write| write.key.instance == *id) {
            return contradiction("is written by the same commit");
        }
        let Some(rows) = self.instances.get(id) else { return contradiction("does not exist") };
        if rows.status.run != key.run {
            return contradiction("is not the stored run");
        }
        if !rows.status.status.is_terminal() {
            return contradiction("has not ended");
        }
        Ok(())
    }

    fn apply(&mut self, partition: PartitionId, write: &InstanceWrite) {
        let id = &write.key.instance;
        let takes_place =
            self.instances.get(id).is_none_or(|rows| rows.status.run != write.key.run);
        if write.begins.a_run() {
            self.take_acceptance(write);
        }
        if write.begins.a_run() || takes_place {
            self.take_place(write);
        }
        let Some(rows) = self.instances.get_mut(id) else { return };
        if let Some(append) = &write.history {
            rows.history
                .insert((write.key.execution, append.first), (append.count, append.body.clone()));
        }
        if let Some(status) = &write.status {
            rows.status = (**status).clone();
            // Earlier executions are out of reach.
            rows.history = rows.history.split_off(&(status.execution, EventSeq(0)));
        }
        match &write.in_flight {
            RowChange::Keep => {}
            RowChange::Set(body) => rows.in_flight = Some(body.clone()),
            RowChange::Delete => rows.in_flight = None,
        }
        if let Some(timer) = &write.timer {
            rows.timer = timer.to;
            let timers = &mut self.partitions.entry(partition).or_default().timers;
            if let Some(from) = timer.from {
                timers.remove(&(from, id.clone()));
            }
            if let Some(to) = timer.to {
                timers.insert((to, id.clone()));
            }
        }
    }

    fn take_acceptance(&mut self, write: &InstanceWrite) {
        let id = &write.key.instance;
        if write.begins != Begins::Asked
            && let Some((_, acceptance)) = self.acceptances.get(id)
            && acceptance.run <= write.key.run
        {
            self.begun.insert(id.clone(), (acceptance.nonce, write.key.run));
            self.acceptances.remove(id);
        }
    }

    /// A new run: what is stored of earlier ones goes.
    fn take_place(&mut self, write: &InstanceWrite) {
        let id = &write.key.instance;
        let Some(status) = write.status.as_deref() else { return };
        let pending = self.instances.get(id).filter(|rows| rows.status.run == write.key.run);
        let created = if let Some(rows) = pending {
            rows.created
        } else {
            self.sequence += 1;
            self.sequence
        };
        let rows = InstanceRows::new(created, status.clone());
        let old = self.instances.insert(id.clone(), rows);
        if let Some(due) = old.and_then(|rows| rows.timer)
            && let Some(partition) = self.partitions.get_mut(&id.partition(self.partition_count))
        {
            partition.timers.remove(&(due, id.clone()));
        }
    }

    /// The number of the run that a direct start of this id would have to exceed, if any.
    #[must_use]
    pub fn last_run(&self, instance: &InstanceId) -> Option<RunNumber> {
        self.instances.get(instance).map(|rows| rows.status.run)
    }
}

impl InstanceRows {
    fn new(created: u64, status: StatusRow) -> Self {
        Self { created, status, history: BTreeMap::new(), in_flight: None, timer: None }
    }

    fn next_seq(&self, execution: ExecutionNumber) -> EventSeq {
        self.history
            .range((execution, EventSeq(0))..=(execution, EventSeq(u64::MAX)))
            .next_back()
            .map_or(EventSeq(0), |((_, first), (count, _))| EventSeq(first.0 + u64::from(*count)))
    }

    fn history_rows(&self, execution: ExecutionNumber) -> Vec<HistoryRow> {
        self.history
            .range((execution, EventSeq(0))..=(execution, EventSeq(u64::MAX)))
            .map(|((_, first), (_, body))| HistoryRow { first: *first, body: body.clone() })
            .collect()
    }
}
