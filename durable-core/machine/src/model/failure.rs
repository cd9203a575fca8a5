//! Why something failed, in a form that survives being stored and keeps its type.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Payload, limits};

/// Who or what made it fail.
///
/// ```
/// # use durable_machine::model::{Failure, FailureClass};
/// let failure = Failure::limit("the output is larger than 16 MiB");
/// assert_eq!(failure.class, FailureClass::Limit);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureClass {
    /// The user's code returned an error.
    Application,
    /// The user's code panicked.
    Panic,
    /// An attempt or a call took longer than it may.
    Timeout,
    /// The worker was lost three times while it ran the attempt.
    WorkerLost,
    /// No worker registers a function of that name.
    Unregistered,
    /// A limit of the engine was exceeded.
    Limit,
    /// The orchestrator awaited something that is not a durable future.
    ForeignAwait,
    /// The input or output does not have the shape that the code expects.
    Payload,
    /// The call or the instance was cancelled or terminated.
    Cancelled,
}

/// A failure: what `FailureDetails` shows in the management API.
///
/// ```
/// # use durable_machine::model::{Failure, FailureClass};
/// let cause = Failure::new(FailureClass::Timeout, "Timeout", "took longer than 30 s");
/// let failure = Failure::new(FailureClass::Application, "NotPaid", "the bank does not answer")
///     .caused_by(cause)
///     .permanent();
/// assert!(failure.permanent);
/// assert_eq!(
///     failure.to_string(),
///     "NotPaid: the bank does not answer; caused by Timeout: took longer than 30 s"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Who or what made it fail.
    pub class: FailureClass,
    /// A name to decide by, such as `CardDeclined`.
    pub kind: String,
    /// A sentence for people.
    pub message: String,
    /// Typed details that the failing code attached.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "super::payload::present"
    )]
    pub details: Option<Payload>,
    /// Whether another attempt cannot help.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub permanent: bool,
    /// What caused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Box<Failure>>,
}

impl Failure {
    /// A failure of this class and kind. The message is cut, with a mark, at the limit for error texts.
    #[must_use]
    pub fn new(class: FailureClass, kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            class,
            kind: kind.into(),
            message: cut(message.into()),
            details: None,
            permanent: false,
            cause: None,
        }
    }

    /// The same failure, marked as one that another attempt cannot help.
    #[must_use]
    pub fn permanent(mut self) -> Self {
        self.permanent = true;
        self
    }

    /// The same failure with its cause.
    #[must_use]
    pub fn caused_by(mut self, cause: Failure) -> Self {
        self.cause = Some(Box::new(cause));
        self
    }

    /// An attempt of this activity took longer than it may.
    #[must_use]
    pub fn timed_out(activity: &str, limit: Duration) -> Self {
        let message = format!("an attempt of {activity:?} took longer than {limit:?}");
        Self::new(FailureClass::Timeout, "Timeout", message)
    }

    /// An attempt of this activity gave no heartbeat for longer than it may.
    #[must_use]
    pub fn fell_silent(activity: &str, limit: Duration) -> Self {
        let message = format!("an attempt of {activity:?} gave no heartbeat for {limit:?}");
        Self::new(FailureClass::Timeout, "HeartbeatTimeout", message)
    }

    /// A limit of the engine was exceeded; the sentence says which and what to do.
    #[must_use]
    pub fn limit(message: impl Into<String>) -> Self {
        Self::new(FailureClass::Limit, "LimitExceeded", message).permanent()
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)?;
        let mut cause = self.cause.as_deref();
        while let Some(inner) = cause {
            write!(f, "; caused by {}: {}", inner.kind, inner.message)?;
            cause = inner.cause.as_deref();
        }
        Ok(())
    }
}

fn cut(mut text: String) -> String {
    const MARK: &str = "… [cut]";
    if text.len() > limits::ERROR_TEXT_BYTES_MAX {
        let mut end = limits::ERROR_TEXT_BYTES_MAX - MARK.len();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str(MARK);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_text_beyond_the_limit_is_cut_with_a_mark_between_characters() {
        for (length, cut) in [
            (limits::ERROR_TEXT_BYTES_MAX / 2, false),
            (limits::ERROR_TEXT_BYTES_MAX / 2 + 1, true),
        ] {
            let failure = Failure::new(FailureClass::Application, "E", "é".repeat(length));
            assert!(failure.message.len() <= limits::ERROR_TEXT_BYTES_MAX);
            assert_eq!(failure.message.ends_with("[cut]"), cut);
        }
    }
}
