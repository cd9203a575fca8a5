//! Points 12 and 13: casing, slashes, and whatever is no route.

use axum::Router;
use axum::body::Body;
use durable_core::MemoryStore;
use durable_core::http::ManagementApi;
use durable_core::prelude::*;
use serde_json::json;

use super::functions::registry;
use super::server::{Answer, HOST, Server, request};

#[tokio::test]
async fn point_12_fixed_words_have_any_casing() {
    let server = Server::start().await;
    server.begin("WaitForApproval", "Order", json!(1)).await;
    for path in [
        "/runtime/webhooks/durableTask/instances/Order",
        "/Runtime/WebHooks/DURABLETASK/Instances/Order/",
        "/runtime/webhooks/durabletask/INSTANCES/Order?SHOWINPUT=True&TaskHub=DEFAULT",
        "/durableTask/instances/Order",
    ] {
        let answer = server.send(request("GET", path, &[], Body::empty())).await;
        answer.is(202);
        assert_eq!(answer.header("location"), Some(format!("http://{HOST}{path}").as_str()));
    }
    // Ids and names keep theirs.
    server.get("/instances/order").await.is_empty(404);
    server.post("/orchestrators/ECHO").await.is(400);
}

#[tokio::test]
async fn point_12_parameters_have_any_casing_and_flags_too() {
    let server = Server::start().await;
    server.begin("Echo", "a", json!(7)).await;
    server.until_ended("a").await;
    for (query, shown) in [
        ("showInput=false", false),
        ("SHOWINPUT=False", false),
        ("showinput=%20FALSE%20", false),
        ("showInput=True", true),
        ("showInput=no", true),
        ("showInput=", true),
        ("", true),
    ] {
        let status = server.get(&format!("/instances/a?{query}")).await.is(200).json();
        assert_eq!(status["input"].is_number(), shown, "{query}");
    }
}

#[tokio::test]
async fn point_12_a_slash_at_the_end_does_not_count() {
    let server = Server::start().await;
    server.begin("Echo", "a", json!(7)).await;
    for path in ["/instances", "/instances/", "/instances/?", "/instances?"] {
        assert_eq!(server.get(path).await.is(200).json().as_array().unwrap().len(), 1, "{path}");
    }
    server.call("POST", "/orchestrators/Echo/", "1").await.is(202);
    server.post("/instances/a/terminate/?reason=x").await.is(410);
}

#[tokio::test]
async fn point_13_whatever_is_no_route_is_answered_with_nothing() {
    let server = Server::start().await;
    server.begin("WaitForApproval", "a", json!(7)).await;
    for (verb, path) in [
        ("GET", ""),
        ("GET", "/"),
        ("GET", "/nothing"),
        ("GET", "/orchestrators/Echo"),
        ("PUT", "/orchestrators/Echo"),
        ("POST", "/orchestrators"),
        ("POST", "/orchestrators/Echo/a/b"),
        ("POST", "/instances"),
        ("POST", "/instances/a"),
        ("PUT", "/instances/a"),
        ("PATCH", "/instances/a"),
        ("HEAD", "/instances/a"),
        ("OPTIONS", "/instances/a"),
        ("TRACE", "/instances/a"),
        ("BREW", "/instances/a"),
        ("GET", "/instances/a/terminate"),
        ("DELETE", "/instances/a/terminate"),
        ("POST", "/instances/a/explode"),
        ("POST", "/instances/a/raiseEvent"),
        ("POST", "/instances/a/raiseEvent/b/c"),
        ("POST", "/instances//terminate"),
        ("GET", "//instances"),
        ("GET", "/instances/a/../../instances"),
        ("GET", "/instances%2Fa"),
        ("GET", "/entities"),
        ("GET", "/entities/counter"),
        ("GET", "/entities/counter/a"),
        ("POST", "/entities/counter/a"),
        ("DELETE", "/entities/counter/a"),
    ] {
        let answer = server.call(verb, path, "").await;
        assert_eq!((answer.status, answer.body.as_str()), (404, ""), "{verb} {path}");
    }
    for path in ["/", "/instances", "/runtime/webhooks/durabletasks/instances", "/durabletaskx"] {
        let answer = server.send(request("GET", path, &[], Body::empty())).await;
        answer.is_empty(404);
    }
}

#[tokio::test]
async fn a_hub_of_another_name_has_no_instance() {
    let server = Server::start().await;
    server.begin("Echo", "a", json!(7)).await;
    server.until_ended("a").await;
    for (query, code) in [
        ("taskHub=default", 200),
        ("TASKHUB=Default&connection=AzureWebJobsStorage", 200),
        ("taskHub=", 200),
        ("taskHub=other", 404),
        ("taskHub=default&taskHub=default", 404),
        ("connectionName=x&connection=..", 200),
    ] {
        server.get(&format!("/instances/a?{query}")).await.is(code);
        server.get(&format!("/instances?{query}")).await.is(code);
    }
    server.call("POST", "/orchestrators/Echo/b?taskHub=other", "1").await.is_empty(404);
    server.get("/instances/b").await.is_empty(404);
}

#[tokio::test]
async fn the_router_is_nested_anywhere_and_its_links_lead_there() {
    let worker = Worker::builder(MemoryStore::new()).registry(registry()).start().await.unwrap();
    let api = ManagementApi::new(worker.client());
    let inner = Router::new().nest("/hub", api.router());
    let app = Router::new().nest("/api/v1", inner);
    for prefix in ["/api/v1/hub", "/api/v1/hub/"] {
        let path = format!("{}/orchestrators/WaitForApproval", prefix.trim_end_matches('/'));
        let started = Answer::of(app.clone(), request("POST", &path, &[], "")).await;
        let link = started.is(202).header("location").unwrap().to_owned();
        assert!(link.starts_with(&format!("http://{HOST}/api/v1/hub/instances/")), "{link}");
        let path = link.strip_prefix(&format!("http://{HOST}")).unwrap();
        let status = Answer::of(app.clone(), request("GET", path, &[], "")).await;
        assert_eq!(status.is(202).header("location"), Some(link.as_str()));
    }
    let nothing = app.clone();
    Answer::of(nothing, request("GET", "/api/v1/hub", &[], "")).await.is_empty(404);
    let broken = request("GET", "/api/v1/hub/instances/%FF", &[], "");
    Answer::of(app, broken).await.is_refused_for("UTF-8");
}
