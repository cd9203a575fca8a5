//! How requests come in.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{OriginalUri, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;

use super::request::Mount;
use super::settings::InvalidSetting;
use super::{ManagementApi, answer};
use crate::http::refusal::Refusal;

/// Where the client libraries of other languages look.
pub(super) const RPC_PATH: &str = "/durabletask";

impl ManagementApi {
    /// The routes, to be nested under any path:
    /// `.nest("/runtime/webhooks/durabletask", api.router())`.
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
    /// let api = ManagementApi::new(Client::new(MemoryStore::new()));
    /// let app: Router = Router::new().nest("/durable", api.router());
    ///
    /// let nobody = Request::get("/durable/instances/nobody").header("host", "localhost").body(Body::empty())?;
    /// assert_eq!(app.oneshot(nobody).await?.status(), StatusCode::NOT_FOUND);
    /// # Ok(())
    /// # }
    /// ```
    pub fn router<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        self.mounted(Mount::Public)
    }

    /// The same routes as client libraries of other languages use them from this machine: no key is asked for,
    /// larger bodies are taken, and only requests that name a loopback host are served. Links in its answers lead
    /// to the [`path`](super::ManagementApiBuilder::path) of the other routes, with the first key. Nest it only
    /// where no other machine gets through: `.nest("/durabletask", api.rpc_router())`.
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
    /// let api = ManagementApi::builder(Client::new(MemoryStore::new())).key("secret").build()?;
    /// let app: Router = Router::new().nest("/durabletask", api.rpc_router());
    ///
    /// // From this machine no key is asked for.
    /// let list = |host| Request::get("/durabletask/instances").header("host", host).body(Body::empty());
    /// assert_eq!(app.clone().oneshot(list("127.0.0.1:7071")?).await?.status(), StatusCode::OK);
    /// assert_ne!(app.oneshot(list("example.org")?).await?.status(), StatusCode::OK);
    /// # Ok(())
    /// # }
    /// ```
    pub fn rpc_router<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        self.mounted(Mount::Rpc)
    }

    /// All there is, for a listener of its own at this address: the routes under their
    /// [`path`](super::ManagementApiBuilder::path), in any casing; [`health`](Self::health); and, on a loopback
    /// address, those of [`rpc_router`](Self::rpc_router) under `/durabletask`, unless they have a [port of their
    /// own](super::ManagementApiBuilder::rpc_port).
    ///
    /// Other routes go in front of it: `Router::new().route(…).fallback_service(api.app(address)?)`.
    ///
    /// ```
    /// use durable_core::http::ManagementApi;
    /// use durable_core::prelude::*;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = Client::new(MemoryStore::new());
    /// let api = ManagementApi::new(client.clone());
    /// assert!(api.app("127.0.0.1:7071".parse()?).is_ok());
    ///
    /// // Whom other machines reach needs a key.
    /// assert!(api.app("0.0.0.0:7071".parse()?).is_err());
    /// let api = ManagementApi::builder(client).key("secret").build()?;
    /// assert!(api.app("0.0.0.0:7071".parse()?).is_ok());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`] where other machines reach the address and no key is asked for.
    pub fn app(&self, listen: SocketAddr) -> Result<Router, InvalidSetting> {
        let local = listen.ip().is_loopback();
        if !local && self.settings.keys.is_empty() {
            return Err(InvalidSetting::new(format!(
                "other machines reach {listen}, and no key is asked for: set one, or listen on a \
                 loopback address"
            )));
        }
        let mut mounts = vec![(self.settings.path.clone(), Mount::Public)];
        if local && self.settings.rpc.is_none() {
            mounts.push((RPC_PATH.to_owned(), Mount::Rpc));
        }
        Ok(Router::new().merge(self.health()).merge(self.serving(mounts)))
    }

    /// What a port of their own has for client libraries of other languages, and nothing else.
    pub(super) fn rpc_app(&self) -> Router {
        self.serving(vec![(RPC_PATH.to_owned(), Mount::Rpc)])
    }

    /// The routes under each of these bases, in any casing.
    fn serving(&self, mounts: Vec<(String, Mount)>) -> Router {
        let (api, mounts) = (self.clone(), Arc::new(mounts));
        let serve = move |request: Request| {
            let (api, mounts) = (api.clone(), Arc::clone(&mounts));
            async move {
                let path = request.uri().path();
                let below = |(base, mount): &(String, Mount)| {
                    below(path, base).map(|below| (below.to_owned(), *mount))
                };
                match mounts.iter().find_map(below) {
                    Some((below, mount)) => {
                        let uri = request.uri().clone();
                        api.serve(mount, &below, uri, request).await
                    }
                    None => sealed(Refusal::NotFound.into_response()),
                }
            }
        };
        Router::new().fallback(serve)
    }

    fn mounted<S: Clone + Send + Sync + 'static>(&self, mount: Mount) -> Router<S> {
        let serve = any(
            move |State(api): State<Self>, OriginalUri(uri): OriginalUri, request: Request| async move {
                let below = request.uri().path().to_owned();
                api.serve(mount, &below, uri, request).await
            },
        );
        Router::new().route("/", serve.clone()).route("/{*rest}", serve).with_state(self.clone())
    }
}

/// What of a path stands behind a base, which may have any casing.
fn below<'a>(path: &'a str, base: &str) -> Option<&'a str> {
    let (head, rest) = path.split_at_checked(base.len())?;
    let within = rest.is_empty() || rest.starts_with('/');
    (within && head.eq_ignore_ascii_case(base)).then_some(rest)
}

pub(super) fn sealed(mut response: Response) -> Response {
    answer::seal(response.headers_mut());
    response
}

#[cfg(test)]
mod tests {
    use super::below;

    #[test]
    fn a_base_has_any_casing_and_ends_with_a_segment() {
        let base = "/runtime/webhooks/durabletask";
        for (path, rest) in [
            ("/runtime/webhooks/durableTask/instances", Some("/instances")),
            ("/RUNTIME/webhooks/durabletask", Some("")),
            ("/runtime/webhooks/durabletasks", None),
            ("/runtime/webhooks", None),
            ("/", None),
            ("/runtime/webhooks/durabletasé", None),
        ] {
            assert_eq!(below(path, base), rest, "{path}");
        }
        assert_eq!(below("/instances", ""), Some("/instances"));
    }
}
