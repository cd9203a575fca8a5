//! R1, R2: start.

use axum::body::Body;
use axum::response::Response;

use super::super::refusal::Refusal;
use super::super::request::Ask;
use super::super::trace;
use super::wait::{Place, started};
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
    check_name(ask, &name)?;
    let place = Place::of(ask)?;
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
    let handle = start.await.map_err(refused)?;
    started(ask, &handle, place).await
}

/// Refuses a name that the program does not have, where it has said which it has.
pub(super) fn check_name(ask: &Ask<'_>, name: &str) -> Result<(), Refusal> {
    match ask.api.settings.orchestrators.as_deref() {
        Some(known) if !known.iter().any(|known| known == name) => Err(unknown(name, known)),
        Some(_) | None => Ok(()),
    }
}

/// Why a start was refused.
pub(super) fn refused(error: ClientError) -> Refusal {
    match error {
        ClientError::UnknownOrchestrator { name, known } => unknown(&name, &known),
        error => error.into(),
    }
}

fn unknown(name: &str, known: &[String]) -> Refusal {
    let message = format!(
        "The function '{name}' doesn't exist, is disabled, or is not an orchestrator function."
    );
    let exception = format!("{message} The orchestrators are: {}", known.join(", "));
    Refusal::Argument { message, exception, kind: "ArgumentException" }
}
