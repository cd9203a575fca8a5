//! R4, R6: purge.

use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use super::super::answer;
use super::super::refusal::Refusal;
use super::super::request::Ask;
use super::instance;
use super::list::filtered;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Purged {
    instances_deleted: u64,
}

/// One instance, which has to have ended.
pub(in super::super) async fn purge(ask: &Ask<'_>, id: &str) -> Result<Response, Refusal> {
    instance(ask, id)?.purge().await?;
    Ok(answer::json(StatusCode::OK, &Purged { instances_deleted: 1 }))
}

/// All that the filters of the query find and that have ended. Active ones are never purged, whatever the query
/// says.
pub(in super::super) async fn purge_many(ask: &Ask<'_>) -> Result<Response, Refusal> {
    if ask.query.time("createdtimefrom").is_none() {
        let message = "Please provide value for 'createdTimeFrom' parameter.".to_owned();
        return Err(Refusal::Text(StatusCode::BAD_REQUEST, message));
    }
    // Words of which none is a state are a mistake, and not a wish for every state.
    let named = ask.query.text("runtimestatus").is_some();
    if named && ask.query.statuses("runtimestatus").is_empty() {
        return Err(Refusal::NotFound);
    }
    let _place = ask.api.take_place()?;
    match filtered(ask, ask.api.client.instances()).purge().await?.purged {
        0 => Err(Refusal::NotFound),
        instances_deleted => Ok(answer::json(StatusCode::OK, &Purged { instances_deleted })),
    }
}
