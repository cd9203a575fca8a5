//! Handlers of the program's own: the client as an extractor, and the answers that lead to the API.

use axum::body::Body;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use durable_core::MemoryStore;
use durable_core::http::{CheckStatusPayload, DurableClient, ManagementApi, WaitOptions};
use durable_core::prelude::*;
use serde_json::{Value, json};

use super::functions::registry;
use super::server::{Answer, HOST, Server, request};

async fn order(client: DurableClient, Path(name): Path<String>, input: String) -> Response {
    match client.start_by_name(name, &input).id("order-7").await {
        Ok(handle) => client.create_check_status_response(handle.id()),
        Err(error) => client.refusal(error),
    }
}

async fn result(client: DurableClient, Path(id): Path<String>) -> Response {
    let options = WaitOptions::default().timeout(millis(50)).failure_is_500();
    client.wait_for_completion_or_create_check_status_response(id, options).await
}

async fn links(client: DurableClient, Path(id): Path<String>) -> Json<CheckStatusPayload> {
    Json(client.check_status_payload(id).expect("an id"))
}

/// The program's state, from which its handlers take what they need.
#[derive(Clone)]
struct App {
    api: ManagementApi,
}

impl axum::extract::FromRef<App> for ManagementApi {
    fn from_ref(app: &App) -> Self {
        app.api.clone()
    }
}

struct Program {
    worker: Worker,
    app: Router,
}

impl Program {
    async fn start() -> Self {
        let store = MemoryStore::new();
        let worker = Worker::builder(store).registry(registry()).start().await.expect("it starts");
        let api = ManagementApi::builder(worker.client())
            .path("/durable")
            .key("k y")
            .build()
            .expect("it makes sense");
        let app = Router::new()
            .route("/orders/{name}", post(order))
            .route("/results/{id}", get(result))
            .route("/links/{id}", get(links))
            .nest("/durable", api.router())
            .with_state(App { api });
        Self { worker, app }
    }

    async fn call(&self, verb: &str, path: &str) -> Answer {
        Answer::of(self.app.clone(), request(verb, path, &[], Body::empty())).await
    }
}

#[tokio::test]
async fn a_handler_answers_with_links_that_lead_to_the_api() {
    let program = Program::start().await;
    let started = program.call("POST", "/orders/WaitForApproval").await;
    let link = started.is(202).header("location").unwrap().to_owned();
    assert_eq!(started.header("retry-after"), Some("10"));
    let start = format!("http://{HOST}/durable/instances/order-7?");
    assert!(link.starts_with(&start) && link.ends_with("&code=k%20y"), "{link}");
    let path = link.strip_prefix(&format!("http://{HOST}")).unwrap();
    program.call("GET", path).await.is(202);
    // What the client refuses is what the API would answer.
    program.call("POST", "/orders/WaitForApproval").await.is(409);
    program.call("POST", "/orders/Nothing").await.is(400);
}

#[tokio::test]
async fn a_handler_waits_for_a_while() {
    let program = Program::start().await;
    let client = program.worker.client();
    client.start_by_name("Echo", &json!({"a": 1})).id("done").await.unwrap();
    client.start_by_name("Failing", &1).id("failed").await.unwrap();
    client.start_by_name("Sleeper", &3_600_000).id("long").await.unwrap();
    for id in ["done", "failed"] {
        client.instance(id).unwrap().wait().await.unwrap();
    }
    assert_eq!(program.call("GET", "/results/done").await.is(200).json(), json!({"a": 1}));
    let failed = program.call("GET", "/results/failed").await.is(500).json();
    assert_eq!(failed["runtimeStatus"], "Failed");
    for id in ["long", "nobody"] {
        let links = program.call("GET", &format!("/results/{id}")).await.is(202).json();
        let link = links["statusQueryGetUri"].as_str().unwrap();
        assert!(link.ends_with("&returnInternalServerErrorOnFailure=true"), "{link}");
        assert_eq!(links["id"], id);
    }
    program.call("GET", "/results/a%2Fb").await.is(400);
}

#[tokio::test]
async fn the_payload_is_a_value() {
    let program = Program::start().await;
    let response = axum::http::Request::builder().uri("/links/a%20b").header("host", HOST);
    let response =
        tower::ServiceExt::oneshot(program.app.clone(), response.body(Body::empty()).unwrap());
    let body = axum::body::to_bytes(response.await.unwrap().into_body(), 10_000).await.unwrap();
    let payload: CheckStatusPayload = serde_json::from_slice(&body).unwrap();
    assert_eq!(payload.id, "a b");
    let value: Value = serde_json::to_value(&payload).unwrap();
    assert_eq!(value.as_object().unwrap().len(), 9);
    assert!(!format!("{payload:?}").contains("code"));
}

#[tokio::test]
async fn what_the_client_refuses_a_handler_answers_as_the_api_would() {
    let server = Server::start().await;
    let handler = server.client_of_handler().await;
    let first = handler.start_by_name("Echo", &json!(1)).id("done").await.unwrap();
    first.wait().await.unwrap();
    let not_failed = first.rewind("again").await.unwrap_err();
    let refused = Answer::from(handler.refusal(not_failed)).await;
    assert!(refused.is(412).json().is_string(), "{refused:?}");
    handler.start_by_name("Echo", &json!(2)).id("done").await.unwrap().wait().await.unwrap();
    let replaced = first.purge().await.unwrap_err();
    let refused = Answer::from(handler.refusal(replaced)).await;
    assert!(refused.is(412).json().is_string(), "{refused:?}");
}
