//! How runs end: terminate, failures of the code, what is left behind, panics, foreign waits.

use super::story::check;

#[test]
fn terminate_ends_a_running_instance_and_stops_its_work() {
    check(
        "
        start   order-7 race_timer 1
        expect  call slow
        terminate order-7 enough
        expect  answer accepted
        expect  cancel slow
        expect  terminated \"enough\"
        expect  history started scheduled timer terminated
        answer  slow ok 1
        time    +1d
        expect  terminated
        expect  history started scheduled timer terminated
        ",
    );
}

#[test]
fn terminate_without_a_reason_has_no_output() {
    check(
        "
        start   order-7 wait [\"a\"]
        terminate order-7
        expect  terminated
        terminate order-7 again
        expect  answer finished
        terminate nobody
        expect  answer not-found
        ",
    );
}

#[test]
fn terminate_ends_a_pending_instance_before_its_code_runs() {
    check(
        r#"
        faults  live
        crash
        start   order-7 chain 1 reuse refuse
        stored  event order-7 unasked 5
        stored  terminate order-7 stop
        open
        expect  nothing
        expect  terminated "stop"
        expect  history started terminated
        expect  unconsumed [["unasked",5]]
        "#,
    );
}

#[test]
fn a_terminate_of_the_run_before_that_comes_again_does_not_stop_the_next_one_from_beginning() {
    check(
        r#"
        faults  live
        start   order-7 wait ["a"]
        stored  terminate order-7
        expect  terminated
        crash
        start   order-7 wait ["a"] reuse refuse
        open-only
        again
        event   order-7 a 1
        expect  completed [1]
        "#,
    );
}

#[test]
fn terminate_ends_a_suspended_instance() {
    check(
        "
        faults  evict
        start   order-7 chain 1
        expect  call a
        suspend order-7
        answer  a ok 2
        terminate order-7
        expect  nothing
        expect  terminated
        expect  history started scheduled suspended result terminated
        ",
    );
}

#[test]
fn terminate_and_completion_in_one_batch_the_first_one_stands() {
    check(
        "
        faults  evict
        start   order-7 call 1
        expect  call ship
        commits wait
        answer  ship ok 5
        terminate order-7
        commits flow
        evict
        expect  answer finished
        expect  completed 5
        ",
    );
    check(
        "
        faults  evict
        start   order-7 call 1
        expect  call ship
        commits wait
        terminate order-7 first
        answer  ship ok 5
        commits flow
        evict
        expect  answer accepted
        expect  terminated \"first\"
        ",
    );
}

#[test]
fn work_that_nobody_awaits_is_cancelled_when_its_parent_ends() {
    for (code, end) in [("unawaited", "completed \"ended\""), ("unawaited_fails", "failed Gone")] {
        check(&format!(
            "
            start   order-7 {code} 1
            expect  call side
            event   order-7 go
            expect  cancel side
            expect  {end}
            answer  side ok 1
            time    +1d
            expect  nothing
            expect  {end}
            "
        ));
    }
}

#[test]
fn events_that_were_accepted_and_not_consumed_are_listed() {
    check(
        r#"
        start   order-7 wait ["a"]
        event   order-7 z {"n":1}
        event   order-7 b 2
        event   order-7 b 3
        event   order-7 a 4
        expect  completed [4]
        expect  unconsumed [["z",{"n":1}],["b",2],["b",3]]
        "#,
    );
}

#[test]
fn a_stored_event_that_comes_after_the_end_is_listed() {
    check(
        r#"
        faults  live
        start   order-7 wait ["a"]
        commits wait
        event   order-7 a 1                 # the end is decided, and not stored yet
        stored  event order-7 a 2
        expect  running
        commits flow
        evict
        expect  completed [1]
        expect  unconsumed [["a",2]]
        "#,
    );
}

#[test]
fn an_event_for_an_instance_that_has_ended_is_refused_to_its_sender() {
    check(
        "
        start   order-7 echo 1
        event   order-7 a 1
        expect  answer finished
        expect  unconsumed []
        ",
    );
}

#[test]
fn a_panic_fails_the_instance_and_not_its_neighbours() {
    check(
        "
        start   order-8 chain 1
        expect  call a
        start   order-7 panics
        expect  failed Panic at once
        start   order-6 panics_making
        expect  failed Panic before the first poll
        start   order-5 panics_later 1
        expect  call order-5 a
        answer  order-5 a ok
        expect  failed order-5 Panic after a
        answer  order-8 a ok
        expect  call order-8 b
        ",
    );
}

#[test]
fn a_panic_with_open_work_cancels_it() {
    check(
        r#"
        faults  evict
        start   order-7 panics_after_actions 1
        expect  call a
        expect  cancel a
        expect  failed Panic with an open call
        expect  custom "about to panic"
        expect  history started scheduled failed
        time    +1d
        "#,
    );
}

#[test]
fn a_panic_in_a_destructor_harms_nobody_however_the_code_ends() {
    check(
        r#"
        start   order-7 panics_dropping
        start   order-8 chain 1
        expect  call a
        terminate order-7
        expect  terminated order-7
        start   order-9 panics_dropping
        event   order-9 go 1
        expect  failed order-9 Panic in a destructor
        start   order-6 panics_dropping
        evict
        event   order-6 unasked 1
        evict
        event   order-6 go 1
        expect  failed order-6 Panic in a destructor
        answer  order-8 a ok
        expect  call order-8 b
        "#,
    );
}

#[test]
fn what_destructors_ask_for_at_the_end_does_not_happen() {
    for (last, end) in [
        ("event order-7 go", "failed order-7 ForeignAwait"),
        ("terminate order-7", "terminated order-7"),
        ("evict", "running order-7"),
    ] {
        check(&format!(
            r#"
            faults  evict
            start   heir wait ["add"]
            start   order-7 asks_while_dropped
            {last}
            expect  {end}
            expect  custom order-7
            expect  running heir
            expect  history heir started
            "#
        ));
    }
}

#[test]
fn waiting_for_what_is_not_durable_fails_at_once_with_a_sentence() {
    check(
        "
        start   order-7 foreign
        expect  failed ForeignAwait not a durable future
        start   order-8 foreign_later 1
        expect  call a
        answer  a ok
        expect  failed order-8 ForeignAwait
        expect  history order-8 started scheduled result failed
        ",
    );
}

#[test]
fn a_wake_up_from_outside_a_turn_fails_the_instance() {
    check(
        "
        faults  live
        start   order-7 foreign_thread
        woken
        expect  failed ForeignAwait
        expect  history started failed
        ",
    );
}

#[test]
fn code_that_wakes_itself_is_polled_again_at_once() {
    check(
        "
        start   order-7 yields
        expect  running
        event   order-7 go 1
        expect  completed 1
        ",
    );
}
