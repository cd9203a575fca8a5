//! Random requests to the whole API: each is answered as the document says, touches what it names and nothing else, and
//! says nothing to strangers.
//!
//! `make fuzz SECONDS=n` goes on for so long; without it a run is short and the same each time. A failure prints the
//! seed that repeats it; the request belongs into `corpus/` then.

#[allow(dead_code, reason = "the tests of the parsers use the rest")]
mod pieces;

use std::collections::BTreeSet;

use axum::http::Uri;
use durable_core::prelude::*;
use serde_json::json;

use super::server::{Answer, BASE, Server, request};
pub(crate) use pieces::decoded;
use pieces::{Case, Meaning, Source, corpus, meaning, seeds};

/// Rounds in a short run, and requests in each. A round has a hub of its own.
const SHORT: u64 = 8;
const REQUESTS: usize = 250;

/// Ids that are easily taken for another, or for something else.
const THERE: [&str; 12] = [
    "there",
    "There",
    "there ",
    "a b",
    "a+b",
    "%41",
    "A",
    "100%",
    "é🦀",
    "instances",
    "..x",
    "\"it's\"",
];

async fn server() -> Server {
    let server = Server::with(|api| api.limits(|limits| limits.wait = millis(1))).await;
    for id in THERE {
        server.begin("WaitForApproval", id, json!(1)).await;
    }
    for id in THERE {
        server.until(id, |now| now.custom_status::<String>().is_ok_and(|s| s.is_some())).await;
    }
    server
}

/// A request with the headers of one, and some of another.
async fn send(source: &mut Source, server: &Server, verb: &str, target: &str) -> Option<Answer> {
    let target = format!("{BASE}{target}");
    target.parse::<Uri>().ok()?;
    let mut headers = vec![("content-type", "application/json")];
    if source.one_in(8) {
        let hosts = ["localhost", "evil.example", "127.0.0.1:7071", "[::1]", "", "a@localhost"];
        headers.push(("host", source.pick(&hosts)));
    }
    if source.one_in(8) {
        headers.push((
            "origin",
            source.pick(&["http://127.0.0.1:7071", "https://evil.example", "null"]),
        ));
    }
    if source.one_in(8) {
        let tokens = ["", "x", "00000000000000000000000000000000"];
        headers.push(("x-ms-continuation-token", source.pick(&tokens)));
    }
    let body = source.pick(&["", "1", "\"\"", "{\"a\":[1]}", "{", "null"]);
    Some(server.send(request(verb, &target, &headers, body)).await)
}

#[tokio::test]
async fn a_request_touches_what_it_names_and_nothing_else() {
    let corpus = corpus();
    for seed in seeds(SHORT) {
        let mut source = Source::new(seed);
        let server = server().await;
        let mut before = Vec::new();
        for id in THERE {
            before.push(server.client.status(id).await.unwrap().unwrap());
        }
        let mut touched = BTreeSet::new();
        for number in 0..REQUESTS {
            let (verb, target) = match source.below(3) {
                0 => corpus[source.below(corpus.len())].clone(),
                1 => source.altered(&corpus),
                _ => source.request(&THERE),
            };
            let _case = Case(seed, format!("request {number}: {verb} {target}"));
            let Some(answer) = send(&mut source, &server, &verb, &target).await else { continue };
            let path = target.split(['?', '#']).next().unwrap_or_default();
            let meant = meaning(&verb, path);
            let shown = answer.status;
            match (meant, answer.status) {
                (Meaning::One { what: "status", id, .. }, 200 | 202) => {
                    assert_eq!(answer.json()["instanceId"], id, "{answer:?}");
                }
                (Meaning::One { what, id, .. }, 200 | 202) => {
                    if what == "restart" && answer.json()["id"].is_string() {
                        touched.insert(answer.json()["id"].as_str().unwrap().to_owned());
                    }
                    touched.insert(id);
                }
                (Meaning::Start { id, .. }, 200 | 202) => {
                    let made = answer.json()["id"].as_str().map(str::to_owned);
                    if let (Some(asked), Some(made)) = (&id, &made) {
                        assert_eq!(asked, made, "{answer:?}");
                    }
                    touched.extend(id.or(made));
                }
                (Meaning::Hub(_), 200) => {}
                (Meaning::Nothing, _) => assert!(matches!(shown, 403 | 404), "{answer:?}"),
                (Meaning::NotText, _) => assert!(matches!(shown, 403 | 400), "{answer:?}"),
                (_, code) => assert!(code >= 400, "{answer:?}"),
            }
        }
        let _case = Case(seed, "what is there at the end".into());
        for before in &before {
            if !touched.contains(before.id().as_str()) {
                let now = server.client.status(before.id()).await.unwrap();
                assert_eq!(now.as_ref(), Some(before), "nobody named it");
            }
        }
        // Restarts that were waited for do not say their id.
        let listed = server.client.instances().page(None, 10_000).await.unwrap().instances;
        let strange: Vec<_> = listed
            .iter()
            .map(|status| status.id().as_str())
            .filter(|id| !THERE.contains(id) && !touched.contains(*id) && !is_generated(id))
            .collect();
        assert!(strange.is_empty(), "nobody named {strange:?}");
    }
}

/// 32 digits, as the server makes them.
fn is_generated(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[tokio::test]
async fn strangers_learn_nothing_whatever_they_ask() {
    let corpus = corpus();
    let server = Server::with(|api| api.key("a key").signing_secret([1; 32])).await;
    server.begin("WaitForApproval", "there", json!(1)).await;
    for seed in seeds(SHORT * REQUESTS as u64) {
        let mut source = Source::new(seed);
        let (verb, target) = match source.one_in(2) {
            true => source.altered(&corpus),
            false => source.request(&THERE),
        };
        let _case = Case(seed, format!("{verb} {target}"));
        let Some(answer) = send(&mut source, &server, &verb, &target).await else { continue };
        assert!(matches!(answer.status, 401 | 403 | 414 | 431), "{answer:?}");
    }
    assert_eq!(server.client.instances().page(None, 10).await.unwrap().instances.len(), 1);
}
