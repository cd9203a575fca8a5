//! For handlers of the program's own.

use std::convert::Infallible;
use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use axum::extract::{FromRef, FromRequestParts};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};

use super::ManagementApi;
use super::app::sealed;
use super::key::Key;
use super::links::{CheckStatusPayload, Links};
use super::operations::{Waiting, wait};
use super::refusal::Refusal;
use crate::ids::IntoInstanceId;
use crate::{Client, ClientError};

/// The client, and answers that lead to the management API: an extractor for handlers of a router whose state
/// is a [`ManagementApi`] or gives one by [`FromRef`].
///
/// The links in these answers begin with the [public URL](super::ManagementApiBuilder::public_url), or with the
/// request's own host, and have the first key: give them to those only who may use the whole hub.
#[derive(Clone)]
pub struct DurableClient {
    api: ManagementApi,
    links: Links,
}

/// How [`DurableClient::wait_for_completion_or_create_check_status_response`] waits.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WaitOptions {
    /// How long. Default 10 s.
    pub timeout: Duration,
    /// Whether an instance that failed is answered with 500. Default no.
    pub failure_is_500: bool,
}

impl Default for WaitOptions {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(10), failure_is_500: false }
    }
}

impl WaitOptions {
    /// For at most this long.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// An instance that failed is answered with 500.
    #[must_use]
    pub fn failure_is_500(mut self) -> Self {
        self.failure_is_500 = true;
        self
    }
}

impl DurableClient {
    /// The links of an instance.
    ///
    /// # Errors
    ///
    /// [`ClientError::InvalidId`] where no instance can have that id.
    pub fn check_status_payload(
        &self,
        id: impl IntoInstanceId,
    ) -> Result<CheckStatusPayload, ClientError> {
        Ok(self.links.of(id.into_instance_id()?.as_str()))
    }

    /// The answer to a start: 202 with the links of the instance, `Location` and `Retry-After`. An id that no
    /// instance can have is answered with 400.
    #[must_use]
    pub fn create_check_status_response(&self, id: impl IntoInstanceId) -> Response {
        match id.into_instance_id() {
            Ok(id) => sealed(self.links.check_status(id.as_str(), false)),
            Err(error) => self.refusal(error.into()),
        }
    }

    /// Waits for the instance: 200 with its output when it has completed, its status when it has ended
    /// otherwise, and the answer of [`create_check_status_response`](Self::create_check_status_response) when
    /// it takes longer, or does not exist.
    pub async fn wait_for_completion_or_create_check_status_response(
        &self,
        id: impl IntoInstanceId,
        options: WaitOptions,
    ) -> Response {
        let handle = match self.api.client.instance(id) {
            Ok(handle) => handle,
            Err(error) => return self.refusal(error),
        };
        let place = match self.api.take_place() {
            Ok(place) => place,
            Err(refusal) => return sealed(refusal.into_response()),
        };
        let waiting = Waiting {
            time: options.timeout.min(self.api.settings.limits.wait),
            failure_is_500: options.failure_is_500,
            shown: self.api.usually_shown(),
        };
        let answer = wait(&self.api.client, &handle, &self.links, waiting).await;
        drop(place);
        sealed(answer.unwrap_or_else(Refusal::into_response))
    }

    /// The answer of the management API to a call of the client that failed: 404 for an instance that is not
    /// there, 409 for one that is active, 503 for a busy storage, and so on.
    #[must_use]
    pub fn refusal(&self, error: ClientError) -> Response {
        sealed(Refusal::from(error).into_response())
    }
}

impl Deref for DurableClient {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.api.client
    }
}

impl fmt::Debug for DurableClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DurableClient")
            .field("client", &self.api.client)
            .field("links", &self.links)
            .finish()
    }
}

impl<S> FromRequestParts<S> for DurableClient
where
    ManagementApi: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let api = ManagementApi::from_ref(state);
        let settings = &api.settings;
        let named = settings.hosts.named(&parts.headers, &parts.uri);
        let base = settings.hosts.base(&named, &settings.path);
        let links = Links::new(base, &api.hub(), settings.keys.first().map(Key::text));
        Ok(Self { api, links })
    }
}
