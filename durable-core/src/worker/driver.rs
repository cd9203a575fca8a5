//! The loop of one opened partition: mail in, turns, one commit at a time, effects out.
//!
//! It runs on a thread of its own, outside any async runtime, and polls the orchestrators itself: a
//! further thread would cost two wake-ups a step. Store calls are futures that are polled here too, so
//! that a store which can answer at once costs no wake-up at all.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use durable_machine::model::{CommitNumber, Fence, InstanceId, PartitionId, Post};
use durable_machine::partition::{Answer, AttemptKey, Effect, Input, Partition, Stats, Turn};
use durable_machine::store::{
    AcceptedStart, ArrivalPosition, Arrivals, Commit, StoredInstance, TimerPage,
};
use futures::stream::{FuturesUnordered, StreamExt};

use super::executor::{Job, Report};
use super::mailbox::{Mail, Mailbox};
use super::opening::Opening;
use super::outgoing::Outgoing;
use super::shared::Shared;
use crate::activity::{ActivityContext, CancelHandle};
use crate::orchestration::silenced;
use crate::store::StoreError;
use crate::telemetry;

/// Due times read in one go.
const TIMER_PAGE: usize = 1000;

/// Starts and commands read in one go.
const ARRIVAL_PAGE: usize = 500;

/// How long to wait before a read that failed is tried again.
const READ_AGAIN: Duration = Duration::from_millis(200);

/// A commit that waits longer than this makes the loop refuse new work: whoever asks shall hear why.
const BLOCKED_AFTER: Duration = Duration::from_millis(500);

/// How long storage has to take a batch of messages to another partition.
const POST_MAX: Duration = Duration::from_secs(30);

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

/// The answer of a store call.
enum Done {
    Loaded(InstanceId, Result<Option<Box<StoredInstance>>, StoreError>),
    Timers(Result<TimerPage, StoreError>),
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
    running: HashMap<AttemptKey, CancelHandle>,
    arrivals: ArrivalReads,
    /// What goes to other workers.
    outgoing: Outgoing,
    /// Effects of commits that are durable, run after the next commit was handed over.
    ready: Vec<Effect>,
    stop_at: Option<Instant>,
    /// Since when, and why, commits cannot be written.
    blocked: Option<(Instant, String)>,
    reported: Stats,
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
            arrivals: ArrivalReads::default(),
            outgoing: Outgoing::default(),
            ready: Vec::new(),
            stop_at: None,
            blocked: None,
            reported: Stats::default(),
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
            let now = self.shared.store.now();
            if self.partition.next_due().is_some_and(|due| due <= now) {
                self.partition.tick(now);
                self.poll_turns();
            }
            if let Err(exit) = self.poll_store() {
                break exit;
            }
            if let Err(exit) = self.commit() {
                break exit;
            }
            let ready = std::mem::take(&mut self.ready);
            let progressed = !ready.is_empty();
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
        let stop = self.stop_at.map(|stop| stop.saturating_duration_since(Instant::now()));
        due.into_iter().chain(stop).min()
    }

    fn open_mail(&mut self, mail: Mail) {
        let now = self.shared.store.now();
        let input = match mail {
            Mail::Input(input) => {
                if let Input::AttemptEnded { attempt, .. } = &input {
                    self.running.remove(attempt);
                }
                input
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
            if self.running.remove(attempt).is_some_and(|cancel| cancel.is_cancelled()) {
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

    fn poll_store(&mut self) -> Result<(), Exit> {
        let shared = self.shared.clone();
        loop {
            let polled = {
                // Stores may use the runtime's clock and sockets; orchestrators may not.
                let _entered = shared.runtime.enter();
                let mut task = Context::from_waker(&self.waker);
                self.store_calls.poll_next_unpin(&mut task)
            };
            match polled {
                Poll::Ready(Some(done)) => self.store_answered(done)?,
                Poll::Ready(None) | Poll::Pending => return Ok(()),
            }
        }
    }

    fn store_answered(&mut self, done: Done) -> Result<(), Exit> {
        let now = self.shared.store.now();
        match done {
            Done::Loaded(instance, Ok(found)) => {
                self.partition.handle(now, Input::Loaded { instance, found: Ok(found) });
            }
            Done::Loaded(instance, Err(StoreError::Corrupt { source, key })) => {
                tracing::error!(%instance, key, error = %source, "a row cannot be read");
                self.partition.handle(now, Input::Loaded { instance, found: Err(source) });
            }
            Done::Loaded(instance, Err(error)) => {
                let after = self.read_failed("an instance", &error)?;
                self.load(instance, after);
            }
            Done::Timers(Ok(page)) => self.partition.handle(now, Input::TimersLoaded(page)),
            Done::Timers(Err(error)) => {
                // The page asked for is asked for again when the partition is opened again.
                return Err(Exit::Reopen(format!("due times cannot be read: {error}")));
            }
            Done::Arrivals(Ok(arrivals)) => self.take_arrivals(arrivals),
            Done::Arrivals(Err(error)) => {
                self.arrivals.under_way = false;
                let after = self.read_failed("arrivals", &error)?;
                self.read_arrivals_after(after);
            }
            Done::Committed(commit, since, Ok(())) => self.committed(commit.number, since),
            Done::Committed(commit, since, Err(error)) => {
                return self.commit_failed(commit, since, error);
            }
            Done::Posted(to, result) => {
                if let Err(error) = result {
                    // The outbox keeps what counts, and sends it again.
                    tracing::warn!(partition = to.0, %error, "messages to the partition were not sent");
                }
                self.outgoing.posted(to);
                self.send_outgoing();
            }
            Done::Withdrawn(result) => {
                if let Err(error) = result {
                    tracing::debug!(%error, "offers that nobody needs could not be withdrawn");
                }
            }
        }
        self.poll_turns();
        Ok(())
    }

    fn read_failed(&self, what: &str, error: &StoreError) -> Result<Duration, Exit> {
        match error {
            StoreError::Busy { retry_after, .. } => Ok(*retry_after),
            StoreError::Fenced { .. } => Err(Exit::Lost),
            StoreError::Unknown(_) | StoreError::Corrupt { .. } => {
                tracing::warn!(partition = self.opening.partition.0, %error, "{what} cannot be read");
                Ok(READ_AGAIN)
            }
            StoreError::HubInUse { .. }
            | StoreError::NewerSchema { .. }
            | StoreError::Unusable(_) => Err(Exit::Reopen(format!("{what}: {error}"))),
        }
    }

    /// Hands over the next commit. Where the store does it at once, its effects are ready on return.
    fn commit(&mut self) -> Result<(), Exit> {
        while let Some(commit) = self.partition.take_commit() {
            self.hand_over(commit, Instant::now(), Duration::ZERO);
            self.poll_store()?;
        }
        Ok(())
    }

    fn hand_over(&mut self, commit: Arc<Commit>, since: Instant, after: Duration) {
        let (store, fence) = (self.shared.store.clone(), self.fence);
        self.store_calls.push(Box::pin(async move {
            if !after.is_zero() {
                tokio::time::sleep(after).await;
            }
            let result = store.commit(fence, commit.clone()).await;
            Done::Committed(commit, since, result)
        }));
    }

    fn committed(&mut self, number: CommitNumber, since: Instant) {
        metrics::histogram!(telemetry::COMMIT_SECONDS).record(since.elapsed());
        self.opening.progressed();
        if let Some((since, _)) = self.blocked.take() {
            let waited = since.elapsed();
            tracing::info!(
                partition = self.opening.partition.0,
                ?waited,
                "commits go through again"
            );
        }
        self.ready.extend(self.partition.committed(number));
    }

    fn commit_failed(
        &mut self,
        commit: Arc<Commit>,
        since: Instant,
        error: StoreError,
    ) -> Result<(), Exit> {
        match error {
            StoreError::Busy { retry_after, reason } => {
                metrics::counter!(telemetry::COMMITS_RETRIED).increment(1);
                if self.blocked.is_none() {
                    tracing::warn!(
                        partition = self.opening.partition.0,
                        reason,
                        "a commit has to wait; it is tried again until it goes through"
                    );
                }
                self.blocked.get_or_insert_with(|| (Instant::now(), reason));
                self.hand_over(commit, since, retry_after);
                Ok(())
            }
            StoreError::Fenced { .. } => Err(Exit::Lost),
            StoreError::Unknown(_)
            | StoreError::Corrupt { .. }
            | StoreError::HubInUse { .. }
            | StoreError::NewerSchema { .. }
            | StoreError::Unusable(_) => Err(Exit::Reopen(error.to_string())),
        }
    }

    fn load(&mut self, instance: InstanceId, after: Duration) {
        let store = self.shared.store.clone();
        self.store_calls.push(Box::pin(async move {
            if !after.is_zero() {
                tokio::time::sleep(after).await;
            }
            let found = store.load(&instance).await;
            Done::Loaded(instance, found.map(|found| found.map(Box::new)))
        }));
    }

    fn read_arrivals(&mut self) {
        self.read_arrivals_after(Duration::ZERO);
    }

    fn read_arrivals_after(&mut self, after: Duration) {
        if self.arrivals.under_way {
            self.arrivals.again = true;
            return;
        }
        self.arrivals.under_way = true;
        let (store, position) = (self.shared.store.clone(), self.arrivals.position);
        let partition = self.opening.partition;
        self.store_calls.push(Box::pin(async move {
            if !after.is_zero() {
                tokio::time::sleep(after).await;
            }
            Done::Arrivals(store.arrivals(partition, position, ARRIVAL_PAGE).await)
        }));
    }

    fn take_arrivals(&mut self, arrivals: Arrivals) {
        let now = self.shared.store.now();
        self.arrivals.under_way = false;
        self.arrivals.position = arrivals.position;
        // Starts first: a command may be for one of them.
        for AcceptedStart { acceptance, fresh } in arrivals.acceptances {
            let acceptance = Box::new(acceptance);
            self.partition.handle(now, Input::Accepted { acceptance, fresh });
            self.poll_turns();
        }
        for envelope in arrivals.envelopes {
            self.partition.handle(now, Input::Arrived(Box::new(envelope)));
            self.poll_turns();
        }
        for post in arrivals.posts {
            self.partition.handle(now, input_of(post));
            self.poll_turns();
        }
        for result in arrivals.results {
            self.partition.handle(now, Input::Reported(Box::new(result)));
            self.poll_turns();
        }
        for dead in arrivals.dead {
            self.partition.handle(now, Input::Dead(Box::new(dead)));
            self.poll_turns();
        }
        if std::mem::take(&mut self.arrivals.again) || arrivals.more {
            self.read_arrivals();
        }
    }

    fn run_effects(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Load(instance) => self.load(instance, Duration::ZERO),
                Effect::LoadTimers(after) => {
                    let store = self.shared.store.clone();
                    let partition = self.opening.partition;
                    self.store_calls.push(Box::pin(async move {
                        Done::Timers(store.timers(partition, after, TIMER_PAGE).await)
                    }));
                }
                Effect::StartAttempt(start) => {
                    // A stopping worker leaves it to the next one.
                    if self.stop_at.is_none() {
                        let attempt = start.attempt.clone();
                        let (context, cancel) = ActivityContext::new(
                            attempt.key.clone(),
                            attempt.call,
                            start.name.clone(),
                            attempt.attempt,
                        );
                        self.running.insert(attempt, cancel);
                        let report = Report::Loop(self.mailbox.clone());
                        self.shared.executor.run(Job { start, context, report });
                    }
                }
                Effect::CancelAttempt(attempt) => {
                    match self.running.get(&attempt) {
                        Some(cancel) => cancel.cancel(),
                        // This owner or an earlier one may have offered it.
                        None if self.shared.fleet.is_some() => self.outgoing.withdraw(attempt),
                        None => {}
                    }
                }
                Effect::Answer { ticket, answer } => self.opening.answer(ticket, answer),
                Effect::Deliver(message) => {
                    self.deliver(message.to, Post::Message(message));
                }
                Effect::Confirm { to, upto } => {
                    let by = self.opening.partition;
                    self.deliver(to, Post::Confirmation { by, upto });
                }
                Effect::StatusChanged(row) => self.shared.notifier.publish(row),
                Effect::Held { instance, message } => {
                    metrics::counter!(telemetry::INSTANCES_HELD).increment(1);
                    tracing::warn!(%instance, reason = message, "the instance is held");
                }
                Effect::Warn { instance, message } => tracing::warn!(%instance, "{message}"),
            }
        }
        self.send_outgoing();
    }

    /// Hands a post to the owner of its partition: here, or through the store.
    fn deliver(&mut self, to: PartitionId, post: Post) {
        match self.shared.taker(to) {
            Some(opening) => opening.mailbox.send(Mail::Input(input_of(post))),
            None if self.shared.fleet.is_some() => self.outgoing.post(to, post),
            None => {}
        }
    }

    fn send_outgoing(&mut self) {
        if !self.outgoing.is_fresh() {
            return;
        }
        let (batches, withdrawals) = self.outgoing.take();
        for (to, posts) in batches {
            let store = self.shared.store.clone();
            self.store_calls.push(Box::pin(async move {
                let posted = tokio::time::timeout(POST_MAX, store.post(to, posts)).await;
                let late = |_| Err(StoreError::Unknown("storage did not answer".into()));
                Done::Posted(to, posted.unwrap_or_else(late))
            }));
        }
        if !withdrawals.is_empty() {
            let store = self.shared.store.clone();
            self.store_calls
                .push(Box::pin(async move { Done::Withdrawn(store.withdraw(withdrawals).await) }));
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
        for cancel in self.running.values() {
            cancel.cancel();
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

    fn report(&mut self) {
        let now = self.partition.stats();
        let then = std::mem::replace(&mut self.reported, now);
        for (name, now, then) in [
            (telemetry::TURNS, now.turns, then.turns),
            (telemetry::COMMITS, now.commits, then.commits),
            (telemetry::INSTANCES_STARTED, now.started, then.started),
            (telemetry::INSTANCES_ENDED, now.ended, then.ended),
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

fn input_of(post: Post) -> Input {
    match post {
        Post::Message(message) => Input::Message(message),
        Post::Confirmation { by, upto } => Input::Confirmed { by, upto },
    }
}

fn run_in_span(turn: Turn) -> durable_machine::partition::Turned {
    let span = tracing::info_span!("orchestrator", instance = %turn.instance());
    span.in_scope(|| turn.run())
}
