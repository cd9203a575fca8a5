//! Point 14 and what else keeps strangers out: keys, origins, hosts, limits.

use std::net::SocketAddr;

use axum::body::Body;
use durable_core::MemoryStore;
use durable_core::http::{HttpLimits, ManagementApi};
use durable_core::prelude::*;
use serde_json::json;

use super::server::{Server, request};

const KEY: &str = "a secret/with+odd=characters";
const KEY_IN_QUERY: &str = "a%20secret%2Fwith%2Bodd%3Dcharacters";

async fn with_keys() -> Server {
    let server = Server::with(|api| api.key(KEY).key("the next one")).await;
    server.begin("Echo", "a", json!(1)).await;
    server.until_ended("a").await;
    server
}

#[tokio::test]
async fn point_14_without_a_key_that_opens_nothing_is_said() {
    let server = with_keys().await;
    for query in [
        "",
        "?code=",
        "?code=wrong",
        "?code=a%20secret",
        "?code=a%20secret%2Fwith%2Bodd%3Dcharacters2",
        "?code=a+secret/with+odd=characters",
        "?code=A%20SECRET%2FWITH%2BODD%3DCHARACTERS",
        &format!("?code={KEY_IN_QUERY}&code={KEY_IN_QUERY}"),
        &format!("?code=wrong&code={KEY_IN_QUERY}"),
        &format!("?notcode={KEY_IN_QUERY}"),
    ] {
        for (verb, path) in [
            ("GET", "/instances/a"),
            ("GET", "/instances/nobody"),
            ("GET", "/instances"),
            ("GET", "/nothing"),
            ("POST", "/orchestrators/Echo/b"),
            ("POST", "/orchestrators/Unknown"),
            ("POST", "/instances/a/terminate"),
            ("DELETE", "/instances/a"),
        ] {
            server.call(verb, &format!("{path}{query}"), "1").await.is_empty(401);
        }
    }
    for wrong in ["wrong", &KEY[1..], &format!("{KEY},{KEY}")] {
        let headers = [("x-functions-key", wrong)];
        server.call_with("GET", "/instances/a", &headers, "").await.is_empty(401);
    }
    let twice = [("x-functions-key", KEY), ("x-functions-key", KEY)];
    server.call_with("GET", "/instances/a", &twice, "").await.is_empty(401);
    assert!(server.client.status("b").await.unwrap().is_none());
}

#[tokio::test]
async fn point_14_either_key_opens_and_stands_in_the_links() {
    let server = with_keys().await;
    let second = [("X-Functions-Key", "the next one")];
    for (query, headers, key) in [
        (format!("?code={KEY_IN_QUERY}"), &[][..], KEY_IN_QUERY),
        (format!("?CODE={KEY_IN_QUERY}"), &[], KEY_IN_QUERY),
        (String::new(), &second, "the%20next%20one"),
    ] {
        let path = format!("/orchestrators/WaitForApproval{query}");
        let started = server.call_with("POST", &path, headers, "").await;
        let link = started.is(202).header("location").unwrap().to_owned();
        assert!(link.ends_with(&format!("&code={key}")), "{link}");
        assert_eq!(server.follow("GET", &link, "").await.is(202).header("location"), Some(&*link));
        let raise = started.json()["sendEventPostUri"].as_str().unwrap().to_owned();
        let raise = raise.replace("{eventName}", "approval");
        server.follow("POST", &raise, "1").await.is_empty(202);
    }
}

#[tokio::test]
async fn keys_are_printed_nowhere() {
    let client = Client::new(MemoryStore::new());
    let builder = ManagementApi::builder(client).key(KEY);
    let text = format!("{builder:?}");
    let api = builder.build().unwrap();
    assert!(!format!("{text}{api:?}").contains("secret"), "{text}{api:?}");
}

#[tokio::test]
async fn a_page_of_another_origin_changes_nothing() {
    let server = Server::start().await;
    let form = ("content-type", "application/x-www-form-urlencoded");
    for foreign in [
        ("origin", "https://evil.example"),
        ("origin", "http://127.0.0.1:3000"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
    ] {
        for (verb, path) in [
            ("POST", "/orchestrators/Echo/a"),
            ("POST", "/instances/a/terminate"),
            ("DELETE", "/instances/a"),
            ("DELETE", "/instances?createdTimeFrom=2000-01-01"),
        ] {
            let answer = server.call_with(verb, path, &[foreign, form], "1").await;
            assert!(answer.is(403).json()["Message"].is_string());
        }
        server.call_with("GET", "/instances/a", &[foreign], "").await.is_empty(404);
    }
    let own = [("origin", "http://127.0.0.1:7071"), ("sec-fetch-site", "same-origin")];
    server.call_with("POST", "/orchestrators/Echo/a", &own, "1").await.is(202);
}

#[tokio::test]
async fn who_names_another_host_is_served_only_with_a_key_and_given_links_to_this_one() {
    let open = Server::with(|api| api.listen("127.0.0.1:7071".parse().unwrap())).await;
    for host in ["evil.example", "evil.example:7071", "127.0.0.1.evil.example", "x@localhost"] {
        let answer = open.call_with("GET", "/instances", &[("host", host)], "").await;
        assert!(answer.is(403).json()["Message"].as_str().unwrap().contains("host"), "{host}");
    }
    let closed = Server::with(|api| api.key("k").listen("127.0.0.1:7071".parse().unwrap())).await;
    let headers = [("host", "evil.example"), ("x-functions-key", "k")];
    let started = closed.call_with("POST", "/orchestrators/Echo", &headers, "1").await;
    let link = started.is(202).header("location").unwrap().to_owned();
    assert!(link.starts_with("http://127.0.0.1:7071/runtime/webhooks/"), "{link}");
    assert!(!started.body.contains("evil"), "{started:?}");
}

#[tokio::test]
async fn links_lead_to_the_public_url() {
    let server = Server::with(|api| api.public_url("https://example.org/durable/")).await;
    let started = server.call("POST", "/orchestrators/WaitForApproval/a", "1").await;
    let link = started.is(202).header("location").unwrap();
    assert!(link.starts_with("https://example.org/durable/instances/a?"), "{link}");
    let headers = [("host", "example.org")];
    let status = server.call_with("GET", "/instances/a?x=y", &headers, "").await;
    assert_eq!(
        status.is(202).header("location"),
        Some("https://example.org/durable/instances/a?x=y")
    );
}

#[tokio::test]
async fn without_a_key_no_other_machine_gets_through() {
    let client = Client::new(MemoryStore::new());
    let everywhere: SocketAddr = "0.0.0.0:7071".parse().unwrap();
    let open = ManagementApi::new(client.clone());
    assert!(open.app(everywhere).unwrap_err().to_string().contains("no key"));
    assert!(open.app("[::1]:7071".parse().unwrap()).is_ok());
    let closed = ManagementApi::builder(client).key("k").build().unwrap();
    let app = closed.app(everywhere).unwrap();
    // The way in that asks for no key is for this machine only.
    for path in ["/durabletask/instances", "/runtime/webhooks/durabletask/instances"] {
        let request = request("GET", path, &[("host", "10.0.0.1:7071")], Body::empty());
        let answer = super::server::Answer::of(app.clone(), request).await;
        assert!(matches!(answer.status, 401 | 404), "{answer:?}");
    }
}

#[tokio::test]
async fn client_libraries_on_this_machine_need_no_key() {
    let server = with_keys().await;
    let ask = |host: &'static str| {
        let headers = [("host", host)];
        server.send(request("GET", "/durabletask/instances/a", &headers, Body::empty()))
    };
    ask("127.0.0.1:7071").await.is(200);
    ask("localhost").await.is(200);
    assert!(ask("evil.example").await.is(403).json()["Message"].is_string());
    let start = request("POST", "/durabletask/orchestrators/Echo", &[], "1");
    // Its links are for others, who need one.
    let link = server.send(start).await.is(202).header("location").unwrap().to_owned();
    assert!(link.starts_with("http://127.0.0.1:7071/runtime/webhooks/durabletask/"), "{link}");
    assert!(link.ends_with(&format!("&code={KEY_IN_QUERY}")), "{link}");
    assert!(matches!(server.follow("GET", &link, "").await.status, 200 | 202));
    server.begin("WaitForApproval", "b", json!(1)).await;
    let own = server.send(request("GET", "/durabletask/instances/b", &[], Body::empty())).await;
    let location = own.is(202).header("location");
    assert_eq!(location, Some("http://127.0.0.1:7071/durabletask/instances/b"));
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let server = Server::with(|api| {
        api.limits(|limits: &mut HttpLimits| {
            limits.body_bytes = 1000;
            limits.rpc_body_bytes = 2000;
        })
    })
    .await;
    let text = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    server.call("POST", "/orchestrators/Echo/fits", text(1000)).await.is(202);
    assert!(
        server.call("POST", "/orchestrators/Echo/a", text(1001)).await.is(413).json().is_object()
    );
    // A client library's way in takes more.
    for (bytes, code) in [(2000, 202), (2001, 413)] {
        let path = "/durabletask/orchestrators/Echo";
        server.send(request("POST", path, &[], text(bytes))).await.is(code);
    }
    // No payload is larger than the engine takes, whatever a body may be.
    let unbound = Server::with(|api| api.limits(|limits| limits.body_bytes = usize::MAX)).await;
    unbound.call("POST", "/orchestrators/Echo", text(16 * 1024 * 1024 + 1)).await.is(413);
    let long = "x".repeat(16 * 1024);
    server.get(&format!("/instances?instanceIdPrefix={long}")).await.is(414);
    server.get(&format!("/instances/{long}")).await.is(414);
    let large = "x".repeat(33 * 1024);
    server.call_with("GET", "/instances", &[("x-large", &large)], "").await.is(431);
    server.get("/instances/a").await.is_empty(404);
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused() {
    let api = || ManagementApi::builder(Client::new(MemoryStore::new()));
    for (builder, why) in [
        (api().public_url("example.org"), "public_url"),
        (api().public_url("https://user:pass@example.org"), "public_url"),
        (api().key("a").key("b").key("c"), "at most 2"),
        (api().key(" "), "blank"),
        (api().signing_secret("x".repeat(31)), "32 bytes"),
        (
            api().signing_secret([1; 32]).signing_secret([2; 32]).signing_secret([3; 32]),
            "at most 2",
        ),
        (api().key("k".repeat(32)).signing_secret("k".repeat(32)), "a key"),
        (api().path("durable"), "path"),
        (api().path("/durable?x"), "path"),
        (api().limits(|limits| limits.page = 0), "page"),
    ] {
        assert!(builder.build().unwrap_err().to_string().contains(why), "{why}");
    }
}
