//! A hub in memory, its worker, and the API in front of them.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::FromRequestParts as _;
use axum::http::{HeaderMap, Method, Request};
use axum::response::Response;
use durable_core::http::{
    CheckStatusPayload, DurableClient, LinkRights, ManagementApi, ManagementApiBuilder,
};
use durable_core::prelude::*;
use durable_core::store::Store;
use durable_core::{InstanceStatus, MemoryStore};
use serde_json::Value;
use tower::ServiceExt as _;

use super::document;
use super::functions::{Cause, registry_with};

/// Where the routes are mounted.
pub(crate) const BASE: &str = "/runtime/webhooks/durabletask";

/// Where the server is reached.
pub(crate) const HOST: &str = "127.0.0.1:7071";

const PATIENCE: Duration = secs(30);

pub(crate) struct Server {
    worker: Worker,
    pub(crate) client: Client,
    /// Why `FailingUntil` fails.
    pub(crate) cause: Cause,
    pub(crate) api: ManagementApi,
    app: Router,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(|api| api).await
    }

    /// With other settings than the usual ones.
    pub(crate) async fn with(
        set: impl FnOnce(ManagementApiBuilder) -> ManagementApiBuilder,
    ) -> Self {
        Self::on(MemoryStore::new(), set).await
    }

    pub(crate) async fn on(
        store: impl Store,
        set: impl FnOnce(ManagementApiBuilder) -> ManagementApiBuilder,
    ) -> Self {
        let cause = Cause::default();
        let registry = registry_with(cause.clone());
        let worker = Worker::builder(store).registry(registry).start().await.expect("it starts");
        let api = set(ManagementApi::builder(worker.client())).build().expect("it makes sense");
        let app = api.app(address()).expect("it is safe");
        Self { client: worker.client(), worker, cause, api, app }
    }

    /// Ends its worker; what is in the store stays.
    pub(crate) async fn stop(self) {
        self.worker.shutdown().await.expect("it ends");
    }

    /// A request to the routes below the base.
    pub(crate) async fn call(&self, verb: &str, path: &str, body: impl Into<Body>) -> Answer {
        self.call_with(verb, path, &[], body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, Body::empty()).await
    }

    pub(crate) async fn post(&self, path: &str) -> Answer {
        self.call("POST", path, Body::empty()).await
    }

    pub(crate) async fn call_with(
        &self,
        verb: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        self.send(request(verb, &format!("{BASE}{path}"), headers, body)).await
    }

    /// A request to any path.
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        Answer::of(self.app.clone(), request).await
    }

    /// A request to a link that an answer gave.
    pub(crate) async fn follow(&self, verb: &str, link: &str, body: impl Into<Body>) -> Answer {
        let path = link.strip_prefix(&format!("http://{HOST}")).expect("a link to this server");
        self.send(request(verb, path, &[("content-type", "application/json")], body)).await
    }

    /// The client as a handler has it.
    pub(crate) async fn client_of_handler(&self) -> DurableClient {
        let (mut parts, _) = request("GET", "/", &[], Body::empty()).into_parts();
        DurableClient::from_request_parts(&mut parts, &self.api).await.expect("it never fails")
    }

    /// The token of a link to this instance, signed for so long.
    pub(crate) async fn token(&self, id: &str, rights: LinkRights, time: Duration) -> String {
        let client = self.client_of_handler().await.signed(rights, time).expect("a secret");
        token_of(&client.check_status_payload(id).expect("an id"))
    }

    /// Starts an orchestrator, by the client.
    pub(crate) async fn begin(&self, name: &str, id: &str, input: Value) {
        self.client.start_by_name(name, &input).id(id).await.expect("it starts");
    }

    /// Waits until the status of an id is as wanted, whoever starts it and however often.
    pub(crate) async fn eventually(
        &self,
        id: &str,
        wanted: impl Fn(&InstanceStatus) -> bool,
    ) -> InstanceStatus {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let status = self.client.status(id).await.expect("it can be read");
            if let Some(status) = status.filter(&wanted) {
                return status;
            }
            assert!(tokio::time::Instant::now() < end, "in vain: {id}");
            tokio::time::sleep(millis(2)).await;
        }
    }

    /// Waits until the status of an instance is as wanted.
    pub(crate) async fn until(
        &self,
        id: &str,
        wanted: impl Fn(&InstanceStatus) -> bool,
    ) -> InstanceStatus {
        let handle = self.client.instance(id).expect("an id");
        handle.wait_until_within(PATIENCE, wanted).await.expect("it comes to that")
    }

    pub(crate) async fn until_is(&self, id: &str, status: RuntimeStatus) -> InstanceStatus {
        self.until(id, |now| now.runtime_status() == status).await
    }

    pub(crate) async fn until_ended(&self, id: &str) -> InstanceStatus {
        self.client.instance(id).expect("an id").wait().await.expect("it ends")
    }
}

pub(crate) fn token_of(links: &CheckStatusPayload) -> String {
    let (_, token) = links.status_query_get_uri.rsplit_once("&token=").expect("a token");
    token.to_owned()
}

pub(crate) fn address() -> SocketAddr {
    HOST.parse().expect("an address")
}

pub(crate) fn request(
    verb: &str,
    uri: &str,
    headers: &[(&str, &str)],
    body: impl Into<Body>,
) -> Request<Body> {
    let mut request =
        Request::builder().method(Method::from_bytes(verb.as_bytes()).expect("a verb")).uri(uri);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", HOST);
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body.into()).expect("a request")
}

/// What came back, of which all that holds for every answer is checked.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) async fn of(app: Router, request: Request<Body>) -> Self {
        let asked = format!("{} {}", request.method(), request.uri());
        let (verb, path) = (request.method().to_string(), request.uri().path().to_owned());
        let response = app.oneshot(request).await.expect("a router always answers");
        let answer = Self::read(&asked, response).await;
        document::check(&verb, &path, &answer);
        answer
    }

    /// What a handler answers.
    pub(crate) async fn from(response: Response) -> Self {
        Self::read("a handler", response).await
    }

    async fn read(asked: &str, response: Response) -> Self {
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.expect("a whole body");
        let body = String::from_utf8(body.to_vec()).expect("a text");
        let answer = Self { status: parts.status.as_u16(), headers: parts.headers, body };
        answer.check(asked);
        answer
    }

    fn check(&self, asked: &str) {
        assert_eq!(self.header("cache-control"), Some("no-store"), "{asked}: {self:?}");
        assert_eq!(self.header("access-control-allow-origin"), None, "{asked}: {self:?}");
        assert_eq!(self.header("referrer-policy"), Some("no-referrer"), "{asked}: {self:?}");
        if asked.starts_with("HEAD") {
            return assert_eq!(self.body, "", "{asked}");
        }
        if self.body.is_empty() {
            assert_eq!(self.header("content-type"), None, "{asked}: {self:?}");
            assert_ne!(self.status, 200, "{asked}: {self:?}");
        } else if self.header("content-type") != Some("text/plain; version=0.0.4; charset=utf-8") {
            let json = serde_json::from_str::<Value>(&self.body);
            assert!(json.is_ok(), "{asked}: {self:?}");
            let expected = Some("application/json; charset=utf-8");
            assert_eq!(self.header("content-type"), expected, "{asked}: {self:?}");
        }
        match self.status {
            404 if asked.starts_with("POST") && asked.to_lowercase().contains("/rewind") => {
                let told = self.body.is_empty() || self.json().is_string();
                assert!(told, "{asked}: {self:?}");
            }
            404 | 410 | 401 => assert_eq!(self.body, "", "{asked}"),
            400 if self.json().is_object() => {
                for member in ["Message", "ExceptionMessage"] {
                    assert!(self.json()[member].is_string(), "{asked}: {self:?}");
                }
            }
            403 => assert!(self.json()["Message"].is_string(), "{asked}: {self:?}"),
            429 | 503 if asked.contains(BASE) => {
                assert!(self.header("retry-after").is_some(), "{asked}: {self:?}");
            }
            _ => {}
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("a text"))
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The status and, where there is one, the body.
    #[track_caller]
    pub(crate) fn is(&self, status: u16) -> &Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn is_empty(&self, status: u16) {
        assert_eq!((self.status, self.body.as_str()), (status, ""), "{self:?}");
    }

    /// A 400 whose exception says this.
    #[track_caller]
    pub(crate) fn is_refused_for(&self, why: &str) {
        self.is(400);
        let json = self.json();
        let said = json["ExceptionMessage"].as_str().expect("a text").to_owned();
        assert!(said.contains(why), "{self:?}");
        assert!(json["StackTrace"].is_null() && json["ExceptionType"].is_string(), "{self:?}");
    }
}
