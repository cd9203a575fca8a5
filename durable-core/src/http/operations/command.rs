//! R8 to R10: terminate, suspend, resume.

use axum::http::StatusCode;
use axum::response::Response;
use durable_machine::model::Command;

use super::super::answer;
use super::super::refusal::Refusal;
use super::super::request::Ask;
use super::instance;

pub(in super::super) async fn terminate(ask: &Ask<'_>, id: &str) -> Result<Response, Refusal> {
    send(ask, id, |reason| Command::Terminate { reason, tree: false }).await
}

/// Holding an instance that is held is accepted, and changes nothing.
pub(in super::super) async fn suspend(ask: &Ask<'_>, id: &str) -> Result<Response, Refusal> {
    send(ask, id, |reason| Command::Suspend { reason }).await
}

/// So is letting one go on that does.
pub(in super::super) async fn resume(ask: &Ask<'_>, id: &str) -> Result<Response, Refusal> {
    send(ask, id, |reason| Command::Resume { reason }).await
}

async fn send(
    ask: &Ask<'_>,
    id: &str,
    command: impl FnOnce(Option<std::sync::Arc<str>>) -> Command,
) -> Result<Response, Refusal> {
    let handle = instance(ask, id)?;
    handle.command(command(ask.query.text("reason").map(Into::into))).await?;
    Ok(answer::empty(StatusCode::ACCEPTED))
}
