//! Activities: the functions that do an orchestration's work, at least once.

mod cancel;
mod context;
mod state;
#[cfg(test)]
mod tests;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use cancel::CancelHandle;
pub use context::ActivityContext;
pub use state::{FromStates, MissingState, State, StateType, States};

use crate::error::ActivityError;

/// A function that does work, as [`#[activity]`](macro@crate::activity) makes it.
///
/// An attempt may run twice, when its worker dies before the result is stored; so an activity's effects
/// should be the same when they happen again. [`ActivityContext::idempotency_key`] helps with that.
pub trait Activity: Send + Sync + 'static {
    /// The name by which it is registered and called.
    const NAME: &'static str;
    /// What it is called with.
    type Input: Serialize + DeserializeOwned + Send + 'static;
    /// What it returns.
    type Output: Serialize + DeserializeOwned + Send + 'static;
}

/// What an activity may return: a `Result` whose error converts into an [`ActivityError`].
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
