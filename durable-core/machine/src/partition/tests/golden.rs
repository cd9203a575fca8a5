//! Stored data of format 1, byte for byte. These files never change: a build that reads or writes them
//! otherwise breaks the hubs that exist. A new format gets a folder of its own beside `v1`, and both are read.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::story::{id, sealed, told};
use crate::codec::{self, DecodeError, EventEncoder};
use crate::model::{
    Acceptance, ActivityOptions, ActivityScheduled, CallNumber, ChildCreated, Command, Deadline,
    Envelope, EnvelopeId, Event, EventKind, ExecutionNumber, ExecutionStarted, Failure,
    FailureClass, Hold, HoldReason, Message, MessageBody, MessageNumber, ParentClose, ParentLink,
    PartitionId, Payload, RetryPolicy, ReusePolicy, RunNumber, RuntimeStatus, StartNonce,
    StatusRow, Timestamp, TraceContext, UnconsumedEvent,
};
use crate::partition::run::InFlight;
use crate::store::{Cursor, Head};

macro_rules! golden {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/v1/", $name, ".jsonl"))
    };
}

const AT: Timestamp = Timestamp::from_micros(1_700_000_000_123_456);

fn json(text: &str) -> Payload {
    Payload::from_json(text).expect("JSON")
}

fn parent() -> ParentLink {
    ParentLink {
        instance: id("parent \u{fc}"),
        run: RunNumber(1_700_000_000_000_000),
        execution: ExecutionNumber(1),
        call: CallNumber(4),
        detached: false,
    }
}

fn failure(class: FailureClass) -> Failure {
    let details = Some(json(r#"{"code":51}"#));
    let cause = Failure::new(FailureClass::Timeout, "Timeout", "too slow");
    let failure = Failure { details, ..Failure::new(class, "CardDeclined", "no \"credit\"") };
    failure.permanent().caused_by(cause)
}

fn options() -> ActivityOptions {
    ActivityOptions {
        retry: Some(RetryPolicy {
            attempts_max: 5,
            delay: Duration::from_millis(1_500),
            backoff: 2.0,
            delay_max: Duration::from_secs(60),
            jitter: 0.25,
            total_time_max: Some(Duration::from_secs(3_600)),
            not_retried: vec!["CardDeclined".into()],
        }),
        start_to_finish: Some(Duration::from_secs(30)),
        heartbeat_timeout: None,
        routing_tag: Some("gpu".into()),
        priority: Some(-1),
        compensates: false,
    }
}

fn trace() -> TraceContext {
    TraceContext {
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
        tracestate: Some("vendor=1".into()),
    }
}

/// Every kind of event, with every field once given and once left out.
fn every_event() -> Vec<Event> {
    let started = |name: &str| ExecutionStarted {
        name: name.into(),
        input: json(r#"{"n": 1.50}"#),
        suspended: false,
        parent: None,
        version: None,
        tags: Vec::new(),
        scheduled_for: None,
        deadline: None,
        worker_build: None,
        trace: None,
        continues: None,
        taken_back: Vec::new(),
        rewind: None,
    };
    let call = CallNumber(3);
    let kinds = vec![
        EventKind::ExecutionStarted(Box::new(started("plain"))),
        EventKind::ExecutionStarted(Box::new(ExecutionStarted {
            suspended: true,
            parent: Some(parent()),
            version: Some("2".into()),
            tags: vec![("team".into(), "blue".into())],
            scheduled_for: Some(AT),
            worker_build: Some("0.1.0+abc".into()),
            trace: Some(trace()),
            continues: Some(ExecutionNumber(1)),
            taken_back: vec![CallNumber(2)],
            rewind: None,
            ..started("full")
        })),
        EventKind::ActivityScheduled(Box::new(ActivityScheduled {
            call,
            name: "ship".into(),
            input: json("null"),
            options: ActivityOptions::default(),
        })),
        EventKind::ActivityScheduled(Box::new(ActivityScheduled {
            call,
            name: "ship".into(),
            input: json("[1, 2]"),
            options: options(),
        })),
        EventKind::ActivityCompleted { call, output: json("\"ok\"") },
        EventKind::ActivityFailed {
            call,
            failure: Box::new(failure(FailureClass::Application)),
            attempts: 5,
        },
        EventKind::TimerCreated { call, due: AT },
        EventKind::TimerFired { call },
        EventKind::CallCancelled { call },
        EventKind::ChildCreated(Box::new(ChildCreated {
            call,
            name: "child".into(),
            instance: id("child-1"),
            input: json("1"),
            detached: false,
            close: ParentClose::Terminate,
            time_limit: None,
        })),
        EventKind::ChildCreated(Box::new(ChildCreated {
            call,
            name: "child".into(),
            instance: id("child-2"),
            input: json("1"),
            detached: true,
            close: ParentClose::Terminate,
            time_limit: None,
        })),
        EventKind::ChildCompleted { call, execution: ExecutionNumber(0), output: json("2") },
        EventKind::ChildFailed {
            call,
            execution: ExecutionNumber(0),
            failure: Box::new(failure(FailureClass::Panic)),
        },
        EventKind::EventRaised { name: "approved".into(), input: json("true"), id: None },
        EventKind::EventRaised {
            name: "approved".into(),
            input: json("true"),
            id: Some(EnvelopeId("event-1".into())),
        },
        EventKind::EventSent { call, instance: id("heir"), name: "add".into(), input: json("7") },
        EventKind::Patched { id: "new-tax".into(), deprecated: false },
        EventKind::ExecutionSuspended { reason: None },
        EventKind::ExecutionSuspended { reason: Some("lunch".into()) },
        EventKind::ExecutionResumed { reason: None },
        EventKind::ExecutionResumed { reason: Some("back".into()) },
        EventKind::ExecutionTerminated { reason: None, tree: false },
        EventKind::ExecutionTerminated { reason: Some("enough".into()), tree: false },
        EventKind::ExecutionCompleted { output: json("{}") },
        EventKind::ExecutionFailed { failure: Box::new(failure(FailureClass::Limit)) },
        EventKind::ContinuedAsNew { input: json("9") },
    ];
    let mut events: Vec<_> = kinds.into_iter().map(|is| Event { at: AT, is }).collect();
    let classes = [
        FailureClass::Application,
        FailureClass::Panic,
        FailureClass::Timeout,
        FailureClass::WorkerLost,
        FailureClass::Unregistered,
        FailureClass::Limit,
        FailureClass::ForeignAwait,
        FailureClass::Payload,
        FailureClass::Cancelled,
    ];
    events.extend(classes.map(|class| {
        let failure = Box::new(Failure::new(class, "K", "m"));
        Event { at: AT, is: EventKind::ExecutionFailed { failure } }
    }));
    events
}

fn statuses() -> Vec<StatusRow> {
    let acceptance = &acceptances()[1];
    let plain = StatusRow::pending(&acceptances()[0]);
    let full = StatusRow {
        execution: ExecutionNumber(2),
        updated_at: Timestamp::from_micros(AT.as_micros() + 1),
        output: Some(json("\"done\"")),
        failure: Some(failure(FailureClass::Application)),
        custom_status: Some(json(r#"{"step": 3}"#)),
        hold: None,
        unconsumed: vec![
            UnconsumedEvent { name: "a".into(), input: json("1"), id: None },
            UnconsumedEvent {
                name: "b".into(),
                input: json("2"),
                id: Some(EnvelopeId("event-2".into())),
            },
        ],
        scheduled_for: None,
        deadline: None,
        expires_at: Some(AT),
        status: RuntimeStatus::Failed,
        ..StatusRow::pending(acceptance)
    };
    let reasons = [
        HoldReason::Diverged,
        HoldReason::UnknownOrchestrator,
        HoldReason::Undecodable,
        HoldReason::Stuck,
        HoldReason::KilledProcess,
    ];
    let held = reasons.map(|reason| StatusRow {
        hold: Some(Hold { reason, message: "why".into() }),
        status: RuntimeStatus::Suspended,
        ..plain.clone()
    });
    let all = RuntimeStatus::ALL.map(|status| StatusRow { status, ..plain.clone() });
    [plain, full].into_iter().chain(held).chain(all).collect()
}

fn acceptances() -> Vec<Acceptance> {
    let plain = Acceptance::new(
        id("order 7 \u{1f980}"),
        RunNumber(1_700_000_000_000_001),
        StartNonce(Uuid::from_u128(7)),
        "place_order".into(),
        json(r#"{"n":1}"#),
        AT,
    );
    let full = Acceptance {
        reuse: ReusePolicy::ReplaceActive,
        scheduled_for: Some(AT),
        parent: Some(parent()),
        version: Some("2".into()),
        tags: vec![("a".into(), "b".into()), ("c".into(), "d".into())],
        raised: Vec::new(),
        trace: Some(TraceContext { tracestate: None, ..trace() }),
        ..plain.clone()
    };
    let using = Acceptance { reuse: ReusePolicy::UseActive, ..plain.clone() };
    vec![plain, full, using]
}

fn envelopes() -> Vec<Envelope> {
    let commands = [
        Command::Raise { name: "approved".into(), input: json("{}") },
        Command::Terminate { reason: None, tree: false },
        Command::Terminate { reason: Some("stop".into()), tree: false },
        Command::Suspend { reason: None },
        Command::Suspend { reason: Some("wait".into()) },
        Command::Resume { reason: None },
        Command::Resume { reason: Some("go".into()) },
        Command::Purge { also: Vec::new() },
        Command::Purge { also: vec![(id("order-8"), RunNumber(5))] },
    ];
    let envelope = |(n, command)| Envelope {
        id: EnvelopeId(format!("e-{n}").into()),
        instance: id("order-7"),
        run: (n > 0).then_some(RunNumber(5)),
        command,
    };
    commands.into_iter().enumerate().map(envelope).collect()
}

fn messages() -> Vec<Message> {
    let bodies = [
        MessageBody::Raise { instance: id("heir"), name: "add".into(), input: json("1") },
        MessageBody::StartChild(Box::new(acceptances().remove(1))),
        MessageBody::ChildEnded {
            parent: parent(),
            execution: ExecutionNumber(3),
            result: Ok(json("1")),
        },
        MessageBody::ChildEnded {
            parent: parent(),
            execution: ExecutionNumber(3),
            result: Err(Box::new(failure(FailureClass::Application))),
        },
        MessageBody::TerminateChild {
            instance: id("child"),
            parent: parent(),
            reason: None,
            tree: false,
        },
        MessageBody::TerminateChild {
            instance: id("child"),
            parent: parent(),
            reason: Some("stop".into()),
            tree: false,
        },
    ];
    let message = |(n, body)| Message {
        from: PartitionId(1),
        to: PartitionId(2),
        number: MessageNumber(n),
        body,
    };
    (1..).zip(bodies).map(message).collect()
}

fn heads() -> Vec<Head> {
    let cursor = Cursor {
        upto: MessageNumber(7),
        beyond: [MessageNumber(9), MessageNumber(11)].into_iter().collect(),
    };
    let full = Head {
        time: AT,
        unclean_opens: 3,
        probing: Some(id("order-7")),
        cursors: BTreeMap::from([
            (PartitionId(0), Cursor { upto: MessageNumber(1), ..Cursor::default() }),
            (PartitionId(2), cursor),
        ]),
        sent: BTreeMap::from([(PartitionId(0), MessageNumber(12))]),
        purged: None,
    };
    let purged = Head { purged: Some(RunNumber(5)), ..full.clone() };
    vec![Head::default(), full, purged]
}

/// Rows of one kind: one row a line, in the file as in the store.
fn rows<T: Serialize + DeserializeOwned + PartialEq + Debug>(file: &str, values: &[T]) {
    let encoded: Vec<_> = values.iter().map(codec::encode_row).collect();
    same(file, &encoded);
    for (line, value) in file.lines().zip(values) {
        assert_eq!(codec::decode_row::<T>(line.as_bytes()).as_ref(), Ok(value));
        // A newer row is not taken for an old one, whether or not it has its shape.
        let (content, _) = line.rsplit_once(",\"sum\"").expect("a sum");
        let newer = content.replacen("{\"v\":1,", "{\"v\":2,", 1);
        for content in [newer.replacen("\"row\":{", "\"rows\":{", 1), newer] {
            let decoded = codec::decode_row::<T>(&sealed(&content));
            assert_eq!(decoded, Err(DecodeError::Newer { found: 2 }));
        }
    }
}

pub(super) fn same(file: &str, encoded: &[Vec<u8>]) {
    let lines: Vec<_> = encoded.iter().map(|row| String::from_utf8_lossy(row)).collect();
    let lines = lines.iter().fold(String::new(), |all, line| all + line + "\n");
    assert!(file == lines, "today's build writes this instead:\n{lines}");
}

fn history_row(events: &[Event]) -> Vec<u8> {
    let mut encoder = EventEncoder::default();
    for event in events {
        encoder.push(event);
    }
    encoder.finish()
}

#[test]
fn every_kind_of_event_is_read_and_written_as_ever() {
    let file = golden!("history");
    let one_by_one: Vec<_> = every_event().chunks(1).map(history_row).collect();
    let mut encoded = vec![history_row(&every_event()[..3])];
    encoded.extend(one_by_one);
    same(file, &encoded);
    let mut lines = file.lines();
    let first = lines.next().expect("a row").as_bytes();
    assert_eq!(codec::decode_events(first), Ok(every_event()[..3].to_vec()));
    for (line, event) in lines.zip(every_event()) {
        assert_eq!(codec::decode_events(line.as_bytes()), Ok(vec![event]));
    }
}

#[test]
fn every_row_beside_the_history_is_read_and_written_as_ever() {
    rows(golden!("status"), &statuses());
    rows(golden!("acceptance"), &acceptances());
    rows(golden!("envelope"), &envelopes());
    rows(golden!("message"), &messages());
    rows(golden!("head"), &heads());
}

#[test]
fn a_start_at_a_later_time_is_read_and_written_as_ever() {
    let world = told(
        "
        start   order-7 wait [] at +1h
        event   order-7 approved 1 as event-1
        suspend order-7
        ",
    );
    let stored = world.store.load(&id("order-7")).expect("it is there");
    let status = codec::encode_row(&stored.status.expect("a status"));
    let in_flight = stored.in_flight.expect("what it was sent");
    same(golden!("scheduled"), &[status, in_flight.clone()]);
    let (row, error) = InFlight::read(Some(&in_flight));
    assert_eq!((codec::encode_row(&row), error), (in_flight, None));
}

/// The rows of work in flight that these stories leave in the store.
fn in_flight() -> Vec<Vec<u8>> {
    [
        // The first attempt of a call needs no words.
        "start order-7 chain 1",
        r#"start order-7 call {"order":1,"retry":{"attempts":3,"delay_ms":1500}}
           answer ship failed Busy"#,
        r#"start order-7 call {"order":1,"retry":{"attempts":3,"delay_ms":1500}}
           answer ship failed Busy
           time +2s
           takeover"#,
        r#"start order-7 chain 1
           crash
           code chain is chain_short
           open
           event order-7 approved {"by":"x"} as event-1
           answer a ok 5"#,
        r#"start order-7 call 1
           crash
           code call is chain_short
           open
           event order-7 approved 1 as event-1
           answer ship failed Busy"#,
    ]
    .map(|story| {
        let world = told(story);
        let stored = world.store.load(&id("order-7")).expect("it is there");
        stored.in_flight.expect("work in flight")
    })
    .to_vec()
}

/// What format 1 came to say of children later; left out where it says nothing new.
#[test]
fn what_a_child_was_asked_for_with_is_written_as_ever() {
    let created = EventKind::ChildCreated(Box::new(ChildCreated {
        call: CallNumber(3),
        name: "child".into(),
        instance: id("child-1"),
        input: json("1"),
        detached: true,
        close: ParentClose::Abandon,
        time_limit: None,
    }));
    let link = ParentLink { detached: true, ..parent() };
    let stop = Command::Terminate { reason: Some("stop".into()), tree: true };
    let passed_on = MessageBody::TerminateChild {
        instance: id("child"),
        parent: link.clone(),
        reason: None,
        tree: true,
    };
    let ended = EventKind::ExecutionTerminated { reason: None, tree: true };
    let request = EventKind::CancelRequested { call: CallNumber(3) };
    for (written, value) in [
        (r#"{"CancelRequested":{"call":3}}"#, serde_json::to_string(&request).expect("JSON")),
        (
            r#"{"Terminate":{"reason":"stop","tree":true}}"#,
            serde_json::to_string(&stop).expect("JSON"),
        ),
        (
            r#"{"TerminateChild":{"instance":"child","parent":{"instance":"parent ü","run":1700000000000000,"execution":1,"call":4,"detached":true},"tree":true}}"#,
            serde_json::to_string(&passed_on).expect("JSON"),
        ),
        (r#"{"ExecutionTerminated":{"tree":true}}"#, serde_json::to_string(&ended).expect("JSON")),
        (
            r#"{"ChildCreated":{"call":3,"name":"child","instance":"child-1","input":1,"detached":true,"close":"Abandon"}}"#,
            serde_json::to_string(&created).expect("JSON"),
        ),
        (
            r#"{"instance":"parent ü","run":1700000000000000,"execution":1,"call":4,"detached":true}"#,
            serde_json::to_string(&link).expect("JSON"),
        ),
    ] {
        assert_eq!(value, written);
    }
}

/// What it came to say of deadlines, likewise.
#[test]
fn a_deadline_is_read_and_written_as_ever() {
    let deadline = Deadline::after(AT, Duration::from_millis(1_500));
    let written = r#""deadline":{"at":1700000001623456,"limit":{"secs":1,"nanos":500000000}}"#;
    let acceptance = Acceptance { deadline: Some(deadline), ..acceptances()[0].clone() };
    let status = StatusRow::pending(&acceptance);
    let started = super::super::begin::started_event(acceptance.clone(), false);
    for text in [
        serde_json::to_string(&acceptance).expect("JSON"),
        serde_json::to_string(&status).expect("JSON"),
        serde_json::to_string(&started).expect("JSON"),
    ] {
        assert!(text.contains(written), "{text}");
    }
    let text = serde_json::to_string(&status).expect("JSON");
    assert_eq!(serde_json::from_str::<StatusRow>(&text).expect("it is read"), status);
    let created = ChildCreated {
        call: CallNumber(3),
        name: "child".into(),
        instance: id("child-1"),
        input: json("1"),
        detached: false,
        close: ParentClose::Terminate,
        time_limit: Some(deadline.limit),
    };
    let text = serde_json::to_string(&created).expect("JSON");
    let written = r#"{"call":3,"name":"child","instance":"child-1","input":1,"time_limit":{"secs":1,"nanos":500000000}}"#;
    assert_eq!(text, written);
    assert_eq!(serde_json::from_str::<ChildCreated>(&text).expect("it is read"), created);
}

/// The same of parents and children.
fn in_flight_of_children() -> Vec<Vec<u8>> {
    let child = r#"start order-7 parent {"name":"wait","input":["go"],"id":"baby"}"#;
    [
        // A result waits for the parent's code.
        (
            "order-7",
            format!("{child}\nexpect running baby\ncode parent is nothing\ntakeover\nevent baby go 1"),
        ),
        // A child waits for code for its first turn.
        ("baby", format!("code wait is nothing\n{child}")),
        // A terminate waits for a history that can be read.
        (
            "baby",
            format!(
                "faults live\n{child}\nexpect running baby\ndamage baby\ntakeover of baby\nterminate order-7"
            ),
        ),
    ]
    .map(|(whose, story)| {
        let stored = told(&story).store.load(&id(whose)).expect("it is there");
        stored.in_flight.expect("work in flight")
    })
    .to_vec()
}

#[test]
fn work_in_flight_is_read_and_written_as_ever() {
    same(golden!("in_flight"), &in_flight());
    same(golden!("in_flight-children"), &in_flight_of_children());
    for line in golden!("in_flight").lines().chain(golden!("in_flight-children").lines()) {
        let (row, error) = InFlight::read(Some(line.as_bytes()));
        assert_eq!(error, None);
        assert_eq!(codec::encode_row(&row), line.as_bytes());
    }
}

#[test]
fn a_row_of_work_in_flight_that_cannot_be_read_is_kept_for_a_build_that_can() {
    for line in golden!("in_flight").lines() {
        let damaged = &line.as_bytes()[1..];
        let (kept, error) = InFlight::read(Some(damaged));
        assert!(matches!(error, Some(DecodeError::Damaged(_))), "{error:?}");
        let (again, error) = InFlight::read(Some(&codec::encode_row(&kept)));
        assert!(error.is_some());
        assert_eq!(again, kept);
        // The build that can read it finds all of it.
        let readable = InFlight { kept: Some(line.into()), ..InFlight::default() };
        let (found, error) = InFlight::read(Some(&codec::encode_row(&readable)));
        let (plain, _) = InFlight::read(Some(line.as_bytes()));
        assert_eq!(error, None);
        assert_eq!((found.calls, found.stash), (plain.calls, plain.stash));
    }
}

#[test]
fn a_newer_format_and_an_unknown_kind_have_errors_of_their_own() {
    for newer in [r#"{"v":2,"packed":"x""#, r#"{"v":2,"events":[]"#] {
        let decoded = codec::decode_events(&sealed(newer));
        assert_eq!(decoded, Err(DecodeError::Newer { found: 2 }));
    }
    let unknown = [
        (r#"{"v":1,"events":[{"at":1,"is":{"Teleported":{}}}]"#, true),
        (r#"{"v":1,"events":[{"at":1,"is":{"TimerFired":{"call":1}},"moon":1}]"#, false),
    ];
    for (content, refused) in unknown {
        let decoded = codec::decode_events(&sealed(content));
        assert_eq!(matches!(decoded, Err(DecodeError::Unknown(_))), refused, "{decoded:?}");
    }
    let status = golden!("status").lines().next().expect("a row");
    let status = status.replace("\"Pending\"", "\"Paused\"");
    let (content, _) = status.rsplit_once(",\"sum\"").expect("a sum");
    let decoded = codec::decode_row::<StatusRow>(&sealed(content));
    assert!(matches!(decoded, Err(DecodeError::Unknown(_))), "{decoded:?}");
    let damaged = codec::decode_row::<StatusRow>(status.as_bytes());
    assert!(matches!(damaged, Err(DecodeError::Damaged(_))), "{damaged:?}");
}
