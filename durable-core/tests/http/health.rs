//! Whether the program lives and can serve, and what it counts.

use axum::body::Body;
use durable_core::{MemoryStore, Worker};
use serde_json::json;

use super::functions::registry;
use super::server::{Answer, Server, address, request};

#[tokio::test]
async fn it_lives_and_is_ready_by_get_and_head() {
    let server = Server::start().await;
    for (path, said) in [("/healthz", "ok"), ("/readyz", "ready")] {
        let answer = server.send(request("GET", path, &[], Body::empty())).await;
        assert_eq!(answer.is(200).json(), json!({"status": said}));
        let length = answer.body.len().to_string();
        let head = server.send(request("HEAD", path, &[], Body::empty())).await;
        assert_eq!(head.is(200).header("content-length"), Some(length.as_str()));
    }
}

#[tokio::test]
async fn by_other_verbs_there_is_nothing() {
    let server = Server::start().await;
    for verb in ["POST", "DELETE", "OPTIONS", "TRACE"] {
        for path in ["/healthz", "/readyz", "/metrics"] {
            server.send(request(verb, path, &[], Body::empty())).await.is_empty(404);
        }
    }
}

#[tokio::test]
async fn it_is_not_ready_when_its_worker_has_ended() {
    let worker = Worker::builder(MemoryStore::new()).registry(registry()).start().await.unwrap();
    let api = durable_core::http::ManagementApi::new(worker.client());
    let app = api.app(address()).unwrap();
    worker.shutdown().await.unwrap();
    let unready = Answer::of(app.clone(), request("GET", "/readyz", &[], Body::empty())).await;
    assert_eq!(unready.is(503).json()["status"], "unready");
    Answer::of(app, request("GET", "/healthz", &[], Body::empty())).await.is(200);
}

#[tokio::test]
async fn metrics_count_instances_and_ask_for_the_key() {
    let server = Server::with(|api| api.key("k").metrics(|| "own_things 7\n".to_owned())).await;
    server.begin("Echo", "a", json!(1)).await;
    server.until_ended("a").await;
    server.send(request("GET", "/metrics", &[], Body::empty())).await.is_empty(401);
    let counted = server.send(request("GET", "/metrics?code=k", &[], Body::empty())).await;
    let line = "durable_instances{hub=\"default\",status=\"Completed\"} 1\n";
    assert!(counted.is(200).body.contains(line), "{counted:?}");
    assert!(counted.body.ends_with("own_things 7\n"), "{counted:?}");
    // Without a key, a page under another name reads nothing.
    let open = Server::start().await;
    let foreign = request("GET", "/metrics", &[("host", "evil.example")], Body::empty());
    open.send(foreign).await.is(403);
    // Health is everybody's.
    server.send(request("GET", "/healthz", &[], Body::empty())).await.is(200);
}
