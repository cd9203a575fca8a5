//! Histories, event for event.

use durable_machine::model::{
    ActivityScheduled, CallNumber, Event, EventKind, ExecutionNumber, Failure, FailureClass,
    InstanceId, Payload, Timestamp,
};
use serde_json::{Value, json};

use super::{Shown, history};

const PLAIN: Shown = Shown { inputs: true, results: true, activity_inputs: false };

/// 2026-01-05T08:30:00Z and so many tenths of a second.
fn at(tenths: i64) -> Timestamp {
    Timestamp::from_micros(1_767_601_800_000_000 + tenths * 100_000)
}

fn value(json: &str) -> Payload {
    Payload::from_json(json).unwrap()
}

fn started(input: &str) -> EventKind {
    let started = format!("{{\"name\": \"Chain\", \"input\": {input}}}");
    EventKind::ExecutionStarted(Box::new(serde_json::from_str(&started).unwrap()))
}

fn child() -> EventKind {
    let child = r#"{"call": 0, "name": "Child", "instance": "child-1", "input": [1]}"#;
    EventKind::ChildCreated(Box::new(serde_json::from_str(child).unwrap()))
}

fn step(call: u32) -> EventKind {
    EventKind::ActivityScheduled(Box::new(ActivityScheduled {
        call: CallNumber(call),
        name: "Step".into(),
        input: value("1"),
        options: Default::default(),
    }))
}

fn result(call: u32, json: &str) -> EventKind {
    EventKind::ActivityCompleted { call: CallNumber(call), output: value(json) }
}

/// The events one tenth of a second after another, as text of the wire.
fn wire(events: impl IntoIterator<Item = EventKind>, shown: Shown) -> String {
    let events: Vec<_> =
        events.into_iter().zip(1..).map(|(is, tenth)| Event { at: at(tenth), is }).collect();
    serde_json::to_string(&history(&events, shown)).unwrap()
}

fn wire_values(events: impl IntoIterator<Item = EventKind>, shown: Shown) -> Vec<Value> {
    serde_json::from_str(&wire(events, shown)).unwrap()
}

fn chain() -> Vec<EventKind> {
    let end = EventKind::ExecutionCompleted { output: value("3") };
    vec![started("1"), step(0), result(0, "2"), step(1), result(1, "3"), end]
}

#[test]
fn two_activities_in_sequence_are_four_events() {
    let expected = r#"[{"EventType":"ExecutionStarted","Timestamp":"2026-01-05T08:30:00.1000000Z","FunctionName":"Chain","Input":"1","Correlation":null,"ScheduledStartTime":null,"Generation":0,"ParentTraceContext":null},{"EventType":"TaskCompleted","Timestamp":"2026-01-05T08:30:00.3000000Z","ScheduledTime":"2026-01-05T08:30:00.2000000Z","FunctionName":"Step","Input":null,"Result":2},{"EventType":"TaskCompleted","Timestamp":"2026-01-05T08:30:00.5000000Z","ScheduledTime":"2026-01-05T08:30:00.4000000Z","FunctionName":"Step","Input":null,"Result":3},{"EventType":"ExecutionCompleted","Timestamp":"2026-01-05T08:30:00.6000000Z","OrchestrationStatus":"Completed","Result":3,"FailureDetails":null}]"#;
    assert_eq!(wire(chain(), PLAIN), expected);
}

#[test]
fn without_inputs_or_results_the_members_are_absent() {
    for (inputs, results) in [(true, true), (true, false), (false, true), (false, false)] {
        let shown = Shown { inputs, results, activity_inputs: false };
        for event in wire_values(chain(), shown) {
            let kind = event["EventType"].as_str().unwrap();
            let has_input = matches!(kind, "ExecutionStarted" | "TaskCompleted");
            let has_result = matches!(kind, "ExecutionCompleted" | "TaskCompleted");
            assert_eq!(event.get("Input").is_some(), inputs && has_input, "{event}");
            assert_eq!(event.get("Result").is_some(), results && has_result, "{event}");
        }
    }
}

#[test]
fn inputs_of_activities_are_texts_where_they_are_asked_for() {
    let shown = Shown { activity_inputs: true, ..PLAIN };
    let events = wire_values([started("{\"a\": 1}"), step(0), step(1), result(1, "2")], shown);
    assert_eq!(events[0]["Input"], "{\"a\": 1}");
    assert_eq!((&events[1]["Input"], &events[2]["Input"]), (&json!("1"), &json!("1")));
}

#[test]
fn what_is_not_answered_yet_stays_as_it_was_asked_for() {
    let events = wire_values([started("null"), step(1), child()], PLAIN);
    assert_eq!(
        events[1..],
        [
            json!({"EventType": "TaskScheduled", "Timestamp": "2026-01-05T08:30:00.2000000Z",
                "Name": "Step", "Input": null, "ParentTraceContext": null, "Tags": null}),
            json!({"EventType": "SubOrchestrationInstanceCreated",
                "Timestamp": "2026-01-05T08:30:00.3000000Z", "Name": "Child",
                "InstanceId": "child-1", "Input": "[1]"}),
        ]
    );
}

#[test]
fn a_failure_shows_its_causes_and_ends_the_execution() {
    let cause = Failure::new(FailureClass::Application, "Disk", "full");
    let mut failure = Failure::new(FailureClass::Application, "Save", "cannot save").permanent();
    failure.details = Some(value("{\"a\":1}"));
    let failure = Box::new(failure.caused_by(cause));
    let failed =
        EventKind::ActivityFailed { call: CallNumber(0), failure: failure.clone(), attempts: 2 };
    let events = wire_values(
        [started("null"), step(0), failed, EventKind::ExecutionFailed { failure }],
        PLAIN,
    );
    let text = "Save: cannot save; caused by Disk: full";
    let inner = json!({"ErrorType": "Disk", "ErrorMessage": "full", "StackTrace": null,
        "InnerFailure": null, "IsNonRetriable": false, "Properties": null});
    let details = json!({"ErrorType": "Save", "ErrorMessage": "cannot save", "StackTrace": null,
        "InnerFailure": inner, "IsNonRetriable": true, "Properties": null});
    assert_eq!(
        events[1..],
        [
            json!({"EventType": "TaskFailed", "Timestamp": "2026-01-05T08:30:00.3000000Z",
                "ScheduledTime": "2026-01-05T08:30:00.2000000Z", "FunctionName": "Step",
                "Input": null, "Reason": text, "Details": "{\"a\":1}", "FailureDetails": details}),
            json!({"EventType": "ExecutionCompleted", "Timestamp": "2026-01-05T08:30:00.4000000Z",
                "OrchestrationStatus": "Failed", "Result": text, "FailureDetails": details}),
        ]
    );
}

#[test]
fn timers_events_and_holds_have_an_event_each() {
    let events = wire_values(
        [
            started("null"),
            EventKind::TimerCreated { call: CallNumber(0), due: at(30) },
            EventKind::TimerFired { call: CallNumber(0) },
            EventKind::EventRaised { name: "go".into(), input: value("null"), id: None },
            EventKind::EventSent {
                call: CallNumber(1),
                instance: InstanceId::new("other").unwrap(),
                name: "hi".into(),
                input: value("\"x\""),
            },
            EventKind::ExecutionSuspended { reason: Some("wait".into()) },
            EventKind::ExecutionResumed { reason: None },
            EventKind::TimerCreated { call: CallNumber(2), due: at(40) },
            EventKind::CallCancelled { call: CallNumber(2) },
            EventKind::Patched { id: "v2".into(), deprecated: false },
        ],
        PLAIN,
    );
    let time = |tenths: i64| format!("2026-01-05T08:30:0{}.{}000000Z", tenths / 10, tenths % 10);
    assert_eq!(
        events[1..],
        [
            json!({"EventType": "TimerCreated", "Timestamp": time(2), "FireAt": time(30)}),
            json!({"EventType": "TimerFired", "Timestamp": time(3), "FireAt": time(30)}),
            json!({"EventType": "EventRaised", "Timestamp": time(4), "Name": "go", "Input": "null"}),
            json!({"EventType": "EventSent", "Timestamp": time(5), "InstanceId": "other",
                "Name": "hi", "Input": "\"x\""}),
            json!({"EventType": "ExecutionSuspended", "Timestamp": time(6), "Reason": "wait"}),
            json!({"EventType": "ExecutionResumed", "Timestamp": time(7), "Reason": null}),
            json!({"EventType": "TimerCreated", "Timestamp": time(8), "FireAt": time(40)}),
            json!({"EventType": "GenericEvent", "Timestamp": time(10), "Data": "patch v2"}),
        ]
    );
}

#[test]
fn a_terminated_execution_ends_with_two_events() {
    let terminated = EventKind::ExecutionTerminated { reason: Some("enough".into()), tree: false };
    let events = wire_values([started("null"), terminated], PLAIN);
    let time = "2026-01-05T08:30:00.2000000Z";
    assert_eq!(
        events[1..],
        [
            json!({"EventType": "ExecutionTerminated", "Timestamp": time, "Input": "enough"}),
            json!({"EventType": "ExecutionCompleted", "Timestamp": time,
                "OrchestrationStatus": "Terminated", "Result": "enough", "FailureDetails": null}),
        ]
    );
}

#[test]
fn children_answer_with_their_input() {
    let completed = EventKind::ChildCompleted {
        call: CallNumber(0),
        execution: ExecutionNumber(0),
        output: value("{\"ok\":true}"),
    };
    let events = wire_values([started("null"), child(), completed], PLAIN);
    assert_eq!(
        events[1],
        json!({"EventType": "SubOrchestrationInstanceCompleted",
            "Timestamp": "2026-01-05T08:30:00.3000000Z",
            "ScheduledTime": "2026-01-05T08:30:00.2000000Z", "FunctionName": "Child",
            "Input": "[1]", "Result": {"ok": true}})
    );
}
