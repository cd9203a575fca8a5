//! Orchestrators: deterministic async functions that survive their process.
//!
//! An orchestrator's progress is the history of what it asked for and what it got. After a crash the
//! function runs again from its start and is given the same answers, up to where it was. So it must do
//! the same each time: what depends on clocks, random numbers, files or the network belongs into
//! activities, and [`OrchestrationContext`] has replay-safe forms of the small things.
//! [`#[orchestrator]`](macro@crate::orchestrator) refuses what it can see to break this.
//!
//! # Waiting for several things
//!
//! Every future of the context is lazy, `Unpin`, `Send` and fused. [`OrchestrationContext::race`],
//! [`race_all`](OrchestrationContext::race_all), [`join_all`](OrchestrationContext::join_all) and
//! [`try_join_all`](OrchestrationContext::try_join_all) cover most cases, a
//! [`join_set`](OrchestrationContext::join_set) gives values as they come, and the combinators of the
//! `futures` crate work too: `select_biased!`, `select`, `join!`, `FuturesUnordered`,
//! `buffer_unordered`. A future that is dropped before it is ready is cancelled: an activity that has not
//! started does not start, a timer is removed. Whoever has to know that it has really ended calls in a [`Scope`].
//!
//! # Children
//!
//! [`OrchestrationContext::child`] runs another orchestrator as an instance of its own: with its own history,
//! status and id, perhaps in another worker. Use it where the work is large, has to be looked at by itself, or
//! outlives its parent; for a few steps an async function is simpler. A child ends with its parent, unless
//! [`Child::parent_close`] says otherwise: when the parent ends in any way, or drops the future, the child is
//! terminated, and so are its own children.
//!
//! # Logging
//!
//! `tracing::info!` and its like in an orchestrator are silent while the function repeats what it did
//! before. A line may still appear twice: when a worker dies after it was logged and before the step was
//! stored.

mod children;
mod combine;
mod context;
mod events;
mod futures;
mod join_set;
mod random;
mod saga;
mod scope;
#[cfg(test)]
mod tests;
mod versions;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use children::Child;
pub use combine::{Race, RaceAll, TryJoinAll};
pub use context::OrchestrationContext;
pub use events::{EventName, WaitEvent, WaitEventTimeout};
pub use futures::{Call, Sleep};
pub use join_set::{JoinNext, JoinSet};
pub use random::RandomInteger;
pub use saga::Saga;
pub use scope::{CancelAll, CancelledCall, Scope};

use crate::error::OrchestrationError;

/// A durable function, as [`#[orchestrator]`](macro@crate::orchestrator) makes it.
///
/// ```
/// use durable_core::prelude::*;
///
/// #[orchestrator(name = "Double")]
/// async fn double(_: OrchestrationContext, number: u32) -> Result<u32, OrchestrationError> {
///     Ok(2 * number)
/// }
///
/// /// Starts any orchestrator that takes and returns a number.
/// async fn run<O>(client: &Client, orchestrator: O, number: u32) -> Result<u32, ClientError>
/// where
///     O: Orchestrator<Input = u32, Output = u32>,
/// {
///     client.start(orchestrator, number).await?.output().await
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let worker = Worker::builder(MemoryStore::new()).register(double).start().await?;
/// assert_eq!(run(&worker.client(), double, 21).await?, 42);
/// assert_eq!(double::NAME, "Double");
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an orchestrator",
    label = "not marked with `#[orchestrator]`",
    note = "an activity is called by an orchestrator: `ctx.call(…)`; an orchestrator of another program is started by its name: `start_by_name`, `child_by_name`"
)]
pub trait Orchestrator: Send + Sync + 'static {
    /// The name by which it is registered and started.
    const NAME: &'static str;
    /// What it is started with.
    type Input: Serialize + DeserializeOwned + Send + 'static;
    /// What it returns.
    type Output: Serialize + DeserializeOwned + Send + 'static;
}

/// What an orchestrator may return: a `Result` whose error converts into an [`OrchestrationError`].
///
/// ```
/// use durable_core::OrchestratorReturn;
/// use durable_core::prelude::*;
///
/// // Any error type that is an `std::error::Error` will do.
/// #[orchestrator]
/// async fn parse(_: OrchestrationContext, text: String) -> Result<u32, std::num::ParseIntError> {
///     text.parse()
/// }
///
/// let error = OrchestratorReturn::into_result("x".parse::<u32>()).unwrap_err();
/// assert_eq!(error.kind(), "ParseIntError");
/// ```
#[diagnostic::on_unimplemented(
    message = "an orchestrator returns `Result<T, OrchestrationError>`, not `{Self}`",
    label = "not a result with an error that converts into `OrchestrationError`",
    note = "every `std::error::Error` converts into `OrchestrationError`"
)]
pub trait OrchestratorReturn {
    /// The value of success.
    type Output;

    /// The result in its one form.
    ///
    /// # Errors
    ///
    /// The function's own error.
    fn into_result(self) -> Result<Self::Output, OrchestrationError>;
}

impl<T, E: Into<OrchestrationError>> OrchestratorReturn for Result<T, E> {
    type Output = T;

    fn into_result(self) -> Result<T, OrchestrationError> {
        self.map_err(Into::into)
    }
}

/// Runs `f` with tracing switched off on this thread: for turns that repeat recorded ones.
#[allow(dead_code, reason = "called where a worker replays")]
pub(crate) fn silenced<R>(f: impl FnOnce() -> R) -> R {
    // `Dispatch::none` and not a new one of a no-op subscriber: that would register itself with every
    // callsite, under a lock, for each replay.
    tracing::dispatcher::with_default(&tracing::Dispatch::none(), f)
}
