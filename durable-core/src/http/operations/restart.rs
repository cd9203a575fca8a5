//! R12: run again with the same input.

use axum::response::Response;

use super::super::refusal::Refusal;
use super::super::request::{Ask, NOT_IN_LINK};
use super::start::{check_name, refused};
use super::wait::{Place, started};
use crate::ClientError;

pub(in super::super) async fn restart(ask: &Ask<'_>, id: &str) -> Result<Response, Refusal> {
    let in_place = ask.query.flag("restartwithnewinstanceid") == Some(false);
    if ask.is_for_one() && !in_place {
        return Err(NOT_IN_LINK);
    }
    let place = Place::of(ask)?;
    let client = &ask.api.client;
    let handle = client.instance(id).map_err(|_| unknown(id))?;
    let status = client.status(handle.id()).await?.ok_or_else(|| unknown(id))?;
    check_name(ask, status.name())?;
    let mut restart = handle.restart();
    if in_place {
        restart = restart.same_id();
    }
    let handle = restart.await.map_err(|error| match error {
        ClientError::NotFound(_) => unknown(id),
        error => refused(error),
    })?;
    started(ask, &handle, place).await
}

/// An id that nobody has is a wrong argument here, not an instance that is missing.
fn unknown(id: &str) -> Refusal {
    Refusal::Argument {
        message: "InstanceId does not match a valid orchestration instance.".into(),
        exception: format!("there is no instance {id:?}"),
        kind: "ArgumentException",
    }
}
