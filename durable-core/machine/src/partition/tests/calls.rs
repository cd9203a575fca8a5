//! Activities: chains, retries, time limits, races, fan-outs.

use serde_json::Value;

use super::story::{check, id, told};
use crate::model::EventKind;

#[test]
fn a_chain_passes_each_result_on() {
    check(
        r#"
        start   order-7 chain {"n":1}
        expect  call a attempt 1 {"n":1}
        expect  nothing
        expect  running
        answer  a ok 2
        expect  call b attempt 1 2
        answer  b ok "three"
        expect  call c "three"
        expect  nothing
        answer  c ok [4]
        expect  nothing
        expect  completed [4]
        expect  history started scheduled result scheduled result scheduled result completed
        "#,
    );
}

#[test]
fn a_chain_that_fails_half_way_fails_with_the_kind_of_its_cause() {
    check(
        "
        start   order-7 chain 1
        expect  call a
        answer  a ok
        expect  call b
        answer  b failed OutOfStock
        expect  nothing
        expect  failed OutOfStock no
        expect  history started scheduled result scheduled failure failed
        ",
    );
}

#[test]
fn instances_do_not_see_each_other() {
    check(
        "
        start   order-7 chain 1
        start   order-8 chain 10
        expect  call order-7 a 1
        expect  call order-8 a 10
        answer  order-8 a ok 20
        expect  call order-8 b 20
        answer  order-7 a ok 2
        expect  call order-7 b 2
        answer  order-7 b failed Broken
        expect  failed order-7 Broken
        answer  order-8 b ok 30
        expect  call order-8 c
        answer  order-8 c ok 40
        expect  completed order-8 40
        ",
    );
}

#[test]
fn an_orchestrator_that_needs_nothing_completes_in_its_first_turn() {
    check(
        r#"
        start   order-7 echo {"any":["thing",null,1.50]}
        expect  nothing
        expect  completed {"any":["thing",null,1.50]}
        expect  history started completed
        "#,
    );
}

#[test]
fn a_failing_call_is_tried_again_with_growing_delays_up_to_the_cap() {
    check(
        r#"
        start   order-7 call {"order":7,"retry":{"attempts":5,"delay_ms":1000,"backoff":2,"cap_ms":3000}}
        expect  call ship attempt 1
        answer  ship attempt 1 failed Busy
        time    +999ms
        expect  nothing
        time    +1ms
        expect  call ship attempt 2 7
        answer  ship attempt 2 failed Busy
        time    +1999ms
        expect  nothing
        time    +1ms
        expect  call ship attempt 3
        answer  ship attempt 3 failed Busy
        time    +2999ms
        expect  nothing
        time    +1ms
        expect  call ship attempt 4
        answer  ship attempt 4 failed Busy
        time    +3s
        expect  call ship attempt 5
        answer  ship attempt 5 failed Busy
        time    +1d
        expect  nothing
        expect  failed Busy
        expect  history started scheduled failure failed
        "#,
    );
}

#[test]
fn a_retry_that_succeeds_is_one_result_in_the_history() {
    check(
        r#"
        start   order-7 call {"order":7,"retry":{"attempts":3}}
        expect  call ship attempt 1
        answer  ship failed Busy
        time    +1s
        expect  call ship attempt 2
        answer  ship attempt 2 ok "sent"
        expect  completed "sent"
        expect  history started scheduled result completed
        "#,
    );
}

#[test]
fn a_late_answer_does_not_overtake_the_retry() {
    check(
        r#"
        faults  evict
        start   order-7 call {"order":7,"retry":{"attempts":2},"limit_ms":30000}
        expect  call ship attempt 1
        begin   ship attempt 1
        time    +30s
        expect  cancel ship attempt 1       # no answer: attempt 1 is given up
        time    +1s
        expect  call ship attempt 2
        answer  ship attempt 1 ok "late"    # arrives after all
        expect  nothing
        expect  running
        answer  ship attempt 1 failed Late
        expect  nothing
        answer  ship attempt 2 ok "in time"
        expect  completed "in time"
        "#,
    );
}

#[test]
fn a_late_answer_in_the_pause_before_the_retry_is_dropped() {
    check(
        r#"
        start   order-7 call {"order":7,"retry":{"attempts":2,"delay_ms":5000}}
        expect  call ship attempt 1
        answer  ship attempt 1 failed Busy
        answer  ship attempt 1 ok "changed its mind"
        expect  dropped 1
        expect  running
        time    +5s
        expect  call ship attempt 2
        answer  ship attempt 2 ok 2
        answer  ship attempt 2 ok 3
        answer  ship attempt 2 failed Busy
        expect  completed 2
        "#,
    );
}

#[test]
fn a_time_limit_counts_from_the_moment_the_attempt_really_began() {
    check(
        r#"
        faults  evict
        start   order-7 call {"order":7,"limit_ms":30000}
        expect  call ship attempt 1
        time    +10m                        # it waits for a free worker
        expect  nothing
        expect  running
        begin   ship attempt 1
        time    +29s
        expect  nothing
        begin   ship attempt 1              # told twice: the first counts
        time    +999ms
        expect  running
        time    +1ms
        expect  cancel ship attempt 1
        expect  failed Timeout took longer than 30s
        "#,
    );
}

#[test]
fn a_time_limit_is_a_failure_that_the_policy_may_exclude() {
    check(
        r#"
        faults  evict
        start   order-7 call {"order":7,"limit_ms":1000,"retry":{"attempts":9,"except":"Timeout"}}
        expect  call ship attempt 1
        begin   ship
        time    +1s
        expect  cancel ship attempt 1
        expect  failed Timeout
        time    +1d
        expect  nothing
        "#,
    );
}

#[test]
fn a_time_limit_that_is_kept_leaves_nothing_behind() {
    check(
        r#"
        start   order-7 call_again {"limit_ms":1000}
        expect  call ship
        begin   ship
        time    +999ms
        answer  ship failed Busy
        expect  call mend
        time    +1h
        expect  nothing
        answer  mend ok 1
        expect  completed 1
        "#,
    );
}

#[test]
fn no_attempt_begins_when_the_total_time_is_over() {
    check(
        r#"
        start   order-7 call {"order":7,"retry":{"delay_ms":4000,"total_ms":10000}}
        expect  call ship attempt 1
        answer  ship attempt 1 failed Busy
        time    +4s
        expect  call ship attempt 2
        answer  ship attempt 2 failed Busy
        time    +4s
        expect  call ship attempt 3
        answer  ship attempt 3 failed Busy  # the next one would begin at 12 s
        expect  failed Busy
        "#,
    );
}

#[test]
fn kinds_that_are_not_retried_fail_at_once() {
    check(
        r#"
        start   order-7 call {"order":7,"retry":{"except":"CardDeclined"}}
        expect  call ship attempt 1
        answer  ship failed Busy
        time    +1s
        expect  call ship attempt 2
        answer  ship attempt 2 failed CardDeclined
        expect  failed CardDeclined
        time    +1d
        expect  nothing
        "#,
    );
}

#[test]
fn a_permanent_failure_is_not_retried() {
    check(
        r#"
        start   order-7 call {"order":7,"retry":{}}
        expect  call ship attempt 1
        answer  ship permanent Gone
        expect  failed Gone never
        "#,
    );
}

#[test]
fn a_call_without_policy_is_tried_once() {
    check(
        r#"
        start   order-7 call_again 7
        expect  call ship attempt 1
        answer  ship failed Busy
        expect  call mend attempt 1 "Busy"
        answer  mend ok "mended"
        expect  completed "mended"
        "#,
    );
}

#[test]
fn attempts_without_bound_go_on_for_long() {
    let mut story = String::from(
        "
        faults live
        start order-7 call {\"order\":7,\"retry\":{\"attempts\":0}}
        ",
    );
    for attempt in 1..200 {
        story += &format!(
            "
            expect call ship attempt {attempt}
            answer ship attempt {attempt} failed Busy
            time +1s
            "
        );
    }
    story += "
        expect call ship attempt 200
        answer ship attempt 200 ok 1
        expect completed 1
        ";
    check(&story);
}

#[test]
fn the_delay_with_its_jitter_is_decided_once_and_stays_over_a_takeover() {
    // Where each attempt begins is found by stepping; a takeover in every pause must not move it.
    let story = |takeover: bool| {
        let mut story = String::from(
            "
            faults live
            start order-7 call {\"order\":7,\"retry\":{\"delay_ms\":1000,\"jitter\":1.0}}
            expect call ship attempt 1
            answer ship attempt 1 failed Busy
            ",
        );
        if takeover {
            story += "takeover\ntakeover\n";
        }
        story
    };
    let begins = |takeover: bool| {
        let mut world = told_open(&story(takeover));
        let due = world.owners[0].as_mut().expect("open").partition.next_due();
        due.expect("a retry is planned").since(world.now)
    };
    let plain = begins(false);
    assert!(plain < std::time::Duration::from_secs(1), "{plain:?}");
    assert_eq!(begins(true), plain);
}

/// A world whose story goes on in the test; no closing checks apply to its calls.
fn told_open(story: &str) -> super::story::World {
    told(story)
}

#[test]
fn the_first_to_answer_wins_and_the_other_is_cancelled() {
    check(
        r#"
        start   order-7 race_calls 1
        expect  call left
        expect  call right
        answer  right ok "r"
        expect  completed ["right","r"]
        expect  cancel left
        answer  left ok "l"
        expect  completed ["right","r"]
        "#,
    );
    check(
        r#"
        start   order-7 race_biased 1
        expect  call left
        expect  call right
        answer  left ok "l"
        expect  completed ["left","l"]
        expect  cancel right
        "#,
    );
}

#[test]
fn of_two_answers_in_one_batch_the_recorded_order_decides() {
    for (first, second) in [("left", "right"), ("right", "left")] {
        for code in ["race_calls", "race_biased"] {
            check(&format!(
                r#"
                faults  evict
                start   order-7 {code} 1
                expect  call left
                expect  call right
                commits wait
                answer  {first} ok 1
                answer  {second} ok 2
                commits flow
                evict
                expect  completed ["{first}",1]
                "#
            ));
        }
    }
}

#[test]
fn if_both_sides_are_ready_the_left_one_wins() {
    check(
        r#"
        start   order-7 race_same
        event   order-7 right 2
        event   order-7 left 1
        expect  running
        event   order-7 go
        expect  completed ["left",1]
        expect  unconsumed [["right",2]]
        "#,
    );
}

#[test]
fn a_call_that_loses_against_a_timer_is_cancelled_and_its_answer_dropped() {
    check(
        r#"
        start   order-7 race_timer 1
        expect  call slow
        time    +10s
        expect  cancel slow
        expect  custom "timer"
        answer  slow ok 1
        expect  running
        expect  history started scheduled timer fired cancelled
        event   order-7 go
        expect  completed "timer"
        "#,
    );
}

#[test]
fn a_call_in_backoff_that_is_cancelled_is_not_tried_again() {
    check(
        r#"
        start   order-7 race_timer 1
        expect  call slow
        time    +9s
        answer  slow failed Busy
        expect  custom "call"
        event   order-7 go
        expect  completed "call"
        "#,
    );
}

fn fan(n: u64, faults: &str) {
    check(&format!(
        "
        faults  {faults}
        start   order-7 fan {n}
        expect  calls {n} work
        expect  nothing
        answer  all work
        expect  completed {}
        ",
        n * (n - 1) / 2
    ));
}

#[test]
fn joined_calls_wait_for_all_below_and_above_what_the_combinator_polls_at_once() {
    // `join_all` polls up to 30 futures each time, and above that only those that were woken.
    for n in [1, 2, 30, 31, 100] {
        fan(n, if n < 100 { "all" } else { "evict" });
    }
}

#[test]
fn two_thousand_joined_calls_complete() {
    fan(2_000, "live");
}

#[test]
fn a_fan_with_one_failure_fails_when_all_have_answered() {
    check(
        "
        start   order-7 fan 3
        expect  calls 3 work
        answer  work call 1 failed Broken
        expect  running
        answer  work call 0 ok 0
        answer  work call 2 ok 2
        expect  failed Broken
        ",
    );
}

#[test]
fn unordered_results_come_in_the_order_in_which_they_were_recorded() {
    check(
        "
        start   order-7 unordered 4
        expect  calls 4 work
        answer  work call 2 ok 2
        answer  work call 0 ok 0
        answer  work call 3 ok 3
        answer  work call 1 ok 1
        expect  completed [2,0,3,1]
        ",
    );
}

#[test]
fn a_bounded_buffer_starts_the_next_call_when_one_is_done() {
    check(
        "
        start   order-7 buffered 5
        expect  call work call 0
        expect  call work call 1
        expect  call work call 2
        expect  nothing
        answer  work call 1 ok 1
        expect  call work call 3
        expect  nothing
        answer  work call 3 ok 3
        expect  call work call 4
        expect  nothing
        answer  work call 0 ok 0
        answer  work call 4 ok 4
        answer  work call 2 ok 2
        expect  completed [1,3,0,4,2]
        ",
    );
}

#[test]
fn time_uuids_and_random_numbers_are_the_same_on_every_replay() {
    check(
        "
        start   order-7 stable
        expect  call note
        time    +1s
        answer  note ok
        expect  call note
        time    +1s
        answer  note ok
        expect  call note
        answer  note ok
        expect  completed 9                 # all that was drawn is different
        ",
    );
}

#[test]
fn what_was_drawn_differs_between_instances_and_runs() {
    let world = told(
        "
        faults live
        start order-7 stable
        expect call note
        start order-8 stable
        expect call note
        terminate order-7
        start order-7 stable
        expect call order-7 note
        ",
    );
    let drawn: Vec<Value> = world
        .ledger
        .values()
        .flatten()
        .filter_map(|event| match &event.is {
            EventKind::ActivityScheduled(scheduled) => Some(scheduled.input.to().expect("JSON")),
            _ => None,
        })
        .collect();
    assert_eq!(drawn.len(), 3);
    for at in 1..4 {
        let values: std::collections::BTreeSet<_> =
            drawn.iter().map(|drawn| drawn[at].to_string()).collect();
        assert_eq!(values.len(), 3, "{values:?}");
    }
    assert!(world.store.status(&id("order-8")).is_some());
}

#[test]
fn answers_that_nobody_waits_for_are_dropped_and_counted() {
    check(
        "
        faults  live
        start   order-7 chain 1
        expect  call a
        answer  a attempt 1 ok
        answer  a attempt 1 ok
        expect  dropped 1
        expect  call b
        answer  b ok
        expect  call c
        answer  c ok
        expect  completed
        answer  c ok
        answer  a failed Late
        expect  dropped 2
        takeover
        answer  c ok
        expect  dropped 1
        ",
    );
}
