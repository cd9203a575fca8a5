//! Workers and the partitions they own: opening, taking over, stepping, dying.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::{DAY, Delivery, EPOCH, Happening, MINUTE, SECOND, Verdict, World};
use crate::model::{ExecutionKey, Fence, InstanceId, MessageBody, PartitionId, Timestamp};
use crate::partition::{AttemptKey, Config, Effect, Input, Partition, Registry, Turned};
use crate::replay::{ForeignWake, OrchestratorFn};
use crate::sim::checker::Checker;
use crate::sim::code;
use crate::sim::faults::Fault;
use crate::store::{AcceptedStart, ArrivalPosition, WorkResult};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct OwnerId(u32);

impl fmt::Display for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "o{}", self.0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WorkerId(u32);

/// One process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Worker {
    clock_offset: i64,
    knows_rare: bool,
    wrong_version: bool,
}

/// One ownership of one partition by one worker.
pub(super) struct Owner {
    pub(super) worker: WorkerId,
    pub(super) partition: PartitionId,
    pub(super) fence: Fence,
    pub(super) machine: Partition,
    pub(super) position: ArrivalPosition,
    /// Turns that were polled and not given back.
    polled: VecDeque<Turned>,
    foreign: Arc<Mutex<Vec<ExecutionKey>>>,
    stepping: bool,
    alarm: Option<i64>,
    /// Attempts that never answer by themselves.
    pub(super) hung: BTreeSet<AttemptKey>,
    /// Attempts that are to end, and say so.
    pub(super) cancelled: BTreeSet<AttemptKey>,
}

struct Code {
    worker: Worker,
    foreign: Arc<Mutex<Vec<ExecutionKey>>>,
}

impl Registry for Code {
    fn orchestrator(&self, name: &str) -> Option<OrchestratorFn> {
        let known = name == code::SCRIPTED || (name == code::RARE && self.worker.knows_rare);
        known.then(|| code::orchestrator(self.worker.wrong_version))
    }

    fn foreign_wake(&self, key: &ExecutionKey) -> Option<ForeignWake> {
        let (woken, key) = (self.foreign.clone(), key.clone());
        Some(Arc::new(move || {
            woken.lock().unwrap_or_else(PoisonError::into_inner).push(key.clone());
        }))
    }
}

impl World {
    /// Some worker takes a partition.
    pub(super) fn open(&mut self, partition: PartitionId) -> Verdict {
        self.open_after(partition, None)
    }

    /// The last owner was given up over a turn of `stuck`.
    fn open_after(&mut self, partition: PartitionId, stuck: Option<InstanceId>) -> Verdict {
        let worker = self.some_worker();
        let properties = self.workers[&worker];
        let snapshot = self.store.open(partition);
        let fence = snapshot.fence;
        self.checker.opened(partition, self.partitions, fence)?;
        let foreign = Arc::new(Mutex::new(Vec::new()));
        let config = Config {
            partition,
            partitions: self.partitions,
            limits: self.limits,
            cache_bytes_max: self.cache_bytes_max,
            uncommitted_max: self.uncommitted_max,
            heartbeat_delay: crate::partition::HEARTBEAT_DELAY,
            stuck: stuck.into_iter().collect(),
            looks_first: self.outdated.contains(&partition),
        };
        let registry = Arc::new(Code { worker: properties, foreign: foreign.clone() });
        let now = self.hub_time(properties);
        let machine = Partition::open(config, registry, snapshot, now);
        self.next_owner += 1;
        let id = OwnerId(self.next_owner);
        self.tell(format_args!(
            "{id} opens partition {partition} with fence {fence} (worker {})",
            worker.0
        ));
        self.owners.insert(
            id,
            Owner {
                worker,
                partition,
                fence,
                machine,
                position: ArrivalPosition::default(),
                polled: VecDeque::new(),
                foreign,
                stepping: false,
                alarm: None,
                hung: BTreeSet::new(),
                cancelled: BTreeSet::new(),
            },
        );
        self.newest.insert(partition, id);
        self.schedule_step(id);
        let delay = self.latency();
        self.after(delay, Happening::ReadArrivals(partition));
        Ok(())
    }

    /// A worker that lives, or a new one. After the faults there is one, and nothing is wrong with it.
    fn some_worker(&mut self) -> WorkerId {
        let alive: Vec<_> = self.workers.keys().copied().collect();
        if self.healed
            && let Some(only) = alive.first()
        {
            return *only;
        }
        if !alive.is_empty() && alive.len() > self.rng.index(4) {
            return *self.rng.pick(&alive);
        }
        let worker = Worker {
            clock_offset: if self.fault(Fault::ClockJump) {
                self.rng.within(-5 * MINUTE, 5 * MINUTE)
            } else {
                0
            },
            knows_rare: !self.fault(Fault::CodeMissing),
            wrong_version: self.fault(Fault::CodeWrong),
        };
        self.next_worker += 1;
        let id = WorkerId(self.next_worker);
        self.tell(format_args!("worker {} begins: {worker:?}", id.0));
        self.workers.insert(id, worker);
        id
    }

    fn hub_time(&self, worker: Worker) -> Timestamp {
        Timestamp::from_micros(EPOCH + self.micros.saturating_add(worker.clock_offset))
    }

    /// The clock of an owner's worker.
    pub(super) fn clock_of(&self, owner: &Owner) -> Timestamp {
        self.workers.get(&owner.worker).map_or(Timestamp::MIN, |worker| self.hub_time(*worker))
    }

    pub(super) fn schedule_step(&mut self, id: OwnerId) {
        if let Some(owner) = self.owners.get_mut(&id)
            && !owner.stepping
        {
            owner.stepping = true;
            let delay = self.rng.within(1, 200);
            self.after(delay, Happening::Step(id));
        }
    }

    /// A process dies: its memory is gone, commits and messages on their way are not.
    pub(super) fn kill(&mut self, worker: WorkerId) {
        self.workers.remove(&worker);
        let mine: Vec<_> = self
            .owners
            .iter()
            .filter(|(_, owner)| owner.worker == worker)
            .map(|(id, _)| *id)
            .collect();
        mine.into_iter().for_each(|id| self.drop_owner(id, 20 * SECOND));
    }

    /// An owner's memory is thrown away; if the partition was still its own, somebody opens it again.
    pub(super) fn drop_owner(&mut self, id: OwnerId, within: i64) {
        let Some(mut owner) = self.owners.remove(&id) else { return };
        for effect in owner.machine.take_effects() {
            // A commit of its may be on its way, that ends what it was about to say it holds.
            if let Effect::Held { instance, .. } = effect {
                self.checker.told_held.insert(instance);
            }
        }
        self.counts.add(Fault::Eviction, owner.machine.stats().evictions);
        let partition = owner.partition;
        self.tell(format_args!("{id} of partition {partition} is gone"));
        if self.newest.get(&partition) == Some(&id) {
            self.newest.remove(&partition);
            let delay = self.rng.within(MINUTE.min(within) / 20, within);
            self.after(delay, Happening::Open(partition));
        }
    }

    /// One small thing: effects are carried out, or a turn is polled or given back, or a commit taken.
    pub(super) fn step(&mut self, id: OwnerId) -> Verdict {
        let Some(owner) = self.owners.get_mut(&id) else { return Ok(()) };
        owner.stepping = false;
        let (worker, partition) = (owner.worker, owner.partition);
        if self.fault(Fault::Crash) {
            self.tell(format_args!("worker {} crashes", worker.0));
            self.kill(worker);
            return Ok(());
        }
        if self.newest.get(&partition) == Some(&id) {
            if self.fault(Fault::Takeover) {
                self.tell(format_args!("partition {partition} is taken from {id}"));
                self.open(partition)?;
            } else if self.rates.of(Fault::Stuck) > 0 {
                self.perhaps_stuck(id)?;
            } else if self.rates.of(Fault::Leave) > 0 {
                self.perhaps_leave(id);
            }
        }
        let Some(owner) = self.owners.get_mut(&id) else { return Ok(()) };
        let woken =
            std::mem::take(&mut *owner.foreign.lock().unwrap_or_else(PoisonError::into_inner));
        for key in woken {
            self.deliver_inside(id, Delivery::Woken(key));
        }
        let first = self.rng.below(3);
        for thing in (0..3).map(|n| (first + n) % 3) {
            let Some(owner) = self.owners.get_mut(&id) else { return Ok(()) };
            let done = match thing {
                0 => {
                    let effects = owner.machine.take_effects();
                    let any = !effects.is_empty();
                    for effect in effects {
                        self.carry_out(id, effect)?;
                    }
                    any
                }
                1 => self.turn(id),
                _ => self.commit(id)?,
            };
            if done {
                self.schedule_step(id);
                return Ok(());
            }
        }
        self.set_alarm(id);
        Ok(())
    }

    /// A turn that is out does not return: the owner lives on as a zombie.
    fn perhaps_stuck(&mut self, id: OwnerId) -> Verdict {
        let Some(turn) = self.owners.get_mut(&id).and_then(|owner| owner.machine.take_turn())
        else {
            return Ok(());
        };
        let (instance, partition) = (turn.instance().clone(), self.owners[&id].partition);
        if self.fault(Fault::Stuck) {
            self.tell(format_args!("{id} is given up: a turn of {instance} does not return"));
            self.checker.told_held.insert(instance.clone());
            drop(turn);
            return self.open_after(partition, Some(instance));
        }
        if let Some(owner) = self.owners.get_mut(&id) {
            owner.polled.push_back(turn.run());
        }
        self.schedule_step(id);
        Ok(())
    }

    /// An owner with nothing in the works gives its partition up.
    fn perhaps_leave(&mut self, id: OwnerId) {
        let Some(owner) = self.owners.get(&id) else { return };
        let (partition, fence) = (owner.partition, owner.fence);
        let ready = owner.machine.is_quiet() && owner.polled.is_empty();
        if ready && self.fault(Fault::Leave) {
            self.tell(format_args!("{id} leaves partition {partition}"));
            let _ = self.store.release(partition, fence);
            self.drop_owner(id, SECOND);
        }
    }

    /// Polls a turn, or gives one back, not always in the order in which they were polled.
    fn turn(&mut self, id: OwnerId) -> bool {
        let give_back = self.rng.chance(500);
        let place = self.rng.bits();
        let Some(owner) = self.owners.get_mut(&id) else { return false };
        if !give_back && let Some(turn) = owner.machine.take_turn() {
            owner.polled.push_back(turn.run());
            return true;
        }
        let place = usize::try_from(place % (owner.polled.len().max(1) as u64)).expect("a place");
        if let Some(turned) = owner.polled.remove(place) {
            owner.machine.turned(turned);
            return true;
        }
        if let Some(turn) = owner.machine.take_turn() {
            owner.polled.push_back(turn.run());
            return true;
        }
        false
    }

    pub(super) fn set_alarm(&mut self, id: OwnerId) {
        let Some(owner) = self.owners.get(&id) else { return };
        let Some(due) = owner.machine.next_due() else { return };
        let wait =
            due.as_micros().saturating_sub(self.clock_of(owner).as_micros()).clamp(0, 2_000 * DAY);
        let at = self.micros.saturating_add(wait);
        if owner.alarm.is_some_and(|alarm| alarm <= at && alarm > self.micros) {
            return;
        }
        // A due time that is over and still there would be asked about for ever.
        let wait = wait.max(1);
        if let Some(owner) = self.owners.get_mut(&id) {
            owner.alarm = Some(at.max(self.micros + 1));
        }
        self.after(wait, Happening::Alarm(id));
    }

    pub(super) fn alarm(&mut self, id: OwnerId) {
        let Some(owner) = self.owners.get(&id) else { return };
        let now = self.clock_of(owner);
        if let Some(owner) = self.owners.get_mut(&id) {
            if owner.alarm.is_some_and(|alarm| alarm <= self.micros) {
                owner.alarm = None;
            }
            owner.machine.tick(now);
        }
        self.schedule_step(id);
    }

    /// A delivery within a process: in time and once, if the process lives.
    pub(super) fn deliver_inside(&mut self, owner: OwnerId, delivery: Delivery) {
        let delay = self.latency();
        self.after(delay, Happening::Feed(owner, delivery));
    }

    /// A delivery to the newest owner of a partition; sometimes an older one, still alive, gets it.
    pub(super) fn reach(&mut self, partition: PartitionId, delivery: Delivery) {
        let living: Vec<_> = self
            .owners
            .iter()
            .filter(|(_, owner)| owner.partition == partition)
            .map(|(id, _)| *id)
            .collect();
        let newest = self.newest.get(&partition).copied();
        let target = if living.len() > 1 && self.rng.chance(200) {
            Some(*self.rng.pick(&living))
        } else {
            newest
        };
        if let Some(owner) = target {
            self.feed(owner, delivery);
        }
    }

    pub(super) fn feed(&mut self, id: OwnerId, delivery: Delivery) {
        let Some(owner) = self.owners.get(&id) else { return };
        let now = self.clock_of(owner);
        if let Delivery::Reported(WorkResult { attempt, heartbeat_details, .. }) = &delivery {
            self.checker.heartbeat_reported(attempt, heartbeat_details.as_ref());
        }
        if let Delivery::AttemptEnded(attempt, _) | Delivery::Reported(WorkResult { attempt, .. }) =
            &delivery
        {
            let at = now.max(owner.machine.now());
            self.checker.attempt_answered(attempt, at);
        }
        if let Delivery::AttemptStarted(attempt) = &delivery {
            let at = now.max(owner.machine.now());
            self.checker.attempt_began(attempt, at);
        }
        if let Delivery::Heartbeat(attempt, details) = &delivery {
            let (at, by) = (now.max(owner.machine.now()), (owner.partition, owner.fence));
            self.checker.heartbeat_heard(attempt, details, by, at);
        }
        if let Delivery::Woken(key) = &delivery {
            let (partition, at) = (owner.partition, now.max(owner.machine.now()));
            self.checker.woken_from_outside(partition, key, at);
        }
        self.tell(format_args!("{id} <- {}", Words(&delivery)));
        let input = match delivery {
            Delivery::Start(acceptance, ticket) => {
                Input::Start { acceptance: Box::new(acceptance), ticket }
            }
            Delivery::Command(envelope, remember, ticket) => {
                Input::Command { envelope: Box::new(envelope), remember, ticket }
            }
            Delivery::Accepted(acceptance, fresh) => {
                Input::Accepted { acceptance: Box::new(acceptance), fresh }
            }
            Delivery::Offered(attempt) => Input::Offered(vec![attempt]),
            Delivery::Reported(result) => Input::Reported(Box::new(result)),
            Delivery::Arrived(envelope) => Input::Arrived(Box::new(envelope)),
            Delivery::Message(message) => Input::Message(Box::new(message)),
            Delivery::Confirmed(by, upto) => Input::Confirmed { by, upto },
            Delivery::AttemptStarted(attempt) => Input::AttemptStarted(attempt),
            Delivery::Heartbeat(attempt, details) => {
                Input::Heartbeat { attempt, at: now, details: Some(details) }
            }
            Delivery::AttemptEnded(attempt, result) => Input::AttemptEnded { attempt, result },
            Delivery::Loaded(instance, found) => Input::Loaded { instance, found: Ok(found) },
            Delivery::History(key, found) => Input::HistoryLoaded { key, found: Ok(found) },
            Delivery::Timers(page) => Input::TimersLoaded(page),
            Delivery::Woken(key) => Input::WokenFromOutside(key),
        };
        if let Some(owner) = self.owners.get_mut(&id) {
            owner.machine.handle(now, input);
        }
        self.schedule_step(id);
    }

    /// Does what an owner wishes.
    pub(super) fn carry_out(&mut self, id: OwnerId, effect: Effect) -> Verdict {
        let Some(owner) = self.owners.get(&id) else { return Ok(()) };
        let (partition, now) = (owner.partition, owner.machine.now());
        match effect {
            Effect::Load(instance) => {
                let delay = self.latency();
                self.after(delay, Happening::ReadInstance(id, instance));
            }
            Effect::LoadHistory(key) => {
                let delay = self.latency();
                self.after(delay, Happening::ReadHistory(id, key));
            }
            Effect::LoadTimers(after) => {
                let delay = self.latency();
                self.after(delay, Happening::ReadTimers(id, after));
            }
            Effect::StartAttempt(start) => {
                let newest = self.newest.get(&partition) == Some(&id);
                self.checker.attempt_starts(partition, newest, &start, now)?;
                let delay = self.latency();
                if self.fault(Fault::Offer) {
                    // First it is on offer, then the owner learns that it is; the owner may die between.
                    let recorded = delay + self.latency();
                    let offered = Delivery::Offered(start.attempt.clone());
                    self.after(delay, Happening::Offered(start));
                    self.after(recorded, Happening::Feed(id, offered));
                } else {
                    self.after(delay, Happening::Body(id, start));
                }
            }
            // An executor may notice this in time, late or never. What would never answer does when it is told.
            Effect::CancelAttempt(attempt) => self.cancel_attempt(id, &attempt),
            Effect::Answer { ticket, answer } => {
                self.tell(format_args!("{id} answers {}: {answer:?}", ticket.0));
                if let Some(asked) = self.journal.tickets.get(&ticket).cloned() {
                    self.checker.answered(&asked, &answer, &self.store, &mut self.journal)?;
                }
            }
            Effect::Deliver(message) => {
                let to = message.to;
                self.send_across(to, Delivery::Message(*message));
            }
            Effect::Confirm { to, upto } => {
                self.checker.confirmed(partition, to, upto)?;
                self.send_across(to, Delivery::Confirmed(partition, upto));
            }
            Effect::StatusChanged(row) => {
                self.tell(format_args!("{id} announces {} as {}", row.key(), row.status));
                self.checker.announced(&row, &self.store)?;
            }
            Effect::Held { instance, message } => {
                self.tell(format_args!("{id} holds {instance}: {message}"));
                let needs = self.owners.get(&id).map(|owner| owner.machine.needs());
                Checker::lack_is_said(&message, needs)?;
                self.checker.told_held.insert(instance);
            }
            Effect::Warn { instance, message } => {
                self.tell(format_args!("{id} warns of {instance}: {message}"));
            }
        }
        Ok(())
    }

    /// A delivery between processes: late, twice or never. Whoever needs it asks again.
    pub(super) fn send_across(&mut self, to: PartitionId, delivery: Delivery) {
        if self.fault(Fault::Duplicate) {
            let delay = self.transit();
            self.after(delay, Happening::Reach(to, delivery.clone()));
        }
        if self.fault(Fault::Loss) {
            return;
        }
        let delay = self.transit();
        self.after(delay, Happening::Reach(to, delivery));
    }

    /// What reached the partition is read from the store and handed to its owner, sometimes again from the
    /// beginning.
    pub(super) fn read_arrivals(&mut self, partition: PartitionId) {
        let Some(id) = self.newest.get(&partition).copied() else { return };
        let again = self.fault(Fault::Duplicate);
        let Some(owner) = self.owners.get_mut(&id) else { return };
        let from = if again { ArrivalPosition::default() } else { owner.position };
        let arrivals = self.store.arrivals(partition, from, self.page);
        owner.position = arrivals.position;
        for AcceptedStart { acceptance, .. } in arrivals.acceptances {
            let delay = self.transit();
            self.after(delay, Happening::Feed(id, Delivery::Accepted(acceptance, false)));
        }
        for envelope in arrivals.envelopes {
            let delay = self.transit();
            self.after(delay, Happening::Feed(id, Delivery::Arrived(envelope)));
        }
        for result in arrivals.results {
            let delay = self.transit();
            self.after(delay, Happening::Feed(id, Delivery::Reported(result)));
        }
        if arrivals.more {
            let delay = self.latency();
            self.after(delay, Happening::ReadArrivals(partition));
        }
    }

    pub(super) fn counters_sampled(&mut self) -> Verdict {
        if self.rng.chance(50) { Checker::counts_agree(&self.store) } else { Ok(()) }
    }
}

/// A delivery in a few words.
struct Words<'a>(&'a Delivery);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Delivery::Start(start, ticket) => {
                write!(f, "start {} run {} (ticket {})", start.instance, start.run, ticket.0)
            }
            Delivery::Command(envelope, remember, ticket) => write!(
                f,
                "command {} to {}: {:?} (remember {remember}, ticket {})",
                envelope.id, envelope.instance, envelope.command, ticket.0
            ),
            Delivery::Accepted(start, fresh) => {
                write!(f, "acceptance of {} run {}, fresh {fresh}", start.instance, start.run)
            }
            Delivery::Offered(a) => {
                write!(f, "offered {} {} attempt {}", a.key, a.call, a.attempt)
            }
            Delivery::Reported(result) => {
                let a = &result.attempt;
                let how = if result.result.is_ok() { "ok" } else { "failed" };
                write!(f, "reported {} {} attempt {}: {how}", a.key, a.call, a.attempt)
            }
            Delivery::Arrived(envelope) => {
                write!(
                    f,
                    "envelope {} to {}: {:?}",
                    envelope.id, envelope.instance, envelope.command
                )
            }
            Delivery::Message(message) => {
                write!(
                    f,
                    "message {} from {} for {}: {}",
                    message.number,
                    message.from,
                    message.body.instance(),
                    match &message.body {
                        MessageBody::Raise { name, input, .. } => format!("{name} {input:?}"),
                        MessageBody::StartChild(_) => "start".into(),
                        MessageBody::RewindChild(_) => "rewind".into(),
                        MessageBody::ChildEnded { parent, .. } =>
                            format!("child {} ended", parent.call),
                        MessageBody::TerminateChild { .. } => "terminate".into(),
                    }
                )
            }
            Delivery::Confirmed(by, upto) => write!(f, "{by} confirms up to {upto}"),
            Delivery::AttemptStarted(a) => {
                write!(f, "started {} {} attempt {}", a.key, a.call, a.attempt)
            }
            Delivery::Heartbeat(a, details) => {
                write!(f, "heartbeat {} {} attempt {}: {details:?}", a.key, a.call, a.attempt)
            }
            Delivery::AttemptEnded(a, result) => {
                let how = if result.is_ok() { "ok" } else { "failed" };
                write!(f, "ended {} {} attempt {}: {how}", a.key, a.call, a.attempt)
            }
            Delivery::History(key, rows) => write!(f, "history of {key}: {} rows", rows.len()),
            Delivery::Loaded(instance, found) => match found.as_deref() {
                None => write!(f, "loaded {instance}: nothing"),
                Some(stored) => write!(
                    f,
                    "loaded {instance}: status {:?}, {} history rows, acceptance {:?}, timer {:?}",
                    stored.status.as_ref().map(|row| (row.run, row.status)),
                    stored.history.len(),
                    stored.acceptance.as_ref().map(|start| start.run),
                    stored.timer
                ),
            },
            Delivery::Timers(page) => {
                write!(f, "{} due times, more: {}", page.timers.len(), page.more)
            }
            Delivery::Woken(key) => write!(f, "{key} woken from outside"),
        }
    }
}
