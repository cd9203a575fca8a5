//! A share of a hub's instances as a value: inputs in, turns, effects and commits out.
//!
//! The driver owns the clock, the store and the threads. It calls, in any order and as often as it likes:
//!
//! 1. [`Partition::handle`] with what happened, and [`Partition::tick`] when [`Partition::next_due`] comes;
//! 2. [`Partition::take_turn`], polls the turn, and gives it back with [`Partition::turned`];
//! 3. [`Partition::take_commit`]: at most one is under way; [`Partition::committed`] gives out the effects
//!    that waited for it;
//! 4. [`Partition::take_effects`]: those that wait for no commit (reads, refusals).
//!
//! After a commit that was fenced or whose outcome stays unknown the value is dropped, never patched.
//! Memory runs ahead of the store, and nobody may see it: every effect that tells or starts something
//! belongs to a commit. `docs/design/partition.md` has the states and invariants.

mod arrive;
mod attempt;
mod begin;
mod cache;
mod call;
mod children;
mod command;
mod effect;
mod end;
mod entry;
mod generation;
mod group;
mod heartbeat;
mod hold;
mod load;
mod mail;
mod needs;
mod purge;
mod rewind;
mod run;
mod turn;
mod turned;
mod wheel;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

pub use crate::model::{AttemptKey, StartAttempt};
pub use effect::{Answer, Effect, Input, Ticket};
pub use heartbeat::HEARTBEAT_DELAY;
pub use needs::Needs;
pub use turn::{Turn, Turned};

use crate::model::{Event, ExecutionKey, InstanceId, Message, MessageBody, PartitionId, Timestamp};
use crate::replay::{ForeignWake, Orchestration, OrchestratorFn};
use crate::store::{Cursor, Head, Snapshot, StoreLimits};
use entry::{Arrival, Code, Entry, Life};
use mail::{Inbox, KnownEnvelopes, Outbox};
use needs::Orchestrators;
use wheel::Wheel;

/// The orchestrators that this process can run.
pub trait Registry: Send + Sync {
    /// The code registered under a name.
    fn orchestrator(&self, name: &str) -> Option<OrchestratorFn>;

    /// What to call when something outside a turn wakes this execution; it should lead to
    /// [`Input::WokenFromOutside`].
    fn foreign_wake(&self, key: &ExecutionKey) -> Option<ForeignWake>;
}

/// How a partition is run.
#[derive(Clone)]
pub struct Config {
    /// Which partition.
    pub partition: PartitionId,
    /// Partitions of the hub.
    pub partitions: u16,
    /// What the store can take.
    pub limits: StoreLimits,
    /// Bytes that orchestrations may take in memory; beyond it idle ones are evicted.
    pub cache_bytes_max: usize,
    /// Instances with something uncommitted from which on new work is refused while a commit is under way.
    pub uncommitted_max: usize,
    /// How long the details of heartbeats stay in memory before they are written: [`HEARTBEAT_DELAY`], where
    /// nobody says otherwise.
    pub heartbeat_delay: Duration,
    /// Instances that are held when they are loaded, because their code did not return.
    pub stuck: Vec<InstanceId>,
    /// Whether it looks before it begins a child under the id that was made for it: a commit of the last
    /// opening was refused, and somebody may have used such an id.
    pub looks_first: bool,
}

/// Counters of what happened, for metrics. They only grow, but for those that say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Turns that were polled live.
    pub turns: u64,
    /// Histories that were replayed.
    pub replays: u64,
    /// Orchestrations that left memory to make room.
    pub evictions: u64,
    /// Duplicates and late answers that were dropped.
    pub dropped: u64,
    /// Runs that began.
    pub started: u64,
    /// Runs that ended.
    pub ended: u64,
    /// Executions that ended to begin the next.
    pub continued: u64,
    /// Instances that were purged.
    pub purged: u64,
    /// Failed executions that were repeated.
    pub rewound: u64,
    /// Attempts that are tried again.
    pub retries: u64,
    /// Commits that were built.
    pub commits: u64,
    /// Instances in memory now.
    pub resident: u64,
    /// Bytes their orchestrations are taken to cost now.
    pub resident_bytes: u64,
}

/// How long a commit that only records results waits for more of them.
#[derive(Debug, Clone, Copy, Default)]
struct Patience {
    /// When the oldest of them was queued.
    since: Option<Timestamp>,
    /// Something among what is queued does not wait.
    urgent: bool,
}

/// See the [module documentation](self).
pub struct Partition {
    entries: BTreeMap<InstanceId, Entry>,
    core: Core,
}

/// Everything of a partition that is not one instance's.
struct Core {
    config: Config,
    registry: Orchestrators,
    head: Head,
    head_changed: bool,
    /// The partition's clock: never runs backwards.
    now: Timestamp,
    wheel: Wheel,
    effects: Vec<Effect>,
    turns: VecDeque<Turn>,
    /// Instances with something to write, oldest first.
    dirty: VecDeque<InstanceId>,
    /// Since when what is dirty waits for more, where none of it is urgent.
    patient: Patience,
    outbox: Outbox,
    inbox: Inbox,
    /// What attempts have said with their heartbeats.
    unwritten: heartbeat::Unwritten,
    loads: load::Loads,
    under_way: Option<group::UnderWay>,
    next_commit: u64,
    known: KnownEnvelopes,
    resident_bytes: usize,
    uses: u64,
    stats: Stats,
}

impl Partition {
    /// Takes up a partition from what the store gave its new owner.
    #[must_use]
    pub fn open(
        config: Config,
        registry: Arc<dyn Registry>,
        snapshot: Snapshot,
        now: Timestamp,
    ) -> Self {
        let head = snapshot.head;
        let now = now.max(head.time);
        let mut core = Core {
            loads: load::Loads::opening(&head),
            inbox: Inbox::restored(&head),
            outbox: Outbox::restored(snapshot.outbox, now),
            unwritten: heartbeat::Unwritten::default(),
            head,
            head_changed: false,
            config,
            registry: Orchestrators::new(registry),
            now,
            wheel: Wheel::new(),
            effects: Vec::new(),
            turns: VecDeque::new(),
            dirty: VecDeque::new(),
            patient: Patience::default(),
            under_way: None,
            next_commit: 1,
            known: KnownEnvelopes::restored(snapshot.consumed),
            resident_bytes: 0,
            uses: 0,
            stats: Stats::default(),
        };
        let mut entries = BTreeMap::new();
        for instance in snapshot.in_flight {
            let mut entry = Entry::unknown();
            core.request_load(&instance, &mut entry);
            entries.insert(instance, entry);
        }
        let mut partition = Self { entries, core };
        partition.tick(now);
        partition
    }

    /// Takes in something that happened.
    pub fn handle(&mut self, now: Timestamp, input: Input) {
        self.core.advance_clock(now);
        match input {
            Input::Start { acceptance, ticket } => self.start(acceptance, ticket),
            Input::Accepted { acceptance, fresh } => {
                let instance = acceptance.instance.clone();
                if fresh {
                    self.expect_fresh(&instance);
                }
                self.arrive(instance, Arrival::Begin { acceptance, ticket: None });
            }
            Input::Command { envelope, remember, ticket } => {
                self.command(*envelope, remember, ticket);
            }
            Input::Arrived(envelope) => self.stored_command(*envelope),
            Input::Message(message) => self.message(*message),
            Input::Confirmed { by, upto } => self.core.outbox.confirmed(by, upto),
            Input::AttemptStarted(_) if planted!(TimeLimitIgnored) => {}
            Input::AttemptStarted(attempt) => self.attempt_started(&attempt),
            Input::Heartbeat { attempt, at, details } => {
                self.heartbeat(&attempt, at, details);
                // No tick: another attempt that is due may have said something, too, that is handed over next.
                return;
            }
            Input::AttemptEnded { attempt, result } => self.attempt_ended(&attempt, result),
            Input::Offered(attempts) => self.offered(&attempts),
            Input::Reported(result) => {
                let instance = result.attempt.key.instance.clone();
                self.arrive(instance, Arrival::Reported(result));
            }
            Input::Dead(dead) => {
                let instance = dead.instance.clone();
                self.arrive(instance, Arrival::Dead(dead));
            }
            Input::Loaded { instance, found } => self.loaded(instance, found),
            Input::HistoryLoaded { key, found } => self.history_loaded(&key, found),
            Input::TimersLoaded(page) => {
                let entries = &self.entries;
                self.core.wheel.page(page, |instance| {
                    entries.get(instance).is_some_and(|e| matches!(e.life, Life::Active(_)))
                });
            }
            Input::WokenFromOutside(_) if planted!(ForeignWakeIgnored) => {}
            Input::WokenFromOutside(key) => {
                let fits = self
                    .entries
                    .get_mut(&key.instance)
                    .and_then(Entry::active)
                    .is_some_and(|run| run.key == key);
                if fits {
                    let failure = Box::new(Orchestration::foreign_await());
                    self.arrive(key.instance, Arrival::Fail(failure));
                }
            }
        }
        self.tick(now);
    }

    /// Does what is due. Calling it early, late or twice changes nothing else.
    pub fn tick(&mut self, now: Timestamp) {
        self.core.advance_clock(now);
        while let Some(instance) = self.core.wheel.pop(self.core.now) {
            self.look_at_due(instance);
        }
        if self.core.heartbeats_are_due() {
            self.write_heartbeats();
        }
        if let Some(after) = self.core.wheel.wants_page() {
            self.core.effects.push(Effect::LoadTimers(after));
        }
        let repeats = self.core.outbox.tick(self.core.now);
        self.core.effects.extend(repeats);
    }

    /// When [`tick`](Self::tick) has something to do next.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        let patience = self.core.patience_ends();
        let due = self.core.wheel.next().into_iter().chain(self.core.outbox.next_due());
        due.chain(patience).chain(self.core.unwritten.due()).min()
    }

    /// User code to poll, in the order in which it became ready.
    pub fn take_turn(&mut self) -> Option<Turn> {
        self.core.turns.pop_front()
    }

    /// Effects that belong to no commit.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.core.effects)
    }

    /// What happened so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            resident: self.entries.len() as u64,
            resident_bytes: self.core.resident_bytes as u64,
            ..self.core.stats
        }
    }

    /// Which orchestrators its instances were seen to need.
    #[must_use]
    pub fn needs(&self) -> &Needs {
        &self.core.registry.needs
    }

    /// Whether nothing is in the works: no turn, load, commit, or anything to write.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.core.turns.is_empty()
            && self.core.under_way.is_none()
            && self.core.dirty.is_empty()
            && self.core.loads.is_idle()
    }

    /// The partition's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.core.now
    }

    fn message(&mut self, message: Message) {
        let from = message.from;
        let ready = self.core.inbox.receive(message, &self.core.head);
        if planted!(ConfirmedBeforeCommit)
            && let Some(last) = ready.last()
        {
            self.core.effects.push(Effect::Confirm { to: from, upto: last.number });
        }
        if ready.is_empty() {
            // Known already, or early. The sender may have missed the confirmation; the head in memory
            // may run ahead of the store, and what it says beyond that is not confirmed.
            if let Some(upto) = self.core.inbox.applied(from) {
                self.core.effects.push(Effect::Confirm { to: from, upto });
            }
            self.core.stats.dropped += 1;
        }
        for message in ready {
            let instance = message.body.instance().clone();
            if let MessageBody::StartChild(acceptance) = &message.body {
                self.expect_child(acceptance);
            }
            let Message { from, number, body, .. } = message;
            self.arrive(instance, Arrival::Message { from, number, body });
        }
    }
}

impl Core {
    fn advance_clock(&mut self, now: Timestamp) {
        self.now = if planted!(ClockRunsBack) { now } else { self.now.max(now) };
    }

    /// Puts an instance into the queue for the next commit, if it has something to write.
    fn queue(&mut self, instance: &InstanceId, entry: &mut Entry) {
        if entry.writes.any() && !entry.writes.may_wait() {
            self.patient.urgent = true;
        }
        if entry.writes.any() && !entry.queued {
            entry.queued = true;
            self.dirty.push_back(instance.clone());
        }
    }

    /// Hands out the next turn of an instance whose code is at home.
    fn give_turn(&mut self, instance: &InstanceId, entry: &mut Entry, event: Event) {
        if let Code::Home(orchestration) = std::mem::replace(&mut entry.code, Code::Out) {
            self.uses += 1;
            entry.used = self.uses;
            self.stats.turns += 1;
            self.turns.push_back(Turn::advance(instance.clone(), orchestration, event));
        }
    }

    /// Tells the wheel when the instance next needs the clock.
    fn sync_wheel(&mut self, instance: &InstanceId, entry: &mut Entry) {
        let due = match &entry.life {
            Life::Active(run) => run.next_due(),
            Life::Unknown | Life::Absent | Life::Ended(_) | Life::Unreadable(_) => None,
        };
        if due == entry.in_wheel {
            return;
        }
        if let Some(old) = entry.in_wheel {
            self.wheel.remove(old, instance);
        }
        if let Some(due) = due {
            self.wheel.insert(due, instance);
        }
        entry.in_wheel = due;
    }

    /// Notes in the head that messages were applied, as part of the commit that holds their effects.
    fn apply_messages(
        &mut self,
        applied: Vec<(PartitionId, crate::model::MessageNumber)>,
    ) -> Vec<Effect> {
        let mut moved: BTreeMap<PartitionId, ()> = BTreeMap::new();
        for (from, number) in applied {
            let cursor: &mut Cursor = self.head.cursors.entry(from).or_default();
            if !planted!(CursorNotMoved) {
                cursor.apply(number);
            }
            self.head_changed = true;
            moved.insert(from, ());
        }
        moved
            .into_keys()
            .map(|from| Effect::Confirm { to: from, upto: self.head.cursors[&from].upto })
            .collect()
    }
}

#[cfg(test)]
mod tests;
