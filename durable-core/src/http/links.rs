//! The links that lead from an instance to its operations.

use std::fmt;
use std::sync::Arc;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::answer;
use super::key::Key;
use super::path::encoded;
use super::signature::{Grant, Secret};

/// What `connection` says in links: there is one storage, and its name means nothing.
const CONNECTION: &str = "Storage";

/// When a caller of a start shall look again.
const CHECK_AGAIN: HeaderValue = HeaderValue::from_static("10");

/// The links of one instance: the body of a check-status answer, and what client libraries are given.
///
/// `{eventName}` in [`send_event_post_uri`](Self::send_event_post_uri) and `{text}` in those that take a
/// reason stand there to be replaced. Links hold the key or token that opens them, so [`Debug`] prints the id only.
///
/// ```
/// use durable_core::http::{CheckStatusPayload, ManagementApi};
/// use durable_core::prelude::*;
///
/// let api = ManagementApi::builder(Client::new(MemoryStore::new())).key("secret").build()?;
/// let links: CheckStatusPayload = api.client_binding().management_urls;
/// assert!(links.status_query_get_uri.ends_with("&code=secret"));
/// assert!(!format!("{links:?}").contains("secret"));
/// # Ok::<(), durable_core::http::InvalidSetting>(())
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckStatusPayload {
    /// The instance id.
    pub id: String,
    /// GET: its status.
    pub status_query_get_uri: String,
    /// POST: raises an event; the body is its payload, JSON.
    pub send_event_post_uri: String,
    /// POST: ends it.
    pub terminate_post_uri: String,
    /// POST: runs again what failed.
    pub rewind_post_uri: String,
    /// DELETE: removes all traces of it.
    pub purge_history_delete_uri: String,
    /// POST: runs its orchestrator again with the same input.
    pub restart_post_uri: String,
    /// POST: holds it.
    pub suspend_post_uri: String,
    /// POST: lets it go on.
    pub resume_post_uri: String,
}

impl fmt::Debug for CheckStatusPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckStatusPayload").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What links have in them to open.
#[derive(Clone)]
pub(super) enum Opener {
    /// Nothing is asked for.
    Nothing,
    Key(String),
    /// The token that was shown, which opens its own instance alone.
    Token(String),
    /// A token for each instance.
    Signed {
        secret: Arc<Secret>,
        grant: Grant,
    },
}

impl Opener {
    /// This key, where there is one.
    pub(super) fn of(key: Option<&Key>) -> Self {
        key.map_or(Self::Nothing, |key| Self::Key(key.text().to_owned()))
    }

    /// The last parameter of a query.
    fn parameter(&self, hub: &str, id: &str) -> String {
        match self {
            Self::Nothing => String::new(),
            Self::Key(key) => format!("&code={}", encoded(key)),
            Self::Token(token) => format!("&token={}", encoded(token)),
            Self::Signed { secret, grant } => format!("&token={}", secret.sign(*grant, hub, id)),
        }
    }

    /// Whether it is for one instance, so that no other may come of it.
    fn is_for_one(&self) -> bool {
        matches!(self, Self::Token(_) | Self::Signed { .. })
    }
}

/// Where links lead.
#[derive(Clone)]
pub(super) struct Links {
    /// Of the API, without a slash at its end.
    pub(super) base: String,
    hub: String,
    opener: Opener,
}

impl Links {
    pub(super) fn new(base: String, hub: &str, opener: Opener) -> Self {
        Self { base, hub: hub.to_owned(), opener }
    }

    /// To the same place, opened by something else.
    pub(super) fn opened_by(&self, opener: Opener) -> Self {
        Self { opener, ..self.clone() }
    }

    pub(super) fn of(&self, id: &str) -> CheckStatusPayload {
        let path = format!("{}/instances/{}", self.base, encoded(id));
        let opener = self.opener.parameter(&self.hub, id);
        let query = format!("taskHub={}&connection={CONNECTION}{opener}", encoded(&self.hub));
        let in_place =
            if self.opener.is_for_one() { "restartWithNewInstanceId=false&" } else { "" };
        let with_reason = |operation: &str| format!("{path}/{operation}?reason={{text}}&{query}");
        CheckStatusPayload {
            id: id.to_owned(),
            status_query_get_uri: format!("{path}?{query}"),
            send_event_post_uri: format!("{path}/raiseEvent/{{eventName}}?{query}"),
            terminate_post_uri: with_reason("terminate"),
            rewind_post_uri: with_reason("rewind"),
            purge_history_delete_uri: format!("{path}?{query}"),
            restart_post_uri: format!("{path}/restart?{in_place}{query}"),
            suspend_post_uri: with_reason("suspend"),
            resume_post_uri: with_reason("resume"),
        }
    }

    /// The answer to a start: look there, in a while.
    pub(super) fn check_status(&self, id: &str, failure_is_500: bool) -> Response {
        let mut payload = self.of(id);
        if failure_is_500 {
            payload.status_query_get_uri += "&returnInternalServerErrorOnFailure=true";
        }
        let mut response = answer::json(StatusCode::ACCEPTED, &payload);
        answer::locate(&mut response, &payload.status_query_get_uri);
        response.headers_mut().insert(header::RETRY_AFTER, CHECK_AGAIN);
        response
    }
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links").field("base", &self.base).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_made_of_base_id_hub_and_key() {
        let links =
            Links::new("http://localhost:7071/api".into(), "orders", Opener::Key("k=y&".into()));
        let of = links.of("a b+ü");
        let (path, query) = (
            "http://localhost:7071/api/instances/a%20b%2B%C3%BC",
            "taskHub=orders&connection=Storage&code=k%3Dy%26",
        );
        assert_eq!(of.id, "a b+ü");
        assert_eq!(of.status_query_get_uri, format!("{path}?{query}"));
        assert_eq!(of.send_event_post_uri, format!("{path}/raiseEvent/{{eventName}}?{query}"));
        assert_eq!(of.terminate_post_uri, format!("{path}/terminate?reason={{text}}&{query}"));
        assert_eq!(of.restart_post_uri, format!("{path}/restart?{query}"));
        assert!(!format!("{links:?}{of:?}").contains("k%3Dy"));
    }
}
