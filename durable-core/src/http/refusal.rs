//! Answers to requests that are not carried out.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::answer;
use super::json::InvalidJson;
use crate::{ClientError, StoreError};

/// When to try again what there was no room for, in seconds.
const ROOM_AGAIN: u64 = 1;

/// Why a request is not carried out.
#[derive(Debug)]
pub(super) enum Refusal {
    /// No such instance, or no such route.
    NotFound,
    /// The instance has ended.
    Gone,
    /// Without a key that opens.
    Unauthorized,
    /// An argument that cannot be taken: what was wrong with which kind of thing, in short and at length.
    Argument { message: String, exception: String, kind: &'static str },
    /// An active instance has the id.
    Active(String),
    /// The instance is in a state in which that cannot be done.
    NotNow(String),
    /// From another site, or for another host.
    Forbidden(&'static str),
    /// Too much of something, at once or ever.
    Limit(StatusCode, &'static str),
    /// No room now; later there may be.
    Full { status: StatusCode, message: String, retry_after: u64 },
    /// What the wire says by a bare text.
    Text(StatusCode, String),
    /// The rest.
    Internal,
}

pub(super) const WRONG_ARGUMENT: &str = "One or more of the arguments submitted is incorrect";
const WENT_WRONG: &str = "Something went wrong while processing your request";

impl Refusal {
    pub(super) fn argument(exception: impl Into<String>) -> Self {
        let message = WRONG_ARGUMENT.to_owned();
        Self::Argument { message, exception: exception.into(), kind: "ArgumentException" }
    }

    pub(super) fn busy(message: impl Into<String>) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::Full { status, message: message.into(), retry_after: ROOM_AGAIN }
    }
}

impl From<InvalidJson> for Refusal {
    fn from(InvalidJson(exception): InvalidJson) -> Self {
        let message = "Invalid JSON content".to_owned();
        Self::Argument { message, exception, kind: "JsonReaderException" }
    }
}

impl From<ClientError> for Refusal {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::NotFound(_) => Self::NotFound,
            ClientError::Ended { .. } => Self::Gone,
            ClientError::Active { instance, status } => Self::Active(format!(
                "An Orchestration instance with the status {status} already exists: {instance}."
            )),
            ClientError::NotEnded { .. }
            | ClientError::NotFailed { .. }
            | ClientError::Replaced(_) => Self::NotNow(error.to_string()),
            ClientError::PurgeUnderWay { .. } => Self::busy(error.to_string()),
            ClientError::InvalidId(_)
            | ClientError::InvalidLabel(_)
            | ClientError::Payload(_)
            | ClientError::UnknownOrchestrator { .. } => Self::argument(error.to_string()),
            ClientError::TooManyEvents(_) => Self::Full {
                status: StatusCode::TOO_MANY_REQUESTS,
                message: error.to_string(),
                retry_after: ROOM_AGAIN,
            },
            ClientError::Overloaded => Self::busy(error.to_string()),
            ClientError::Store(StoreError::Busy { retry_after, .. }) => Self::Full {
                status: StatusCode::SERVICE_UNAVAILABLE,
                message: "the storage is busy; try again later".into(),
                retry_after: whole_seconds(retry_after).max(ROOM_AGAIN),
            },
            ClientError::Failed { .. }
            | ClientError::Terminated { .. }
            | ClientError::TimedOut { .. }
            | ClientError::Refused(_)
            | ClientError::Unanswered
            | ClientError::Store(_) => {
                tracing::error!(%error, "a request of the management API failed");
                Self::Internal
            }
        }
    }
}

/// So many that who waits them does not come too early.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0))
}

/// An error object: the long form, or the short one where there is nothing but a message.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorBody<'a> {
    message: &'a str,
    #[serde(flatten)]
    exception: Option<Exception<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Exception<'a> {
    exception_message: &'a str,
    exception_type: &'a str,
    stack_trace: Option<&'a str>,
}

fn long(status: StatusCode, message: &str, exception: &str, kind: &str) -> Response {
    let exception =
        Exception { exception_message: exception, exception_type: kind, stack_trace: None };
    answer::json(status, &ErrorBody { message, exception: Some(exception) })
}

fn short(status: StatusCode, message: &str) -> Response {
    answer::json(status, &ErrorBody { message, exception: None })
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::NotFound => answer::empty(StatusCode::NOT_FOUND),
            Self::Gone => answer::empty(StatusCode::GONE),
            Self::Unauthorized => answer::empty(StatusCode::UNAUTHORIZED),
            Self::Argument { message, exception, kind } => {
                long(StatusCode::BAD_REQUEST, &message, &exception, kind)
            }
            Self::Active(message) => short(StatusCode::CONFLICT, &message),
            Self::NotNow(message) => answer::json(StatusCode::PRECONDITION_FAILED, &message),
            Self::Forbidden(message) => short(StatusCode::FORBIDDEN, message),
            Self::Limit(status, message) => short(status, message),
            Self::Full { status, message, retry_after } => {
                let mut response = short(status, &message);
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry_after));
                response
            }
            Self::Text(status, text) => answer::json(status, &text),
            Self::Internal => long(
                StatusCode::INTERNAL_SERVER_ERROR,
                WENT_WRONG,
                "the server's log says what",
                "InternalError",
            ),
        }
    }
}
