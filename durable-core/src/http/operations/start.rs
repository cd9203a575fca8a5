//! R1, R2: start.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use tokio::sync::OwnedSemaphorePermit;

use super::super::refusal::Refusal;
use super::super::request::Ask;
use super::super::{ManagementApi, trace};
use super::wait::{Waiting, wait};
use crate::{ClientError, Payload};

pub(in super::super) async fn start(
    ask: &Ask<'_>,
    name: String,
    id: Option<String>,
    body: Body,
) -> Result<Response, Refusal> {
    let body = ask.read(body).await?;
    let input = if body.is_empty() { Payload::null() } else { ask.payload(&body)? };
    if id.as_deref().is_some_and(|id| matches!(id, "." | "..")) {
        return Err(Refusal::argument("an instance id of dots alone cannot stand in a URL"));
    }
    let settings = &ask.api.settings;
    if let Some(known) = settings.orchestrators.as_deref()
        && !known.contains(&name)
    {
        return Err(unknown(&name, known));
    }
    let time = waiting_time(ask)?;
    // Who would have to wait is refused before anything is started.
    let place = time.map(|time| Ok::<_, Refusal>((time, ask.api.take_place()?))).transpose()?;
    let client = &ask.api.client;
    let mut start = client.start_by_name(name.as_str(), &input);
    if let Some(id) = id {
        start = start.id(id);
    }
    if let Some(version) = ask.query.text("version").or(settings.default_version.as_deref()) {
        start = start.version(version);
    }
    if let Some(trace) = trace::context(ask.headers) {
        start = start.trace(trace);
    }
    if settings.replaces_active {
        start = start.replace_existing();
    }
    let handle = start.await.map_err(|error| match error {
        ClientError::UnknownOrchestrator { name, known } => unknown(&name, &known),
        error => error.into(),
    })?;
    let failure_is_500 = ask.flag("returninternalservererroronfailure");
    let Some((time, place)) = place else {
        return Ok(ask.links.check_status(handle.id().as_str(), false));
    };
    let waiting = Waiting { time, failure_is_500, shown: ask.api.usually_shown() };
    let answer = wait(client, &handle, &ask.links, waiting).await;
    drop(place);
    answer
}

fn unknown(name: &str, known: &[String]) -> Refusal {
    let message = format!(
        "The function '{name}' doesn't exist, is disabled, or is not an orchestrator function."
    );
    let exception = format!("{message} The orchestrators are: {}", known.join(", "));
    Refusal::Argument { message, exception, kind: "ArgumentException" }
}

/// How long the caller wants to wait for the end, where it says both how long and how often to look.
fn waiting_time(ask: &Ask<'_>) -> Result<Option<Duration>, Refusal> {
    let seconds =
        |name, negative: &str| ask.query.seconds(name).map_err(|_| Refusal::argument(negative));
    let timeout = seconds("timeout", "timeout must not be negative")?;
    let interval = seconds("pollinginterval", "pollingInterval must not be negative")?;
    let (Some(timeout), Some(interval)) = (timeout, interval) else { return Ok(None) };
    if interval > timeout {
        return Err(Refusal::argument("pollingInterval must not be longer than timeout"));
    }
    Ok(Some(timeout.min(ask.api.settings.limits.wait)))
}

impl ManagementApi {
    /// A place among those who wait.
    pub(in super::super) fn take_place(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        self.settings.waiting.clone().try_acquire_owned().map_err(|_| {
            Refusal::busy("too many requests wait for an instance; nothing was started")
        })
    }
}
