//! Runs attempts of activities: as many at once as may, the rest waits here in order.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use durable_machine::model::{Failure, FailureClass, Payload};
use durable_machine::partition::{Input, StartAttempt};
use futures::FutureExt;
use tokio::runtime::Handle;
use tracing::Instrument;

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
    stopping: AtomicBool,
}

/// One attempt to run.
pub(super) struct Job {
    pub(super) start: Box<StartAttempt>,
    pub(super) context: ActivityContext,
    /// Where its answer goes.
    pub(super) mailbox: Arc<Mailbox>,
}

/// A bound on what runs at once. Each lane is a task that takes the next job when one is done.
struct Lanes {
    state: Mutex<LaneState>,
    max: usize,
}

#[derive(Default)]
struct LaneState {
    busy: usize,
    waiting: VecDeque<Job>,
}

impl Lanes {
    fn new(max: usize) -> Self {
        Self { state: Mutex::new(LaneState::default()), max }
    }

    /// A lane for the job, or a place in the queue.
    fn enter(&self, job: Job) -> Option<Job> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.busy < self.max {
            state.busy += 1;
            Some(job)
        } else {
            state.waiting.push_back(job);
            metrics::gauge!(telemetry::ACTIVITIES_WAITING).increment(1);
            None
        }
    }

    /// Takes what waits.
    fn clear(&self) -> VecDeque<Job> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        #[allow(clippy::cast_precision_loss, reason = "a gauge shows magnitudes")]
        metrics::gauge!(telemetry::ACTIVITIES_WAITING).decrement(state.waiting.len() as f64);
        std::mem::take(&mut state.waiting)
    }

    /// The next job of a lane whose last one is done; `None` gives the lane up.
    fn next(&self) -> Option<Job> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let next = state.waiting.pop_front();
        if next.is_none() {
            state.busy -= 1;
        } else {
            metrics::gauge!(telemetry::ACTIVITIES_WAITING).decrement(1);
        }
        next
    }
}

impl Executor {
    pub(super) fn new(
        runtime: Handle,
        functions: Arc<Functions>,
        asynchronous_max: usize,
        blocking_max: usize,
        cancel_grace: Duration,
    ) -> Self {
        Self {
            runtime,
            functions,
            cancel_grace,
            asynchronous: Lanes::new(asynchronous_max),
            blocking: Lanes::new(blocking_max),
            stopping: AtomicBool::new(false),
        }
    }

    /// From now on nothing begins; what waits for its turn is left to the next worker.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        for lanes in [&self.asynchronous, &self.blocking] {
            for job in lanes.clear() {
                job.mailbox.send(Mail::NotStarted(job.start.attempt.clone()));
            }
        }
    }

    pub(super) fn run(self: &Arc<Self>, job: Job) {
        let blocking = matches!(
            self.functions.activities.get(&*job.start.name),
            Some(ActivityFn::Blocking(_))
        );
        let lanes = if blocking { &self.blocking } else { &self.asynchronous };
        let Some(first) = lanes.enter(job) else { return };
        let executor = self.clone();
        self.runtime.spawn(async move {
            let mut next = Some(first);
            while let Some(job) = next {
                executor.attempt(job).await;
                let lanes = if blocking { &executor.blocking } else { &executor.asynchronous };
                next = lanes.next();
            }
        });
    }

    async fn attempt(&self, job: Job) {
        if self.stopping.load(Ordering::Acquire) {
            job.mailbox.send(Mail::NotStarted(job.start.attempt.clone()));
            return;
        }
        let Job { start, context, mailbox } = job;
        let StartAttempt { attempt, name, input, start_to_finish } = *start;
        let result = if context.is_cancelled() {
            Err(Failure::new(FailureClass::Cancelled, "Cancelled", "cancelled before it began"))
        } else {
            metrics::counter!(telemetry::ACTIVITIES_STARTED).increment(1);
            metrics::gauge!(telemetry::ACTIVITIES_RUNNING).increment(1);
            if start_to_finish.is_some() {
                mailbox.send(Mail::Input(Input::AttemptStarted(attempt.clone())));
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
        let result = result.map_err(Box::new);
        mailbox.send(Mail::Input(Input::AttemptEnded { attempt, result }));
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

fn panicked(panic: &(dyn std::any::Any + Send)) -> Failure {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "the activity panicked".into());
    Failure::new(FailureClass::Panic, "Panic", message)
}
