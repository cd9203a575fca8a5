//! Point 11: starts that wait for the end.

use durable_core::prelude::*;
use serde_json::{Value, json};

use super::server::Server;

#[tokio::test]
async fn point_11_what_completes_in_time_is_its_bare_output() {
    let server = Server::start().await;
    for (body, output) in [("{\"a\":1}", json!({"a": 1})), ("", Value::Null), ("\"\"", json!(""))] {
        let path = "/orchestrators/Echo?timeout=30&pollingInterval=1";
        let answer = server.call("POST", path, body).await;
        assert_eq!(answer.is(200).json(), output);
        assert_eq!((answer.header("location"), answer.header("retry-after")), (None, None));
    }
    let path = "/orchestrators/Sleeper?timeout=30.5&pollingInterval=30.5";
    assert_eq!(server.call("POST", path, "20").await.is(200).json(), 20);
}

#[tokio::test]
async fn point_11_what_fails_is_its_status() {
    let server = Server::start().await;
    let path = "/orchestrators/Failing/a?timeout=30&pollingInterval=1";
    let failed = server.call("POST", path, "1").await.is(200).json();
    assert_eq!(
        (&failed["runtimeStatus"], &failed["output"]),
        (&json!("Failed"), &json!("Told: to fail"))
    );
    let path = format!("{path}&returnInternalServerErrorOnFailure=true");
    let failed = server.call("POST", &path, "1").await.is(500).json();
    assert_eq!((&failed["runtimeStatus"], &failed["instanceId"]), (&json!("Failed"), &json!("a")));
}

#[tokio::test]
async fn point_11_what_takes_longer_is_its_links() {
    let server = Server::start().await;
    for query in ["timeout=0.05&pollingInterval=0.01", "timeout=0&pollingInterval=0"] {
        let path = format!("/orchestrators/Sleeper?{query}");
        let answer = server.call("POST", &path, "3600000").await;
        let links = answer.is(202).json();
        assert_eq!(answer.header("location"), links["statusQueryGetUri"].as_str());
        assert_eq!(answer.header("retry-after"), Some("10"));
        server.follow("GET", links["statusQueryGetUri"].as_str().unwrap(), "").await.is(202);
    }
}

#[tokio::test]
async fn point_11_what_is_no_number_is_absent_and_nobody_waits() {
    let server = Server::start().await;
    for no_number in
        ["NaN", "nan", "inf", "-inf", "Infinity", "1e3", "0x10", "1,5", "five", "%00", "", "1;2"]
    {
        for query in [
            format!("timeout={no_number}&pollingInterval=1"),
            format!("timeout=3600&pollingInterval={no_number}"),
        ] {
            let path = format!("/orchestrators/WaitForApproval?{query}");
            let started = server.call("POST", &path, "").await;
            assert!(started.is(202).json()["id"].is_string(), "{query}");
        }
    }
}

#[tokio::test]
async fn point_11_numbers_that_make_no_sense_start_nothing() {
    let server = Server::start().await;
    for (query, why) in [
        ("timeout=1&pollingInterval=2", "longer than timeout"),
        ("timeout=0&pollingInterval=0.001", "longer than timeout"),
        ("timeout=-1&pollingInterval=-2", "timeout must not be negative"),
        ("timeout=5&pollingInterval=-0.5", "pollingInterval must not be negative"),
    ] {
        let answer = server.call("POST", &format!("/orchestrators/Echo/a?{query}"), "1").await;
        answer.is_refused_for(why);
    }
    server.get("/instances/a").await.is_empty(404);
}

#[tokio::test]
async fn point_11_one_number_alone_does_not_wait() {
    let server = Server::start().await;
    for query in [
        "timeout=60",
        "pollingInterval=1",
        "timeout=NaN&pollingInterval=1",
        "timeout=60&pollingInterval=",
    ] {
        let path = format!("/orchestrators/Sleeper?{query}");
        server.call("POST", &path, "3600000").await.is(202);
    }
}

#[tokio::test]
async fn who_finds_no_place_to_wait_starts_nothing() {
    let server = Server::with(|api| api.limits(|limits| limits.waiting = 1)).await;
    let waits = "/orchestrators/WaitForApproval/first?timeout=30&pollingInterval=1";
    let first = server.call("POST", waits, "1");
    let second = async {
        server.eventually("first", |_| true).await;
        let path = "/orchestrators/Echo/second?timeout=30&pollingInterval=1";
        let full = server.call("POST", path, "1").await;
        assert_eq!(full.is(503).header("retry-after"), Some("1"));
        server.get("/instances/second").await.is_empty(404);
        // Who does not wait needs no place.
        server.call("POST", "/orchestrators/Echo/third", "1").await.is(202);
        server.client.instance("first").unwrap().raise_event("approval", &7).await.unwrap();
    };
    let (first, ()) = tokio::join!(first, second);
    assert_eq!(first.is(200).json(), 7);
    // The place is free again.
    server.call("POST", "/orchestrators/Echo?timeout=30&pollingInterval=1", "1").await.is(200);
}

#[tokio::test]
async fn nobody_waits_longer_than_the_server_allows() {
    let server = Server::with(|api| api.limits(|limits| limits.wait = millis(50))).await;
    let path = "/orchestrators/WaitForApproval?timeout=99999999999999999999&pollingInterval=1";
    server.call("POST", path, "1").await.is(202);
}
