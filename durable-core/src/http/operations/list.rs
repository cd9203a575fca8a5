//! R3: instances, page by page.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use tokio::time::Instant;

use super::super::refusal::Refusal;
use super::super::request::Ask;
use super::super::time::at_latest;
use super::super::wire::StatusBody;
use super::super::{answer, token};
use crate::{InstanceStatus, Instances};

const TOKEN: HeaderName = HeaderName::from_static("x-ms-continuation-token");

const NO_TOKEN: &str = "the continuation token is not one of this list";

/// Instances on a page where nobody asks for a number.
const PAGE: usize = 100;

/// Instances that one read of the store asks for.
const READ: usize = 100;

/// A page goes out before it becomes larger than this, but for one instance that is so by itself; and when it took
/// this long.
const PAGE_BYTES: usize = 16 * 1024 * 1024;
const PAGE_TIME: Duration = Duration::from_secs(20);

pub(in super::super) async fn list(ask: &Ask<'_>) -> Result<Response, Refusal> {
    let hub = ask.api.hub();
    let query = filtered(ask, ask.api.client.instances());
    let mut shown_tokens = ask.headers.get_all(TOKEN).iter().filter(|token| !token.is_empty());
    let mut after = match (shown_tokens.next(), shown_tokens.next()) {
        (None, _) => None,
        (Some(text), None) => {
            let read = text.to_str().ok().and_then(|text| token::read(&hub, query.query(), text));
            Some(read.ok_or_else(|| Refusal::argument(NO_TOKEN))?)
        }
        (Some(_), Some(_)) => return Err(Refusal::argument(NO_TOKEN)),
    };
    let asked = ask.query.integer("top").filter(|top| *top > 0);
    let most = asked.map_or(PAGE, |top| usize::try_from(top).unwrap_or(usize::MAX));
    let most = most.min(ask.api.settings.limits.page);
    let since = Instant::now();
    let (mut found, mut bytes): (Vec<InstanceStatus>, usize) = (Vec::new(), 0);
    let mut portion = READ;
    loop {
        let page = query.page(after, portion.min(most - found.len())).await?;
        let larger = page.instances.iter().map(size).sum::<usize>();
        // A portion counts as a whole or not at all: there is no token within it.
        if bytes + larger > PAGE_BYTES && bytes > 0 {
            break;
        }
        if larger > PAGE_BYTES && page.instances.len() > 1 {
            portion = page.instances.len() / 2;
            continue;
        }
        bytes += larger;
        found.extend(page.instances);
        after = page.next;
        let enough = found.len() >= most || bytes >= PAGE_BYTES || since.elapsed() >= PAGE_TIME;
        if after.is_none() || enough {
            break;
        }
    }
    let mut shown = ask.api.usually_shown();
    shown.inputs = ask.shows_inputs();
    let bodies: Vec<_> = found.iter().map(|of| StatusBody::new(of, shown, None)).collect();
    let mut response = answer::json(StatusCode::OK, &bodies);
    let next = after.map(|after| token::write(&hub, query.query(), after)).unwrap_or_default();
    let next = HeaderValue::from_str(&next).unwrap_or(HeaderValue::from_static(""));
    response.headers_mut().insert(TOKEN, next);
    Ok(response)
}

/// The filters of the query, for lists and for purges.
pub(in super::super) fn filtered(ask: &Ask<'_>, mut instances: Instances) -> Instances {
    let query = &ask.query;
    if let Some(from) = query.time("createdtimefrom") {
        instances = instances.created_from(from);
    }
    if let Some(to) = query.time("createdtimeto") {
        instances = instances.created_to(at_latest(to));
    }
    if let Some(prefix) = query.text("instanceidprefix") {
        instances = instances.id_prefix(prefix);
    }
    instances.statuses(query.statuses("runtimestatus"))
}

fn size(status: &InstanceStatus) -> usize {
    let row = status.row();
    let payloads = [Some(&row.input), row.output.as_ref(), row.custom_status.as_ref()];
    payloads.into_iter().flatten().map(durable_machine::model::Payload::bytes).sum()
}
