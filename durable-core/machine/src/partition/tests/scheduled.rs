//! Starts at a later time.

use super::story::check;

#[test]
fn a_start_waits_for_its_time() {
    check(
        "
        start   order-7 chain 1 at +30s
        expect  pending
        time    +29s
        expect  pending
        time    +1s
        expect  call a
        expect  running
        ",
    );
}

#[test]
fn a_time_that_has_passed_is_now() {
    check(
        "
        start   order-7 echo 1 at +30s
        jump    +1h
        expect  completed 1
        start   order-8 echo 2 at +0s
        expect  completed 2
        ",
    );
}

#[test]
fn what_is_sent_to_a_start_that_waits_is_kept_for_it() {
    check(
        r#"
        start   order-7 wait ["a","b"] at +1h
        event   order-7 b 2
        event   order-7 a 1
        event   order-7 a 3
        expect  pending
        time    +1h
        expect  completed
        expect  unconsumed [["a",3]]
        "#,
    );
}

#[test]
fn a_start_that_waits_is_ended_before_its_code_runs() {
    check(
        r#"
        start   order-7 chain 1 at +1h
        event   order-7 a 1
        terminate order-7 changed-our-mind
        expect  terminated
        expect  unconsumed [["a",1]]
        expect  history started terminated
        time    +2h
        expect  terminated
        expect  nothing
        start   order-7 echo 2
        expect  completed 2
        "#,
    );
}

#[test]
fn a_start_that_waits_can_be_suspended_and_begins_suspended() {
    check(
        "
        start   order-7 chain 1 at +1h
        suspend order-7
        expect  suspended
        time    +2h
        expect  suspended
        expect  nothing
        resume  order-7
        expect  call a
        expect  running
        ",
    );
    check(
        "
        start   order-7 chain 1 at +1h
        suspend order-7
        resume  order-7
        expect  pending
        time    +1h
        expect  call a
        ",
    );
}

#[test]
fn a_start_that_waits_takes_the_place_of_an_ended_run_with_what_it_was_sent() {
    check(
        r#"
        start   order-7 echo 1
        expect  completed 1
        start   order-7 wait ["a"] at +1h
        expect  pending
        event   order-7 a 5
        expect  pending
        time    +1h
        expect  completed
        "#,
    );
}

#[test]
fn an_active_run_ends_at_once_for_a_start_that_replaces_it_later() {
    check(
        "
        start   order-7 race_timer 1
        expect  call slow
        start   order-7 chain 2 reuse replace at +1h
        expect  cancel slow
        expect  pending
        answer  slow ok 1
        time    +1h
        expect  call a 2
        expect  running
        ",
    );
}

#[test]
fn a_start_whose_code_is_missing_is_held_when_its_time_comes() {
    check(
        "
        faults  live
        start   order-7 stranger 1 at +1h
        expect  pending
        time    +1h
        expect  held UnknownOrchestrator
        terminate order-7 enough
        expect  terminated
        ",
    );
}
