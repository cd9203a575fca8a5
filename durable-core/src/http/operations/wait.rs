//! Waiting for an instance to end, for a while.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use durable_machine::model::RuntimeStatus;

use super::super::answer as wire_answer;
use super::super::links::Links;
use super::super::refusal::Refusal;
use super::super::wire::Shown;
use super::status::answer;
use crate::{Client, ClientError, Handle, Payload};

/// How an answer is waited for.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Waiting {
    pub(in super::super) time: Duration,
    /// A failed instance is a failure of the server.
    pub(in super::super) failure_is_500: bool,
    pub(in super::super) shown: Shown,
}

/// The output, the status of what ended otherwise, or the links where it takes longer.
pub(in super::super) async fn wait(
    client: &Client,
    handle: &Handle<Payload>,
    links: &Links,
    waiting: Waiting,
) -> Result<Response, Refusal> {
    let ended = match tokio::time::timeout(waiting.time, handle.wait()).await {
        Ok(Ok(status)) => Some(status),
        Ok(Err(ClientError::NotFound(_) | ClientError::Replaced(_))) => None,
        Ok(Err(error)) => return Err(error.into()),
        // It may have ended just now.
        Err(_) => {
            let status = client.status(handle.id()).await?;
            status.filter(|status| {
                status.has_ended() && handle.run().is_none_or(|run| run == status.run())
            })
        }
    };
    let Some(status) = ended else {
        return Ok(links.check_status(handle.id().as_str(), waiting.failure_is_500));
    };
    Ok(if status.runtime_status() == RuntimeStatus::Completed {
        wire_answer::json(StatusCode::OK, &status.row().output)
    } else {
        let url = links.of(handle.id().as_str()).status_query_get_uri;
        answer(&status, None, waiting.shown, waiting.failure_is_500, &url)
    })
}
