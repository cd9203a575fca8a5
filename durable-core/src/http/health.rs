//! Whether the program lives, whether it can serve, and what it counts.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;

use super::app::sealed;
use super::query::Query;
use super::refusal::Refusal;
use super::request::Mount;
use super::{ManagementApi, answer};
use crate::ClientError;

/// Further text of `/metrics`.
pub(super) type MetricsText = Arc<dyn Fn() -> String + Send + Sync>;

/// How long the storage may take to answer before the hub counts as not ready.
const READY_TIME: Duration = Duration::from_secs(5);

/// An instance that is asked for to see whether the storage answers. Whether it exists does not matter.
const PROBE: &str = "readyz";

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Health {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

impl ManagementApi {
    /// The routes `/healthz`, `/readyz` and `/metrics`, each for GET and HEAD, to be merged at the top.
    ///
    /// `/healthz` is 200 while the program answers at all. `/readyz` is 200 while the storage can be reached and
    /// every loop of the worker in this process runs, and 503 otherwise. `/metrics` asks for the key where there
    /// is one, and counts the instances by their status.
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
    /// let worker = Worker::builder(MemoryStore::new()).start().await?;
    /// let app: Router = ManagementApi::new(worker.client()).health();
    /// for path in ["/healthz", "/readyz", "/metrics"] {
    ///     let ask = Request::get(path).header("host", "localhost").body(Body::empty())?;
    ///     assert_eq!(app.clone().oneshot(ask).await?.status(), StatusCode::OK);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn health<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        Router::new()
            .route("/healthz", get(async || told(StatusCode::OK, "ok", None)).fallback(nothing))
            .route("/readyz", get(ready).fallback(nothing))
            .route("/metrics", get(metrics).fallback(nothing))
            .with_state(self.clone())
    }
}

fn told(code: StatusCode, status: &'static str, reason: Option<&'static str>) -> Response {
    sealed(answer::json(code, &Health { status, reason }))
}

/// By any other verb.
async fn nothing() -> Response {
    sealed(Refusal::NotFound.into_response())
}

async fn ready(State(api): State<ManagementApi>) -> Response {
    let unready = |reason| told(StatusCode::SERVICE_UNAVAILABLE, "unready", Some(reason));
    if api.client.worker_serves() == Some(false) {
        return unready("the worker does not serve every partition that it should");
    }
    match tokio::time::timeout(READY_TIME, api.client.status(PROBE)).await {
        Ok(Ok(_)) => told(StatusCode::OK, "ready", None),
        Ok(Err(error)) => {
            tracing::warn!(%error, "the storage cannot be asked");
            unready("the storage cannot be asked")
        }
        Err(_) => unready("the storage does not answer"),
    }
}

async fn metrics(State(api): State<ManagementApi>, request: Request) -> Response {
    let counted = match check(&api, &request) {
        Ok(()) => text(&api).await.map_err(Refusal::from),
        Err(refusal) => Err(refusal),
    };
    sealed(match counted {
        Ok(text) => {
            let mut response = Response::new(Body::from(text));
            response.headers_mut().insert(header::CONTENT_TYPE, TEXT);
            response
        }
        Err(refusal) => refusal.into_response(),
    })
}

/// Counts are for those for whom the routes of the API are.
fn check(api: &ManagementApi, request: &Request) -> Result<(), Refusal> {
    let (headers, uri) = (request.headers(), request.uri());
    api.check_sender(Mount::Public, request.method(), headers, uri)?;
    api.check_key(headers, &Query::parse(uri.query().unwrap_or_default()))?;
    Ok(())
}

async fn text(api: &ManagementApi) -> Result<String, ClientError> {
    let mut text = String::from(
        "# HELP durable_instances Instances of the hub by status.\n# TYPE durable_instances gauge\n",
    );
    let hub = api.hub();
    for (status, count) in api.client.counts().await? {
        let _ = writeln!(text, "durable_instances{{hub=\"{hub}\",status=\"{status}\"}} {count}");
    }
    if let Some(more) = &api.settings.metrics {
        text += &more();
    }
    Ok(text)
}
