//! The OpenAPI document: every answer of every test is held against it, and everything it promises is seen.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use axum::body::Body;
use durable_core::MemoryStore;
use durable_core::http::ManagementApi;
use durable_core::prelude::*;
use serde_json::{Value, json};

use super::fuzz::decoded;
use super::server::{Answer, BASE, HOST, Server, request};

/// Where tests mount the routes.
const MOUNTS: [&str; 4] = [BASE, "/durabletask", "/durable", "/api/v1/hub"];

/// What may come where there is no operation.
const NOWHERE: [u16; 6] = [400, 401, 403, 404, 414, 431];

/// Headers that an answer has only where the document says so.
const TOLD: [&str; 3] = ["location", "retry-after", "x-ms-continuation-token"];

fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        let text = ManagementApi::new(Client::new(MemoryStore::new())).openapi();
        serde_json::from_str(&text).expect("a document")
    })
}

fn resolved(part: &'static Value) -> &'static Value {
    match part["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) {
        Some(pointer) => document().pointer(pointer).expect("a component"),
        None => part,
    }
}

/// The operation that a request asks for.
fn operation(verb: &str, path: &str) -> Option<&'static Value> {
    let is_below = |mount: &&&str| {
        let head = path.get(..mount.len()).is_some_and(|head| head.eq_ignore_ascii_case(mount));
        head && path[mount.len()..].starts_with('/')
    };
    let path = path.get(MOUNTS.iter().find(is_below)?.len()..)?;
    let path = path.strip_suffix('/').unwrap_or(path);
    let text = |segment: &str| decoded(segment).unwrap_or_else(|| segment.to_owned());
    let segments: Vec<String> = path.split('/').skip(1).map(text).collect();
    let same = |expected: &str, segment: &str| {
        !segment.is_empty() && (expected.starts_with('{') || expected.eq_ignore_ascii_case(segment))
    };
    let fits = |template: &str| {
        let expected: Vec<&str> = template.split('/').skip(1).collect();
        let pairs = || expected.iter().zip(&segments);
        expected.len() == segments.len()
            && pairs().all(|(expected, segment)| same(expected, segment))
    };
    let paths = document()["paths"].as_object()?;
    let (_, item) = paths.iter().find(|(template, _)| fits(template))?;
    (verb.to_uppercase() == verb).then(|| item.get(verb.to_lowercase()))?
}

/// The name of the operation that a request asks for.
pub(crate) fn operation_id(verb: &str, path: &str) -> Option<&'static str> {
    operation(verb, path)?["operationId"].as_str()
}

/// The operations that may be answered with this status.
pub(crate) fn operations_with(status: &str) -> BTreeSet<&'static str> {
    let items = document()["paths"].as_object().expect("paths").values();
    items
        .flat_map(|item| item.as_object().expect("verbs"))
        .filter(|(_, of)| of["responses"].get(status).is_some())
        .map(|(_, of)| of["operationId"].as_str().expect("a name"))
        .collect()
}

/// Asserts that an answer is as the document says.
pub(crate) fn check(verb: &str, path: &str, answer: &Answer) {
    let case = format!("{verb} {path}: {answer:?}");
    let below = MOUNTS.iter().any(|mount| path.to_lowercase().starts_with(mount));
    let Some(operation) = operation(verb, path) else {
        assert!(!below || NOWHERE.contains(&answer.status), "not described: {case}");
        return;
    };
    let responses = operation["responses"].as_object().expect("responses");
    let response = responses.get(&answer.status.to_string());
    let response = resolved(response.unwrap_or_else(|| panic!("not described: {case}")));
    match response.get("content") {
        None => assert_eq!(answer.body, "", "{case}"),
        // Where a body says that there is no instance, there may be no hub either.
        Some(_) if answer.status == 404 && answer.body.is_empty() => {}
        Some(content) => {
            let schema = &content["application/json"]["schema"];
            conforms(&answer.json(), schema).unwrap_or_else(|why| panic!("{why}: {case}"));
        }
    }
    let described = |name: &str| {
        response["headers"].as_object().into_iter().flatten().any(|(known, header)| {
            assert_eq!(header["required"], true);
            known.eq_ignore_ascii_case(name)
        })
    };
    for name in TOLD {
        assert_eq!(answer.header(name).is_some(), described(name), "{name}: {case}");
    }
}

/// Whether a value is as a schema says, in the words of JSON Schema that the document uses.
fn conforms(value: &Value, schema: &'static Value) -> Result<(), String> {
    let schema = resolved(schema);
    let wrong = |what: &str| Err(format!("{value} is not {what} {schema}"));
    for (word, says) in schema.as_object().expect("a schema") {
        match word.as_str() {
            "type" => {
                let is = |name: &Value| match name.as_str() {
                    Some("object") => value.is_object(),
                    Some("array") => value.is_array(),
                    Some("string") => value.is_string(),
                    Some("integer") => value.is_i64() || value.is_u64(),
                    Some("null") => value.is_null(),
                    other => panic!("{other:?}"),
                };
                let named = says.as_array().map_or(std::slice::from_ref(says), Vec::as_slice);
                if !named.iter().any(is) {
                    return wrong("of the type");
                }
            }
            "enum" => {
                if !says.as_array().expect("words").contains(value) {
                    return wrong("one of the words");
                }
            }
            "required" => {
                let there = |name: &Value| value.get(name.as_str().expect("a name")).is_some();
                if !says.as_array().expect("names").iter().all(there) {
                    return wrong("whole, says");
                }
            }
            "properties" => {
                for (name, schema) in says.as_object().expect("members") {
                    value.get(name).map_or(Ok(()), |value| conforms(value, schema))?;
                }
            }
            "additionalProperties" => {
                let mut own = value.as_object().into_iter().flat_map(|object| object.keys());
                if *says == false && own.any(|name| schema["properties"].get(name).is_none()) {
                    return wrong("without more, says");
                }
            }
            "items" => {
                value.as_array().into_iter().flatten().try_for_each(|item| conforms(item, says))?;
            }
            "anyOf" => {
                if !says.as_array().expect("schemas").iter().any(|of| conforms(value, of).is_ok()) {
                    return wrong("any of");
                }
            }
            "minimum" => {
                if value.as_f64() < says.as_f64() {
                    return wrong("enough for");
                }
            }
            "format" if says == "date-time" => {
                if chrono::DateTime::parse_from_rfc3339(value.as_str().unwrap_or_default()).is_err()
                {
                    return wrong("a time of");
                }
            }
            other => panic!("the check does not know {other:?}"),
        }
    }
    Ok(())
}

#[test]
fn the_check_finds_what_is_wrong() {
    let schema = |name: &str| &document()["components"]["schemas"][name];
    for (name, good, bad) in [
        ("Purged", json!({"instancesDeleted": 1}), json!({"instancesDeleted": 0})),
        ("Purged", json!({"instancesDeleted": 1}), json!({"instancesDeleted": 1, "more": 1})),
        ("Purged", json!({"instancesDeleted": 1}), json!({"instancesDeleted": "1"})),
        ("Error", json!({"Message": "x"}), json!({})),
        ("RuntimeStatus", json!("Running"), json!("running")),
        ("Text", json!("x"), json!(["x"])),
    ] {
        assert_eq!(conforms(&good, schema(name)), Ok(()), "{name}");
        assert!(conforms(&bad, schema(name)).is_err(), "{name} {bad}");
    }
}

#[tokio::test]
async fn it_is_served_to_those_who_have_the_key() {
    let server = Server::with(|api| api.key("k").signing_secret([1; 32])).await;
    for path in ["/openapi.json", "/openapi.json?code=wrong", "/openapi.json?token=1.r.9.00"] {
        server.get(path).await.is_empty(401);
    }
    let served = server.get("/openapi.json?code=k").await.is(200).json();
    assert_eq!(served["servers"][0]["url"], format!("http://{HOST}{BASE}"));
    assert_eq!(served["paths"], document()["paths"]);
    // What is said to everybody has no key in it.
    assert!(!served.to_string().contains("code=k"));
    let local = request("GET", "/durabletask/openapi.json", &[], "");
    let local = server.send(local).await.is(200).json();
    assert_eq!(local["servers"], served["servers"]);
    let public = Server::with(|api| api.public_url("https://example.org/durable/")).await;
    let served = public.get("/OpenAPI.json/").await.is(200).json();
    assert_eq!(served["servers"][0]["url"], "https://example.org/durable");
    public.call("HEAD", "/openapi.json", "").await.is_empty(404);
}

/// What only a storage that fails (`failing_store.rs`), or a crowd, brings about: other tests do.
fn is_rare(id: &str, status: &str, response: &Value) -> bool {
    let waits = ["start", "startWithId", "restart", "rewind", "purgeInstances"];
    match status {
        "429" => true,
        "500" => response["$ref"] != "#/components/responses/StatusOrFailure",
        "503" => !waits.contains(&id),
        _ => false,
    }
}

#[tokio::test]
async fn everything_that_it_promises_is_seen() {
    let open = Server::start().await;
    let closed = Server::with(|api| api.key("k")).await;
    let slow = Server::with(|api| api.limits(|limits| limits.body_time = millis(1))).await;
    let full = Server::with(|api| api.limits(|limits| limits.waiting = 0)).await;
    for server in [&open, &slow, &full] {
        server.begin("WaitForApproval", "active", json!(1)).await;
        server.begin("Echo", "done", json!(1)).await;
        server.until_ended("done").await;
    }
    for id in ["failed", "to rewind"] {
        open.begin("Failing", id, json!(1)).await;
        open.until_ended(id).await;
    }
    for id in ["to end", "to hold", "to go on"] {
        open.begin("WaitForApproval", id, json!(1)).await;
    }
    let mut seen = BTreeSet::new();
    let json = ("content-type", "application/json");
    let ask =
        async |server: &Server, verb: &str, path: &str, headers: &[(&str, &str)], body: Body| {
            let path = format!("{BASE}{path}");
            let answer = server.send(request(verb, &path, headers, body)).await;
            let plain = path.split('?').next().unwrap_or_default();
            let id = operation_id(verb, plain).expect("described");
            (id.to_owned(), answer.status.to_string())
        };
    let long = "x".repeat(20_000);
    let large = "x".repeat(40_000);
    for (template, item) in document()["paths"].as_object().unwrap() {
        for verb in item.as_object().unwrap().keys().filter(|name| *name != "parameters") {
            let verb = verb.to_uppercase();
            let path = template.replace("{functionName}", "Echo");
            let path = path.replace("{instanceId}", "active").replace("{eventName}", "x");
            let empty = Body::empty;
            let foreign = [("host", "evil.example")];
            seen.insert(ask(&closed, &verb, &path, &[], empty()).await);
            seen.insert(ask(&open, &verb, &path, &foreign, empty()).await);
            seen.insert(ask(&open, &verb, &format!("{path}?taskHub=other"), &[], empty()).await);
            seen.insert(ask(&open, &verb, &format!("{path}?x={long}"), &[], empty()).await);
            seen.insert(ask(&open, &verb, &path, &[("cookie", &large)], empty()).await);
            if template.contains('{') {
                let broken = template.replace("{functionName}", "%FF");
                let broken = broken.replace("{instanceId}", "%FF").replace("{eventName}", "x");
                seen.insert(ask(&open, &verb, &broken, &[], empty()).await);
            }
        }
    }
    let waits = "timeout=10&pollingInterval=1";
    let fails = format!("{waits}&returnInternalServerErrorOnFailure=true");
    let since = "createdTimeFrom=2000-01-01";
    for (server, verb, path, body) in [
        (&open, "POST", "/orchestrators/Echo".to_owned(), "1"),
        (&open, "POST", format!("/orchestrators/Echo?{waits}"), "1"),
        (&open, "POST", format!("/orchestrators/Failing?{fails}"), "1"),
        (&full, "POST", format!("/orchestrators/Echo?{waits}"), "1"),
        (&open, "POST", "/orchestrators/Echo/new".to_owned(), "1"),
        (&open, "POST", format!("/orchestrators/Echo/new2?{waits}"), "1"),
        (&open, "POST", format!("/orchestrators/Failing/new3?{fails}"), "1"),
        (&open, "POST", "/orchestrators/Echo/active".to_owned(), "1"),
        (&full, "POST", format!("/orchestrators/Echo/new?{waits}"), "1"),
        (&open, "GET", "/instances".to_owned(), ""),
        (&open, "DELETE", "/instances".to_owned(), ""),
        (&full, "DELETE", format!("/instances?{since}"), ""),
        (&open, "GET", "/instances/active".to_owned(), ""),
        (&open, "GET", "/instances/done?showHistory=true".to_owned(), ""),
        (&open, "GET", "/instances/failed?returnInternalServerErrorOnFailure=true".to_owned(), ""),
        (&open, "POST", "/instances/active/raiseEvent/x".to_owned(), "1"),
        (&open, "POST", "/instances/done/raiseEvent/x".to_owned(), "1"),
        (&open, "POST", "/instances/done/terminate".to_owned(), ""),
        (&open, "POST", "/instances/done/suspend".to_owned(), ""),
        (&open, "POST", "/instances/done/resume".to_owned(), ""),
        (&open, "POST", "/instances/done/rewind".to_owned(), ""),
        (&open, "POST", "/instances/to%20end/terminate".to_owned(), ""),
        (&open, "POST", "/instances/to%20hold/suspend".to_owned(), ""),
        (&open, "POST", "/instances/to%20go%20on/resume".to_owned(), ""),
        (&open, "POST", "/instances/to%20rewind/rewind".to_owned(), ""),
        (&open, "POST", "/instances/done/restart".to_owned(), ""),
        (&open, "POST", format!("/instances/done/restart?{waits}"), ""),
        (&open, "POST", format!("/instances/failed/restart?{fails}"), ""),
        (&open, "POST", "/instances/active/restart?restartWithNewInstanceId=false".to_owned(), ""),
        (&full, "POST", format!("/instances/done/restart?{waits}"), ""),
        (&full, "POST", "/instances/done/rewind".to_owned(), ""),
        (&open, "DELETE", "/instances/active".to_owned(), ""),
        (&open, "DELETE", "/instances/done".to_owned(), ""),
        (&open, "DELETE", format!("/instances?{since}&runtimeStatus=Failed"), ""),
        (&open, "POST", "/makeprimary".to_owned(), ""),
        (&open, "GET", "/openapi.json".to_owned(), ""),
    ] {
        seen.insert(ask(server, verb, &path, &[json], body.into()).await);
    }
    let token = [("x-ms-continuation-token", "forged")];
    seen.insert(ask(&open, "GET", "/instances", &token, Body::empty()).await);
    for path in ["/orchestrators/Echo", "/orchestrators/Echo/x", "/instances/active/raiseEvent/x"] {
        let never =
            Body::from_stream(futures::stream::pending::<Result<Vec<u8>, std::io::Error>>());
        seen.insert(ask(&slow, "POST", path, &[json], never).await);
        let told = [json, ("content-length", "2000000")];
        seen.insert(ask(&open, "POST", path, &told, "1".into()).await);
    }
    let mut promised = BTreeSet::new();
    for item in document()["paths"].as_object().unwrap().values() {
        for (_, of) in item.as_object().unwrap().iter().filter(|(name, _)| *name != "parameters") {
            let id = of["operationId"].as_str().unwrap();
            let responses = of["responses"].as_object().unwrap().iter();
            let frequent = responses.filter(|(status, is)| !is_rare(id, status, is));
            promised.extend(frequent.map(|(status, _)| (id.to_owned(), status.clone())));
        }
    }
    let missing: Vec<_> = promised.difference(&seen).collect();
    assert!(missing.is_empty(), "promised and never seen: {missing:?}");
}
