//! Runs attempts of activities: of this worker's partitions, and those that others offered.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use durable_machine::model::{Failure, FailureClass, Payload};
use durable_machine::partition::{AttemptKey, Input, StartAttempt};
use futures::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tracing::Instrument;

use super::WorkerOptions;
use super::fleet::Lease;
use super::lanes::{Lanes, Waiting};
use super::mailbox::{Mail, Mailbox};
use crate::activity::ActivityContext;
use crate::registry::{ActivityFn, Functions};
use crate::telemetry;

/// Runs what the partitions of a worker start.
pub(super) struct Executor {
    runtime: Handle,
    functions: Arc<Functions>,
    cancel_grace: Duration,
    asynchronous: Lanes,
    blocking: Lanes,
    /// Of activities that have a limit of their own.
    limited: BTreeMap<String, Lanes>,
    stopping: AtomicBool,
    /// Where the hub is shared: nothing begins while it does not hold.
    lease: Option<Arc<Lease>>,
}

/// Which lanes an activity runs in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Async,
    Blocking,
    /// Its own.
    Limited(Arc<str>),
}

/// One attempt to run.
pub(super) struct Job {
    pub(super) start: Box<StartAttempt>,
    pub(super) context: ActivityContext,
    pub(super) report: Report,
}

/// Where news of an attempt go.
pub(super) enum Report {
    /// To the loop of its partition.
    Loop(Arc<Mailbox>),
    /// To the task that took it from the store.
    Taker(mpsc::UnboundedSender<Progress>),
}

/// News of an attempt that was taken from the store.
pub(super) enum Progress {
    /// It began.
    Started,
    /// It ended.
    Ended(Result<Payload, Box<Failure>>),
}

impl Report {
    fn started(&self, attempt: &AttemptKey) {
        match self {
            Self::Loop(mailbox) => {
                mailbox.send(Mail::Input(Input::AttemptStarted(attempt.clone())));
            }
            Self::Taker(task) => {
                let _ = task.send(Progress::Started);
            }
        }
    }

    fn ended(self, attempt: AttemptKey, result: Result<Payload, Box<Failure>>) {
        match self {
            Self::Loop(mailbox) => {
                mailbox.send(Mail::Input(Input::AttemptEnded { attempt, result }));
            }
            Self::Taker(task) => {
                let _ = task.send(Progress::Ended(result));
            }
        }
    }

    /// A task that took it sees that by itself.
    fn not_started(self, attempt: AttemptKey) {
        if let Self::Loop(mailbox) = self {
            mailbox.send(Mail::NotStarted(attempt));
        }
    }
}

impl Job {
    /// Ends it before it has begun.
    pub(super) fn cancelled(self) {
        self.report.ended(self.start.attempt, Err(Box::new(cancelled())));
    }

    fn not_started(self) {
        self.report.not_started(self.start.attempt);
    }
}

impl Executor {
    pub(super) fn new(
        runtime: Handle,
        functions: Arc<Functions>,
        options: &WorkerOptions,
        lease: Option<Arc<Lease>>,
    ) -> Self {
        Self {
            runtime,
            functions,
            cancel_grace: options.cancel_grace,
            asynchronous: Lanes::new(options.activities_max),
            blocking: Lanes::new(options.blocking_activities_max),
            limited: options
                .activity_limits
                .iter()
                .map(|(name, max)| (name.clone(), Lanes::new(*max)))
                .collect(),
            stopping: AtomicBool::new(false),
            lease,
        }
    }

    /// From now on nothing begins; what waits for its turn is left to the next worker.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        for lanes in self.all_lanes() {
            lanes.clear().into_iter().for_each(Job::not_started);
        }
    }

    /// What waits for its turn and reports to this loop is left to the partition's next owner.
    pub(super) fn forget(&self, mailbox: &Arc<Mailbox>) {
        for lanes in self.all_lanes() {
            lanes.forget(mailbox).into_iter().for_each(Job::not_started);
        }
    }

    /// What waits for its turn and was cancelled has ended.
    pub(super) fn end_cancelled(&self) {
        for lanes in self.all_lanes() {
            lanes.cancelled().into_iter().for_each(Job::cancelled);
        }
    }

    pub(super) fn run(self: &Arc<Self>, job: Job) {
        let kind = self.kind(&job.start.name);
        if let Some(first) = self.lanes(&kind).enter(job) {
            self.open_lane(kind, first);
        }
    }

    /// Takes attempts that have waited for a lane for so long.
    pub(super) fn overdue(&self, limit: Duration, max: usize) -> Vec<Waiting> {
        let mut overdue = Vec::new();
        for lanes in self.all_lanes() {
            overdue.extend(lanes.overdue(limit, max - overdue.len()));
        }
        overdue
    }

    /// Puts attempts back to where they waited.
    pub(super) fn put_back(self: &Arc<Self>, jobs: Vec<Waiting>) {
        let mut sorted: BTreeMap<Kind, Vec<Waiting>> = BTreeMap::new();
        for waiting in jobs {
            sorted.entry(self.kind(&waiting.job.start.name)).or_default().push(waiting);
        }
        for (kind, jobs) in sorted {
            for first in self.lanes(&kind).put_back(jobs) {
                self.open_lane(kind.clone(), first);
            }
        }
        if self.stopping.load(Ordering::Acquire) {
            self.stop();
        }
    }

    /// How many attempts could begin at once, of one kind or the other.
    pub(super) fn room(&self) -> usize {
        let names = self.functions.activities.keys();
        names.map(|name| self.lanes(&self.kind(name)).free()).max().unwrap_or_default()
    }

    /// Whether an attempt of this activity could begin at once; `None` where it is not registered.
    pub(super) fn has_room_for(&self, name: &str) -> Option<bool> {
        let known = self.functions.activities.contains_key(name);
        known.then(|| self.lanes(&self.kind(name)).free() > 0)
    }

    fn kind(&self, name: &str) -> Kind {
        if self.limited.contains_key(name) {
            return Kind::Limited(name.into());
        }
        match self.functions.activities.get(name) {
            Some(ActivityFn::Blocking(_)) => Kind::Blocking,
            Some(ActivityFn::Async(_)) | None => Kind::Async,
        }
    }

    fn lanes(&self, kind: &Kind) -> &Lanes {
        match kind {
            Kind::Async => &self.asynchronous,
            Kind::Blocking => &self.blocking,
            Kind::Limited(name) => self.limited.get(&**name).unwrap_or(&self.asynchronous),
        }
    }

    fn all_lanes(&self) -> impl Iterator<Item = &Lanes> {
        [&self.asynchronous, &self.blocking].into_iter().chain(self.limited.values())
    }

    fn open_lane(self: &Arc<Self>, kind: Kind, first: Job) {
        let executor = self.clone();
        self.runtime.spawn(async move {
            let mut next = Some(first);
            while let Some(job) = next {
                executor.attempt(job).await;
                next = executor.lanes(&kind).next();
            }
        });
    }

    async fn attempt(&self, job: Job) {
        if let Some(lease) = &self.lease
            && !lease.holds()
        {
            lease.held_or(|| self.stopping.load(Ordering::Acquire)).await;
        }
        if self.stopping.load(Ordering::Acquire) {
            job.not_started();
            return;
        }
        let Job { start, context, report } = job;
        let timed = start.is_timed();
        let StartAttempt { attempt, name, input, .. } = *start;
        let result = if context.is_cancelled() {
            Err(cancelled())
        } else {
            metrics::counter!(telemetry::ACTIVITIES_STARTED).increment(1);
            metrics::gauge!(telemetry::ACTIVITIES_RUNNING).increment(1);
            if timed {
                report.started(&attempt);
            }
            let span = tracing::info_span!(
                "activity",
                instance = %attempt.key.instance,
                run = %attempt.key.run,
                activity = %name,
                attempt = attempt.attempt.0,
            );
            let result = self.call(&name, context, input).instrument(span).await;
            metrics::gauge!(telemetry::ACTIVITIES_RUNNING).decrement(1);
            result
        };
        if let Err(failure) = &result {
            metrics::counter!(telemetry::ACTIVITIES_FAILED).increment(1);
            tracing::debug!(
                instance = %attempt.key.instance,
                activity = %name,
                attempt = attempt.attempt.0,
                %failure,
                "an attempt failed"
            );
        }
        report.ended(attempt, result.map_err(Box::new));
    }

    async fn call(
        &self,
        name: &Arc<str>,
        context: ActivityContext,
        input: Payload,
    ) -> Result<Payload, Failure> {
        match self.functions.activities.get(&**name) {
            None => Err(Failure::new(
                FailureClass::Unregistered,
                "Unregistered",
                format!("no activity {name:?} is registered with this worker; register it"),
            )),
            Some(ActivityFn::Async(function)) => {
                let states = &self.functions.states;
                let cancelled = context.clone();
                let work = AssertUnwindSafe(async move { function(context, input, states).await })
                    .catch_unwind();
                let grace = self.cancel_grace;
                let given_up = async move {
                    cancelled.cancelled().await;
                    tokio::time::sleep(grace).await;
                };
                // What was cancelled and does not end by itself is dropped, so that it cannot keep a
                // lane for ever.
                tokio::select! {
                    biased;
                    result = work => result.unwrap_or_else(|panic| Err(panicked(panic.as_ref()))),
                    () = given_up => Err(Failure::new(
                        FailureClass::Cancelled,
                        "Cancelled",
                        "cancelled, and dropped because it did not end by itself",
                    )),
                }
            }
            Some(ActivityFn::Blocking(function)) => {
                let (function, states) = (function.clone(), self.functions.states.clone());
                let span = tracing::Span::current();
                let work = tokio::task::spawn_blocking(move || {
                    let _entered = span.entered();
                    catch_unwind(AssertUnwindSafe(|| function(context, input, &states)))
                });
                match work.await {
                    Ok(Ok(result)) => result,
                    Ok(Err(panic)) => Err(panicked(panic.as_ref())),
                    Err(error) => Err(Failure::new(
                        FailureClass::WorkerLost,
                        "WorkerLost",
                        format!("the runtime dropped the activity: {error}"),
                    )),
                }
            }
        }
    }
}

fn cancelled() -> Failure {
    Failure::new(FailureClass::Cancelled, "Cancelled", "cancelled before it began")
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Failure {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "the activity panicked".into());
    Failure::new(FailureClass::Panic, "Panic", message)
}
