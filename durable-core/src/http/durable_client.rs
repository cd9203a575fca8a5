//! For handlers of the program's own.

use std::convert::Infallible;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRef, FromRequestParts};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};

use super::ManagementApi;
use super::app::sealed;
use super::links::{CheckStatusPayload, Links, Opener};
use super::operations::{Waiting, wait};
use super::refusal::Refusal;
use super::serve::Ending;
use super::settings::InvalidSetting;
use super::signature::{Grant, LinkRights};
use super::wire::Shown;
use crate::ids::IntoInstanceId;
use crate::{Client, ClientError};

/// The client, and answers that lead to the management API: an extractor for handlers of a router whose state
/// is a [`ManagementApi`] or gives one by [`FromRef`].
///
/// The links in these answers begin with the [public URL](super::ManagementApiBuilder::public_url), or with the
/// request's own host, and have the first key: give them to those only who may use the whole hub. Those of
/// [`signed`](Self::signed) are for one instance each.
///
/// ```
/// use axum::Router;
/// use axum::body::Body;
/// use axum::http::{Request, StatusCode};
/// use axum::response::Response;
/// use axum::routing::post;
/// use durable_core::http::{DurableClient, ManagementApi};
/// use durable_core::prelude::*;
/// use tower::ServiceExt;
///
/// #[orchestrator]
/// async fn place_order(_: OrchestrationContext, item: String) -> Result<String, OrchestrationError> {
///     Ok(format!("{item} is placed"))
/// }
///
/// /// Starts, and says where to look.
/// async fn order(client: DurableClient, item: String) -> Response {
///     match client.start(place_order, item).id("order-7").await {
///         Ok(handle) => client.create_check_status_response(handle.id()),
///         Err(error) => client.refusal(error),
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let worker = Worker::builder(MemoryStore::new()).register(place_order).start().await?;
/// let api = ManagementApi::new(worker.client());
/// let app = Router::new().route("/orders", post(order)).with_state(api);
///
/// let placed = Request::post("/orders").header("host", "localhost:7071").body(Body::from("a lamp"))?;
/// let answer = app.oneshot(placed).await?;
/// assert_eq!(answer.status(), StatusCode::ACCEPTED);
/// let link = answer.headers()["location"].to_str()?;
/// assert!(link.starts_with("http://localhost:7071/runtime/webhooks/durabletask/instances/order-7"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct DurableClient {
    api: ManagementApi,
    links: Links,
    /// Whether its answers show inputs.
    inputs: bool,
    /// Where the server says when it ends.
    ending: Option<Ending>,
}

/// How [`DurableClient::wait_for_completion_or_create_check_status_response`] waits.
///
/// ```
/// use durable_core::http::WaitOptions;
/// use durable_core::prelude::*;
///
/// let options = WaitOptions::default().timeout(secs(3)).failure_is_500();
/// assert_eq!((options.timeout, options.failure_is_500), (secs(3), true));
/// assert_eq!(WaitOptions::default().timeout, secs(10));
/// ```
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
    /// The same client with links that open the one instance they lead to, for these operations, for this long:
    /// its payloads and answers can be given to a browser. Where the rights do not include
    /// [`INSPECT`](LinkRights::INSPECT), its answers do not show the input either.
    ///
    /// All nine links are there; one that the rights do not include is answered with 403. They need a
    /// [signing secret](super::ManagementApiBuilder::signing_secret).
    ///
    /// ```
    /// use axum::Router;
    /// use axum::body::Body;
    /// use axum::http::{Request, StatusCode};
    /// use axum::response::{IntoResponse, Response};
    /// use axum::routing::post;
    /// use durable_core::http::{DurableClient, LinkRights, ManagementApi};
    /// use durable_core::prelude::*;
    /// use tower::ServiceExt;
    /// # #[orchestrator]
    /// # async fn place_order(_: OrchestrationContext, item: String) -> Result<(), OrchestrationError> { Ok(()) }
    ///
    /// /// Starts, and lets the browser that asked watch it and approve it for a day.
    /// async fn order(client: DurableClient, item: String) -> Response {
    ///     let Ok(client) = client.signed(LinkRights::READ | LinkRights::RAISE, days(1)) else {
    ///         return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    ///     };
    ///     match client.start(place_order, item).await {
    ///         Ok(handle) => client.create_check_status_response(handle.id()),
    ///         Err(error) => client.refusal(error),
    ///     }
    /// }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let worker = Worker::builder(MemoryStore::new()).register(place_order).start().await?;
    /// let builder = ManagementApi::builder(worker.client()).key("the key of the whole hub");
    /// let api = builder.signing_secret("32 bytes or more that nobody knows").build()?;
    /// let app = Router::new().route("/orders", post(order)).with_state(api);
    /// let answer = app.oneshot(Request::post("/orders").body(Body::from("a lamp"))?).await?;
    /// let link = answer.headers()["location"].to_str()?;
    /// assert!(link.contains("token=") && !link.contains("code="));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`] where there is no signing secret.
    pub fn signed(&self, rights: LinkRights, for_time: Duration) -> Result<Self, InvalidSetting> {
        let settings = &self.api.settings;
        let Some(secret) = settings.secrets.first() else {
            return Err(InvalidSetting::new("links cannot be signed: set a signing secret"));
        };
        let now = u64::try_from(settings.now().timestamp()).unwrap_or(0);
        let grant = Grant { rights, expires: now.saturating_add(for_time.as_secs()) };
        let opener = Opener::Signed { secret: Arc::new(secret.clone()), grant };
        let inputs = rights.contains(LinkRights::INSPECT);
        Ok(Self { links: self.links.opened_by(opener), inputs, ..self.clone() })
    }

    /// The links of an instance.
    ///
    /// ```
    /// use axum::http::Request;
    /// use axum::extract::FromRequestParts;
    /// use durable_core::http::{DurableClient, ManagementApi};
    /// use durable_core::prelude::*;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let api = ManagementApi::new(Client::new(MemoryStore::new()));
    /// # let (mut parts, ()) = Request::get("/").header("host", "localhost:7071").body(())?.into_parts();
    /// # let client = DurableClient::from_request_parts(&mut parts, &api).await?;
    /// // `client` is a handler's parameter.
    /// let links = client.check_status_payload("order-7")?;
    /// assert_eq!(links.id, "order-7");
    /// assert!(links.terminate_post_uri.contains("/instances/order-7/terminate?reason={text}"));
    /// # Ok(())
    /// # }
    /// ```
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
    ///
    /// ```
    /// use axum::Router;
    /// use axum::body::Body;
    /// use axum::http::{Request, StatusCode};
    /// use axum::response::Response;
    /// use axum::routing::get;
    /// use durable_core::http::{DurableClient, ManagementApi, WaitOptions};
    /// use durable_core::prelude::*;
    /// use tower::ServiceExt;
    /// # #[orchestrator]
    /// # async fn place_order(_: OrchestrationContext, item: String) -> Result<String, OrchestrationError> {
    /// #     Ok(format!("{item} is placed"))
    /// # }
    ///
    /// async fn wait(client: DurableClient) -> Response {
    ///     let options = WaitOptions::default().timeout(secs(5));
    ///     client.wait_for_completion_or_create_check_status_response("order-7", options).await
    /// }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let worker = Worker::builder(MemoryStore::new()).register(place_order).start().await?;
    /// let client = worker.client();
    /// client.start(place_order, "a lamp".into()).id("order-7").await?;
    /// let app = Router::new().route("/wait", get(wait)).with_state(ManagementApi::new(client));
    /// let answer = app.oneshot(Request::get("/wait").body(Body::empty())?).await?;
    /// assert_eq!(answer.status(), StatusCode::OK);
    /// let body = axum::body::to_bytes(answer.into_body(), 1024).await?;
    /// assert_eq!(body, "\"a lamp is placed\"");
    /// # Ok(())
    /// # }
    /// ```
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
        let shown = Shown { inputs: self.inputs, ..self.api.usually_shown() };
        let waiting = Waiting {
            time: options.timeout.min(self.api.settings.limits.wait),
            ending: self.ending.clone(),
            failure_is_500: options.failure_is_500,
            shown,
        };
        let answer = wait(&self.api.client, &handle, &self.links, waiting).await;
        drop(place);
        sealed(answer.unwrap_or_else(Refusal::into_response))
    }

    /// The answer of the management API to a call of the client that failed: 404 for an instance that is not
    /// there, 409 for one that is active, 503 for a busy storage, and so on.
    ///
    /// ```
    /// use axum::extract::FromRequestParts;
    /// use axum::http::{Request, StatusCode};
    /// use durable_core::http::{DurableClient, ManagementApi};
    /// use durable_core::prelude::*;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let api = ManagementApi::new(Client::new(MemoryStore::new()));
    /// # let (mut parts, ()) = Request::get("/").body(())?.into_parts();
    /// # let client = DurableClient::from_request_parts(&mut parts, &api).await?;
    /// // `client` is a handler's parameter.
    /// let error = client.instance("nobody")?.terminate("stop").await.unwrap_err();
    /// assert_eq!(client.refusal(error).status(), StatusCode::NOT_FOUND);
    /// # Ok(())
    /// # }
    /// ```
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
        let links = Links::new(base, &api.hub(), Opener::of(settings.keys.first()));
        let ending = parts.extensions.get().cloned();
        Ok(Self { api, links, inputs: true, ending })
    }
}
