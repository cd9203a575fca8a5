//! What has a number in a history and is awaited: activity calls and timers.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use super::action::Action;
use super::context::{Shared, State, oversized, payload_sentence};
use super::scope::{self, ScopeId};
use crate::model::{ActivityOptions, CallNumber, Failure, Payload, Timestamp};

/// A call, asked for with an `A` at the first poll and numbered then. Dropped before its result it is cancelled.
pub(super) struct Numbered<A> {
    shared: Arc<Shared>,
    /// The scope that it is asked for in.
    scope: Option<ScopeId>,
    step: Step<A>,
}

enum Step<A> {
    Asking(A),
    Waiting(CallNumber),
    Done,
}

impl<A> Numbered<A> {
    pub(super) fn new(shared: Arc<Shared>, scope: Option<ScopeId>, asked: A) -> Self {
        Self { shared, scope, step: Step::Asking(asked) }
    }

    /// What the call is going to ask for, until it has asked.
    pub(super) fn asked(&mut self) -> Option<&mut A> {
        match &mut self.step {
            Step::Asking(asked) => Some(asked),
            Step::Waiting(_) | Step::Done => None,
        }
    }

    /// Polls the call; `ask` numbers it and says what it asks for.
    pub(super) fn poll(
        &mut self,
        cx: &TaskContext<'_>,
        ask: impl FnOnce(A, &mut State, &Shared) -> Result<(CallNumber, Action), Failure>,
    ) -> Poll<Result<Payload, Failure>> {
        let mut state = self.shared.lock();
        match std::mem::replace(&mut self.step, Step::Done) {
            Step::Asking(_) if self.scope.is_some_and(|scope| state.scopes.is_cancelled(scope)) => {
                Poll::Ready(Err(scope::cancelled()))
            }
            Step::Asking(asked) => match ask(asked, &mut state, &self.shared) {
                Ok((call, action)) => {
                    if let Some(scope) = self.scope {
                        state.scopes.join(scope, call, &action);
                    }
                    state.ask(action);
                    state.open(call, cx.waker());
                    self.step = Step::Waiting(call);
                    Poll::Pending
                }
                Err(failure) => Poll::Ready(Err(failure)),
            },
            Step::Waiting(call) => {
                let polled = state.poll(call, cx.waker());
                if polled.is_pending() {
                    self.step = Step::Waiting(call);
                }
                polled
            }
            Step::Done => Poll::Pending,
        }
    }
}

impl<A> Drop for Numbered<A> {
    fn drop(&mut self) {
        if let Step::Waiting(call) = self.step {
            self.shared.lock().drop_call(call);
        }
    }
}

/// An activity call; resolves to the activity's result.
#[must_use = "futures do nothing unless awaited"]
pub struct ActivityCall(pub(super) Numbered<(Arc<str>, Payload, ActivityOptions)>);

impl ActivityCall {
    /// Changes the options of a call that was not polled yet.
    pub fn options(&mut self) -> Option<&mut ActivityOptions> {
        self.0.asked().map(|(_, _, options)| options)
    }
}

impl Future for ActivityCall {
    type Output = Result<Payload, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        self.0.poll(cx, |(name, input, options), state, _| {
            if oversized(&input) {
                let what = format!("the input of activity {name:?}");
                return Err(Failure::limit(payload_sentence(&what)));
            }
            let call = state.number();
            Ok((call, Action::ScheduleActivity { call, name, input, options }))
        })
    }
}

/// A durable timer.
#[must_use = "futures do nothing unless awaited"]
pub struct Timer(pub(super) Numbered<Timestamp>);

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let polled = self.0.poll(cx, |due, state, _| {
            let call = state.number();
            Ok((call, Action::CreateTimer { call, due }))
        });
        polled.map(drop)
    }
}
