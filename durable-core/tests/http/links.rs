//! Signed links: what they open, for whom, until when; and that nothing else is said to who holds one.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::DateTime;
use durable_core::MemoryStore;
use durable_core::http::{
    CheckStatusPayload, LinkRights, ManagementApiBuilder, WaitOptions, redacted_url,
};
use durable_core::prelude::*;
use serde_json::{Value, json};

use super::server::{Answer, BASE, HOST, Server, request, token_of};

const KEY: &str = "the key of the whole hub";
const OLD: [u8; 32] = [7; 32];
const NEW: [u8; 32] = [8; 32];

/// What a test's clock shows, in seconds.
#[derive(Clone)]
struct Clock(Arc<AtomicI64>);

impl Clock {
    const START: i64 = 1_767_600_000;

    fn new() -> Self {
        Self(Arc::new(AtomicI64::new(Self::START)))
    }

    fn set(&self, seconds_on: i64) {
        self.0.store(Self::START + seconds_on, Ordering::Relaxed);
    }

    fn on(&self, api: ManagementApiBuilder) -> ManagementApiBuilder {
        let clock = self.0.clone();
        api.clock(move || {
            DateTime::from_timestamp(clock.load(Ordering::Relaxed), 0).expect("in the calendar")
        })
    }
}

async fn server() -> Server {
    Server::with(|api| api.key(KEY).signing_secret(OLD)).await
}

/// The links of an instance, signed for an hour.
async fn signed(server: &Server, id: &str, rights: LinkRights) -> CheckStatusPayload {
    let client =
        server.client_of_handler().await.signed(rights, hours(1)).expect("there is a secret");
    client.check_status_payload(id).expect("an id")
}

/// Each operation on an instance: its link, what it takes, and what the link has to allow.
fn operations(links: &CheckStatusPayload) -> Vec<(&'static str, String, LinkRights)> {
    let because = |link: &str| link.replace("{text}", "told%20so");
    vec![
        ("GET", links.status_query_get_uri.clone(), LinkRights::READ),
        ("POST", links.send_event_post_uri.replace("{eventName}", "noise"), LinkRights::RAISE),
        ("POST", because(&links.suspend_post_uri), LinkRights::MANAGE),
        ("POST", because(&links.resume_post_uri), LinkRights::MANAGE),
        ("POST", because(&links.rewind_post_uri), LinkRights::MANAGE),
        ("POST", links.restart_post_uri.clone(), LinkRights::MANAGE),
        ("POST", because(&links.terminate_post_uri), LinkRights::MANAGE),
        ("DELETE", links.purge_history_delete_uri.clone(), LinkRights::MANAGE),
    ]
}

const RIGHTS: [LinkRights; 4] =
    [LinkRights::READ, LinkRights::INSPECT, LinkRights::RAISE, LinkRights::MANAGE];

#[tokio::test]
async fn a_link_opens_what_it_allows_and_nothing_else() {
    let server = server().await;
    for (number, rights) in
        RIGHTS.into_iter().chain([LinkRights::READ | LinkRights::MANAGE]).enumerate()
    {
        let id = format!("a {number}");
        server.begin("WaitForApproval", &id, json!(1)).await;
        for id in [id.as_str(), "nobody"] {
            for (verb, link, needed) in operations(&signed(&server, id, rights).await) {
                let answer = server.follow(verb, &link, "1").await;
                let case = format!("{rights:?} {verb} {link}: {answer:?}");
                if !rights.contains(needed) {
                    assert_eq!(answer.status, 403, "{case}");
                    let said = "The link that was shown does not allow this";
                    assert_eq!(answer.json(), json!({"Message": said}), "{case}");
                } else if id == "nobody" {
                    assert!(matches!(answer.status, 404 | 400), "{case}");
                } else {
                    assert!(matches!(answer.status, 200 | 202 | 409 | 412), "{case}");
                }
            }
        }
    }
}

#[tokio::test]
async fn every_operation_goes_through_its_link() {
    let server = server().await;
    server.begin("WaitForApproval", "a b", json!(1)).await;
    let id = "a b";
    let all = LinkRights::READ | LinkRights::RAISE | LinkRights::MANAGE;
    let links = signed(&server, id, all).await;
    let because = |link: &str| link.replace("{text}", "told");
    server.follow("GET", &links.status_query_get_uri, "").await.is(202);
    server.follow("POST", &because(&links.suspend_post_uri), "").await.is_empty(202);
    server.until_is(id, RuntimeStatus::Suspended).await;
    server.follow("POST", &because(&links.resume_post_uri), "").await.is_empty(202);
    let raise = links.send_event_post_uri.replace("{eventName}", "approval");
    server.follow("POST", &raise, "\"yes\"").await.is_empty(202);
    server.until_is(id, RuntimeStatus::Completed).await;
    server.follow("POST", &because(&links.rewind_post_uri), "").await.is(412);
    server.follow("POST", &links.restart_post_uri, "").await.is(202);
    server.follow("POST", &because(&links.terminate_post_uri), "").await.is_empty(202);
    server.until_is(id, RuntimeStatus::Terminated).await;
    server.follow("DELETE", &links.purge_history_delete_uri, "").await.is(200);
    server.follow("GET", &links.status_query_get_uri, "").await.is_empty(404);
}

#[tokio::test]
async fn a_reader_sees_the_result_and_an_inspector_how_it_came_about() {
    let server = server().await;
    server.begin("Chain", "a", json!(1)).await;
    server.until_ended("a").await;
    for (rights, input, events) in
        [(LinkRights::READ, Value::Null, false), (LinkRights::INSPECT, json!(1), true)]
    {
        let link = signed(&server, "a", rights).await.status_query_get_uri;
        let asked = format!("{link}&showInput=true&showHistory=true&showHistoryOutput=true");
        let status = server.follow("GET", &asked, "").await.is(200).json();
        assert_eq!((&status["output"], &status["input"]), (&json!(3), &input), "{rights:?}");
        assert_eq!(status.get("historyEvents").is_some(), events, "{rights:?}");
    }
}

#[tokio::test]
async fn answers_to_a_link_have_its_token_in_them_and_never_the_key() {
    let server = server().await;
    server.begin("WaitForApproval", "a", json!(1)).await;
    let links = signed(&server, "a", LinkRights::READ | LinkRights::MANAGE).await;
    let token = format!("&token={}", token_of(&links));
    let ask = format!("{}&showInput=false", links.status_query_get_uri);
    assert_eq!(server.follow("GET", &ask, "").await.is(202).header("location"), Some(&*ask));
    server.follow("POST", &links.terminate_post_uri.replace("{text}", "x"), "").await.is(202);
    server.until_ended("a").await;
    let again = server.follow("POST", &links.restart_post_uri, "").await;
    let own = again.is(202).header("location").unwrap().to_owned();
    assert!(!again.body.contains("code="), "{again:?}");
    for (member, link) in again.json().as_object().unwrap() {
        let link = link.as_str().unwrap();
        assert!(member == "id" || link.ends_with(&token), "{member}: {link}");
    }
    server.follow("GET", &own, "").await.is(202);
}

#[tokio::test]
async fn a_link_never_leads_beyond_its_instance() {
    let server = server().await;
    for id in ["a", "a b", "b"] {
        server.begin("WaitForApproval", id, json!(1)).await;
    }
    let everything = LinkRights::INSPECT | LinkRights::RAISE | LinkRights::MANAGE;
    let token = server.token("a", everything, hours(1)).await;
    for (verb, path) in [
        ("GET", "/instances/b"),
        ("GET", "/instances/A"),
        ("GET", "/instances/a%20b"),
        ("GET", "/instances/a%20"),
        ("GET", "/instances/a%00"),
        ("GET", "/instances/nobody"),
        ("GET", "/instances/%FF"),
        ("POST", "/instances/b/terminate"),
        ("DELETE", "/instances/b"),
        ("GET", "/instances"),
        ("GET", "/instances/"),
        ("GET", "/instances//a"),
        ("DELETE", "/instances"),
        ("POST", "/orchestrators/Echo"),
        ("POST", "/orchestrators/Echo/a"),
        ("POST", "/orchestrators/a"),
        ("POST", "/makeprimary"),
        ("GET", "/entities/a"),
        ("PUT", "/instances/a"),
        ("POST", "/instances/a/explode"),
        ("GET", "/instances/b/../a"),
        ("GET", "/nothing"),
        ("GET", ""),
    ] {
        let path = format!("{path}?createdTimeFrom=2000-01-01&token={token}");
        server.call(verb, &path, "1").await.is_empty(401);
    }
    server.send(request("GET", &format!("/metrics?token={token}"), &[], "")).await.is_empty(401);
    // Under a new id a restart is a start.
    for query in ["", "&restartWithNewInstanceId=true", "&restartWithNewInstanceId=no"] {
        server.post(&format!("/instances/a/restart?token={token}{query}")).await.is(403);
    }
    let other = format!("/instances/a?token={token}&taskHub=other");
    server.get(&other).await.is_empty(404);
    for id in ["a", "a b", "b"] {
        assert!(!server.client.status(id).await.unwrap().unwrap().has_ended());
    }
    let all = server.client.instances().page(None, 10).await.unwrap();
    assert_eq!(all.instances.len(), 3, "and nothing was started");
}

#[tokio::test]
async fn who_may_only_manage_does_not_wait_for_the_output() {
    let server = server().await;
    server.begin("Echo", "a", json!("secret output")).await;
    server.until_ended("a").await;
    let waits = "&timeout=10&pollingInterval=1";
    let blind = signed(&server, "a", LinkRights::MANAGE).await.restart_post_uri;
    server.follow("POST", &format!("{blind}{waits}"), "").await.is(403);
    server.follow("POST", &blind, "").await.is(202);
    server.until_ended("a").await;
    let reader = LinkRights::MANAGE | LinkRights::READ;
    let reader = signed(&server, "a", reader).await.restart_post_uri;
    let output = server.follow("POST", &format!("{reader}{waits}"), "").await;
    assert_eq!(output.is(200).json(), "secret output");
}

#[tokio::test]
async fn every_way_to_write_an_id_is_the_id() {
    let server = server().await;
    server.begin("Echo", "a b+é", json!(1)).await;
    server.until_ended("a b+é").await;
    let token = server.token("a b+é", LinkRights::READ, hours(1)).await;
    for path in ["a%20b%2B%C3%A9", "a+b%2b%c3%a9", "%61%20%62%2B%C3%A9/"] {
        server.get(&format!("/INSTANCES/{path}?TOKEN={token}")).await.is(200);
    }
}

#[tokio::test]
async fn a_token_that_was_altered_opens_nothing_and_does_not_say_why() {
    let server = server().await;
    server.begin("WaitForApproval", "a", json!(1)).await;
    let good = server.token("a", LinkRights::READ, hours(1)).await;
    let mut bad: Vec<String> = (0..good.len())
        .map(|at| {
            let mut bytes = good.clone().into_bytes();
            bytes[at] ^= 1;
            String::from_utf8(bytes).unwrap().replace('/', "%2F").replace('#', "%23")
        })
        .collect();
    let (claims, signature) = good.rsplit_once('.').unwrap();
    bad.extend((0..good.len()).filter(|end| *end > 0).map(|end| good[..end].to_owned()));
    bad.extend([
        good.to_uppercase(),
        format!("{good}0"),
        format!("%20{good}"),
        format!("{good}%00"),
        format!("{good},{good}"),
        format!("{good}&token={good}"),
        format!("&token={good}&token="),
        format!("{}.{signature}", claims.replace(".r.", ".rem.")),
        format!("{}.{signature}", claims.replace(".r.", "..")),
        format!("{}9.{signature}", claims),
        format!("1.r.18446744073709551615.{signature}"),
        format!("{claims}.{}", "0".repeat(64)),
        "%FF.%FF.%FF.%FF".to_owned(),
        "...".to_owned(),
        "x".repeat(10_000),
    ]);
    for bad in bad {
        for id in ["a", "nobody"] {
            server.get(&format!("/instances/{id}?token={bad}")).await.is_empty(401);
        }
        server.post(&format!("/instances/a/terminate?token={bad}")).await.is_empty(401);
    }
    server.get(&format!("/instances/a?token={good}")).await.is(202);
}

#[tokio::test]
async fn a_link_expires() {
    let clock = Clock::new();
    let server = Server::with(|api| clock.on(api.key(KEY).signing_secret(OLD))).await;
    server.begin("WaitForApproval", "a", json!(1)).await;
    let all = LinkRights::INSPECT | LinkRights::RAISE | LinkRights::MANAGE;
    let links = signed(&server, "a", all).await;
    for (seconds, code) in [(0, 202), (3_599, 202), (-86_400, 202)] {
        clock.set(seconds);
        server.follow("GET", &links.status_query_get_uri, "").await.is(code);
    }
    clock.set(3_600);
    for (verb, link, _) in operations(&links) {
        server.follow(verb, &link, "1").await.is_empty(401);
    }
    // For no time at all, and for longer than there is a calendar.
    for (time, code) in [(secs(0), 401), (millis(999), 401), (Duration::MAX, 202)] {
        let client = server.client_of_handler().await.signed(LinkRights::READ, time).unwrap();
        let link = client.check_status_payload("a").unwrap().status_query_get_uri;
        assert_eq!(server.follow("GET", &link, "").await.status, code, "{time:?}");
    }
}

#[tokio::test]
async fn secrets_are_changed_one_after_the_other() {
    let store = MemoryStore::new();
    let with = |secrets: &'static [[u8; 32]]| {
        let set = move |api: ManagementApiBuilder| {
            secrets.iter().fold(api.key(KEY), |api, secret| api.signing_secret(*secret))
        };
        Server::on(store.clone(), set)
    };
    let mut tokens = Vec::new();
    for (secrets, opened) in
        [(&[OLD][..], &[][..]), (&[OLD, NEW], &[0][..]), (&[NEW, OLD], &[0, 1]), (&[NEW], &[2])]
    {
        let server = with(secrets).await;
        if tokens.is_empty() {
            server.begin("WaitForApproval", "a", json!(1)).await;
        }
        for (at, token) in tokens.iter().enumerate() {
            let code = if opened.contains(&at) { 202 } else { 401 };
            let answer = server.get(&format!("/instances/a?token={token}")).await;
            assert_eq!(answer.status, code, "the token of step {at}: {answer:?}");
        }
        tokens.push(server.token("a", LinkRights::READ, hours(1)).await);
    }
}

#[tokio::test]
async fn a_request_shows_a_token_or_a_key_and_not_both() {
    let server = server().await;
    server.begin("WaitForApproval", "a", json!(1)).await;
    let link = signed(&server, "a", LinkRights::READ).await.status_query_get_uri;
    let path = link.strip_prefix(&format!("http://{HOST}")).unwrap();
    for key in [KEY, "wrong"] {
        let headers = [("x-functions-key", key)];
        server.send(request("GET", path, &headers, "")).await.is_empty(401);
        let both = format!("{path}&code={}", key.replace(' ', "%20"));
        server.send(request("GET", &both, &[], "")).await.is_empty(401);
    }
    // What is blank is not shown.
    let blank = [("x-functions-key", "")];
    server.send(request("GET", &format!("{path}&code="), &blank, "")).await.is(202);
    server.get(&format!("/instances/a?token=&code={}", KEY.replace(' ', "%20"))).await.is(202);
    // Links that lead elsewhere, and pages of others.
    let foreign = [("origin", "https://evil.example")];
    let raise = signed(&server, "a", LinkRights::RAISE).await.send_event_post_uri;
    let path = raise.strip_prefix(&format!("http://{HOST}")).unwrap();
    server.send(request("POST", &path.replace("{eventName}", "x"), &foreign, "1")).await.is(403);
}

#[tokio::test]
async fn where_no_key_is_asked_for_a_link_does_no_more_than_it_says() {
    let server = Server::with(|api| api.signing_secret(OLD)).await;
    server.begin("WaitForApproval", "a", json!(1)).await;
    server.begin("WaitForApproval", "b", json!(1)).await;
    let token = server.token("a", LinkRights::READ, hours(1)).await;
    server.get("/instances/a").await.is(202);
    server.get(&format!("/instances/a?token={token}")).await.is(202);
    server.get(&format!("/instances/b?token={token}")).await.is_empty(401);
    server.post(&format!("/instances/a/terminate?token={token}")).await.is(403);
    // This machine's way in knows no tokens.
    let local = |path: &str| request("GET", &format!("/durabletask{path}"), &[], "");
    server.send(local("/instances/b?token=1.r.9.00")).await.is(202);
    // Without a secret it is a parameter like any other that means nothing.
    let none = Server::start().await;
    none.get("/instances?token=1.r.9.00").await.is(200);
    let why = none.client_of_handler().await.signed(LinkRights::READ, hours(1)).unwrap_err();
    assert!(why.to_string().contains("signing secret"), "{why}");
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn a_hub_does_not_open_to_the_links_of_another() {
    use durable_core::machine::model::HubName;
    use durable_core::store::{SqliteOptions, SqliteStore};

    let here = server().await;
    let directory = tempfile::tempdir().unwrap();
    let options =
        SqliteOptions { hub: HubName::new("elsewhere").unwrap(), ..SqliteOptions::default() };
    let named = SqliteStore::open_with(directory.path().join("hub.db"), options).unwrap();
    let there = Server::on(named, |api| api.key(KEY).signing_secret(OLD)).await;
    for server in [&here, &there] {
        server.begin("WaitForApproval", "a", json!(1)).await;
    }
    let token = there.token("a", LinkRights::READ, hours(1)).await;
    there.get(&format!("/instances/a?token={token}")).await.is(202);
    here.get(&format!("/instances/a?token={token}")).await.is_empty(401);
}

#[tokio::test]
async fn a_handler_hands_out_signed_links() {
    let server = server().await;
    server.begin("WaitForApproval", "a", json!(1)).await;
    server.begin("Failing", "failed", json!("secret input")).await;
    server.until_ended("failed").await;
    let signed = async |rights| server.client_of_handler().await.signed(rights, hours(1)).unwrap();
    let reader = signed(LinkRights::READ).await;
    let answer = Answer::from(reader.create_check_status_response("a")).await;
    let link = answer.is(202).header("location").unwrap().to_owned();
    assert!(!answer.body.contains("code="), "{answer:?}");
    server.follow("GET", &link, "").await.is(202);
    let raise = answer.json()["sendEventPostUri"].as_str().unwrap().to_owned();
    server.follow("POST", &raise, "1").await.is(403);
    // Each instance has a token of its own.
    let other = reader.check_status_payload("failed").unwrap();
    assert_ne!(token_of(&other), link.rsplit_once("&token=").unwrap().1);
    let options = WaitOptions::default;
    for (rights, shown) in [(LinkRights::READ, false), (LinkRights::INSPECT, true)] {
        let client = signed(rights).await;
        let wait = client.wait_for_completion_or_create_check_status_response("failed", options());
        let failed = Answer::from(wait.await).await;
        assert_eq!(failed.is(200).body.contains("secret input"), shown, "{failed:?}");
    }
}

/// Keeps all that is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl tracing::field::Visit for Log {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        *self.0.lock().expect("no panic here") += &format!("{field}={value:?} ");
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        span.record(&mut self.clone());
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, values: &tracing::span::Record<'_>) {
        values.record(&mut self.clone());
    }
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut self.clone());
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn keys_tokens_and_secrets_are_printed_nowhere() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let key = "opensesame";
    let secret = "abcdefghijklmnopqrstuvwxyz012345";
    let server = Server::with(|api| {
        let api = api.key(key).signing_secret(secret);
        tracing::info!("{api:?}");
        api
    })
    .await;
    server.begin("WaitForApproval", "a", json!(1)).await;
    let all = LinkRights::INSPECT | LinkRights::RAISE | LinkRights::MANAGE;
    let client = server.client_of_handler().await.signed(all, hours(1)).unwrap();
    let links = client.check_status_payload("a").unwrap();
    tracing::info!("{:?} {client:?} {links:?} {:?}", server.api, server.api.client_binding());
    for (verb, link, _) in operations(&links) {
        server.follow(verb, &link, "1").await;
        let by_key = link.replace("token=", "code=");
        server.follow(verb, &by_key, "1").await.is_empty(401);
    }
    for query in [format!("code={key}"), format!("code={key}x"), format!("token={key}")] {
        server.get(&format!("/instances/a?{query}")).await;
        let url = format!("http://{HOST}{BASE}/instances/a?{query}").parse().unwrap();
        tracing::info!("{}", redacted_url(&url));
    }
    let signature = token_of(&links).rsplit_once('.').unwrap().1.to_owned();
    let log = log.0.lock().unwrap();
    assert!(log.contains("ManagementApi") && log.contains("CheckStatusPayload"), "{log}");
    for hidden in [key, secret, &signature, &format!("{:?}", secret.as_bytes())] {
        assert!(!log.contains(hidden), "{hidden}: {log}");
    }
}
