//! R7: an external event.

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;

use super::super::refusal::Refusal;
use super::super::request::Ask;
use super::super::{answer, body as request_body};
use super::instance;

pub(in super::super) async fn raise_event(
    ask: &Ask<'_>,
    id: &str,
    name: String,
    body: Body,
) -> Result<Response, Refusal> {
    let handle = instance(ask, id)?;
    let status = ask.api.client.status(handle.id()).await?.ok_or(Refusal::NotFound)?;
    if status.has_ended() {
        return Err(Refusal::Gone);
    }
    if !request_body::is_json(ask.headers) {
        let message = "Only application/json request content is supported".to_owned();
        let exception = message.clone();
        return Err(Refusal::Argument { message, exception, kind: "ArgumentException" });
    }
    let payload = ask.payload(&ask.read(body).await?)?;
    handle.raise_event(name, &payload).await?;
    Ok(answer::empty(StatusCode::ACCEPTED))
}
