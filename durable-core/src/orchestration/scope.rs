//! Cancellation scopes.

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use ::futures::future::FusedFuture;
use durable_machine::model::FailureClass;
use durable_machine::replay::{CancelScope, EndedCall};
use serde::de::DeserializeOwned;

use super::OrchestrationContext;
use crate::error::{CallError, Subject, payload_failure};

/// Calls that are cancelled together, and whose end is waited for. Made by
/// [`OrchestrationContext::scope`], and a context itself: what is called by it belongs to it.
///
/// Dropping a call asks for its end and does not wait for it. Where something has to be undone that is not enough: an
/// activity that is still running may have its effect behind what takes it back. So call in a scope, and wait:
///
/// ```
/// use durable_core::prelude::*;
/// # #[activity]
/// # async fn reserve(room: u32) -> Result<u32, ActivityError> { Ok(room) }
/// # #[activity]
/// # async fn release(room: u32) -> Result<(), ActivityError> { Ok(()) }
///
/// /// All rooms within the hour, or none.
/// #[orchestrator]
/// async fn block(ctx: OrchestrationContext, rooms: Vec<u32>) -> Result<bool, OrchestrationError> {
///     let scope = ctx.scope();
///     let all = ctx.try_join_all(rooms.iter().map(|room| scope.call(reserve, room)));
///     if let Some(Ok(_)) = ctx.within(hours(1), all).await {
///         return Ok(true);
///     }
///     scope.cancel().await; // from here on nothing reserves any more
///     for room in &rooms {
///         ctx.call(release, room).await?;
///     }
///     Ok(false)
/// }
/// # #[cfg(feature = "testing")] {
/// # use durable_core::testing::TestHub;
/// # let hub = TestHub::new().register(block).register(release).mock(reserve, |call, room| {
/// #     call.takes(if room == 2 { hours(3) } else { secs(5) });
/// #     Ok::<_, ActivityError>(room)
/// # });
/// # assert!(!hub.start(block, vec![1, 2]).output().unwrap());
/// # assert_eq!((hub.calls(release).len(), hub.elapsed()), (2, hours(1)));
/// # assert!(hub.start(block, vec![1, 3]).output().unwrap());
/// # }
/// ```
///
/// A scope of a scope is cancelled with it. Pass a clone to functions and async blocks that are to belong to it.
#[derive(Clone)]
pub struct Scope {
    context: OrchestrationContext,
}

impl Scope {
    pub(super) fn new(context: OrchestrationContext) -> Self {
        Self { context }
    }

    /// Cancels everything that is open in this scope, and resolves when all of it has ended: to the calls that it
    /// cancelled, in the order in which they were made.
    ///
    /// - An activity that has not begun does not begin; one that waits for its next attempt has none. One that runs is
    ///   told ([`ActivityContext::cancelled`](crate::ActivityContext::cancelled)), and has ended when its code has
    ///   returned, was dropped because it did not within `cancel_grace`, or its worker is gone.
    /// - A child is terminated, and has ended when it says so; its own children are left as their
    ///   [`parent_close`](crate::Child::parent_close) says, and so is it: one that is to go on by itself does.
    /// - A timer is over at once. Waits for events, and children that were detached, are in no scope.
    /// - What was dropped in the scope before is waited for, too.
    ///
    /// What has its result before the cancel reaches it keeps it. The others, and what is called in the scope from now
    /// on, fail with class [`Cancelled`](FailureClass::Cancelled). Each call is told once: to the first that waits.
    pub fn cancel(&self) -> CancelAll {
        CancelAll(Some(self.context.context().cancel()))
    }

    /// Whether it, or a scope around it, was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.context.context().is_cancelled()
    }
}

impl Deref for Scope {
    type Target = OrchestrationContext;

    fn deref(&self) -> &OrchestrationContext {
        &self.context
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("cancelled", &self.is_cancelled()).finish_non_exhaustive()
    }
}

/// The end of everything in a [`Scope`].
///
/// ```
/// # use durable_core::prelude::*;
/// # async fn example(ctx: OrchestrationContext, scope: durable_core::Scope) {
/// // Not longer than an hour; what has not ended by then goes on ending.
/// if ctx.within(hours(1), scope.cancel()).await.is_none() {
///     tracing::warn!("an activity does not end, though it was told to");
/// }
/// # }
/// ```
#[must_use = "a scope is cancelled when this is awaited"]
pub struct CancelAll(Option<CancelScope>);

impl Future for CancelAll {
    type Output = Vec<CancelledCall>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let Some(cancel) = &mut self.0 else { return Poll::Pending };
        let ended = std::task::ready!(Pin::new(cancel).poll(cx));
        self.0 = None;
        Poll::Ready(ended.into_iter().map(CancelledCall).collect())
    }
}

impl FusedFuture for CancelAll {
    fn is_terminated(&self) -> bool {
        self.0.is_none()
    }
}

/// A call that a [`Scope`] cancelled, and what it came to.
///
/// ```
/// # use durable_core::prelude::*;
/// # async fn example(ctx: OrchestrationContext, scope: durable_core::Scope) {
/// for call in scope.cancel().await {
///     match call.output::<String>() {
///         Ok(receipt) => tracing::info!("{} was faster: {receipt}", call.name()),
///         Err(error) if call.was_cancelled() => tracing::info!("{} was stopped", call.name()),
///         Err(error) => tracing::info!("{} had failed: {error}", call.name()),
///     }
/// }
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct CancelledCall(EndedCall);

impl CancelledCall {
    /// The activity, or the orchestrator of the child.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Whether it ended because of the cancel. Otherwise its result came first.
    #[must_use]
    pub fn was_cancelled(&self) -> bool {
        matches!(&self.0.result, Err(failure) if failure.class == FailureClass::Cancelled)
    }

    /// What it returned, where that came before the cancel reached it.
    ///
    /// # Errors
    ///
    /// Its failure, of class [`Cancelled`](FailureClass::Cancelled) where it ended because of the cancel; where the
    /// output has another shape.
    pub fn output<T: DeserializeOwned>(&self) -> Result<T, CallError> {
        let name: Arc<str> = self.0.name.clone();
        let failed = |failure| CallError::new(Subject::Activity(name.clone()), failure);
        let output = self.0.result.as_ref().map_err(|failure| failed(failure.clone()))?;
        output.to().map_err(|error| failed(payload_failure("its output", &error)))
    }
}
