//! The management API of Durable Functions over HTTP, as an [`axum::Router`] to nest in one's own.
//!
//! ```no_run
//! use axum::Router;
//! use axum::response::Response;
//! use axum::routing::post;
//! use durable_core::http::{DurableClient, ManagementApi};
//! use durable_core::prelude::*;
//!
//! #[orchestrator]
//! async fn place_order(ctx: OrchestrationContext, order: String) -> Result<String, OrchestrationError> {
//!     Ok(format!("{order} is placed"))
//! }
//!
//! /// Starts, and says where to look.
//! async fn order(client: DurableClient) -> Response {
//!     match client.start(place_order, "a lamp".into()).await {
//!         Ok(handle) => client.create_check_status_response(handle.id()),
//!         Err(error) => client.refusal(error),
//!     }
//! }
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let worker = Worker::builder(MemoryStore::new()).register(place_order).start().await?;
//! let api = ManagementApi::new(worker.client());
//! let app = Router::new()
//!     .route("/orders", post(order))
//!     .nest("/runtime/webhooks/durabletask", api.router())
//!     .merge(api.health())
//!     .with_state(api);
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:7071").await?;
//! axum::serve(listener, app).await?;
//! # Ok(()) }
//! ```

mod answer;
mod app;
mod binding;
mod body;
mod durable_client;
#[cfg(test)]
mod fuzz;
mod health;
mod host;
mod impatient;
mod json;
mod key;
mod links;
mod openapi;
mod operations;
mod path;
mod query;
mod redacted;
mod refusal;
mod request;
mod route;
mod rpc;
mod serve;
mod settings;
mod signature;
mod time;
mod token;
mod trace;
mod wire;

use std::fmt;
use std::sync::Arc;

pub use binding::{ClientBinding, CreationUrls};
pub use durable_client::{DurableClient, WaitOptions};
pub use links::CheckStatusPayload;
pub use redacted::redacted_url;
pub use rpc::RpcListener;
pub use serve::serve;
pub use settings::{HttpLimits, InvalidSetting, ManagementApiBuilder};
pub use signature::LinkRights;

use crate::Client;
use settings::Settings;

/// The management API of a hub. Cheap to clone.
///
/// It is reached by [`router`](Self::router), which is nested anywhere; by [`app`](Self::app), which has it
/// under its path in any casing, with what belongs to it; and in handlers by [`DurableClient`].
///
/// ```
/// use axum::body::Body;
/// use axum::http::{Request, StatusCode};
/// use durable_core::http::ManagementApi;
/// use durable_core::prelude::*;
/// use tower::ServiceExt;
///
/// #[orchestrator]
/// async fn greet(_: OrchestrationContext, name: String) -> Result<String, OrchestrationError> {
///     Ok(format!("Hello, {name}!"))
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let worker = Worker::builder(MemoryStore::new()).register(greet).start().await?;
/// let api = ManagementApi::builder(worker.client()).key("secret").build()?;
/// let app = api.app("127.0.0.1:7071".parse()?)?;
///
/// let start = Request::post("/runtime/webhooks/durabletask/orchestrators/greet?code=secret")
///     .header("host", "localhost:7071")
///     .body(Body::from("\"Ada\""))?;
/// assert_eq!(app.clone().oneshot(start).await?.status(), StatusCode::ACCEPTED);
///
/// let without_key = Request::post("/runtime/webhooks/durabletask/orchestrators/greet")
///     .header("host", "localhost:7071")
///     .body(Body::from("\"Ada\""))?;
/// assert_eq!(app.oneshot(without_key).await?.status(), StatusCode::UNAUTHORIZED);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ManagementApi {
    client: Client,
    settings: Arc<Settings>,
}

impl ManagementApi {
    /// With every setting at its default: no key, for requests that name a loopback host.
    ///
    /// ```
    /// use durable_core::http::ManagementApi;
    /// use durable_core::prelude::*;
    ///
    /// let api = ManagementApi::new(Client::new(MemoryStore::new()));
    /// assert_eq!(api.client().hub_name().as_str(), "default");
    /// ```
    ///
    /// # Panics
    ///
    /// Never: the defaults make sense.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self::builder(client).build().expect("the defaults make sense")
    }

    /// To be put together.
    ///
    /// ```
    /// use durable_core::http::ManagementApi;
    /// use durable_core::prelude::*;
    ///
    /// let client = Client::new(MemoryStore::new());
    /// let api = ManagementApi::builder(client).key("secret").default_version("2").build()?;
    /// # Ok::<(), durable_core::http::InvalidSetting>(())
    /// ```
    pub fn builder(client: Client) -> ManagementApiBuilder {
        ManagementApiBuilder::new(client)
    }

    /// The client that it speaks to.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    fn hub(&self) -> String {
        self.client.hub_name().to_string()
    }
}

impl fmt::Debug for ManagementApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManagementApi")
            .field("client", &self.client)
            .field("path", &self.settings.path)
            .field("keys", &self.settings.keys.len())
            .field("signing", &self.settings.secrets.len())
            .field("limits", &self.settings.limits)
            .finish_non_exhaustive()
    }
}
