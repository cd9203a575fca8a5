//! Runs an orchestrator's code against its history. Knows no store, no partition, no clock.
//!
//! [`Orchestration::advance`] applies one arrival, polls the code, and returns what it asks for. The
//! same arrivals in the same order give the same actions. [`Orchestration::replay`] feeds a recorded
//! history through the same path and compares the actions with the recorded decisions.

mod action;
mod call;
mod child;
mod context;
mod rewind;
mod scope;
mod waker;

use std::any::Any;
use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, Waker};

pub use action::Action;
pub use call::{ActivityCall, Timer};
pub use child::{ChildCall, ChildOptions};
pub use context::{Context, EventWait};
pub use rewind::{Rewound, Step, failures, must_fit};
pub use scope::{CancelScope, EndedCall};
pub use waker::ForeignWake;
use waker::RootWaker;

use crate::model::{
    Event, EventKind, EventSeq, ExecutionKey, Failure, FailureClass, Payload, UnconsumedEvent,
    limits,
};

/// The future of an orchestrator's code.
pub type OrchestratorFuture = Pin<Box<dyn Future<Output = Result<Payload, Failure>> + Send>>;

/// An orchestrator as the engine knows it: from context and input to a future.
pub type OrchestratorFn = Arc<dyn Fn(Context, Payload) -> OrchestratorFuture + Send + Sync>;

/// The code no longer fits its history.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("event {seq}: the history has {recorded}, the code {actual}")]
pub struct Divergence {
    /// Position of the event in the history.
    pub seq: EventSeq,
    /// What was recorded there.
    pub recorded: String,
    /// What the code did instead.
    pub actual: String,
}

/// What a replay noticed beside divergences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReplayReport {
    /// Calls whose input differs from the recorded one. The recorded one stands.
    pub input_differences: u32,
}

/// One execution of an orchestrator, in memory.
pub struct Orchestration {
    context: Context,
    code: OrchestratorFn,
    waker: Arc<RootWaker>,
    stage: Stage,
    suspended: bool,
    /// Arrivals while suspended, applied at the resume.
    deferred: VecDeque<Event>,
}

enum Stage {
    New,
    Running(OrchestratorFuture),
    Ended,
}

impl Orchestration {
    /// An execution whose history is still empty.
    #[must_use]
    pub fn new(
        key: ExecutionKey,
        code: OrchestratorFn,
        on_foreign_wake: Option<ForeignWake>,
    ) -> Self {
        Self {
            context: Context::new(key),
            code,
            waker: RootWaker::new(on_foreign_wake),
            stage: Stage::New,
            suspended: false,
            deferred: VecDeque::new(),
        }
    }

    /// Instance, run and execution.
    #[must_use]
    pub fn key(&self) -> &ExecutionKey {
        self.context.key()
    }

    /// Applies one arrival and returns what the code now asks for, in order. Nothing means: it waits.
    ///
    /// After [`Action::Complete`], [`Action::Fail`] or [`Action::ContinueAsNew`] the execution has ended and
    /// asks for nothing more.
    /// Decisions of a history are not for this function, but for [`replay`](Self::replay).
    pub fn advance(&mut self, event: &Event) -> Vec<Action> {
        self.context.state().begin_turn(event.at);
        match &event.is {
            EventKind::ExecutionSuspended { .. } => {
                self.suspended = true;
                Vec::new()
            }
            EventKind::ExecutionResumed { .. } => {
                self.suspended = false;
                let mut actions = Vec::new();
                while !self.ended()
                    && !self.suspended
                    && let Some(deferred) = self.deferred.pop_front()
                {
                    actions.extend(self.apply(&deferred));
                }
                actions
            }
            EventKind::ExecutionTerminated { .. } => {
                self.end();
                Vec::new()
            }
            EventKind::ExecutionStarted(started) if started.suspended => {
                self.suspended = true;
                self.deferred.push_back(event.clone());
                Vec::new()
            }
            _ if self.suspended && !planted!(SuspendIgnored) => {
                self.deferred.push_back(event.clone());
                Vec::new()
            }
            _ => self.apply(event),
        }
    }

    /// Feeds a recorded history, from its first event, to a new execution.
    ///
    /// # Errors
    ///
    /// [`Divergence`] where the code asks for something else than was recorded.
    pub fn replay<'a>(
        &mut self,
        events: impl IntoIterator<Item = &'a Event>,
    ) -> Result<ReplayReport, Divergence> {
        let events: Vec<&Event> = events.into_iter().collect();
        {
            let mut state = self.context.state();
            state.set_replaying(true);
            state.set_markers(events.iter().filter_map(|event| marker(&event.is)).collect());
        }
        let mut report = ReplayReport::default();
        let mut asked: VecDeque<Action> = VecDeque::new();
        let mut seq = EventSeq(0);
        for event in events {
            if ended_before_its_first_turn(seq, &event.is) {
                asked.clear();
            }
            if event.is.is_decision() {
                if deprecated_marker_is_not_asked_for(&event.is, asked.front()) {
                    seq = seq.next();
                    continue;
                }
                match asked.pop_front() {
                    Some(action) if action.fits(&event.is) || planted!(DivergenceIgnored) => {
                        report.input_differences += u32::from(action.input_differs(&event.is));
                    }
                    Some(action) => return Err(diverged(seq, &event.is, Some(&action))),
                    None if action::decided_by_engine(&event.is) => self.end(),
                    None => return Err(diverged(seq, &event.is, None)),
                }
            } else {
                if let Some(action) = asked.pop_front() {
                    return Err(diverged(seq, &event.is, Some(&action)));
                }
                asked = self.advance(event).into_iter().filter(recorded).collect();
            }
            seq = seq.next();
        }
        if let Some(action) = asked.pop_front() {
            return Err(Divergence {
                seq,
                recorded: "no more events".into(),
                actual: format!("asks for {}", action.summary()),
            });
        }
        self.context.state().set_replaying(false);
        Ok(report)
    }

    /// Whether something outside a turn woke the code: it awaits what is not durable.
    #[must_use]
    pub fn woken_from_outside(&self) -> bool {
        self.waker.foreign()
    }

    /// The failure of an execution that awaits what is not durable.
    #[must_use]
    pub fn foreign_await() -> Failure {
        Failure::new(
            FailureClass::ForeignAwait,
            "ForeignAwait",
            "the orchestrator awaits something that is not a durable future (a task, channel, \
             socket or clock of the async runtime). Its result would be lost in a replay: do the work \
             in an activity, wait with ctx.sleep or ctx.wait_event",
        )
        .permanent()
    }

    /// External events that were applied or kept and not consumed.
    #[must_use]
    pub fn unconsumed(&self) -> Vec<UnconsumedEvent> {
        let mut events = self.context.state().unconsumed();
        events.extend(self.deferred.iter().filter_map(|event| match &event.is {
            EventKind::EventRaised { name, input, id } => {
                Some(UnconsumedEvent { name: name.clone(), input: input.clone(), id: id.clone() })
            }
            _ => None,
        }));
        events
    }

    /// Names of the external events that its code waits for now.
    #[must_use]
    pub fn awaited_events(&self) -> Vec<Arc<str>> {
        self.context.state().awaited_events()
    }

    /// Number of external events that are kept for a later wait.
    #[must_use]
    pub fn buffered_events(&self) -> usize {
        self.context.state().buffered() + self.deferred.len()
    }

    fn ended(&self) -> bool {
        matches!(self.stage, Stage::Ended)
    }

    /// Drops the code. What its destructors ask for or wake does not matter, nor whether they panic.
    fn end(&mut self) {
        self.waker.close();
        let stage = std::mem::replace(&mut self.stage, Stage::Ended);
        let _ = catch_unwind(AssertUnwindSafe(|| drop(stage)));
    }

    fn apply(&mut self, event: &Event) -> Vec<Action> {
        let wakers: Vec<Waker> = {
            let mut state = self.context.state();
            match &event.is {
                EventKind::ExecutionStarted(started) => {
                    state.set_started(event.at, started);
                    drop(state);
                    if let Stage::New = self.stage {
                        let (context, input) = (self.context.clone(), started.input.clone());
                        let code = self.code.clone();
                        return match catch_unwind(AssertUnwindSafe(|| code(context, input))) {
                            Ok(future) => {
                                self.stage = Stage::Running(future);
                                self.poll()
                            }
                            Err(panic) => self.fail(panicked(panic.as_ref())),
                        };
                    }
                    Vec::new()
                }
                EventKind::ActivityCompleted { call, output }
                | EventKind::ChildCompleted { call, output, .. } => {
                    state.settle(*call, Ok(output.clone()))
                }
                EventKind::ActivityFailed { call, failure, .. }
                | EventKind::ChildFailed { call, failure, .. } => {
                    state.settle(*call, Err((**failure).clone()))
                }
                EventKind::TimerFired { call } => state.settle(*call, Ok(Payload::null())),
                EventKind::EventRaised { name, input, id } => {
                    state.raise(name, input.clone(), id.clone()).into_iter().collect()
                }
                // Handled in `advance`, or decisions, which are compared and not applied.
                EventKind::ExecutionSuspended { .. }
                | EventKind::ExecutionResumed { .. }
                | EventKind::ExecutionTerminated { .. }
                | EventKind::ActivityScheduled(_)
                | EventKind::TimerCreated { .. }
                | EventKind::CallCancelled { .. }
                | EventKind::CancelRequested { .. }
                | EventKind::ChildCreated(_)
                | EventKind::EventSent { .. }
                | EventKind::Patched { .. }
                | EventKind::ExecutionCompleted { .. }
                | EventKind::ExecutionFailed { .. }
                | EventKind::ContinuedAsNew { .. } => Vec::new(),
            }
        };
        if !wakers.is_empty() {
            let _entered = self.waker.enter();
            wakers.into_iter().for_each(Waker::wake);
        }
        self.poll()
    }

    /// Polls the code for as long as it wakes itself.
    fn poll(&mut self) -> Vec<Action> {
        let Stage::Running(future) = &mut self.stage else { return Vec::new() };
        let waker = Waker::from(self.waker.clone());
        let mut task = std::task::Context::from_waker(&waker);
        let mut polled = None;
        {
            let _entered = self.waker.enter();
            self.context.state().set_polling(true);
            while self.waker.take_woken() {
                let poll = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut task)));
                let pending = matches!(poll, Ok(Poll::Pending));
                polled = Some(poll);
                if !pending {
                    break;
                }
            }
            self.context.state().set_polling(false);
        }
        let broken = self.context.state().take_broken();
        match (broken, polled) {
            (Some(failure), _) => self.fail(failure),
            (None, Some(Err(panic))) => self.fail(panicked(panic.as_ref())),
            (None, Some(Ok(Poll::Ready(Ok(output))))) => self.complete(output),
            (None, Some(Ok(Poll::Ready(Err(failure))))) => {
                match self.context.continues_with(&failure).cloned() {
                    Some(input) => self.finish(Action::ContinueAsNew(input)),
                    None => self.fail(failure),
                }
            }
            (None, Some(Ok(Poll::Pending)))
                if !self.context.state().waits() && !planted!(ForeignAwaitIgnored) =>
            {
                self.fail(Self::foreign_await())
            }
            (None, Some(Ok(Poll::Pending)) | None) => self.context.state().take_actions(),
        }
    }

    fn complete(&mut self, output: Payload) -> Vec<Action> {
        if self.context.state().continues() {
            let sentence = "the orchestrator called continue_as_new and returned something else, so that \
                            nothing would continue; write `return ctx.continue_as_new(…)`";
            let failure = Failure::new(FailureClass::Application, "ContinueAsNewIgnored", sentence);
            return self.fail(failure.permanent());
        }
        if output.bytes() > limits::PAYLOAD_BYTES_MAX {
            return self.fail(Failure::limit(format!(
                "the output is larger than {} MiB; store the data elsewhere and return a reference",
                limits::PAYLOAD_BYTES_MAX / (1024 * 1024)
            )));
        }
        self.finish(Action::Complete(output))
    }

    fn fail(&mut self, failure: Failure) -> Vec<Action> {
        self.finish(Action::Fail(Box::new(failure)))
    }

    fn finish(&mut self, last: Action) -> Vec<Action> {
        // Before the code is dropped: what its destructors ask for does not happen.
        let mut actions = self.context.state().take_last_actions();
        self.end();
        if matches!(&last, Action::Fail(failure) if failure.class == FailureClass::Limit) {
            // The turn that broke a limit is not recorded: it may be too large to write. But for its markers, without
            // which a replay would take the path from before.
            actions.retain(|action| matches!(action, Action::Patched { .. }));
        }
        actions.push(last);
        actions
    }
}

impl Drop for Orchestration {
    fn drop(&mut self) {
        self.end();
    }
}

fn marker(event: &EventKind) -> Option<Arc<str>> {
    match event {
        EventKind::Patched { id, .. } => Some(id.clone()),
        _ => None,
    }
}

/// Code that deprecated a marker recorded it for those that still ask. Code after it may not know it at all.
fn deprecated_marker_is_not_asked_for(event: &EventKind, asked: Option<&Action>) -> bool {
    matches!(event, EventKind::Patched { deprecated: true, .. })
        && !asked.is_some_and(|action| action.fits(event))
}

/// The start of an execution that continues another may be stored before its first turn. Where it is held
/// then, and terminated, or its deadline comes, that turn never does.
#[must_use]
pub fn ended_before_its_first_turn(seq: EventSeq, event: &EventKind) -> bool {
    let from_outside = match event {
        EventKind::ExecutionTerminated { .. } => true,
        EventKind::ExecutionFailed { failure } => failure.is_of_deadline(),
        _ => false,
    };
    seq == EventSeq(1) && from_outside
}

fn recorded(action: &Action) -> bool {
    !matches!(action, Action::SetCustomStatus(_))
}

fn diverged(seq: EventSeq, recorded: &EventKind, actual: Option<&Action>) -> Divergence {
    let mut actual = actual.map_or_else(
        || "asks for nothing here".into(),
        |action| format!("asks for {}", action.summary()),
    );
    if let EventKind::Patched { id, .. } = recorded {
        actual.push_str(&format!(
            "; keep ctx.patched({id:?}), or ctx.deprecate_patch({id:?}), until no such history is left"
        ));
    }
    Divergence { seq, recorded: recorded.summary(), actual }
}

fn panicked(panic: &(dyn Any + Send)) -> Failure {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "the orchestrator panicked".into());
    Failure::new(FailureClass::Panic, "Panic", message).permanent()
}

#[cfg(test)]
mod tests;
