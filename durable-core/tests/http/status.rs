//! Points 3 to 6: the status of one instance, and its history.

use chrono::{DateTime, Utc};
use durable_core::MemoryStore;
use durable_core::http::ManagementApiBuilder;
use durable_core::prelude::*;
use serde_json::{Value, json};

use super::server::{BASE, HOST, Server};

const MEMBERS: [&str; 8] = [
    "name",
    "instanceId",
    "runtimeStatus",
    "input",
    "customStatus",
    "output",
    "createdTime",
    "lastUpdatedTime",
];

fn members(status: &Value) -> Vec<&str> {
    status.as_object().expect("an object").keys().map(String::as_str).collect()
}

/// Instances in every state, by the name of the state.
async fn one_of_each() -> Server {
    let server = Server::start().await;
    for id in ["Running", "Suspended", "Terminated"] {
        server.begin("WaitForApproval", id, json!({"a": 1})).await;
        server
            .until(id, |now| now.custom_status::<String>().is_ok_and(|shown| shown.is_some()))
            .await;
    }
    server.post("/instances/Suspended/suspend?reason=wait").await.is(202);
    server.post("/instances/Terminated/terminate?reason=enough").await.is(202);
    server.begin("Echo", "Completed", json!({"a": 1})).await;
    server.begin("Failing", "Failed", json!({"a": 1})).await;
    let later = server.client.start_by_name("Echo", &json!({"a": 1})).id("Pending");
    later.delay(hours(1)).await.expect("it is accepted");
    for id in ["Running", "Suspended", "Terminated", "Completed", "Failed", "Pending"] {
        server.until(id, |now| now.runtime_status().name() == id).await;
    }
    server
}

#[tokio::test]
async fn point_3_each_state_has_its_answer_with_every_flag() {
    let server = one_of_each().await;
    let failure = "Told: to fail";
    for (id, code, code_with_flag, output) in [
        ("Pending", 202, 202, Value::Null),
        ("Running", 202, 202, Value::Null),
        ("Suspended", 202, 202, Value::Null),
        ("Completed", 200, 200, json!({"a": 1})),
        ("Failed", 200, 500, json!(failure)),
        ("Terminated", 200, 200, json!("enough")),
    ] {
        let plain = server.get(&format!("/instances/{id}")).await;
        let body = plain.is(code).json();
        let mut expected = MEMBERS.to_vec();
        expected.sort_unstable();
        assert_eq!(members(&body), expected);
        assert_eq!((&body["runtimeStatus"], &body["instanceId"]), (&json!(id), &json!(id)));
        assert_eq!((&body["output"], &body["input"]), (&output, &json!({"a": 1})), "{body}");
        let is_approval = matches!(id, "Running" | "Suspended" | "Terminated");
        assert_eq!(body["customStatus"].is_string(), is_approval, "{body}");
        let flag = "returnInternalServerErrorOnFailure=True";
        let with_flag = server.get(&format!("/instances/{id}?{flag}")).await;
        assert_eq!(with_flag.is(code_with_flag).json(), body);
        let hidden = server.get(&format!("/instances/{id}?showInput=false")).await.json();
        assert_eq!((&hidden["input"], &hidden["output"]), (&Value::Null, &output));
        assert!(hidden.as_object().unwrap().contains_key("input"));
        let history = server.get(&format!("/instances/{id}?showHistory=true")).await.json();
        assert_eq!(history["historyEvents"].is_array(), id != "Pending", "{history}");
        let useless = server.get(&format!("/instances/{id}?showHistoryOutput=true")).await.json();
        assert_eq!(useless, body);
    }
}

#[tokio::test]
async fn point_3_members_have_their_order() {
    let server = Server::start().await;
    server.begin("Echo", "a", json!(1)).await;
    server.until_ended("a").await;
    let answer = server.get("/instances/a").await;
    let places: Vec<_> =
        MEMBERS.map(|member| answer.body.find(&format!("\"{member}\":"))).into_iter().collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{answer:?}");
}

#[tokio::test]
async fn point_3_an_id_that_nobody_has_is_answered_with_nothing() {
    let server = Server::start().await;
    let too_long = "x".repeat(257);
    for id in ["nobody", "@counter@a", "a%2Fb", "a%0Ab", &too_long] {
        server.get(&format!("/instances/{id}?showHistory=true")).await.is_empty(404);
    }
}

#[tokio::test]
async fn point_3_an_instance_that_the_engine_holds_is_suspended_and_says_why() {
    let store = MemoryStore::new();
    // While there is no worker, any name is taken.
    Client::new(store.clone()).start_by_name("Gone", &1).id("held").await.unwrap();
    let server = Server::on(store, |api| api).await;
    server.until_is("held", RuntimeStatus::Suspended).await;
    let status = server.get("/instances/held").await.is(202).json();
    assert_eq!(status["runtimeStatus"], "Suspended");
    assert!(status["output"].as_str().unwrap().contains("Gone"), "{status}");
}

#[tokio::test]
async fn point_4_what_a_header_cannot_have_is_escaped_in_it() {
    let server = Server::start().await;
    server.begin("WaitForApproval", "é", json!(1)).await;
    let location = server
        .get("/instances/é?x=🦀&reason=ü")
        .await
        .is(202)
        .header("location")
        .unwrap()
        .to_owned();
    assert!(location.ends_with("/instances/%C3%A9?x=%F0%9F%A6%80&reason=%C3%BC"), "{location}");
    server.follow("GET", &location, "").await.is(202);
}

#[tokio::test]
async fn point_4_an_active_instance_says_where_and_when_to_look_again() {
    let server = one_of_each().await;
    for path in [
        "/instances/Running",
        "/instances/Running/?showInput=FALSE&x=%20y",
        "/Instances/Pending?showHistory=true",
        "/instances/%52unning?taskHub=default&connection=Storage&code=",
    ] {
        let answer = server.get(path).await;
        answer.is(202);
        let own = format!("http://{HOST}{BASE}{path}");
        assert_eq!(answer.header("location"), Some(own.as_str()));
        assert_eq!(answer.header("retry-after"), Some("5"));
    }
    for id in ["Completed", "Failed", "Terminated"] {
        let answer = server.get(&format!("/instances/{id}")).await;
        assert_eq!((answer.header("location"), answer.header("retry-after")), (None, None));
    }
}

#[tokio::test]
async fn point_5_statuses_have_whole_seconds_and_histories_seven_digits() {
    let server = one_of_each().await;
    for id in ["Running", "Completed", "Failed", "Terminated", "Suspended", "Pending"] {
        let status = server.get(&format!("/instances/{id}?showHistory=true")).await.json();
        let times = ["createdTime", "lastUpdatedTime"].map(|member| {
            let text = status[member].as_str().unwrap();
            assert_eq!((text.len(), text.ends_with('Z')), (20, true), "{text}");
            text.parse::<DateTime<Utc>>().unwrap()
        });
        assert!(times[0] <= times[1], "{status}");
        for event in status["historyEvents"].as_array().unwrap_or(&Vec::new()) {
            let text = event["Timestamp"].as_str().unwrap();
            assert_eq!((text.len(), text.ends_with('Z')), (28, true), "{text}");
            text.parse::<DateTime<Utc>>().unwrap();
        }
    }
}

async fn history(server: &Server, id: &str, query: &str) -> Vec<Value> {
    let status = server.get(&format!("/instances/{id}?showHistory=true{query}")).await.json();
    status["historyEvents"].as_array().expect("a history").clone()
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["EventType"].as_str().expect("a text")).collect()
}

#[tokio::test]
async fn point_6_the_history_of_a_chain_with_each_combination_of_flags() {
    let server = Server::start().await;
    server.begin("Chain", "a", json!(1)).await;
    server.until_ended("a").await;
    for (inputs, outputs) in [(true, true), (true, false), (false, true), (false, false)] {
        let query = format!("&showInput={inputs}&showHistoryOutput={outputs}");
        let events = history(&server, "a", &query).await;
        assert_eq!(
            kinds(&events),
            ["ExecutionStarted", "TaskCompleted", "TaskCompleted", "ExecutionCompleted"]
        );
        let or = |there: bool, value: Value| there.then_some(value);
        assert_eq!(events[0].get("Input").cloned(), or(inputs, json!("1")));
        for (event, result) in [(&events[1], 2), (&events[2], 3)] {
            assert_eq!(event["FunctionName"], "Step");
            assert_eq!(event.get("Input").cloned(), or(inputs, Value::Null));
            assert_eq!(event.get("Result").cloned(), or(outputs, json!(result)));
            let (asked, answered) = (&event["ScheduledTime"], &event["Timestamp"]);
            assert!(asked.as_str().unwrap() <= answered.as_str().unwrap(), "{event}");
        }
        assert_eq!(events[3]["OrchestrationStatus"], "Completed");
        assert_eq!(events[3].get("Result").cloned(), or(outputs, json!(3)));
        assert!(events.iter().all(|event| event.get("EventId").is_none()));
    }
    let shown = Server::with(ManagementApiBuilder::show_activity_inputs).await;
    shown.begin("Chain", "a", json!(1)).await;
    shown.until_ended("a").await;
    assert_eq!(history(&shown, "a", "").await[2]["Input"], "2");
}

#[tokio::test]
async fn point_6_the_history_of_a_fan_out_and_of_a_timer() {
    let server = Server::start().await;
    server.begin("FanOut", "a", json!(1)).await;
    server.begin("Sleeper", "b", json!(5)).await;
    server.begin("Sleeper", "c", json!(3_600_000)).await;
    assert_eq!(server.until_ended("a").await.output::<i64>().unwrap(), Some(9));
    let events = history(&server, "a", "").await;
    assert_eq!(kinds(&events)[1..4], ["TaskCompleted"; 3]);
    server.until_ended("b").await;
    let events = history(&server, "b", "").await;
    assert_eq!(
        kinds(&events),
        ["ExecutionStarted", "TimerCreated", "TimerFired", "ExecutionCompleted"]
    );
    assert_eq!(events[1]["FireAt"], events[2]["FireAt"]);
    assert!(events[2]["FireAt"].as_str().unwrap() <= events[2]["Timestamp"].as_str().unwrap());
    server.until_is("c", RuntimeStatus::Running).await;
    assert_eq!(kinds(&history(&server, "c", "").await), ["ExecutionStarted", "TimerCreated"]);
}

#[tokio::test]
async fn point_6_the_history_of_an_event_a_hold_and_a_termination() {
    let server = Server::start().await;
    for id in ["a", "b"] {
        server.begin("WaitForApproval", id, json!(1)).await;
        server.until_is(id, RuntimeStatus::Running).await;
    }
    server.post("/instances/a/suspend?reason=lunch").await.is(202);
    server.until_is("a", RuntimeStatus::Suspended).await;
    server.post("/instances/a/resume").await.is(202);
    server.until_is("a", RuntimeStatus::Running).await;
    let json = [("content-type", "application/json")];
    server.call_with("POST", "/instances/a/raiseEvent/approval", &json, "{\"a\": 1}").await.is(202);
    server.until_ended("a").await;
    let events = history(&server, "a", "&showHistoryOutput=true").await;
    assert_eq!(
        kinds(&events)[1..],
        ["ExecutionSuspended", "ExecutionResumed", "EventRaised", "ExecutionCompleted"]
    );
    assert_eq!((&events[1]["Reason"], &events[2]["Reason"]), (&json!("lunch"), &Value::Null));
    assert_eq!(
        (&events[3]["Name"], &events[3]["Input"]),
        (&json!("approval"), &json!("{\"a\": 1}"))
    );
    assert_eq!(events[4]["Result"], json!({"a": 1}));
    server.post("/instances/b/terminate?reason=why+not%3F%2050%25").await.is(202);
    server.until_ended("b").await;
    let events = history(&server, "b", "&showHistoryOutput=true").await;
    assert_eq!(kinds(&events)[1..], ["ExecutionTerminated", "ExecutionCompleted"]);
    assert_eq!(events[1]["Input"], "why not? 50%");
    assert_eq!(events[2]["OrchestrationStatus"], "Terminated");
    assert_eq!(events[2]["Result"], "why not? 50%");
}

#[tokio::test]
async fn point_6_the_history_of_a_failure() {
    let server = Server::start().await;
    server.begin("Failing", "a", json!(1)).await;
    let failed = server.until_ended("a").await;
    let events = history(&server, "a", "&showHistoryOutput=true").await;
    assert_eq!(kinds(&events), ["ExecutionStarted", "TaskFailed", "ExecutionCompleted"]);
    assert_eq!(
        events[1]["FailureDetails"],
        json!({"ErrorType": "Told", "ErrorMessage": "to fail", "StackTrace": null,
            "InnerFailure": null, "IsNonRetriable": true, "Properties": null})
    );
    assert_eq!(events[1]["Reason"], "Told: to fail");
    assert_eq!(events[2]["OrchestrationStatus"], "Failed");
    assert_eq!(events[2]["Result"], failed.failure().unwrap().to_string());
    assert_eq!(events[2]["FailureDetails"]["ErrorType"], "Told");
}

#[tokio::test]
async fn point_6_the_history_of_children() {
    let server = Server::start().await;
    server.begin("Parent", "a", json!(1)).await;
    server.begin("Waiting", "b", json!(null)).await;
    server.until_ended("a").await;
    let events = history(&server, "a", "&showHistoryOutput=true").await;
    assert_eq!(
        kinds(&events)[1..],
        [
            "SubOrchestrationInstanceCompleted",
            "SubOrchestrationInstanceFailed",
            "ExecutionCompleted"
        ]
    );
    let (chained, failed) = (&events[1], &events[2]);
    assert_eq!((&chained["FunctionName"], &chained["Input"]), (&json!("Chain"), &json!("1")));
    assert_eq!(chained["Result"], 3);
    assert_eq!((&failed["FunctionName"], &failed["Input"]), (&json!("Failing"), &json!("null")));
    assert_eq!(failed["FailureDetails"]["ErrorType"], "Told");
    for event in [chained, failed] {
        assert!(event["ScheduledTime"].as_str().unwrap() <= event["Timestamp"].as_str().unwrap());
    }
    server.eventually("child-3", |_| true).await;
    let events = history(&server, "b", "").await;
    assert_eq!(kinds(&events)[1..], ["SubOrchestrationInstanceCreated"]);
    assert_eq!(events[1]["InstanceId"], "child-3");
    // A child is an instance like any other.
    server.get("/instances/child-1").await.is(200);
}
