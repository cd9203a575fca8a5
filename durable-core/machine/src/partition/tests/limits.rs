//! Limits: at the limit it works, beyond it one instance fails with a sentence.

use super::story::{check, id, told};
use crate::model::{Event, EventKind, RuntimeStatus, limits};

const MAX: u64 = limits::PAYLOAD_BYTES_MAX as u64;

#[test]
fn a_turn_may_ask_for_ten_thousand_actions() {
    check(
        "
        faults  live
        start   order-7 many_actions 10000
        event   order-7 go
        expect  running
        event   order-7 go
        expect  completed \"sent\"
        start   order-8 many_actions 10001
        event   order-8 go
        expect  failed order-8 LimitExceeded more than 10000 actions
        expect  history order-8 started raised failed
        ",
    );
}

#[test]
fn an_instance_may_have_a_hundred_thousand_open_calls() {
    let told = |n: u32, goes: u32| {
        let mut story = format!("faults live\nstart order-7 many_open {n}\n");
        for _ in 0..goes {
            story += "event order-7 go\n";
        }
        told(&story).store.status(&id("order-7")).expect("there")
    };
    assert_eq!(told(100_000, 10).status, RuntimeStatus::Completed);
    let row = told(100_001, 10);
    assert_eq!(row.status, RuntimeStatus::Failed);
    let failure = row.failure.expect("a failure");
    assert!(failure.message.contains("more than 100000 calls"), "{failure}");
}

#[test]
fn payloads_at_the_limit_pass_and_one_byte_more_is_refused_with_a_sentence() {
    for (place, fits, too_much) in [
        ("output", "completed", "failed LimitExceeded the output is larger than 16 MiB"),
        ("event", "completed", "failed LimitExceeded the payload of a sent event"),
        ("input", "running", "failed LimitExceeded the input of activity \"take\""),
    ] {
        for (bytes, end) in [(MAX, fits), (MAX + 1, too_much)] {
            let mut story = format!(
                "faults live\nstart order-7 sizes {{\"place\":\"{place}\",\"bytes\":{bytes}}}\n"
            );
            if place == "input" && bytes == MAX {
                story += "expect call take\n";
            }
            check(&format!("{story}expect {end}\n"));
        }
    }
}

#[test]
fn a_result_at_the_limit_passes_and_one_byte_more_fails_the_call() {
    check(&format!(
        "
        faults  live
        start   order-7 call 1
        expect  call ship
        answer  ship bytes {MAX}
        expect  completed
        start   order-8 call 1
        expect  call ship
        answer  order-8 ship bytes {}
        expect  failed order-8 LimitExceeded the result of activity \"ship\"
        ",
        MAX + 1
    ));
}

#[test]
fn error_texts_are_cut_with_a_mark() {
    check(
        "
        faults  live
        start   order-7 sizes {\"place\":\"failure\",\"bytes\":32768}
        expect  failed Long \u{e9}
        start   order-8 sizes {\"place\":\"failure\",\"bytes\":32770}
        expect  failed order-8 Long [cut]
        ",
    );
}

#[test]
fn ten_thousand_events_are_kept_and_the_next_is_refused_until_there_is_room() {
    check(
        r#"
        faults  live
        start   order-7 wait ["a","z"]
        events  order-7 10000 tick
        expect  answer accepted
        event   order-7 tick 10000
        expect  answer full
        event   order-7 a 1                 # an event that somebody waits for is one too
        expect  answer full
        terminate order-7
        expect  terminated
        "#,
    );
}

#[test]
fn an_event_that_the_store_accepted_is_kept_even_where_the_instance_is_full() {
    let world = told(
        r#"
        faults live
        start order-7 wait ["a"]
        events order-7 10000 tick
        stored event order-7 late 1
        terminate order-7
        "#,
    );
    let row = world.store.status(&id("order-7")).expect("there");
    assert_eq!(row.unconsumed.len(), 10_001);
}

#[test]
fn a_suspended_instance_keeps_ten_thousand_events_too() {
    check(
        r#"
        faults  live
        start   order-7 wait ["a"]
        suspend order-7
        events  order-7 10001 tick
        expect  answer full
        resume  order-7
        expect  running
        "#,
    );
}

#[test]
fn a_held_instance_keeps_ten_thousand_events_too() {
    check(
        r#"
        faults  live
        start   order-7 wait ["a"]
        crash
        code    wait is chain_short
        open
        commits wait
        events  order-7 10001 tick
        commits flow
        expect  answer full
        expect  held Diverged
        "#,
    );
}

/// A world in which an instance has this many events: its start, and pairs of suspend and resume, which
/// cost the code nothing, committed by an owner that nobody saw.
fn with_history(events: u64) -> super::story::World {
    let mut world = told(
        "
        faults live
        start order-7 wait [\"a\"]
        crash
        ",
    );
    assert_eq!(events % 2, 1, "the start, and pairs");
    let pair = |kind: EventKind| Event { at: world.now, is: kind };
    let (suspended, resumed) = (
        pair(EventKind::ExecutionSuspended { reason: None }),
        pair(EventKind::ExecutionResumed { reason: None }),
    );
    let pairs = usize::try_from(events / 2).expect("fits");
    let events: Vec<_> = std::iter::repeat_n([suspended, resumed], pairs).flatten().collect();
    world.forge(&id("order-7"), events);
    world
}

#[test]
fn a_long_history_is_worth_a_warning_once() {
    let mut world = with_history(limits::HISTORY_EVENTS_WARN - 2 + 1);
    world.go("open\nevent order-7 b 1\nevent order-7 b 2\nevent order-7 b 3\n");
    let warnings: Vec<_> =
        world.notes.iter().filter(|note| note.contains("Continue as new")).collect();
    assert_eq!(warnings.len(), 1, "{:?}", world.notes);
}

#[test]
#[cfg_attr(debug_assertions, ignore = "a million events: only with optimisation")]
fn a_history_at_its_limit_fails_with_the_advice() {
    let mut world = with_history(limits::HISTORY_EVENTS_MAX - 3);
    world.go("open\nevent order-7 b 1\nevent order-7 b 2\nexpect running order-7\n");
    world.go("event order-7 b 3\nexpect failed order-7 LimitExceeded continue as new\n");
}
