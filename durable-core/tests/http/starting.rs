//! Points 1 and 2: starts.

use std::collections::BTreeSet;

use durable_core::http::ManagementApiBuilder;
use durable_core::prelude::*;
use serde_json::{Value, json};

use super::server::{BASE, HOST, Server};

async fn input_of(server: &Server, id: &str) -> Value {
    server.get(&format!("/instances/{id}")).await.json()["input"].clone()
}

#[tokio::test]
async fn point_1_start_with_and_without_an_id() {
    let server = Server::start().await;
    let given = server.call("POST", "/orchestrators/Echo/order-7", "1").await;
    assert_eq!(given.is(202).json()["id"], "order-7");
    let mut ids = BTreeSet::new();
    for _ in 0..3 {
        let started = server.call("POST", "/orchestrators/Echo", "1").await.is(202).json();
        let id = started["id"].as_str().unwrap().to_owned();
        assert_eq!(id.len(), 32, "{id}");
        assert!(id.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')), "{id}");
        ids.insert(id);
    }
    assert_eq!(ids.len(), 3);
}

#[tokio::test]
async fn point_1_the_body_is_the_input_as_it_is_written() {
    let server = Server::start().await;
    for (number, (body, input)) in [
        ("", Value::Null),
        ("null", Value::Null),
        ("\"\"", json!("")),
        ("60", json!(60)),
        (" [1, {\"b\": 2}] ", json!([1, {"b": 2}])),
        // A client library writes its input as JSON, and that text as JSON once more.
        ("\"{\\\"a\\\": 1}\"", json!("{\"a\": 1}")),
        ("\"2024-03-18T17:44:50.000Z\"", json!("2024-03-18T17:44:50.000Z")),
    ]
    .into_iter()
    .enumerate()
    {
        for content_type in ["application/json", "application/octet-stream", "text/plain"] {
            let id = format!("i{number}-{}", content_type.len());
            let path = format!("/orchestrators/Echo/{id}");
            server.call_with("POST", &path, &[("content-type", content_type)], body).await.is(202);
            server.until_ended(&id).await;
            assert_eq!(input_of(&server, &id).await, input, "{body}");
            assert_eq!(server.get(&format!("/instances/{id}")).await.json()["output"], input);
        }
    }
    let answer = server.call("POST", "/orchestrators/Echo/raw", "{\"b\":1.0,\"a\":1e2}").await;
    answer.is(202);
    server.until_ended("raw").await;
    let status = server.get("/instances/raw").await;
    assert!(status.body.contains("\"output\":{\"b\":1.0,\"a\":1e2}"), "{status:?}");
}

#[tokio::test]
async fn point_1_a_body_that_is_not_json_starts_nothing() {
    let server = Server::start().await;
    let deep = "[".repeat(1000) + &"]".repeat(1000);
    for body in ["{", "hello", "1 2", " ", "'a'", "NaN", "1e999", "\"\\ud800\"", &deep] {
        let answer = server.call("POST", "/orchestrators/Echo/x", body.to_owned()).await;
        assert_eq!(answer.is(400).json()["Message"], "Invalid JSON content", "{body}");
    }
    let broken = server.call("POST", "/orchestrators/Echo/x", b"\"\xFF\"".to_vec()).await;
    assert_eq!(broken.is(400).json()["Message"], "Invalid JSON content");
    server.get("/instances/x").await.is_empty(404);
}

#[tokio::test]
async fn point_2_the_answer_leads_to_the_instance() {
    let server = Server::start().await;
    let started = server.call("POST", "/orchestrators/WaitForApproval/a", "").await;
    let links = started.is(202).json();
    assert_eq!(started.header("location"), links["statusQueryGetUri"].as_str());
    assert_eq!(started.header("retry-after"), Some("10"));
    let (path, query) =
        (format!("http://{HOST}{BASE}/instances/a"), "taskHub=default&connection=Storage");
    let expected = json!({
        "id": "a",
        "statusQueryGetUri": format!("{path}?{query}"),
        "sendEventPostUri": format!("{path}/raiseEvent/{{eventName}}?{query}"),
        "terminatePostUri": format!("{path}/terminate?reason={{text}}&{query}"),
        "rewindPostUri": format!("{path}/rewind?reason={{text}}&{query}"),
        "purgeHistoryDeleteUri": format!("{path}?{query}"),
        "restartPostUri": format!("{path}/restart?{query}"),
        "suspendPostUri": format!("{path}/suspend?reason={{text}}&{query}"),
        "resumePostUri": format!("{path}/resume?reason={{text}}&{query}"),
    });
    assert_eq!(links, expected);
    assert!(started.body.starts_with("{\"id\":\"a\",\"statusQueryGetUri\":"), "{started:?}");
}

#[tokio::test]
async fn point_2_an_instance_is_visible_when_its_start_is_answered() {
    let server = Server::start().await;
    for number in 0..20 {
        let id = server.call("POST", "/orchestrators/Sleeper", "60000").await.is(202).json()["id"]
            .as_str()
            .unwrap()
            .to_owned();
        server.get(&format!("/instances/{id}")).await.is(202);
        let listed = server.get("/instances").await.is(200).json();
        assert_eq!(listed.as_array().unwrap().len(), number + 1);
        assert_eq!(listed[0]["instanceId"], id);
    }
}

#[tokio::test]
async fn point_2_an_unknown_name_starts_nothing() {
    let server = Server::start().await;
    let answer = server.call("POST", "/orchestrators/echo/x", "1").await;
    answer.is_refused_for("Chain, Echo, Failing");
    let said = answer.json()["Message"].as_str().unwrap().to_owned();
    assert_eq!(
        said,
        "The function 'echo' doesn't exist, is disabled, or is not an orchestrator function."
    );
    server.get("/instances/x").await.is_empty(404);
    assert_eq!(server.get("/instances").await.json(), json!([]));
    // Where the program says which they are, no worker is asked.
    let some = Server::with(|api| api.orchestrators(["Chain"])).await;
    some.call("POST", "/orchestrators/Echo", "1").await.is_refused_for("Chain");
    some.call("POST", "/orchestrators/Chain", "1").await.is(202);
}

#[tokio::test]
async fn point_2_an_active_id_is_left_alone_and_an_ended_one_replaced() {
    let server = Server::start().await;
    server.call("POST", "/orchestrators/WaitForApproval/a", "1").await.is(202);
    for state in ["Running", "Suspended"] {
        let before = server.until("a", |now| now.runtime_status().name() == state).await;
        let refused = server.call("POST", "/orchestrators/Echo/a", "2").await;
        let body = refused.is(409).json();
        assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
        assert!(body["Message"].as_str().unwrap().contains(state), "{body}");
        assert_eq!(server.client.status("a").await.unwrap().unwrap(), before);
        server.post("/instances/a/suspend").await.is(202);
    }
    server.post("/instances/a/terminate").await.is(202);
    let ended = server.until_ended("a").await;
    server.call("POST", "/orchestrators/Echo/a", "2").await.is(202);
    let replaced =
        server.eventually("a", |now| now.runtime_status() == RuntimeStatus::Completed).await;
    assert!(replaced.run() > ended.run() && replaced.created_at() > ended.created_at());
    let status = server.get("/instances/a?showHistory=true").await.is(200).json();
    assert_eq!((&status["name"], &status["output"]), (&json!("Echo"), &json!(2)));
    assert_eq!(status["historyEvents"].as_array().unwrap().len(), 2, "{status}");
}

#[tokio::test]
async fn point_2_an_active_instance_is_replaced_where_that_is_the_policy() {
    let server = Server::with(ManagementApiBuilder::replace_active).await;
    server.call("POST", "/orchestrators/WaitForApproval/a", "1").await.is(202);
    server.until_is("a", RuntimeStatus::Running).await;
    server.call("POST", "/orchestrators/Echo/a", "2").await.is(202);
    let replaced = server.eventually("a", |now| now.name() == "Echo" && now.has_ended()).await;
    assert_eq!(replaced.output::<i32>().unwrap(), Some(2));
}

#[tokio::test]
async fn point_2_odd_ids_work_and_all_their_links() {
    let server = Server::start().await;
    let longest = "é".repeat(256);
    for (path, id) in [
        ("a%20b", "a b"),
        ("a+b", "a b"),
        ("a%2Bb", "a+b"),
        ("%C3%A9t%C3%A9", "été"),
        ("100%25", "100%"),
        ("%F0%9F%A6%80", "🦀"),
        ("%22it%27s%22", "\"it's\""),
        ("a:;,.@=()~!$'*", "a:;,.@=()~!$'*"),
        ("a%3A%3B@%26", "a:;@&"),
        (&"%C3%A9".repeat(256), &longest),
    ] {
        let start = format!("/orchestrators/WaitForApproval/{path}");
        let links = server.post(&start).await.is(202).json();
        assert_eq!(links["id"], id, "{path}");
        let link = |name: &str| links[name].as_str().unwrap().to_owned();
        let status = server.follow("GET", &link("statusQueryGetUri"), "").await.is(202).json();
        assert_eq!(status["instanceId"], id, "{path}");
        for operation in ["suspendPostUri", "resumePostUri"] {
            let link = link(operation).replace("{text}", "why%20not");
            server.follow("POST", &link, "").await.is_empty(202);
        }
        let raise = link("sendEventPostUri").replace("{eventName}", "approval");
        server.follow("POST", &raise, "\"yes\"").await.is_empty(202);
        assert_eq!(server.until_ended(id).await.output::<String>().unwrap(), Some("yes".into()));
        let terminate = link("terminatePostUri").replace("{text}", "late");
        server.follow("POST", &terminate, "").await.is_empty(410);
    }
}

#[tokio::test]
async fn point_2_ids_that_break_a_rule_are_refused() {
    let server = Server::start().await;
    let too_long = "x".repeat(257);
    for (path, why) in [
        ("@counter@a", "'@'"),
        ("%40a", "'@'"),
        ("a%2Fb", "'/'"),
        ("a%5Cb", "'\\\\'"),
        ("a%3Fb", "'?'"),
        ("a%23b", "'#'"),
        ("a%0D%0Ab", "'\\r'"),
        ("a%00", "'\\0'"),
        (&too_long, "256"),
        ("..", "dots"),
        ("%2E", "dots"),
        ("%FF", "UTF-8"),
    ] {
        let answer = server.call("POST", &format!("/orchestrators/Echo/{path}"), "1").await;
        answer.is_refused_for(why);
    }
    assert_eq!(server.get("/instances").await.json(), json!([]));
}

#[tokio::test]
async fn the_trace_of_a_start_is_shown_in_the_history() {
    let server = Server::start().await;
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for (id, headers, shown) in [
        (
            "a",
            &[("traceparent", parent), ("tracestate", "x=1")][..],
            json!({"TraceParent": parent, "TraceState": "x=1"}),
        ),
        ("b", &[("traceparent", "nonsense")], Value::Null),
    ] {
        let path = format!("/orchestrators/Echo/{id}");
        server.call_with("POST", &path, headers, "1").await.is(202);
        server.until_ended(id).await;
        let status = server.get(&format!("/instances/{id}?showHistory=true")).await.json();
        assert_eq!(status["historyEvents"][0]["ParentTraceContext"], shown);
    }
}

#[tokio::test]
async fn a_version_is_the_callers_or_the_servers() {
    let server = Server::with(|api| api.default_version("1.0")).await;
    for (id, query, version) in
        [("a", "", "1.0"), ("b", "?Version=2.5", "2.5"), ("c", "?version=", "1.0")]
    {
        server.post(&format!("/orchestrators/Version/{id}{query}")).await.is(202);
        assert_eq!(server.until_ended(id).await.output::<String>().unwrap().unwrap(), version);
    }
    let long = "9".repeat(129);
    server.post(&format!("/orchestrators/Version/d?version={long}")).await.is_refused_for("128");
    server.get("/instances/d").await.is_empty(404);
}
