//! The world around the machine: clocks, owners, a network, a store that fails, workers that die.
//!
//! Everything that happens is an entry in one queue, ordered by time; each entry is one small step, so that
//! a crash, a takeover or a late delivery can come between any two.

mod commits;
mod owners;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::checker::{Checker, Verdict};
use super::clients::{Clients, Way, Wish};
use super::code;
use super::faults::{Fault, FaultCounts, Rates};
use super::journal::Journal;
use super::rng::Rng;
use super::story::Story;
use super::{Report, Violation};
use crate::codec;
use crate::model::{
    Acceptance, CommitNumber, Envelope, ExecutionKey, Failure, Fence, InstanceId, Message,
    MessageNumber, PartitionId, Payload, RunNumber, RuntimeStatus, Timestamp,
};
use crate::partition::{AttemptKey, StartAttempt, Ticket};
use crate::store::{
    Commit, HistoryRow, ListQuery, StoreLimits, StoreModel, StoredInstance, TimerPage, WorkResult,
};
use owners::{Owner, OwnerId, Worker, WorkerId};

const MILLI: i64 = 1_000;
const SECOND: i64 = 1_000 * MILLI;
const MINUTE: i64 = 60 * SECOND;
const DAY: i64 = 24 * 60 * MINUTE;

/// Where the hub's clock stands when a seed begins: some day in 2027.
pub(super) const EPOCH: i64 = 1_800_000_000 * SECOND;

/// Happenings of one seed; one that needs more is not live.
const HAPPENINGS_MAX: u64 = 150_000;

/// Times that waiting instances are given their events, after faults stopped.
const ROUNDS_MAX: u32 = 120;

/// Something that a delivery brings to an owner.
#[derive(Debug, Clone)]
enum Delivery {
    Start(Acceptance, Ticket),
    Command(Envelope, bool, Ticket),
    Accepted(Acceptance, bool),
    Offered(AttemptKey),
    Reported(WorkResult),
    Arrived(Envelope),
    Message(Message),
    Confirmed(PartitionId, MessageNumber),
    AttemptStarted(AttemptKey),
    Heartbeat(AttemptKey, Payload),
    AttemptEnded(AttemptKey, Result<Payload, Box<Failure>>),
    Loaded(InstanceId, Option<Box<StoredInstance>>),
    History(ExecutionKey, Vec<HistoryRow>),
    Timers(TimerPage),
    Woken(ExecutionKey),
}

/// How a commit came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Applied,
    Fenced,
    Unknown,
    /// It takes an id of which the store knows more than the owner did.
    Outdated,
}

enum Happening {
    /// An owner does one small thing.
    Step(OwnerId),
    /// Something of an owner is due.
    Alarm(OwnerId),
    /// A delivery within one process.
    Feed(OwnerId, Delivery),
    /// A delivery to whoever owns the partition.
    Reach(PartitionId, Delivery),
    ReadInstance(OwnerId, InstanceId),
    ReadHistory(OwnerId, ExecutionKey),
    ReadTimers(OwnerId, Option<(Timestamp, InstanceId)>),
    ReadArrivals(PartitionId),
    /// A commit reaches the store. It may outlive its owner.
    Commit {
        owner: OwnerId,
        fence: Fence,
        commit: Arc<Commit>,
        late: bool,
    },
    CommitAnswered(OwnerId, CommitNumber, Outcome),
    /// An attempt of an activity runs, where its owner lives.
    Body(OwnerId, Box<StartAttempt>),
    /// A worker that took an offered attempt runs it, whatever becomes of its owner.
    Offered(Box<StartAttempt>),
    /// A body says how far it is, where its owner lives.
    Heartbeat(OwnerId, AttemptKey, Payload),
    /// Its result reaches the store.
    Report(WorkResult),
    /// A partition without an owner gets one.
    Open(PartitionId),
    Client(Wish),
    WakeOutside,
}

pub(super) struct World {
    seed: u64,
    rng: Rng,
    rates: Rates,
    counts: FaultCounts,
    micros: i64,
    queue: BTreeMap<(i64, u64), Happening>,
    order: u64,
    happenings: u64,
    store: StoreModel,
    partitions: u16,
    limits: StoreLimits,
    cache_bytes_max: usize,
    uncommitted_max: usize,
    page: usize,
    owners: BTreeMap<OwnerId, Owner>,
    newest: BTreeMap<PartitionId, OwnerId>,
    /// Where the store refused a commit for what it knew more.
    outdated: BTreeSet<PartitionId>,
    workers: BTreeMap<WorkerId, Worker>,
    next_owner: u32,
    next_worker: u32,
    /// Results of offered attempts so far.
    reports: u64,
    /// Heartbeats so far.
    heartbeats: u64,
    clients: Clients,
    journal: Journal,
    checker: Checker,
    story: Story,
    /// Faults have stopped.
    healed: bool,
    /// Purges that were asked for again since then.
    repeated: BTreeSet<(InstanceId, RunNumber)>,
}

impl World {
    pub(super) fn new(seed: u64, story: Story) -> Self {
        let mut rng = Rng::new(seed);
        let rates = Rates::draw(&mut rng.fork());
        let partitions = 1 + u16::try_from(rng.below(4)).expect("below four");
        let mut limits = StoreLimits {
            commit_rows_max: 99,
            commit_bytes_max: 3_500_000,
            redelivers: true,
            result_delay: std::time::Duration::from_millis(if rng.chance(500) {
                0
            } else {
                rng.below(200)
            }),
        };
        if rates.of(Fault::Cut) > 0 {
            limits.commit_rows_max = 7 + rng.index(20);
            limits.commit_bytes_max = 300 + rng.index(4_000);
        }
        let cache_bytes_max =
            if rates.of(Fault::Eviction) > 0 { rng.index(12_000) } else { 64 << 20 };
        let clients = Clients::new(rng.fork());
        Self {
            seed,
            rates,
            counts: FaultCounts::default(),
            micros: 0,
            queue: BTreeMap::new(),
            order: 0,
            happenings: 0,
            store: StoreModel::new(partitions),
            partitions,
            limits,
            cache_bytes_max,
            uncommitted_max: if rng.chance(100) { 1 + rng.index(3) } else { 1_000 },
            page: *rng.pick(&[1, 2, 5, 1_000]),
            owners: BTreeMap::new(),
            newest: BTreeMap::new(),
            outdated: BTreeSet::new(),
            workers: BTreeMap::new(),
            next_owner: 0,
            next_worker: 0,
            reports: 0,
            heartbeats: 0,
            clients,
            journal: Journal::default(),
            checker: Checker::default(),
            story,
            healed: false,
            repeated: BTreeSet::new(),
            rng,
        }
    }

    /// Safety under faults, then liveness without them, then the checker's judgement.
    pub(super) fn run(&mut self) -> Verdict {
        for partition in 0..self.partitions {
            self.after(0, Happening::Open(PartitionId(partition)));
        }
        let wishes = self.clients.plan(&mut self.journal);
        let horizon = *self.rng.pick(&[2 * MINUTE, 60 * MINUTE, 10 * DAY, 500 * DAY]);
        let patience = 2_000 + self.rng.below(4_000) + 100 * wishes.len() as u64;
        for (micros, wish) in wishes {
            self.after(micros, Happening::Client(wish));
        }
        while self.happenings < patience && self.next_within(horizon)? {}
        self.heal();
        for round in 0.. {
            while self.next_within(i64::MAX)? {}
            Checker::no_timer_is_left(&self.store)?;
            self.checker.nobody_is_late(&self.store)?;
            self.checker.no_orphan_runs(&self.store)?;
            if !self.help_those_who_wait()? {
                break;
            }
            if round == ROUNDS_MAX {
                return Err(format!("I8: {}", self.who_is_left()));
            }
        }
        self.at_rest()?;
        let mut rng = self.rng.fork();
        self.checker.judge(&self.store, &self.journal, &mut rng)
    }

    pub(super) fn report(mut self, what: Option<String>) -> Report {
        let evictions = self.owners.values().map(|owner| owner.machine.stats().evictions).sum();
        self.counts.add(Fault::Eviction, evictions);
        Report {
            seed: self.seed,
            instances: self.checker.ended(),
            purged: self.checker.purged(),
            faults: self.counts,
            violation: what.map(|what| Violation { what, story: self.story.into_lines() }),
        }
    }

    /// One happening, if there is one within the horizon.
    fn next_within(&mut self, horizon: i64) -> Result<bool, String> {
        let Some(entry) = self.queue.first_entry() else { return Ok(false) };
        if entry.key().0 > horizon {
            return Ok(false);
        }
        let ((micros, _), happening) = entry.remove_entry();
        self.micros = self.micros.max(micros);
        self.happenings += 1;
        if self.happenings > HAPPENINGS_MAX {
            return Err(format!("I8: it does not come to rest: {}", self.who_is_left()));
        }
        self.happen(happening)?;
        Ok(true)
    }

    fn happen(&mut self, happening: Happening) -> Verdict {
        match happening {
            Happening::Step(owner) => self.step(owner),
            Happening::Alarm(owner) => {
                self.alarm(owner);
                Ok(())
            }
            Happening::Feed(owner, delivery) => {
                self.feed(owner, delivery);
                Ok(())
            }
            Happening::Reach(partition, delivery) => {
                self.reach(partition, delivery);
                Ok(())
            }
            Happening::ReadInstance(owner, instance) => {
                let found = self.store.load(&instance).map(Box::new);
                self.deliver_inside(owner, Delivery::Loaded(instance, found));
                Ok(())
            }
            Happening::ReadHistory(owner, key) => {
                let rows = self.store.history(&key.instance).unwrap_or_default();
                self.deliver_inside(owner, Delivery::History(key, rows));
                Ok(())
            }
            Happening::ReadTimers(owner, after) => {
                if let Some(partition) = self.owners.get(&owner).map(|owner| owner.partition) {
                    let page = self.store.timers(partition, after.as_ref(), self.page);
                    self.deliver_inside(owner, Delivery::Timers(page));
                }
                Ok(())
            }
            Happening::ReadArrivals(partition) => {
                self.read_arrivals(partition);
                Ok(())
            }
            Happening::Commit { owner, fence, commit, late } => {
                self.commit_reaches_store(owner, fence, commit, late)
            }
            Happening::CommitAnswered(owner, number, outcome) => {
                self.commit_answered(owner, number, outcome)
            }
            Happening::Body(owner, start) => {
                self.run_body(owner, &start);
                Ok(())
            }
            Happening::Offered(start) => {
                self.run_offered(&start);
                Ok(())
            }
            Happening::Heartbeat(owner, attempt, details) => {
                self.heartbeat(owner, attempt, details);
                Ok(())
            }
            Happening::Report(result) => {
                self.report_result(result);
                Ok(())
            }
            Happening::Open(partition) => self.open(partition),
            Happening::Client(wish) => self.client(wish),
            Happening::WakeOutside => {
                for waker in code::take_outside() {
                    waker.wake();
                }
                let all: Vec<_> = self.owners.keys().copied().collect();
                all.into_iter().for_each(|owner| self.schedule_step(owner));
                Ok(())
            }
        }
    }

    fn after(&mut self, micros: i64, happening: Happening) {
        self.order += 1;
        self.queue.insert((self.micros.saturating_add(micros.max(0)), self.order), happening);
    }

    /// Whether a fault of this kind is injected here and now.
    fn fault(&mut self, fault: Fault) -> bool {
        let happens = !self.healed && self.rng.chance(self.rates.of(fault));
        if happens {
            self.counts.note(fault);
        }
        happens
    }

    fn tell(&mut self, line: std::fmt::Arguments<'_>) {
        self.story.tell(self.micros, line);
    }

    /// How long something takes that works as it should.
    fn latency(&mut self) -> i64 {
        self.rng.within(10, 3 * MILLI)
    }

    /// How long a delivery takes, late ones included.
    fn transit(&mut self) -> i64 {
        let usual = self.latency();
        if self.fault(Fault::Delay) {
            let widest = *self.rng.pick(&[SECOND, 20 * SECOND, 10 * MINUTE]);
            usual + self.rng.within(10 * MILLI, widest)
        } else {
            usual
        }
    }

    /// Faults stop: one worker with all code and a true clock serves all partitions.
    fn heal(&mut self) {
        self.tell(format_args!("faults stop"));
        self.healed = true;
        let workers: Vec<_> = self.workers.keys().copied().collect();
        workers.into_iter().for_each(|worker| self.kill(worker));
        self.queue.retain(|_, happening| !matches!(happening, Happening::Open(_)));
        for partition in 0..self.partitions {
            self.after(0, Happening::Open(PartitionId(partition)));
        }
    }

    /// Gives waiting instances what they wait for; false when none is left.
    fn help_those_who_wait(&mut self) -> Result<bool, String> {
        let left: Vec<_> = self
            .store
            .list(&ListQuery::default(), None, usize::MAX)
            .rows
            .into_iter()
            .map(|row| self.store.status(&row.instance).unwrap_or(row))
            .filter(|row| !row.status.is_terminal() && self.can_be_read(&row.instance))
            .collect();
        let purged = self.purge_those_asked_for()?;
        if left.is_empty() {
            return Ok(purged);
        }
        for row in left {
            let resume = row.status == RuntimeStatus::Suspended;
            let wishes = self.clients.help(&row, resume, &mut self.journal);
            for wish in wishes {
                self.client(wish)?;
            }
        }
        self.after(0, Happening::WakeOutside);
        Ok(true)
    }

    /// A later run of an instance that was damaged is as good as any, and somebody may wait for it.
    fn can_be_read(&self, instance: &InstanceId) -> bool {
        let readable = || {
            let rows = self.store.history(instance).unwrap_or_default();
            codec::decode_history(&rows).is_ok_and(|events| !events.is_empty())
        };
        !self.checker.damaged.contains(instance) || readable()
    }

    /// A purge whose owner died is repeated by whoever asked for it. Without faults once is enough.
    fn purge_those_asked_for(&mut self) -> Result<bool, String> {
        let left: Vec<_> = self
            .journal
            .purges
            .iter()
            .filter(|((instance, run), ended)| {
                let there = self
                    .store
                    .status(instance)
                    .is_some_and(|row| row.run == *run && row.status.is_terminal());
                **ended && there && !self.checker.damaged.contains(instance)
            })
            .map(|(key, _)| key.clone())
            .collect();
        for (instance, run) in &left {
            if !self.repeated.insert((instance.clone(), *run)) {
                return Err(format!("I10: run {run} of {instance} was to be purged, and stays"));
            }
        }
        for partition in (0..self.partitions).map(PartitionId) {
            let ids = left.iter().map(|(instance, _)| instance.clone());
            let mine: Vec<_> =
                ids.filter(|id| id.partition(self.partitions) == partition).collect();
            self.purge(&mine, Way::Stored);
        }
        Ok(!left.is_empty())
    }

    fn who_is_left(&self) -> String {
        let left: Vec<_> = self
            .store
            .list(&ListQuery::default(), None, usize::MAX)
            .rows
            .into_iter()
            .filter(|row| !row.status.is_terminal())
            .map(|row| {
                let open = self.store.load(&row.instance).and_then(|stored| stored.in_flight);
                let open = open.map(|row| String::from_utf8_lossy(&row).into_owned());
                format!("{} is {}, in flight {open:?}", row.key(), row.status)
            })
            .collect();
        format!("{} never end: {}", left.len(), left.join(", "))
    }

    /// Nothing is left over: no message, no command, no owner with something in the works.
    fn at_rest(&mut self) -> Verdict {
        for partition in (0..self.partitions).map(PartitionId) {
            let busy = self
                .newest
                .get(&partition)
                .and_then(|owner| self.owners.get(owner))
                .is_some_and(|owner| !owner.machine.is_quiet());
            if busy {
                return Err(format!(
                    "I8: partition {partition} has something in the works for ever"
                ));
            }
            let arrivals = self.store.arrivals(partition, Default::default(), usize::MAX);
            let waiting = |id: &InstanceId| !self.checker.damaged.contains(id);
            if let Some(envelope) = arrivals.envelopes.iter().find(|e| waiting(&e.instance)) {
                return Err(format!("I8: command {} was never taken", envelope.id));
            }
            if let Some(result) = arrivals.results.iter().find(|r| waiting(&r.attempt.key.instance))
            {
                return Err(format!("I5: result {} was never taken", result.id));
            }
            if let Some(start) =
                arrivals.acceptances.iter().find(|a| waiting(&a.acceptance.instance))
            {
                return Err(format!("I8: the start of {} never began", start.acceptance.instance));
            }
            let snapshot = self.store.open(partition);
            if let Some(message) = snapshot.outbox.first() {
                return Err(format!("I8: message {} to {} stays", message.number, message.to));
            }
            if let Some(left) = snapshot.in_flight.iter().find(|id| waiting(id)) {
                return Err(format!("I8: {left} has work in flight left over"));
            }
        }
        Ok(())
    }
}
