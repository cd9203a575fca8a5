//! Point 9: external events.

use durable_core::prelude::*;
use serde_json::{Value, json};

use super::server::{Answer, Server};

async fn raise(server: &Server, path: &str, content_type: &str, body: &str) -> Answer {
    let path = format!("/instances/{path}");
    server.call_with("POST", &path, &[("content-type", content_type)], body.to_owned()).await
}

#[tokio::test]
async fn point_9_the_payload_is_any_json() {
    let server = Server::start().await;
    for (number, (body, output)) in [
        ("\"text\"", json!("text")),
        ("5", json!(5)),
        ("null", Value::Null),
        ("{\"a\": [1]}", json!({"a": [1]})),
        // A client library writes its data as JSON, and that text as JSON once more.
        ("\"null\"", json!("null")),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("i-{number}");
        server.begin("WaitForApproval", &id, json!(1)).await;
        let path = format!("{id}/raiseEvent/approval");
        raise(&server, &path, "Application/Json; charset=utf-8", body).await.is_empty(202);
        server.until_ended(&id).await;
        assert_eq!(server.get(&format!("/instances/{id}")).await.json()["output"], output);
    }
}

#[tokio::test]
async fn point_9_what_is_not_json_is_refused() {
    let server = Server::start().await;
    server.begin("WaitForApproval", "a", json!(1)).await;
    for content_type in ["text/plain", "application/octet-stream", "application/jsonp", ""] {
        let answer = raise(&server, "a/raiseEvent/approval", content_type, "1").await;
        let message = answer.is(400).json()["Message"].clone();
        assert_eq!(message, "Only application/json request content is supported");
    }
    let untyped = server.call("POST", "/instances/a/raiseEvent/approval", "1").await;
    assert_eq!(
        untyped.is(400).json()["Message"],
        "Only application/json request content is supported"
    );
    for body in ["", "{", "yes", "1,2"] {
        let answer = raise(&server, "a/raiseEvent/approval", "application/json", body).await;
        assert_eq!(answer.is(400).json()["Message"], "Invalid JSON content", "{body:?}");
    }
    assert!(!server.client.status("a").await.unwrap().unwrap().has_ended());
}

#[tokio::test]
async fn point_9_events_before_the_wait_are_kept_in_their_order() {
    let server = Server::start().await;
    let start = server.client.start_by_name("ThreeEvents", &1).id("a").delay(millis(100));
    start.await.unwrap();
    raise(&server, "a/raiseEvent/other", "application/json", "0").await.is_empty(202);
    for number in ["1", "2", "3"] {
        raise(&server, "a/raiseEvent/go", "application/json", number).await.is_empty(202);
    }
    assert_eq!(server.until_ended("a").await.output::<Vec<i32>>().unwrap(), Some(vec![1, 2, 3]));
}

#[tokio::test]
async fn point_9_an_event_of_another_name_wakes_nobody() {
    let server = Server::start().await;
    server.begin("WaitForApproval", "a", json!(1)).await;
    for name in ["other", "Approval", "approval%20", "a%2Fb", "%C3%A9"] {
        raise(&server, &format!("a/raiseEvent/{name}"), "application/json", "1")
            .await
            .is_empty(202);
    }
    raise(&server, "a/RaiseEvent/approval", "application/json", "2").await.is_empty(202);
    assert_eq!(server.until_ended("a").await.output::<i32>().unwrap(), Some(2));
}

#[tokio::test]
async fn point_9_nobody_and_the_ended_get_none() {
    let server = Server::start().await;
    server.begin("Echo", "a", json!(1)).await;
    server.until_is("a", RuntimeStatus::Completed).await;
    // Before the content is looked at.
    raise(&server, "nobody/raiseEvent/go", "text/plain", "{").await.is_empty(404);
    raise(&server, "@counter@a/raiseEvent/go", "application/json", "1").await.is_empty(404);
    raise(&server, "a/raiseEvent/go", "text/plain", "{").await.is_empty(410);
    raise(&server, "a/raiseEvent/go", "application/json", "1").await.is_empty(410);
}

#[tokio::test]
async fn a_name_that_is_too_long_is_refused() {
    let server = Server::start().await;
    server.begin("WaitForApproval", "a", json!(1)).await;
    let path = format!("a/raiseEvent/{}", "x".repeat(1025));
    raise(&server, &path, "application/json", "1").await.is_refused_for("1024");
}
