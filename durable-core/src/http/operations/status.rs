//! R5: the status of one instance.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use durable_machine::model::RuntimeStatus;

use super::super::refusal::Refusal;
use super::super::request::Ask;
use super::super::signature::LinkRights;
use super::super::wire::{Shown, StatusBody, history};
use super::super::{ManagementApi, answer as wire_answer};
use super::instance;
use crate::{Client, ClientError, History, InstanceStatus, StoreError};

/// When a caller of an active instance shall look again.
const LOOK_AGAIN: HeaderValue = HeaderValue::from_static("5");

/// How often status and history are read until they belong together.
const READS_MAX: usize = 4;

pub(in super::super) async fn status(ask: &Ask<'_>, id: &str) -> Result<Response, Refusal> {
    let handle = instance(ask, id)?;
    let client = &ask.api.client;
    let mut status = client.status(handle.id()).await?.ok_or(Refusal::NotFound)?;
    let mut history = None;
    if ask.flag("showhistory") && ask.may(LinkRights::INSPECT) {
        for _ in 0..READS_MAX {
            history = read_history(client, &status).await?;
            let again = client.status(handle.id()).await?.ok_or(Refusal::NotFound)?;
            let same = is_same_moment(&status, &again);
            status = again;
            if same {
                break;
            }
        }
    }
    let shown = Shown {
        inputs: ask.shows_inputs(),
        results: ask.flag("showhistoryoutput"),
        activity_inputs: ask.api.settings.activity_inputs,
    };
    let failure_is_500 = ask.flag("returninternalservererroronfailure");
    Ok(answer(&status, history.as_ref(), shown, failure_is_500, &ask.url))
}

/// The answer that shows a status, and where to look again while there will be news.
pub(in super::super) fn answer(
    status: &InstanceStatus,
    events: Option<&History>,
    shown: Shown,
    failure_is_500: bool,
    url: &str,
) -> Response {
    let events = events.map(|events| history(events.events(), shown));
    let body = StatusBody::new(status, shown, events);
    match status.runtime_status() {
        RuntimeStatus::Running
        | RuntimeStatus::Pending
        | RuntimeStatus::ContinuedAsNew
        | RuntimeStatus::Suspended => {
            let mut response = wire_answer::json(StatusCode::ACCEPTED, &body);
            wire_answer::locate(&mut response, url);
            response.headers_mut().insert(header::RETRY_AFTER, LOOK_AGAIN);
            response
        }
        RuntimeStatus::Failed if failure_is_500 => {
            wire_answer::json(StatusCode::INTERNAL_SERVER_ERROR, &body)
        }
        RuntimeStatus::Completed
        | RuntimeStatus::Terminated
        | RuntimeStatus::Canceled
        | RuntimeStatus::Failed => wire_answer::json(StatusCode::OK, &body),
    }
}

/// The history; none where the instance has not begun, or where it cannot be read.
async fn read_history(
    client: &Client,
    status: &InstanceStatus,
) -> Result<Option<History>, ClientError> {
    if status.runtime_status() == RuntimeStatus::Pending {
        return Ok(None);
    }
    match client.history(status.id()).await {
        Ok(history) => Ok(history.filter(|history| !history.events().is_empty())),
        Err(ClientError::Store(StoreError::Corrupt { key, .. })) => {
            tracing::warn!(%key, "a history cannot be read, and is left out");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn is_same_moment(one: &InstanceStatus, other: &InstanceStatus) -> bool {
    let moment =
        |status: &InstanceStatus| (status.run(), status.execution(), status.runtime_status());
    moment(one) == moment(other)
}

impl ManagementApi {
    /// What answers show where nobody asked for anything.
    pub(in super::super) fn usually_shown(&self) -> Shown {
        let activity_inputs = self.settings.activity_inputs;
        Shown { inputs: true, results: false, activity_inputs }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::wire::row;
    use super::*;
    use RuntimeStatus::{
        Canceled, Completed, ContinuedAsNew, Failed, Pending, Running, Suspended, Terminated,
    };

    #[test]
    fn each_state_has_its_code_and_the_active_ones_say_where_to_look() {
        let shown = Shown { inputs: true, results: true, activity_inputs: true };
        for (state, code, code_with_flag) in [
            (Running, 202, 202),
            (Completed, 200, 200),
            (ContinuedAsNew, 202, 202),
            (Failed, 200, 500),
            (Canceled, 200, 200),
            (Terminated, 200, 200),
            (Pending, 202, 202),
            (Suspended, 202, 202),
        ] {
            let status = InstanceStatus::new(row(state));
            for (flag, code) in [(false, code), (true, code_with_flag)] {
                let response = answer(&status, None, shown, flag, "http://localhost/x?y");
                assert_eq!(response.status().as_u16(), code, "{state}");
                for (name, value) in
                    [(header::LOCATION, "http://localhost/x?y"), (header::RETRY_AFTER, "5")]
                {
                    let found = response.headers().get(&name).map(|found| found.to_str().unwrap());
                    assert_eq!(found, (code == 202).then_some(value), "{state} {name}");
                }
            }
        }
    }
}
