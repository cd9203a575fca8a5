//! Point 10: operations on one instance, in each state that it can be in.

use durable_core::prelude::*;
use serde_json::{Value, json};

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

/// What the body of an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    Nothing,
    Text,
    Object,
}

impl Says {
    fn of(answer: &Answer) -> Self {
        if answer.body.is_empty() {
            return Self::Nothing;
        }
        match answer.json() {
            Value::String(_) => Self::Text,
            Value::Object(_) => Self::Object,
            other => panic!("{other}"),
        }
    }
}
use Says::{Nothing, Object, Text};

const STAGES: [Stage; 7] = [Nobody, Pending, Running, Suspended, Completed, Terminated, Failed];

#[tokio::test]
async fn point_10_every_operation_in_every_state() {
    let server = Server::start().await;
    // In the order of STAGES. Holding what is held, and letting go on what does, is accepted.
    let commands = [404, 202, 202, 202, 410, 410, 410];
    let same_id = "/restart?restartWithNewInstanceId=False";
    let table = [
        ("POST", "/raiseEvent/noise", commands, Nothing, Nothing),
        ("POST", "/terminate?reason=r", commands, Nothing, Nothing),
        ("POST", "/suspend?reason=r", commands, Nothing, Nothing),
        ("POST", "/resume?reason=r", commands, Nothing, Nothing),
        ("POST", same_id, [400, 409, 409, 409, 202, 202, 202], Object, Object),
        ("POST", "/restart", [400, 202, 202, 202, 202, 202, 202], Object, Object),
        ("POST", "/rewind?reason=r", [404, 412, 412, 412, 412, 412, 202], Nothing, Text),
        ("DELETE", "", [404, 412, 412, 412, 200, 200, 200], Object, Text),
    ];
    for (row, (verb, operation, codes, accepted, refused)) in table.into_iter().enumerate() {
        for (stage, code) in STAGES.into_iter().zip(codes) {
            let case = format!("{verb} {operation} when {stage:?}");
            let id = format!("{stage:?}-{row}");
            bring(&server, &id, stage).await;
            let json = [("content-type", "application/json")];
            let path = format!("/instances/{id}{operation}");
            let answer = server.call_with(verb, &path, &json, "1").await;
            let says = match code {
                200 | 202 => accepted,
                404 if !operation.starts_with("/rewind") => Nothing,
                _ => refused,
            };
            assert_eq!((answer.status, Says::of(&answer)), (code, says), "{case}: {answer:?}");
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

#[tokio::test]
async fn point_10_a_restart_runs_the_same_again_under_a_new_id() {
    let server = Server::start().await;
    let input = "{\"b\":1,\"a\":1.0}";
    server.call("POST", "/orchestrators/Echo/a?version=7", input).await.is(202);
    let first = server.until_ended("a").await;
    for query in ["", "?restartWithNewInstanceId=true", "?restartWithNewInstanceId=maybe"] {
        let restarted = server.post(&format!("/instances/a/restart{query}")).await;
        let id = restarted.is(202).json()["id"].as_str().unwrap().to_owned();
        assert_eq!(id.len(), 32, "{id}");
        let location = restarted.header("location").unwrap();
        assert_eq!(restarted.json()["statusQueryGetUri"], location);
        let again = server.until_ended(&id).await;
        assert_eq!((again.name(), again.version()), ("Echo", None));
        assert_eq!(
            (&again.row().input, &again.row().output),
            (&first.row().input, &first.row().output)
        );
        assert!(again.created_at() > first.created_at());
    }
    assert_eq!(server.client.status("a").await.unwrap().unwrap(), first);
}

#[tokio::test]
async fn point_10_a_restart_under_the_same_id_takes_its_place() {
    let server = Server::start().await;
    server.begin("Failing", "a", json!([1])).await;
    let first = server.until_ended("a").await;
    let restarted = server.post("/instances/a/restart?restartWithNewInstanceId=false").await;
    assert_eq!(restarted.is(202).json()["id"], "a");
    let again = server.eventually("a", |now| now.run() > first.run() && now.has_ended()).await;
    assert_eq!((again.name(), &again.row().input), ("Failing", &first.row().input));
    assert!(again.created_at() > first.created_at());
}

#[tokio::test]
async fn point_10_a_restart_waits_as_a_start_does() {
    let server = Server::start().await;
    server.begin("Echo", "a", json!({"a": 1})).await;
    server.until_ended("a").await;
    let waits = "/instances/a/restart?timeout=30&pollingInterval=1";
    assert_eq!(server.post(waits).await.is(200).json(), json!({"a": 1}));
    let senseless = "/instances/a/restart?timeout=1&pollingInterval=2";
    server.post(senseless).await.is_refused_for("longer than timeout");
    assert_eq!(server.get("/instances").await.json().as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn point_10_a_restart_of_nobody_is_a_wrong_argument() {
    let server = Server::start().await;
    for id in ["nobody", "@counter@a", "a%2Fb"] {
        let answer = server.post(&format!("/instances/{id}/restart")).await;
        let message = "InstanceId does not match a valid orchestration instance.";
        assert_eq!(answer.is(400).json()["Message"], message);
    }
}

#[tokio::test]
async fn point_10_a_rewind_runs_again_what_failed_and_ends_a_second_time() {
    let server = Server::start().await;
    server.begin("FailingUntil", "a", json!(null)).await;
    let failed = server.until_ended("a").await;
    // Without a reason there is none.
    server.post("/instances/a/rewind").await.is_empty(202);
    server.eventually("a", |now| now.execution() > failed.execution() && now.has_ended()).await;
    let history = server.get("/instances/a?showHistory=true").await.json()["historyEvents"].clone();
    let rewound_as = (&history[1]["EventType"], &history[1]["Reason"]);
    assert_eq!(rewound_as, (&json!("ExecutionRewound"), &json!(null)));
    let failed = server.until_ended("a").await;
    let rewound = |expected: RuntimeStatus| {
        let server = &server;
        let execution = failed.execution();
        async move {
            server.post("/instances/a/rewind?reason=try+again").await.is_empty(202);
            server
                .eventually("a", |now| {
                    now.execution() > execution && now.runtime_status() == expected
                })
                .await
        }
    };
    // The cause is still there.
    let again = rewound(RuntimeStatus::Failed).await;
    assert!(again.updated_at() > failed.updated_at());
    server.cause.remove();
    let completed = rewound(RuntimeStatus::Completed).await;
    assert_eq!(completed.created_at(), failed.created_at());
    // What had succeeded is kept: the step ran once.
    assert_eq!(completed.output::<u32>().unwrap(), Some(1));
    let history = server.get("/instances/a?showHistory=true").await.json()["historyEvents"].clone();
    assert_eq!(
        (&history[0]["EventType"], &history[0]["Generation"]),
        (&json!("ExecutionStarted"), &json!(3))
    );
    let rewound = (&history[1]["EventType"], &history[1]["Reason"]);
    assert_eq!(rewound, (&json!("ExecutionRewound"), &json!("try again")));
    let refused = server.post("/instances/a/rewind").await.is(412).json();
    assert!(refused.as_str().unwrap().contains("\"a\" has the status Completed"), "{refused}");
}

#[tokio::test]
async fn point_10_a_rewind_of_nobody_says_who_is_not_there() {
    let server = Server::start().await;
    for (path, id) in [("nobody", "nobody"), ("a%20b", "a b"), ("@counter@a", "@counter@a")] {
        let refused = server.post(&format!("/instances/{path}/rewind?reason=x")).await;
        let text = format!("No orchestration with the instance ID \"{id}\" was found.");
        assert_eq!(refused.is(404).json(), text);
    }
}
