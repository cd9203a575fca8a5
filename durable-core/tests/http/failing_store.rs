//! A store that is busy, full or cannot be reached: what each route answers, that nothing is half done, and that
//! all goes on when the store does.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use durable_core::http::ManagementApi;
use durable_core::prelude::*;
use durable_core::{InstanceStatus, MemoryStore};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::document::{operation_id, operations_with};
use super::functions::registry;
use super::server::{Answer, BASE, Server, address, request};
use crate::engine::faulty::{Fault, Faults, Link, TestStore};

const BUSY: &str = r#"{"Message":"the storage is busy; try again later"}"#;
const FAILED: &str = r#"{"Message":"Something went wrong while processing your request","ExceptionMessage":"the server's log says what","ExceptionType":"InternalError","StackTrace":null}"#;

const PATIENCE: Duration = secs(30);

/// Every route that needs the store, and its answer where that works.
const ROUTES: [(&str, &str, &str, u16); 15] = [
    ("POST", "/orchestrators/Echo", "1", 202),
    ("POST", "/orchestrators/Echo/new", "1", 202),
    ("GET", "/instances", "", 200),
    ("GET", "/instances/there", "", 202),
    ("GET", "/instances/there?showHistory=true", "", 202),
    ("POST", "/instances/there/suspend", "", 202),
    ("POST", "/instances/there/resume", "", 202),
    ("POST", "/instances/there/raiseEvent/other", "1", 202),
    ("POST", "/instances/there/terminate", "", 202),
    ("POST", "/instances/failed/rewind", "", 202),
    ("POST", "/instances/done/restart", "", 202),
    ("POST", "/instances/done/restart?restartWithNewInstanceId=false", "", 202),
    ("POST", "/instances/done/restart?timeout=60&pollingInterval=1", "", 200),
    ("DELETE", "/instances/old", "", 200),
    ("DELETE", "/instances?createdTimeFrom=2000-01-01", "", 200),
];

/// An instance that waits and some that have ended, and the API in front of them. No worker serves them.
struct Hub {
    memory: MemoryStore,
    faults: Faults,
    link: Link,
    app: Router,
}

async fn hub() -> Hub {
    let memory = MemoryStore::new();
    let server = Server::on(memory.clone(), |api| api).await;
    server.begin("WaitForApproval", "there", json!(1)).await;
    server.until("there", |now| now.custom_status::<String>().is_ok_and(|it| it.is_some())).await;
    for (name, id) in [("Echo", "done"), ("Echo", "old"), ("Echo", "older"), ("Failing", "failed")]
    {
        server.begin(name, id, json!(1)).await;
        server.until_ended(id).await;
    }
    server.stop().await;
    let faults = Faults::default();
    let store = TestStore::new(Arc::new(memory.clone()), faults.clone());
    let link = store.link();
    let app = ManagementApi::new(Client::new(store)).app(address()).expect("it is safe");
    Hub { memory, faults, link, app }
}

impl Hub {
    async fn call(&self, verb: &str, path: &str, body: &'static str) -> Answer {
        let json = [("content-type", "application/json")];
        self.send(verb, &format!("{BASE}{path}"), &json, body).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }

    async fn send(
        &self,
        verb: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &'static str,
    ) -> Answer {
        Answer::of(self.app.clone(), request(verb, path, headers, Body::from(body))).await
    }

    /// Looks and writes of clients fail like this from now on.
    fn fails(&self, fault: Fault) {
        self.faults.plan_looks(move |_| Some(fault));
        self.writes_fail(fault);
    }

    fn writes_fail(&self, fault: Fault) {
        self.faults.plan(move |_, method| matches!(method, "accept" | "send").then_some(fault));
    }

    /// All that is there, past the faults.
    async fn all(&self) -> Vec<InstanceStatus> {
        let client = Client::new(self.memory.clone());
        client.instances().page(None, 100).await.expect("they are read").instances
    }

    /// The store works again, and a worker comes: nothing that was refused has happened, and each route does what it
    /// should.
    async fn heals(self, before: &[InstanceStatus]) {
        assert_eq!(self.all().await, before, "what is answered with an error is not done");
        self.faults.heal();
        let store = self.memory.clone();
        let worker = Worker::builder(store).registry(registry());
        let _worker = worker.start().await.expect("it starts");
        for (verb, path, body, status) in ROUTES {
            self.call(verb, path, body).await.is(status);
        }
        self.get("/metrics").await.is(200);
        assert_eq!(self.get("/readyz").await.is(200).json(), json!({"status": "ready"}));
    }
}

#[track_caller]
fn is_busy(answer: &Answer, again: &str) {
    assert_eq!((answer.status, answer.body.as_str()), (503, BUSY), "{answer:?}");
    assert_eq!(answer.header("retry-after"), Some(again), "{answer:?}");
}

#[track_caller]
fn has_failed(answer: &Answer) {
    assert_eq!((answer.status, answer.body.as_str()), (500, FAILED), "{answer:?}");
    assert_eq!(answer.header("retry-after"), None, "{answer:?}");
}

fn unready(reason: &str) -> Value {
    json!({"status": "unready", "reason": reason})
}

#[test]
fn no_route_that_needs_the_store_is_left_out() {
    let plain = |path: &str| format!("{BASE}{}", path.split('?').next().unwrap_or_default());
    let told = ROUTES.map(|(verb, path, ..)| operation_id(verb, &plain(path)).expect("described"));
    for status in ["500", "503"] {
        assert_eq!(operations_with(status), told.into_iter().collect(), "{status}");
    }
}

#[tokio::test]
async fn a_busy_store_is_503_everywhere_and_says_when_to_come_again() {
    let hub = hub().await;
    let before = hub.all().await;
    hub.fails(Fault::Throttled);
    for (verb, path, body, _) in ROUTES {
        let since = Instant::now();
        // 29.5 seconds: who comes again earlier is told the same.
        is_busy(&hub.call(verb, path, body).await, "30");
        assert!(since.elapsed() < secs(9), "{verb} {path}: nobody waits that long");
    }
    is_busy(&hub.get("/metrics").await, "30");
    let ready = hub.get("/readyz").await;
    assert_eq!(ready.is(503).json(), unready("the storage cannot be asked"));
    assert_eq!(hub.get("/healthz").await.is(200).json(), json!({"status": "ok"}));
    hub.heals(&before).await;
}

#[tokio::test]
async fn a_store_that_is_busy_for_a_moment_is_waited_for() {
    let hub = hub().await;
    for (verb, path, body, status) in [
        ("GET", "/instances/there", "", 202),
        ("POST", "/orchestrators/Echo/new", "1", 202),
        ("POST", "/instances/there/terminate", "", 202),
        ("GET", "/instances", "", 200),
    ] {
        let (mut looks, mut writes) = (0, 0);
        hub.faults.plan_looks(move |_| {
            looks += 1;
            (looks <= 5).then_some(Fault::Busy)
        });
        hub.faults.plan(move |_, _| {
            writes += 1;
            (writes <= 5).then_some(Fault::Busy)
        });
        hub.call(verb, path, body).await.is(status);
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_reached_is_500_everywhere_and_tells_strangers_nothing() {
    let hub = hub().await;
    let before = hub.all().await;
    hub.fails(Fault::LostBefore);
    for (verb, path, body, _) in ROUTES {
        has_failed(&hub.call(verb, path, body).await);
    }
    has_failed(&hub.get("/metrics").await);
    let ready = hub.get("/readyz").await;
    assert_eq!(ready.is(503).json(), unready("the storage cannot be asked"));
    hub.get("/healthz").await.is(200);
    hub.heals(&before).await;
}

#[tokio::test]
async fn what_needs_no_store_is_answered_without_one() {
    let hub = hub().await;
    hub.link.cut();
    hub.call("GET", "/openapi.json", "").await.is(200);
    hub.call("POST", "/makeprimary", "").await.is(400);
    hub.call("GET", "/entities", "").await.is_empty(404);
    hub.call("GET", "/instances/@a", "").await.is_empty(404);
    hub.call("GET", "/instances/there?taskHub=other", "").await.is_empty(404);
    hub.call("POST", "/orchestrators/Echo", "{").await.is(400);
    hub.call("POST", "/orchestrators/Echo/@a", "1").await.is(400);
    hub.call("DELETE", "/instances", "").await.is(400);
}

#[tokio::test]
async fn a_store_that_can_only_be_read_is_read() {
    for (fault, refused) in [
        (Fault::Throttled, is_busy_for_long as fn(&Answer)),
        (Fault::LostBefore, has_failed as fn(&Answer)),
    ] {
        let hub = hub().await;
        let before = hub.all().await;
        hub.writes_fail(fault);
        for (verb, path, body, status) in ROUTES {
            let answer = hub.call(verb, path, body).await;
            if verb == "GET" { _ = answer.is(status) } else { refused(&answer) }
        }
        hub.get("/metrics").await.is(200);
        hub.get("/readyz").await.is(200);
        hub.heals(&before).await;
    }
}

fn is_busy_for_long(answer: &Answer) {
    is_busy(answer, "30");
}

#[tokio::test]
async fn a_store_that_hangs_is_not_ready_until_it_answers_again() {
    let hub = hub().await;
    hub.link.stick();
    let ready = hub.get("/readyz").await;
    assert_eq!(ready.is(503).json(), unready("the storage does not answer"));
    hub.get("/healthz").await.is(200);
    hub.link.mend();
    hub.get("/readyz").await.is(200);
}

#[tokio::test]
async fn a_start_whose_answer_was_lost_is_found_under_its_id() {
    let hub = hub().await;
    let before = hub.all().await.len();
    hub.writes_fail(Fault::LostAfter);
    has_failed(&hub.call("POST", "/orchestrators/WaitForApproval/lost", "1").await);
    hub.faults.heal();
    let there = hub.call("GET", "/instances/lost", "").await;
    assert_eq!(there.is(202).json()["runtimeStatus"], "Pending");
    hub.call("POST", "/orchestrators/WaitForApproval/lost", "1").await.is(409);
    assert_eq!(hub.all().await.len(), before + 1);
}

#[tokio::test]
async fn a_start_that_was_accepted_is_answered_with_its_links_where_nobody_can_see_its_end() {
    for fault in [Fault::Throttled, Fault::LostBefore] {
        let hub = hub().await;
        hub.faults.plan_looks(move |_| Some(fault));
        let path = "/orchestrators/Echo?timeout=60&pollingInterval=1";
        let answer = hub.call("POST", path, "1").await;
        let links = answer.is(202).json();
        assert_eq!(answer.header("location"), links["statusQueryGetUri"].as_str());
        hub.faults.heal();
        let id = links["id"].as_str().unwrap();
        hub.call("GET", &format!("/instances/{id}"), "").await.is(202);
    }
}

#[tokio::test]
async fn a_rewind_that_was_accepted_is_said_to_be_where_nobody_can_see_it() {
    for fault in [Fault::Throttled, Fault::LostBefore] {
        let hub = hub().await;
        let mut looks = 0;
        hub.faults.plan_looks(move |_| {
            looks += 1;
            (looks > 1).then_some(fault)
        });
        hub.call("POST", "/instances/failed/rewind", "").await.is_empty(202);
    }
}

/// A server whose worker is of this process, and its faults.
async fn served() -> (Server, Faults) {
    let faults = Faults::default();
    let store = TestStore::new(Arc::new(MemoryStore::new()), faults.clone());
    let server = Server::on(store, |api| api).await;
    server.begin("WaitForApproval", "there", json!(1)).await;
    server.until("there", |now| now.custom_status::<String>().is_ok_and(|it| it.is_some())).await;
    (server, faults)
}

/// What its worker has to write for.
const COMMITS: [(&str, &str); 4] = [
    ("/orchestrators/Echo", "1"),
    ("/instances/there/suspend", ""),
    ("/instances/there/resume", ""),
    ("/instances/there/terminate", ""),
];

#[tokio::test]
async fn a_worker_that_cannot_write_refuses_what_is_new_and_reads_go_on() {
    let (server, faults) = served().await;
    faults.plan(|_, method| (method == "commit").then_some(Fault::Full));
    // The first one waits for the commit that finds out, and is answered when that goes through.
    let json = [("content-type", "application/json")];
    let first = server.call_with("POST", "/instances/there/raiseEvent/other", &json, "1");
    let meanwhile = async {
        let end = Instant::now() + PATIENCE;
        // Every 200 ms: by then the worker no longer takes it for a short pause.
        while faults.injected() < 5 {
            assert!(Instant::now() < end, "no commit is tried again");
            tokio::time::sleep(millis(2)).await;
        }
        for (path, body) in COMMITS {
            is_busy(&server.call("POST", path, body).await, "1");
        }
        let status = server.get("/instances/there").await;
        assert_eq!(status.is(202).json()["runtimeStatus"], "Running");
        server.get("/instances").await.is(200);
        server.send(request("GET", "/readyz", &[], Body::empty())).await.is(200);
        faults.heal();
    };
    let (first, ()) = tokio::join!(first, meanwhile);
    first.is_empty(202);
    assert_eq!(server.get("/instances").await.json().as_array().unwrap().len(), 1);
    for (path, body) in COMMITS {
        server.call("POST", path, body).await.is(202);
    }
    server.until_is("there", RuntimeStatus::Terminated).await;
}

#[tokio::test]
async fn a_worker_whose_commits_are_lost_says_so_and_goes_on() {
    // To resume what is not suspended needs no commit.
    for (path, body) in COMMITS.into_iter().filter(|(path, _)| !path.ends_with("resume")) {
        let (server, faults) = served().await;
        faults.plan(|_, method| (method == "commit").then_some(Fault::LostBefore));
        has_failed(&server.call("POST", path, body).await);
        let status = server.get("/instances/there").await;
        assert_eq!(status.is(202).json()["runtimeStatus"], "Running", "{path}");
        assert_eq!(server.get("/instances").await.json().as_array().unwrap().len(), 1, "{path}");
        faults.heal();
        // Whoever is answered with an error asks again; the partition is opened again meanwhile.
        let end = Instant::now() + PATIENCE;
        while server.post("/instances/there/terminate").await.status != 202 {
            assert!(Instant::now() < end, "{path}: it does not go on");
            tokio::time::sleep(millis(20)).await;
        }
        server.until_is("there", RuntimeStatus::Terminated).await;
        while server.send(request("GET", "/readyz", &[], Body::empty())).await.status != 200 {
            assert!(Instant::now() < end, "{path}: it is not ready again");
            tokio::time::sleep(millis(2)).await;
        }
    }
}
