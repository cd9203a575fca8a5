//! Point 10: operations on one instance, in each state that it can be in.

use durable_core::prelude::*;
use serde_json::json;

use super::server::{Answer, Server};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Nobody,
    Pending,
    Running,
    Suspended,
    Completed,
    Terminated,
    Failed,
}
use Stage::{Completed, Failed, Nobody, Pending, Running, Suspended, Terminated};

/// Brings an instance into a state.
async fn bring(server: &Server, id: &str, stage: Stage) {
    match stage {
        Nobody => {}
        Pending => {
            let start = server.client.start_by_name("WaitForApproval", &1).id(id);
            start.delay(hours(1)).await.expect("it is accepted");
        }
        Running => {
            server.begin("WaitForApproval", id, json!(1)).await;
            server.until_is(id, RuntimeStatus::Running).await;
        }
        Suspended => {
            server.begin("WaitForApproval", id, json!(1)).await;
            server.post(&format!("/instances/{id}/suspend")).await.is_empty(202);
            server.until_is(id, RuntimeStatus::Suspended).await;
        }
        Completed => {
            server.begin("Echo", id, json!(1)).await;
            server.until_is(id, RuntimeStatus::Completed).await;
        }
        Terminated => {
            server.begin("WaitForApproval", id, json!(1)).await;
            server.post(&format!("/instances/{id}/terminate")).await.is_empty(202);
            server.until_is(id, RuntimeStatus::Terminated).await;
        }
        Failed => {
            server.begin("Failing", id, json!(1)).await;
            server.until_is(id, RuntimeStatus::Failed).await;
        }
    }
}

/// What an answer is, beside its status.
#[derive(Debug, Clone, Copy)]
enum Body {
    Empty,
}

impl Body {
    fn check(self, answer: &Answer, case: &str) {
        match self {
            Self::Empty => assert_eq!(answer.body, "", "{case}"),
        }
    }
}

const STAGES: [Stage; 7] = [Nobody, Pending, Running, Suspended, Completed, Terminated, Failed];

#[tokio::test]
async fn point_10_every_operation_in_every_state() {
    let server = Server::start().await;
    // In the order of STAGES. Holding what is held, and letting go on what does, is accepted.
    let table = [
        ("raiseEvent/noise", [404, 202, 202, 202, 410, 410, 410], Body::Empty),
        ("terminate?reason=r", [404, 202, 202, 202, 410, 410, 410], Body::Empty),
        ("suspend?reason=r", [404, 202, 202, 202, 410, 410, 410], Body::Empty),
        ("resume?reason=r", [404, 202, 202, 202, 410, 410, 410], Body::Empty),
    ];
    for (row, (operation, codes, body)) in table.into_iter().enumerate() {
        for (stage, code) in STAGES.into_iter().zip(codes) {
            let case = format!("{operation} when {stage:?}");
            let id = format!("{stage:?}-{row}");
            bring(&server, &id, stage).await;
            let json = [("content-type", "application/json")];
            let path = format!("/instances/{id}/{operation}");
            let answer = server.call_with("POST", &path, &json, "1").await;
            assert_eq!(answer.status, code, "{case}: {answer:?}");
            body.check(&answer, &case);
        }
    }
}

#[tokio::test]
async fn point_10_a_reason_is_the_output_of_what_was_terminated() {
    let server = Server::start().await;
    for (id, query, output) in [
        ("a", "?reason=why+not%3F%2050%25%20%26%20more/%C3%BC", json!("why not? 50% & more/ü")),
        ("b", "?reason=", json!(null)),
        ("c", "?", json!(null)),
        ("d", "?REASON=a,b", json!("a,b")),
    ] {
        bring(&server, id, Running).await;
        server.post(&format!("/instances/{id}/terminate{query}")).await.is_empty(202);
        server.until_is(id, RuntimeStatus::Terminated).await;
        let status = server.get(&format!("/instances/{id}")).await.is(200).json();
        assert_eq!(status["output"], output, "{query}");
    }
}

#[tokio::test]
async fn point_10_suspended_holds_events_and_timers_until_it_is_resumed() {
    let server = Server::start().await;
    server.begin("ThreeEvents", "events", json!(1)).await;
    server.begin("Sleeper", "timer", json!(50)).await;
    for id in ["events", "timer"] {
        server.post(&format!("/instances/{id}/suspend")).await.is_empty(202);
        server.until_is(id, RuntimeStatus::Suspended).await;
    }
    let json = [("content-type", "application/json")];
    for number in ["1", "2", "3"] {
        let path = "/instances/events/raiseEvent/go";
        server.call_with("POST", path, &json, number).await.is_empty(202);
    }
    // By then the timer is due, and a neighbour that slept as long has ended.
    server.begin("Sleeper", "neighbour", json!(100)).await;
    server.until_ended("neighbour").await;
    for id in ["events", "timer"] {
        let status = server.get(&format!("/instances/{id}")).await.is(202).json();
        assert_eq!(status["runtimeStatus"], "Suspended", "{status}");
        server.post(&format!("/instances/{id}/resume")).await.is_empty(202);
    }
    assert_eq!(server.until_ended("timer").await.output::<u64>().unwrap(), Some(50));
    let events = server.until_ended("events").await.output::<Vec<i32>>().unwrap();
    assert_eq!(events, Some(vec![1, 2, 3]));
}

#[tokio::test]
async fn point_10_what_is_suspended_before_it_began_begins_when_it_is_resumed() {
    let server = Server::start().await;
    let start = server.client.start_by_name("Echo", &1).id("a").delay(millis(50));
    start.await.unwrap();
    server.post("/instances/a/suspend").await.is_empty(202);
    server.begin("Sleeper", "neighbour", json!(100)).await;
    server.until_ended("neighbour").await;
    assert!(!server.client.status("a").await.unwrap().unwrap().has_ended());
    server.post("/instances/a/resume").await.is_empty(202);
    assert_eq!(server.until_ended("a").await.output::<i32>().unwrap(), Some(1));
}

#[tokio::test]
async fn there_are_no_application_leases() {
    let server = Server::start().await;
    server.post("/makePrimary").await.is_refused_for("leases");
}
