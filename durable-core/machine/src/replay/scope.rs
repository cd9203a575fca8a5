//! Cancellation scopes: groups of calls that are cancelled together, and whose end is waited for.
//!
//! What a scope's [`Context`](super::Context) asks for belongs to it, and to the scopes around it. A cancel is recorded for each call
//! that is open ([`EventKind::CancelRequested`](crate::model::EventKind::CancelRequested)); its result then comes as any result
//! does, once the call has really ended. What has nothing to end (timers, children that go on by themselves) is given up
//! at once.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};

use super::action::Action;
use super::context::{Shared, State};
use crate::model::{CallNumber, Failure, FailureClass, ParentClose, Payload};

/// Which scope, in the order in which they were made. Replays make them in the same order.
pub(super) type ScopeId = usize;

/// A call of a scope that was cancelled, and what it came to.
#[derive(Debug, Clone, PartialEq)]
pub struct EndedCall {
    /// Its number.
    pub call: CallNumber,
    /// The activity or orchestrator.
    pub name: Arc<str>,
    /// Its result where it had one before the cancel reached it; a failure of class
    /// [`Cancelled`](FailureClass::Cancelled) otherwise.
    pub result: Result<Payload, Failure>,
}

#[derive(Default)]
pub(super) struct Scopes {
    made: Vec<Scope>,
    members: BTreeMap<CallNumber, Member>,
}

struct Scope {
    parent: Option<ScopeId>,
    cancelled: bool,
    /// Who waits for the end of its calls.
    waiters: Vec<Waker>,
}

struct Member {
    scope: ScopeId,
    ends: Ends,
    /// Its cancel was asked for.
    requested: bool,
    /// What it came to after that.
    result: Option<Result<Payload, Failure>>,
}

/// What it takes to end a call.
enum Ends {
    /// Somebody has to end it, and says so.
    Later(Arc<str>),
    /// It is over as soon as nobody waits for it.
    AtOnce,
}

/// The failure of what is asked for in a scope that was cancelled, and of what ends with it.
pub(super) fn cancelled() -> Failure {
    Failure::new(FailureClass::Cancelled, "Cancelled", "its scope was cancelled").permanent()
}

impl Scopes {
    pub(super) fn make(&mut self, parent: Option<ScopeId>) -> ScopeId {
        let cancelled = parent.is_some_and(|parent| self.is_cancelled(parent));
        self.made.push(Scope { parent, cancelled, waiters: Vec::new() });
        self.made.len() - 1
    }

    pub(super) fn is_cancelled(&self, scope: ScopeId) -> bool {
        self.made.get(scope).is_some_and(|scope| scope.cancelled)
    }

    /// A call of a scope is asked for.
    pub(super) fn join(&mut self, scope: ScopeId, call: CallNumber, action: &Action) {
        let ends = match action {
            Action::ScheduleActivity { name, .. } => Ends::Later(name.clone()),
            Action::StartChild(child) if child.close == ParentClose::Terminate => {
                Ends::Later(child.name.clone())
            }
            _ => Ends::AtOnce,
        };
        self.members.insert(call, Member { scope, ends, requested: false, result: None });
    }

    /// Whether the call is this scope's, or that of a scope within it.
    fn is_within(&self, mut scope: ScopeId, outer: ScopeId) -> bool {
        while scope != outer {
            match self.made.get(scope).and_then(|scope| scope.parent) {
                Some(parent) => scope = parent,
                None => return false,
            }
        }
        true
    }

    fn within(&self, outer: ScopeId) -> Vec<CallNumber> {
        let members = self.members.iter();
        members
            .filter(|(_, member)| self.is_within(member.scope, outer))
            .map(|(call, _)| *call)
            .collect()
    }

    /// A call has its result. Gives those who wait for it as one of those that were cancelled.
    #[must_use]
    pub(super) fn settled(
        &mut self,
        call: CallNumber,
        result: &Result<Payload, Failure>,
    ) -> Vec<Waker> {
        let Some(member) = self.members.get_mut(&call) else { return Vec::new() };
        if !member.requested {
            self.members.remove(&call);
            return Vec::new();
        }
        member.result.get_or_insert_with(|| result.clone());
        let mut wakers = Vec::new();
        let mut scope = Some(member.scope);
        while let Some(this) = scope.and_then(|scope| self.made.get_mut(scope)) {
            wakers.append(&mut this.waiters);
            scope = this.parent;
        }
        wakers
    }

    /// Nobody waits for a call any more. Whether its end has to be asked for all the same, because it may be waited
    /// for as that of its scope; `None` where it is in no scope.
    pub(super) fn dropped(&mut self, call: CallNumber) -> Option<Dropped> {
        let member = self.members.get_mut(&call)?;
        match member.ends {
            Ends::AtOnce => {
                self.members.remove(&call);
                None
            }
            Ends::Later(_) if std::mem::replace(&mut member.requested, true) => {
                Some(Dropped::Known)
            }
            Ends::Later(_) => Some(Dropped::Ends),
        }
    }

    /// What the calls of a scope came to, if all have ended that were cancelled.
    fn take_ended(&mut self, scope: ScopeId) -> Option<Vec<EndedCall>> {
        let calls = self.within(scope);
        let open = |call| self.members.get(call).is_some_and(|member| member.result.is_none());
        if calls.iter().any(open) && !planted!(ScopeDoesNotWait) {
            return None;
        }
        let ended = calls.into_iter().filter_map(|call| {
            let Member { ends, result, .. } = self.members.remove(&call)?;
            let Ends::Later(name) = ends else { return None };
            let early = planted!(ScopeDoesNotWait).then(|| Ok(Payload::null()));
            Some(EndedCall { call, name, result: result.or(early)? })
        });
        Some(ended.collect())
    }
}

/// What to ask for when a call of a scope is dropped.
pub(super) enum Dropped {
    /// Its end.
    Ends,
    /// Nothing: it was asked for before.
    Known,
}

impl State {
    /// Cancels what is open in a scope and in those within it. Whoever has to be woken is, without the lock.
    fn cancel_scope(&mut self, scope: ScopeId) -> Vec<Waker> {
        let inner: Vec<_> =
            (0..self.scopes.made.len()).filter(|id| self.scopes.is_within(*id, scope)).collect();
        for id in inner {
            self.scopes.made[id].cancelled = true;
        }
        let mut wakers = Vec::new();
        for call in self.scopes.within(scope) {
            let Some(member) = self.scopes.members.get_mut(&call) else { continue };
            match member.ends {
                Ends::Later(_) => {
                    if !std::mem::replace(&mut member.requested, true) {
                        self.request_cancel(call);
                    }
                }
                Ends::AtOnce => {
                    self.scopes.members.remove(&call);
                    self.give_up(call);
                    wakers.extend(self.settle_slot(call, Err(cancelled())));
                }
            }
        }
        wakers
    }
}

/// Cancels the calls of a scope; resolves when all of them have ended.
#[must_use = "futures do nothing unless awaited"]
pub struct CancelScope {
    shared: Arc<Shared>,
    scope: Option<ScopeId>,
    step: Step,
}

#[derive(PartialEq, Eq)]
enum Step {
    Asking,
    Waiting,
    Done,
}

impl CancelScope {
    pub(super) fn new(shared: Arc<Shared>, scope: Option<ScopeId>) -> Self {
        Self { shared, scope, step: Step::Asking }
    }
}

impl Future for CancelScope {
    type Output = Vec<EndedCall>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Vec<EndedCall>> {
        let this = &mut *self;
        let Some(scope) = this.scope.filter(|_| this.step != Step::Done) else {
            return Poll::Pending;
        };
        let mut wakers = Vec::new();
        let polled = {
            let mut state = this.shared.lock();
            if this.step == Step::Asking {
                wakers = state.cancel_scope(scope);
                state.begin_to_wait();
                this.step = Step::Waiting;
            }
            match state.scopes.take_ended(scope) {
                Some(ended) => {
                    state.stop_waiting();
                    this.step = Step::Done;
                    Poll::Ready(ended)
                }
                None => {
                    state.scopes.made[scope].waiters.push(cx.waker().clone());
                    Poll::Pending
                }
            }
        };
        wakers.into_iter().for_each(Waker::wake);
        polled
    }
}

impl Drop for CancelScope {
    fn drop(&mut self) {
        if self.step == Step::Waiting {
            self.shared.lock().stop_waiting();
        }
    }
}
