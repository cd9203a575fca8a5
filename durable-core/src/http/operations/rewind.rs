//! R11: run again what failed.

use axum::http::StatusCode;
use axum::response::Response;

use super::super::answer;
use super::super::refusal::Refusal;
use super::super::request::Ask;
use crate::ClientError;

/// Refusals are bare texts, which client libraries show to their callers.
pub(in super::super) async fn rewind(ask: &Ask<'_>, id: &str) -> Result<Response, Refusal> {
    let handle = ask.api.client.instance(id).map_err(|_| unknown(id))?;
    // It waits until the status shows it.
    let _place = ask.api.take_place()?;
    let reason = ask.query.text("reason").map(Into::into);
    handle.rewind_because(reason).await.map_err(|error| match error {
        ClientError::NotFound(_) => unknown(id),
        ClientError::NotFailed { status, .. } => not_now(format!(
            "The orchestration instance \"{id}\" has the status {status}, but only a Failed one can be rewound."
        )),
        ClientError::Refused(why) => {
            not_now(format!("The orchestration instance \"{id}\" cannot be rewound: {why}"))
        }
        error => error.into(),
    })?;
    Ok(answer::empty(StatusCode::ACCEPTED))
}

fn not_now(text: String) -> Refusal {
    Refusal::Text(StatusCode::PRECONDITION_FAILED, text)
}

fn unknown(id: &str) -> Refusal {
    let text = format!("No orchestration with the instance ID \"{id}\" was found.");
    Refusal::Text(StatusCode::NOT_FOUND, text)
}
