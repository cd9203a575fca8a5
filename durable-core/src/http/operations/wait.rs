//! Waiting for an instance to end, for a while.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use durable_machine::model::RuntimeStatus;
use tokio::sync::OwnedSemaphorePermit;

use super::super::links::Links;
use super::super::refusal::Refusal;
use super::super::request::{Ask, NOT_IN_LINK};
use super::super::serve::Ending;
use super::super::signature::LinkRights;
use super::super::wire::Shown;
use super::super::{ManagementApi, answer as wire_answer};
use super::status::answer;
use crate::{Client, ClientError, Handle, Payload};

/// How an answer is waited for.
pub(in super::super) struct Waiting {
    pub(in super::super) time: Duration,
    /// The server may end first.
    pub(in super::super) ending: Option<Ending>,
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
    let server_ends = async {
        match &waiting.ending {
            Some(ending) => ending.comes().await,
            None => std::future::pending().await,
        }
    };
    let ended = tokio::select! {
        ended = tokio::time::timeout(waiting.time, handle.wait()) => ended.ok(),
        () = server_ends => None,
    };
    let ended = match ended {
        Some(Ok(status)) => Some(status),
        Some(Err(ClientError::NotFound(_) | ClientError::Replaced(_))) => None,
        Some(Err(error)) => return Err(error.into()),
        // It may have ended just now.
        None => {
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

/// The wish to wait for the end, with a place among those who do.
pub(super) struct Place {
    time: Duration,
    _place: OwnedSemaphorePermit,
}

impl Place {
    /// Taken before anything is started, where the caller says both how long it waits and how often it would
    /// look. It is told the end at once, so the second number only has to make sense.
    pub(super) fn of(ask: &Ask<'_>) -> Result<Option<Self>, Refusal> {
        let seconds =
            |name, negative: &str| ask.query.seconds(name).map_err(|_| Refusal::argument(negative));
        let timeout = seconds("timeout", "timeout must not be negative")?;
        let interval = seconds("pollinginterval", "pollingInterval must not be negative")?;
        let (Some(timeout), Some(interval)) = (timeout, interval) else { return Ok(None) };
        if interval > timeout {
            return Err(Refusal::argument("pollingInterval must not be longer than timeout"));
        }
        if !ask.may(LinkRights::READ) {
            return Err(NOT_IN_LINK);
        }
        let time = timeout.min(ask.api.settings.limits.wait);
        Ok(Some(Self { time, _place: ask.api.take_place()? }))
    }
}

/// The answer to a start that was accepted.
pub(super) async fn started(
    ask: &Ask<'_>,
    handle: &Handle<Payload>,
    place: Option<Place>,
) -> Result<Response, Refusal> {
    let Some(place) = place else {
        return Ok(ask.links.check_status(handle.id().as_str(), false));
    };
    let failure_is_500 = ask.flag("returninternalservererroronfailure");
    let inputs = ask.may(LinkRights::INSPECT);
    let shown = Shown { inputs, ..ask.api.usually_shown() };
    let ending = ask.ending.clone();
    let waiting = Waiting { time: place.time, ending, failure_is_500, shown };
    let ended = wait(&ask.api.client, handle, &ask.links, waiting).await;
    // It was accepted: whoever started it has to learn its id, also where its end cannot be seen.
    Ok(ended.unwrap_or_else(|_| ask.links.check_status(handle.id().as_str(), failure_is_500)))
}

impl ManagementApi {
    /// A place among those who wait.
    pub(in super::super) fn take_place(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let place = self.settings.waiting.clone().try_acquire_owned();
        place.map_err(|_| Refusal::busy("too many requests wait already; nothing was started"))
    }
}
