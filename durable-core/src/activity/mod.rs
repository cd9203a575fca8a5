//! Activities: the functions that do an orchestration's work, at least once.

mod cancel;
mod context;
mod heartbeat;
mod state;
#[cfg(test)]
mod tests;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use cancel::CancelHandle;
pub use context::ActivityContext;
pub(crate) use heartbeat::Listener;
pub use state::{FromStates, MissingState, State, StateType, States};

use crate::error::ActivityError;

/// A function that does work, as [`#[activity]`](macro@crate::activity) makes it.
///
/// An attempt may run twice, when its worker dies before the result is stored; so an activity's effects
/// should be the same when they happen again. [`ActivityContext::idempotency_key`] helps with that.
///
/// ```
/// use durable_core::prelude::*;
///
/// #[activity(name = "Double")]
/// async fn double(number: u32) -> Result<u32, ActivityError> {
///     Ok(2 * number)
/// }
///
/// /// Calls any activity that takes and returns a number, until the result is large.
/// async fn grow<A>(ctx: &OrchestrationContext, activity: A, mut number: u32) -> Result<u32, CallError>
/// where
///     A: Activity<Input = u32, Output = u32> + Copy,
/// {
///     while number < 100 {
///         number = ctx.call(activity, &number).await?;
///     }
///     Ok(number)
/// }
///
/// #[orchestrator]
/// async fn large(ctx: OrchestrationContext, number: u32) -> Result<u32, OrchestrationError> {
///     Ok(grow(&ctx, double, number).await?)
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let worker = Worker::builder(MemoryStore::new()).register(large).register(double).start().await?;
/// assert_eq!(worker.client().start(large, 7).await?.output().await?, 112);
/// assert_eq!(double::NAME, "Double");
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an activity",
    label = "not marked with `#[activity]`",
    note = "an orchestrator is run as a child: `ctx.child(…)`; an activity of another program is called by its name: `ctx.call_by_name(…)`"
)]
pub trait Activity: Send + Sync + 'static {
    /// The name by which it is registered and called.
    const NAME: &'static str;
    /// What it is called with.
    type Input: Serialize + DeserializeOwned + Send + 'static;
    /// What it returns.
    type Output: Serialize + DeserializeOwned + Send + 'static;
}

/// What an activity may return: a `Result` whose error converts into an [`ActivityError`].
///
/// ```
/// use durable_core::ActivityReturn;
/// use durable_core::prelude::*;
///
/// // Any error type that is an `std::error::Error` will do.
/// #[activity]
/// async fn parse(text: String) -> Result<u32, std::num::ParseIntError> {
///     text.parse()
/// }
///
/// let error = ActivityReturn::into_result("x".parse::<u32>()).unwrap_err();
/// assert_eq!(error.kind(), "ParseIntError");
/// ```
#[diagnostic::on_unimplemented(
    message = "an activity returns `Result<T, ActivityError>`, not `{Self}`",
    label = "not a result with an error that converts into `ActivityError`",
    note = "every `std::error::Error` converts into `ActivityError`"
)]
pub trait ActivityReturn {
    /// The value of success.
    type Output;

    /// The result in its one form.
    ///
    /// # Errors
    ///
    /// The function's own error.
    fn into_result(self) -> Result<Self::Output, ActivityError>;
}

impl<T, E: Into<ActivityError>> ActivityReturn for Result<T, E> {
    type Output = T;

    fn into_result(self) -> Result<T, ActivityError> {
        self.map_err(Into::into)
    }
}
