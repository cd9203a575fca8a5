//! Heartbeats of activities: what keeps an attempt from timing out, and what the next one learns of it.

use super::story::{check, id, told};
use crate::codec;
use crate::model::{ActivityOptions, EventKind};
use crate::partition::run::InFlight;

#[test]
fn what_an_attempt_reported_last_is_told_to_the_next() {
    check(
        r#"
        faults  evict
        start   order-7 call {"order":7,"retry":{"attempts":3}}
        expect  call ship attempt 1
        expect  told ship attempt 1
        beat    ship {"row":1}
        beat    ship {"row":2}
        beat    ship                       # it goes on, and says no more than that
        answer  ship failed Busy
        time    +1s
        expect  call ship attempt 2
        expect  told ship attempt 2 {"row":2}
        answer  ship attempt 2 failed Busy # it has reported nothing
        time    +1s
        expect  call ship attempt 3
        expect  told ship attempt 3 {"row":2}
        answer  ship attempt 3 ok "all"
        expect  completed "all"
        expect  history started scheduled result completed
        "#,
    );
}

#[test]
fn null_is_something_to_report() {
    check(
        r#"
        faults  live
        start   order-7 call {"order":7,"retry":{"attempts":2}}
        expect  call ship
        beat    ship {"row":1}
        beat    ship null
        answer  ship failed Busy
        time    +1s
        takeover
        expect  call ship attempt 2
        expect  told ship attempt 2 null
        answer  ship attempt 2 ok
        expect  completed
        "#,
    );
}

#[test]
fn an_attempt_that_is_silent_for_too_long_has_failed() {
    check(
        r#"
        faults  evict
        start   order-7 call {"order":7,"silence_ms":30000,"retry":{"attempts":2}}
        expect  call ship attempt 1
        time    +10m                       # it waits for a free worker
        begin   ship
        time    +29s
        beat    ship {"row":1}
        time    +29s
        beat    ship
        time    +29999ms
        expect  running
        expect  nothing
        time    +1ms
        expect  cancel ship attempt 1
        time    +1s
        expect  call ship attempt 2
        expect  told ship attempt 2 {"row":1}
        begin   ship attempt 2
        beat    ship attempt 1 {"row":99}  # the one that is given up still runs
        time    +30s
        expect  cancel ship attempt 2
        expect  failed HeartbeatTimeout gave no heartbeat for 30s
        "#,
    );
}

#[test]
fn a_limit_on_silence_does_not_lift_that_on_time() {
    check(
        r#"
        faults  evict
        start   order-7 call {"order":7,"silence_ms":2000,"limit_ms":5000}
        expect  call ship
        begin   ship
        time    +1500ms
        beat    ship
        time    +1500ms
        beat    ship
        time    +1500ms
        beat    ship
        time    +499ms
        expect  running
        time    +1ms
        expect  cancel ship
        expect  failed Timeout took longer than 5s
        "#,
    );
}

#[test]
fn a_code_that_gets_the_timeout_learns_how_far_the_attempt_came() {
    let world = told(
        r#"
        start   order-7 call {"order":7,"silence_ms":1000}
        begin   ship
        beat    ship {"row":7}
        time    +1s
        "#,
    );
    let events: Vec<_> = world.ledger.values().flatten().collect();
    let failure = events.iter().find_map(|event| match &event.is {
        EventKind::ActivityFailed { failure, .. } => Some(failure),
        _ => None,
    });
    let details = failure.expect("it failed").details.as_ref().expect("it has reported");
    assert_eq!(details.json(), r#"{"row":7}"#);
}

#[test]
fn what_is_reported_is_in_the_store_after_ten_seconds() {
    check(
        r#"
        faults  live
        start   order-7 call {"order":7}
        expect  call ship
        beat    ship {"row":1}
        time    +9999ms
        takeover                           # nobody knows how far it came
        expect  told ship
        beat    ship {"row":2}
        time    +5s
        beat    ship {"row":3}
        time    +5s
        beat    ship {"row":4}
        takeover
        expect  told ship {"row":3}
        answer  ship ok "all"
        expect  completed "all"
        "#,
    );
}

#[test]
fn it_is_written_once_in_ten_seconds_however_often_and_by_however_many_it_is_said() {
    let mut world = told(
        r#"
        start   order-7 call {"order":7}
        start   order-8 call {"order":8}
        "#,
    );
    let commits = |world: &super::story::World| {
        world.owners.iter().flatten().map(|owner| owner.partition.stats().commits).sum::<u64>()
    };
    let before = commits(&world);
    for second in 0..20 {
        world.go(&format!("beat order-7 ship {second}\nbeat order-8 ship {second}\ntime +1s"));
    }
    assert_eq!(commits(&world) - before, 2);
}

#[test]
fn it_goes_with_whatever_else_is_written_of_the_instance() {
    check(
        r#"
        faults  live
        start   order-7 fan 2
        expect  calls 2 work
        beat    work call 0 "half"
        answer  work call 1 ok 1
        takeover
        expect  told work call 0 "half"
        answer  work call 0 ok 1
        expect  completed
        "#,
    );
}

#[test]
fn each_call_learns_of_its_own_attempts_only() {
    check(
        r#"
        faults  evict
        start   order-7 call {"order":7,"retry":{"attempts":2}}
        start   order-8 call {"order":8,"retry":{"attempts":2}}
        expect  call order-7 ship
        expect  call order-8 ship
        beat    order-7 ship {"of":7}
        answer  order-7 ship failed Busy
        answer  order-8 ship failed Busy
        time    +1s
        expect  call order-7 ship attempt 2
        expect  call order-8 ship attempt 2
        expect  told order-7 ship attempt 2 {"of":7}
        expect  told order-8 ship attempt 2
        answer  order-7 ship attempt 2 ok
        answer  order-8 ship attempt 2 ok
        expect  completed order-7
        expect  completed order-8
        "#,
    );
}

#[test]
fn what_another_worker_reports_with_its_failure_is_told_to_the_next_attempt() {
    check(
        r#"
        faults  live
        start   order-7 call {"order":7,"retry":{"attempts":3}}
        expect  call ship attempt 1
        offer   ship
        report  ship Busy {"row":5}
        time    +1s
        expect  call ship attempt 2
        expect  told ship attempt 2 {"row":5}
        offer   ship
        report  ship attempt 2 Busy
        time    +1s
        takeover
        expect  call ship attempt 3
        expect  told ship attempt 3 {"row":5}
        answer  ship attempt 3 ok
        expect  completed
        "#,
    );
}

#[test]
fn a_repeated_execution_begins_without() {
    check(
        r#"
        faults  evict
        start   order-7 call {"order":7}
        expect  call ship
        beat    ship {"row":1}
        answer  ship failed Busy
        expect  failed Busy
        rewind  order-7
        expect  call ship
        expect  told ship
        answer  ship ok
        expect  completed
        "#,
    );
}

#[test]
fn a_row_of_work_in_flight_says_what_was_reported() {
    let world = told(
        r#"
        start order-7 call {"order":1,"retry":{"attempts":3,"delay_ms":1500}}
        beat  ship {"row":1.50}
        time  +10s
        "#,
    );
    let stored = world.store.load(&id("order-7")).expect("it is there");
    let row = stored.in_flight.expect("work in flight");
    let line = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/golden/v1/in_flight-heartbeats.jsonl"
    ));
    assert_eq!(String::from_utf8_lossy(&row), line.trim_end());
    let (read, error) = InFlight::read(Some(&row));
    assert_eq!((codec::encode_row(&read), error), (row, None));
}

#[test]
fn a_limit_on_silence_is_written_with_its_call() {
    let options = ActivityOptions {
        heartbeat_timeout: Some(std::time::Duration::from_secs(30)),
        ..ActivityOptions::default()
    };
    let written = r#"{"heartbeat_timeout":{"secs":30,"nanos":0}}"#;
    assert_eq!(serde_json::to_string(&options).expect("JSON"), written);
    assert_eq!(serde_json::from_str::<ActivityOptions>(written).expect("JSON"), options);
    assert_eq!(serde_json::from_str::<ActivityOptions>("{}").expect("JSON"), Default::default());
}
