//! The loop of one opened partition: mail in, turns, one commit at a time, effects out.
//!
//! It runs on a thread of its own, outside any async runtime, and polls the orchestrators itself: a
//! further thread would cost two wake-ups a step. Store calls are futures that are polled here too, so
//! that a store which can answer at once costs no wake-up at all.

mod calls;
mod effects;
mod heartbeats;

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use durable_machine::model::{ExecutionKey, Fence, InstanceId, PartitionId, Timestamp};
use durable_machine::partition::{Answer, AttemptKey, Effect, Input, Partition, Stats, Turn};
use durable_machine::store::{
    ArrivalPosition, Arrivals, Commit, HistoryRow, StoredInstance, TimerPage,
};
use futures::stream::FuturesUnordered;

use heartbeats::{Listening, Running};

use super::mailbox::{Mail, Mailbox};
use super::opening::Opening;
use super::outgoing::Outgoing;
use super::shared::Shared;
use crate::orchestration::silenced;
use crate::store::StoreError;
use crate::telemetry;

/// A commit that waits longer than this makes the loop refuse new work: whoever asks shall hear why.
const BLOCKED_AFTER: Duration = Duration::from_millis(500);

/// How long the loop looks for the result of a lone activity before it sleeps. A short activity is done by
/// then, and a chain of such takes 15 % less time: measured on 2 cores, medians of 5 runs in turn.
const SPIN: Duration = Duration::from_micros(40);

/// Attempts under way with which the loop still looks instead of sleeping at once.
const SPIN_ATTEMPTS_MAX: usize = 2;

/// Why a loop ended.
pub(super) enum Exit {
    /// Told to stop; the partition was given up in good order.
    Stopped,
    /// Its memory can no longer be trusted: open the partition again.
    Reopen(String),
    /// Another owner has the partition, or this thread was given up.
    Lost,
}

type Waiting = Pin<Box<dyn Future<Output = Done> + Send>>;

/// Where a page of due times begins.
type TimersAfter = Option<(Timestamp, InstanceId)>;

/// The answer of a store call.
enum Done {
    Loaded(InstanceId, Result<Option<Box<StoredInstance>>, StoreError>),
    History(ExecutionKey, Result<Option<Vec<HistoryRow>>, StoreError>),
    Timers(TimersAfter, Result<TimerPage, StoreError>),
    Arrivals(Result<Arrivals, StoreError>),
    Committed(Arc<Commit>, Instant, Result<(), StoreError>),
    Posted(PartitionId, Result<(), StoreError>),
    Withdrawn(Result<(), StoreError>),
}

pub(super) struct Driver {
    shared: Arc<Shared>,
    opening: Arc<Opening>,
    mailbox: Arc<Mailbox>,
    partition: Partition,
    fence: Fence,
    waker: Waker,
    store_calls: FuturesUnordered<Waiting>,
    running: HashMap<AttemptKey, Running>,
    listening: Listening,
    arrivals: ArrivalReads,
    /// What goes to other workers.
    outgoing: Outgoing,
    /// Effects of commits that are durable, run after the next commit was handed over.
    ready: Vec<Effect>,
    stop_at: Option<Instant>,
    /// Since when, and why, commits cannot be written.
    blocked: Option<(Instant, String)>,
    reported: Stats,
    /// How many orchestrators its instances were said to need: those that are here, and those that are not.
    said: (usize, usize),
}

/// At most one read of arrivals at a time; what is asked for meanwhile is read behind it.
#[derive(Default)]
struct ArrivalReads {
    position: ArrivalPosition,
    under_way: bool,
    again: bool,
}

impl Driver {
    pub(super) fn new(
        shared: Arc<Shared>,
        opening: Arc<Opening>,
        partition: Partition,
        fence: Fence,
    ) -> Self {
        let mailbox = opening.mailbox.clone();
        let signal = mailbox.signal();
        signal.attach();
        Self {
            shared,
            opening,
            mailbox,
            partition,
            fence,
            waker: signal.into(),
            store_calls: FuturesUnordered::new(),
            running: HashMap::new(),
            listening: Listening::default(),
            arrivals: ArrivalReads::default(),
            outgoing: Outgoing::default(),
            ready: Vec::new(),
            stop_at: None,
            blocked: None,
            reported: Stats::default(),
            said: (0, 0),
        }
    }

    pub(super) fn run(&mut self) -> Exit {
        let signal = self.mailbox.signal();
        self.read_arrivals();
        let exit = loop {
            if self.opening.is_given_up() {
                break Exit::Lost;
            }
            self.opening.pass();
            for mail in self.mailbox.take() {
                self.open_mail(mail);
                self.poll_turns();
            }
            self.hear_later();
            let now = self.now();
            if self.partition.next_due().is_some_and(|due| due <= now) {
                self.partition.tick(now);
                self.poll_turns();
            }
            if let Err(exit) = self.poll_store() {
                break exit;
            }
            let more = match self.commit() {
                Ok(more) => more,
                Err(exit) => break exit,
            };
            let ready = std::mem::take(&mut self.ready);
            let progressed = more || !ready.is_empty();
            self.run_effects(ready);
            let effects = self.partition.take_effects();
            let progressed = progressed || !effects.is_empty();
            self.run_effects(effects);
            self.report();
            if self.stopped() {
                break Exit::Stopped;
            }
            if !progressed {
                if self.nearly_alone() {
                    signal.spin(SPIN);
                }
                signal.wait(self.sleep_at_most());
            }
        };
        self.end();
        exit
    }

    /// All that it waits for is an activity or two. Under load there is a commit under way, and the core
    /// has better things to do.
    fn nearly_alone(&self) -> bool {
        self.store_calls.is_empty() && (1..=SPIN_ATTEMPTS_MAX).contains(&self.running.len())
    }

    fn sleep_at_most(&self) -> Option<Duration> {
        let due = self.partition.next_due().map(|due| due.since(self.shared.store.now()));
        let others = self.stop_at.into_iter().chain(self.listening.next());
        let others = others.map(|at| at.saturating_duration_since(Instant::now()));
        due.into_iter().chain(others).min()
    }

    fn open_mail(&mut self, mail: Mail) {
        let now = self.now();
        let input = match mail {
            Mail::Input(input) => {
                match &input {
                    Input::AttemptStarted(attempt) => self.listening.began(attempt),
                    Input::AttemptEnded { attempt, result } => {
                        if result.is_err() {
                            self.hear(attempt);
                        }
                        self.running.remove(attempt);
                        self.listening.ended(attempt);
                    }
                    _ => {}
                }
                input
            }
            Mail::Reported(attempt) => {
                self.reported(attempt);
                return;
            }
            Mail::Start { .. } | Mail::Command { .. } if self.stop_at.is_some() => {
                self.opening.not_taken(mail);
                return;
            }
            Mail::Start { ticket, .. } | Mail::Command { ticket, .. } if self.is_blocked() => {
                let reason = self.blocked.as_ref().map(|(_, why)| why.clone()).unwrap_or_default();
                self.opening.answer(ticket, Answer::Unavailable(reason));
                return;
            }
            Mail::Start { acceptance, ticket } => Input::Start { acceptance, ticket },
            Mail::Command { envelope, remember, ticket } => {
                Input::Command { envelope, remember, ticket }
            }
            Mail::CheckArrivals => {
                if self.may_take() {
                    self.read_arrivals();
                }
                return;
            }
            Mail::Stop(at) => {
                self.stop_at = Some(self.stop_at.map_or(at, |earlier| earlier.min(at)));
                self.shared.executor.forget(&self.mailbox);
                self.hear_all();
                return;
            }
            Mail::NotStarted(attempt) => {
                self.running.remove(&attempt);
                return;
            }
            Mail::Offered(attempts) => {
                self.offered(&attempts);
                Input::Offered(attempts)
            }
        };
        self.partition.handle(now, input);
    }

    /// Whether messages may be taken: those of a shared hub are left to the next owner where there will be
    /// one soon.
    fn may_take(&self) -> bool {
        self.shared.fleet.as_ref().is_none_or(|fleet| self.stop_at.is_none() && fleet.lease.holds())
    }

    /// They are in the store's hands now: nothing here waits for them.
    fn offered(&mut self, attempts: &[AttemptKey]) {
        for attempt in attempts {
            if self.running.remove(attempt).is_some_and(|running| running.cancel.is_cancelled()) {
                self.outgoing.withdraw(attempt.clone());
            }
        }
        self.send_outgoing();
    }

    fn is_blocked(&self) -> bool {
        self.blocked.as_ref().is_some_and(|(since, _)| since.elapsed() >= BLOCKED_AFTER)
    }

    fn poll_turns(&mut self) {
        while let Some(turn) = self.partition.take_turn() {
            self.opening.turn_begins(turn.instance());
            let turned = if turn.is_replay() { silenced(|| turn.run()) } else { run_in_span(turn) };
            self.opening.turn_ends();
            self.partition.turned(turned);
        }
    }

    /// Whether a stopping loop has nothing left to wait for.
    fn stopped(&self) -> bool {
        let Some(stop_at) = self.stop_at else { return false };
        if Instant::now() >= stop_at {
            return true;
        }
        self.running.is_empty() && self.partition.is_quiet() && self.ready.is_empty()
    }

    fn end(&mut self) {
        self.opening.close();
        for running in self.running.values() {
            running.cancel.cancel();
        }
    }

    /// Whether everything that was caused is durable. Attempts that still run are no part of that: the next
    /// owner starts them again.
    pub(super) fn is_clean(&self) -> bool {
        self.partition.is_quiet() && self.ready.is_empty()
    }

    pub(super) fn fence(&self) -> Fence {
        self.fence
    }

    pub(super) fn partition_id(&self) -> PartitionId {
        self.opening.partition
    }

    pub(super) fn stop_at(&self) -> Option<Instant> {
        self.stop_at
    }

    /// Says which orchestrators the instances need, where others may have those that are missing here.
    fn say_needs(&mut self) {
        let Some(fleet) = &self.shared.fleet else { return };
        let needs = self.partition.needs();
        let (here, missing) = (needs.registered.len(), needs.missing.len());
        if self.said == (here, missing) {
            return;
        }
        self.opening.say_needs(needs);
        if self.said.1 != missing {
            fleet.lacks();
        }
        self.said = (here, missing);
    }

    fn report(&mut self) {
        self.say_needs();
        let now = self.partition.stats();
        let then = std::mem::replace(&mut self.reported, now);
        for (name, now, then) in [
            (telemetry::TURNS, now.turns, then.turns),
            (telemetry::COMMITS, now.commits, then.commits),
            (telemetry::INSTANCES_STARTED, now.started, then.started),
            (telemetry::INSTANCES_ENDED, now.ended, then.ended),
            (telemetry::INSTANCES_PURGED, now.purged, then.purged),
            (telemetry::EXECUTIONS_CONTINUED, now.continued, then.continued),
            (telemetry::REPLAYS, now.replays, then.replays),
            (telemetry::EVICTIONS, now.evictions, then.evictions),
            (telemetry::DROPPED, now.dropped, then.dropped),
            (telemetry::ACTIVITY_RETRIES, now.retries, then.retries),
        ] {
            if now > then {
                metrics::counter!(name).increment(now - then);
            }
        }
        #[allow(clippy::cast_precision_loss, reason = "a gauge shows magnitudes")]
        if now.resident != then.resident {
            let partition = self.opening.label.clone();
            metrics::gauge!(telemetry::INSTANCES_RESIDENT, telemetry::PARTITION => partition.clone())
                .set(now.resident as f64);
            metrics::gauge!(telemetry::CACHE_BYTES, telemetry::PARTITION => partition)
                .set(now.resident_bytes as f64);
        }
    }
}

fn run_in_span(turn: Turn) -> durable_machine::partition::Turned {
    let span = tracing::info_span!("orchestrator", instance = %turn.instance());
    span.in_scope(|| turn.run())
}
