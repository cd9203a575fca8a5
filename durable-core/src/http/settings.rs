//! Putting the API together: everything that is wrong is said before it serves.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::Semaphore;

use super::ManagementApi;
use super::health::MetricsText;
use super::host::{Hosts, PublicUrl};
use super::key::Key;
use super::rpc::RpcListener;
use super::signature::Secret;
use crate::Client;

/// Where the API is mounted in a host of Durable Functions, and by default.
const USUAL_PATH: &str = "/runtime/webhooks/durabletask";

/// Keys that open at once: the present one, and the one before or after it.
const KEYS_MAX: usize = 2;

/// Secrets that verify at once.
const SECRETS_MAX: usize = 2;

/// Bytes of a secret: as many as its signatures have. Source: RFC 2104, section 3.
const SECRET_BYTES_MIN: usize = 32;

/// What the API takes at most.
///
/// ```
/// use durable_core::http::HttpLimits;
/// use durable_core::prelude::*;
///
/// let limits = HttpLimits::default();
/// assert_eq!((limits.body_bytes, limits.page), (1024 * 1024, 1000));
/// assert_eq!((limits.body_time, limits.wait), (secs(30), hours(1)));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpLimits {
    /// Bytes of a body; beyond it 413. Default 1 MiB.
    pub body_bytes: usize,
    /// Bytes of a body on the mount of the client libraries; beyond it 413. Default 64 MiB. No payload may be
    /// larger than 16 MiB.
    pub rpc_body_bytes: usize,
    /// How long a body may take to arrive; beyond it 408. Default 30 s.
    pub body_time: Duration,
    /// Bytes of path and query; beyond it 414. Default 16 KiB.
    pub url_bytes: usize,
    /// Bytes of all headers; beyond it 431. Default 32 KiB.
    pub header_bytes: usize,
    /// Instances on one page of a list: who asks for more gets as many, and a token. Default 1000.
    pub page: usize,
    /// Requests that wait for an instance at once; beyond it 503. Default 1000.
    pub waiting: usize,
    /// How long a request may wait for an instance: who asks for more is answered then, with the links.
    /// Default one hour.
    pub wait: Duration,
    /// Connections at once, where [`serve`](super::serve) or an [`RpcListener`] has the listener; the next one
    /// waits until one is closed. Default 2000.
    pub connections: usize,
    /// How long the head of a request may take there, the wait for its beginning included; then the connection
    /// is closed. Default 30 s.
    pub header_time: Duration,
    /// How long the other side may take nothing of an answer there; then the connection is closed. Default 30 s.
    pub answer_time: Duration,
    /// How long requests under way are waited for there, when it ends; those that wait for an instance are
    /// answered with its links then. Default 5 s.
    pub closing: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            body_bytes: 1024 * 1024,
            rpc_body_bytes: 64 * 1024 * 1024,
            body_time: Duration::from_secs(30),
            url_bytes: 16 * 1024,
            header_bytes: 32 * 1024,
            page: 1000,
            waiting: 1000,
            wait: Duration::from_secs(60 * 60),
            connections: 2000,
            header_time: Duration::from_secs(30),
            answer_time: Duration::from_secs(30),
            closing: Duration::from_secs(5),
        }
    }
}

/// A setting that makes no sense, or would be unsafe.
///
/// ```
/// use durable_core::http::ManagementApi;
/// use durable_core::prelude::*;
///
/// let wrong = ManagementApi::builder(Client::new(MemoryStore::new())).public_url("example.org").build();
/// assert!(wrong.unwrap_err().to_string().contains("is not http(s)://host"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidSetting(String);

impl InvalidSetting {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

/// Collects the settings of a [`ManagementApi`]. Every one has a default.
///
/// ```
/// use durable_core::http::ManagementApi;
/// use durable_core::prelude::*;
///
/// let client = Client::new(MemoryStore::new());
/// let api = ManagementApi::builder(client)
///     .path("/durable")
///     .public_url("https://example.org/durable")
///     .key("the new one")
///     .key("the old one")
///     .orchestrators(["place_order", "Ship"])
///     .limits(|limits| limits.page = 200)
///     .build()?;
/// let binding = api.client_binding();
/// assert_eq!(binding.base_url, "https://example.org/durable");
/// assert_eq!(binding.required_query_string_parameters, "code=the%20new%20one");
/// # Ok::<(), durable_core::http::InvalidSetting>(())
/// ```
#[must_use = "an API serves after `build`"]
pub struct ManagementApiBuilder {
    client: Client,
    settings: Settings,
    public_url: Option<String>,
    keys: Vec<String>,
    secrets: Vec<Vec<u8>>,
    limits: HttpLimits,
}

type Clock = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

/// What every request needs.
pub(super) struct Settings {
    pub(super) path: String,
    pub(super) hosts: Hosts,
    pub(super) keys: Vec<Key>,
    pub(super) secrets: Vec<Secret>,
    clock: Clock,
    pub(super) limits: HttpLimits,
    pub(super) waiting: Arc<Semaphore>,
    pub(super) orchestrators: Option<Vec<String>>,
    pub(super) default_version: Option<String>,
    pub(super) replaces_active: bool,
    pub(super) activity_inputs: bool,
    pub(super) metrics: Option<MetricsText>,
    /// Where client libraries are served on a port of their own.
    pub(super) rpc: Option<SocketAddr>,
}

impl Settings {
    /// The time by which links expire.
    pub(super) fn now(&self) -> DateTime<Utc> {
        (self.clock)()
    }
}

impl ManagementApiBuilder {
    pub(super) fn new(client: Client) -> Self {
        let limits = HttpLimits::default();
        let settings = Settings {
            path: USUAL_PATH.to_owned(),
            hosts: Hosts::default(),
            keys: Vec::new(),
            secrets: Vec::new(),
            clock: Arc::new(Utc::now),
            waiting: Arc::new(Semaphore::new(limits.waiting)),
            limits: limits.clone(),
            orchestrators: None,
            default_version: None,
            replaces_active: false,
            activity_inputs: false,
            metrics: None,
            rpc: None,
        };
        Self { client, settings, public_url: None, keys: Vec::new(), secrets: Vec::new(), limits }
    }

    /// Where the router is nested, for links that are made elsewhere: in handlers of the program's own, and in
    /// [`rpc_router`](ManagementApi::rpc_router). Default
    /// `/runtime/webhooks/durabletask`.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.settings.path = path.into();
        self
    }

    /// The URL under which the API is reached from outside, its path included: all links begin with it.
    ///
    /// Without it links lead to the host that a request names, if that is a loopback one or the
    /// [`listen`](Self::listen) address, and to the listen address otherwise.
    ///
    /// ```
    /// use durable_core::http::ManagementApi;
    /// use durable_core::prelude::*;
    ///
    /// let client = Client::new(MemoryStore::new());
    /// let api = ManagementApi::builder(client).public_url("https://example.org/durable").build()?;
    /// assert_eq!(api.client_binding().base_url, "https://example.org/durable");
    /// # Ok::<(), durable_core::http::InvalidSetting>(())
    /// ```
    pub fn public_url(mut self, url: impl Into<String>) -> Self {
        self.public_url = Some(url.into());
        self
    }

    /// The address that the program listens on.
    ///
    /// ```
    /// use durable_core::http::ManagementApi;
    /// use durable_core::prelude::*;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = Client::new(MemoryStore::new());
    /// let api = ManagementApi::builder(client).listen("127.0.0.1:8080".parse()?).path("/durable").build()?;
    /// assert_eq!(api.client_binding().base_url, "http://127.0.0.1:8080/durable");
    /// # Ok(())
    /// # }
    /// ```
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.settings.hosts.listen = Some(address);
        self
    }

    /// The port that client libraries of other languages have for themselves: the [document for
    /// them](ManagementApi::client_binding) leads there, and [`app`](ManagementApi::app) has no routes for them.
    pub fn rpc_port(mut self, rpc: &RpcListener) -> Self {
        self.settings.rpc = Some(rpc.address());
        self
    }

    /// A key that callers have to show, as `code` in the query or in the header `x-functions-key`. A second
    /// one opens, too: so keys can be changed one after the other. Links have the key that was shown, or the
    /// first.
    ///
    /// Without a key only requests that name a host of this server are served: a page of another site cannot
    /// reach it under a name of its own.
    ///
    /// ```
    /// use axum::body::Body;
    /// use axum::http::{Request, StatusCode};
    /// use durable_core::http::ManagementApi;
    /// use durable_core::prelude::*;
    /// use tower::ServiceExt;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let builder = ManagementApi::builder(Client::new(MemoryStore::new()));
    /// let app = builder.key("the new one").key("the-old-one").build()?.app("127.0.0.1:7071".parse()?)?;
    ///
    /// let list = || Request::get("/runtime/webhooks/durabletask/instances").header("host", "localhost:7071");
    /// let shown = list().header("x-functions-key", "the-old-one").body(Body::empty())?;
    /// assert_eq!(app.clone().oneshot(shown).await?.status(), StatusCode::OK);
    /// let none = list().body(Body::empty())?;
    /// assert_eq!(app.oneshot(none).await?.status(), StatusCode::UNAUTHORIZED);
    /// # Ok(())
    /// # }
    /// ```
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.keys.push(key.into());
        self
    }

    /// A secret that signs links for one instance each: see
    /// [`DurableClient::signed`](super::DurableClient::signed). At least 32 bytes that nobody can guess, and no
    /// key. A second one verifies, too: so secrets can be changed one after the other, and links that were signed
    /// before go on. The first signs.
    ///
    /// Whoever knows it can make links to any instance of the hub.
    ///
    /// ```
    /// use axum::extract::FromRequestParts;
    /// use axum::http::Request;
    /// use durable_core::http::{DurableClient, LinkRights, ManagementApi};
    /// use durable_core::prelude::*;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let builder = ManagementApi::builder(Client::new(MemoryStore::new()));
    /// let api = builder.signing_secret("32 bytes or more that nobody knows").build()?;
    /// # let (mut parts, ()) = Request::get("/").body(())?.into_parts();
    /// # let client = DurableClient::from_request_parts(&mut parts, &api).await?;
    /// // `client` is a handler's parameter.
    /// let links = client.signed(LinkRights::READ, hours(1))?.check_status_payload("order-7")?;
    /// assert!(links.status_query_get_uri.contains("token="));
    ///
    /// let short = ManagementApi::builder(Client::new(MemoryStore::new())).signing_secret("short");
    /// assert!(short.build().is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn signing_secret(mut self, secret: impl Into<Vec<u8>>) -> Self {
        self.secrets.push(secret.into());
        self
    }

    /// The clock by which signed links expire, for tests. Default the machine's.
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    /// use axum::Router;
    /// use axum::body::Body;
    /// use axum::extract::FromRequestParts;
    /// use axum::http::{Request, StatusCode};
    /// use durable_core::http::{DurableClient, LinkRights, ManagementApi};
    /// use durable_core::prelude::*;
    /// use tower::ServiceExt;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = Client::new(MemoryStore::new());
    /// client.start_by_name("order", &7).id("order-7").await?;
    /// let now = Arc::new(Mutex::new(chrono::Utc::now()));
    /// let clock = { let now = now.clone(); move || *now.lock().unwrap() };
    /// let builder = ManagementApi::builder(client).path("").key("secret").clock(clock);
    /// let api = builder.signing_secret("32 bytes or more that nobody knows").build()?;
    /// # let (mut parts, ()) = Request::get("/").header("host", "localhost").body(())?.into_parts();
    /// # let handler = DurableClient::from_request_parts(&mut parts, &api).await?;
    /// // `handler` is a handler's parameter.
    /// let links = handler.signed(LinkRights::READ, hours(1))?.check_status_payload("order-7")?;
    ///
    /// let app: Router = api.router();
    /// let look = || Request::get(&links.status_query_get_uri).header("host", "localhost").body(Body::empty());
    /// assert_eq!(app.clone().oneshot(look()?).await?.status(), StatusCode::ACCEPTED);
    /// *now.lock().unwrap() += hours(2);
    /// assert_eq!(app.oneshot(look()?).await?.status(), StatusCode::UNAUTHORIZED);
    /// # Ok(())
    /// # }
    /// ```
    pub fn clock(mut self, now: impl Fn() -> DateTime<Utc> + Send + Sync + 'static) -> Self {
        self.settings.clock = Arc::new(now);
        self
    }

    /// The orchestrators that may be started; any other name is refused and nothing is stored.
    ///
    /// By default the live workers of the hub are asked for their names, which takes any while there is no
    /// worker at all.
    ///
    /// ```
    /// use axum::Router;
    /// use axum::body::Body;
    /// use axum::http::{Request, StatusCode};
    /// use durable_core::http::ManagementApi;
    /// use durable_core::prelude::*;
    /// use tower::ServiceExt;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let api = ManagementApi::builder(Client::new(MemoryStore::new())).orchestrators(["greet"]).build()?;
    /// let app: Router = api.router();
    /// let start = |name: &str| {
    ///     Request::post(format!("/orchestrators/{name}")).header("host", "localhost").body(Body::from("7"))
    /// };
    /// assert_eq!(app.clone().oneshot(start("greet")?).await?.status(), StatusCode::ACCEPTED);
    /// assert_eq!(app.oneshot(start("other")?).await?.status(), StatusCode::BAD_REQUEST);
    /// # Ok(())
    /// # }
    /// ```
    pub fn orchestrators(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.settings.orchestrators = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// The version of instances that are started without one. Default none.
    ///
    /// ```
    /// use axum::Router;
    /// use axum::body::Body;
    /// use axum::http::Request;
    /// use durable_core::http::ManagementApi;
    /// use durable_core::prelude::*;
    /// use tower::ServiceExt;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = Client::new(MemoryStore::new());
    /// let app: Router = ManagementApi::builder(client.clone()).default_version("2").build()?.router();
    /// let start = Request::post("/orchestrators/order/order-7").header("host", "localhost").body(Body::from("7"))?;
    /// app.oneshot(start).await?;
    /// assert_eq!(client.status("order-7").await?.unwrap().version(), Some("2"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn default_version(mut self, version: impl Into<String>) -> Self {
        self.settings.default_version = Some(version.into());
        self
    }

    /// A start under the id of an active instance terminates and replaces it. By default such a start is
    /// refused, and only ended instances are replaced.
    ///
    /// ```
    /// use axum::Router;
    /// use axum::body::Body;
    /// use axum::http::{Request, StatusCode};
    /// use durable_core::http::ManagementApi;
    /// use durable_core::prelude::*;
    /// use tower::ServiceExt;
    /// # #[orchestrator]
    /// # async fn monitor(ctx: OrchestrationContext, target: u32) -> Result<(), OrchestrationError> {
    /// #     Ok(ctx.wait_event("end").await?)
    /// # }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let worker = Worker::builder(MemoryStore::new()).register(monitor).start().await?;
    /// let client = worker.client();
    /// let first = client.start(monitor, 7).id("monitor-7").await?;
    /// # first.wait_until(|status| status.runtime_status() == RuntimeStatus::Running).await?;
    /// let start = || {
    ///     Request::post("/orchestrators/monitor/monitor-7").header("host", "localhost").body(Body::from("8"))
    /// };
    /// let usual: Router = ManagementApi::new(client.clone()).router();
    /// assert_eq!(usual.oneshot(start()?).await?.status(), StatusCode::CONFLICT);
    ///
    /// let replacing: Router = ManagementApi::builder(client).replace_active().build()?.router();
    /// assert_eq!(replacing.oneshot(start()?).await?.status(), StatusCode::ACCEPTED);
    /// # Ok(())
    /// # }
    /// ```
    pub fn replace_active(mut self) -> Self {
        self.settings.replaces_active = true;
        self
    }

    /// Histories show the inputs of activities. By default they are null there, as in Durable Functions.
    pub fn show_activity_inputs(mut self) -> Self {
        self.settings.activity_inputs = true;
        self
    }

    /// Text in the format of Prometheus that `/metrics` shows behind its own, such as what an exporter of the
    /// `metrics` crate renders.
    ///
    /// ```
    /// use axum::Router;
    /// use axum::body::Body;
    /// use axum::http::Request;
    /// use durable_core::http::ManagementApi;
    /// use durable_core::prelude::*;
    /// use tower::ServiceExt;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let builder = ManagementApi::builder(Client::new(MemoryStore::new()));
    /// let app: Router = builder.metrics(|| "orders_open 7\n".into()).build()?.health();
    /// let ask = Request::get("/metrics").header("host", "localhost").body(Body::empty())?;
    /// let answer = app.oneshot(ask).await?;
    /// let text = axum::body::to_bytes(answer.into_body(), 64 * 1024).await?;
    /// assert!(String::from_utf8_lossy(&text).contains("orders_open 7\n"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn metrics(mut self, text: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.settings.metrics = Some(Arc::new(text));
        self
    }

    /// What is taken at most.
    ///
    /// ```
    /// use durable_core::http::ManagementApi;
    /// use durable_core::prelude::*;
    ///
    /// let client = Client::new(MemoryStore::new());
    /// let api = ManagementApi::builder(client).limits(|limits| limits.waiting = 50).build()?;
    ///
    /// let client = api.client().clone();
    /// assert!(ManagementApi::builder(client).limits(|limits| limits.page = 0).build().is_err());
    /// # Ok::<(), durable_core::http::InvalidSetting>(())
    /// ```
    pub fn limits(mut self, set: impl FnOnce(&mut HttpLimits)) -> Self {
        set(&mut self.limits);
        self
    }

    /// The API.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`] says which setting makes no sense.
    pub fn build(self) -> Result<ManagementApi, InvalidSetting> {
        let Self { client, mut settings, public_url, keys, secrets, limits } = self;
        let wrong = |what: String| Err(InvalidSetting(what));
        if let Some(url) = public_url {
            let Some(parsed) = PublicUrl::parse(&url) else {
                return wrong(format!("public_url {url:?} is not http(s)://host[:port][/path]"));
            };
            settings.hosts.public = Some(parsed);
        }
        if keys.len() > KEYS_MAX {
            return wrong(format!(
                "there are {} keys; at most {KEYS_MAX} open at once",
                keys.len()
            ));
        }
        if keys.iter().any(|key| key.trim().is_empty()) {
            return wrong("a key must not be blank".into());
        }
        if secrets.len() > SECRETS_MAX {
            return wrong(format!(
                "there are {} signing secrets; at most {SECRETS_MAX} verify at once",
                secrets.len()
            ));
        }
        if secrets.iter().any(|secret| secret.len() < SECRET_BYTES_MIN) {
            return wrong(format!("a signing secret has at least {SECRET_BYTES_MIN} bytes"));
        }
        if secrets.iter().any(|secret| keys.iter().any(|key| key.as_bytes() == secret)) {
            return wrong("a signing secret must not be a key".into());
        }
        let path = settings.path.trim_end_matches('/');
        if !(path.is_empty() || path.starts_with('/')) || path.contains(['?', '#', '{', '}']) {
            return wrong(format!("path {path:?} is not the path of a URL"));
        }
        settings.path = path.to_owned();
        if limits.page == 0 {
            return wrong("a page has at least one instance".into());
        }
        if limits.connections == 0 {
            return wrong("a listener has at least one connection".into());
        }
        settings.secrets = secrets.iter().filter_map(|secret| Secret::new(secret)).collect();
        settings.keys = keys.into_iter().map(Key::new).collect();
        settings.waiting = Arc::new(Semaphore::new(limits.waiting.min(Semaphore::MAX_PERMITS)));
        settings.limits = limits;
        Ok(ManagementApi { client, settings: Arc::new(settings) })
    }
}

impl fmt::Debug for ManagementApiBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManagementApiBuilder")
            .field("path", &self.settings.path)
            .field("keys", &self.keys.len())
            .field("signing", &self.secrets.len())
            .finish_non_exhaustive()
    }
}
