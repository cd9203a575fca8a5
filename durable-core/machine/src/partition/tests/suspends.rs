//! Suspend and resume.

use super::story::check;

#[test]
fn events_that_come_while_suspended_are_applied_at_the_resume_in_the_order_of_arrival() {
    check(
        r#"
        start   order-7 wait ["a","b","a"]
        suspend order-7
        expect  suspended
        event   order-7 a 1
        event   order-7 b 2
        event   order-7 a 3
        expect  suspended
        expect  history started suspended raised raised raised
        resume  order-7
        expect  completed [1,2,3]
        expect  history started suspended raised raised raised resumed completed
        "#,
    );
}

#[test]
fn a_pending_instance_that_was_suspended_begins_suspended() {
    // The commands reach the store while nobody owns the partition.
    check(
        r#"
        faults  live
        crash
        start   order-7 wait ["a"] reuse refuse
        expect  pending
        stored  suspend order-7
        stored  event order-7 a 1
        open
        expect  nothing
        expect  suspended
        expect  history started raised
        takeover
        expect  suspended
        resume  order-7
        expect  completed [1]
        expect  history started raised resumed completed
        "#,
    );
}

#[test]
fn a_pending_instance_that_was_suspended_and_resumed_runs() {
    check(
        r#"
        faults  live
        crash
        start   order-7 chain 1 reuse refuse
        stored  suspend order-7
        stored  resume order-7
        open
        expect  running
        expect  call a
        answer  a ok
        expect  call b
        "#,
    );
}

#[test]
fn timers_fire_into_the_history_of_a_suspended_instance() {
    check(
        r#"
        start   order-7 sleep {"micros":5000000}
        suspend order-7
        time    +5s
        expect  suspended
        expect  history started timer suspended fired
        resume  order-7
        expect  completed {"slept":5000000}
        "#,
    );
}

#[test]
fn running_attempts_finish_and_no_new_one_starts_while_suspended() {
    check(
        "
        faults  evict
        start   order-7 chain 1
        expect  call a
        suspend order-7
        answer  a ok 2
        expect  nothing
        expect  history started scheduled suspended result
        time    +1h
        expect  nothing
        resume  order-7
        expect  call b 2
        answer  b ok
        expect  call c
        answer  c ok 9
        expect  completed 9
        ",
    );
}

#[test]
fn a_retry_that_is_due_while_suspended_waits_for_the_resume() {
    check(
        r#"
        faults  evict
        start   order-7 call {"order":7,"retry":{"attempts":3,"delay_ms":1000}}
        expect  call ship attempt 1
        suspend order-7
        answer  ship attempt 1 failed Busy
        time    +1m
        expect  nothing
        expect  suspended
        resume  order-7
        expect  call ship attempt 2
        answer  ship attempt 2 ok 1
        expect  completed 1
        "#,
    );
}

#[test]
fn a_retry_that_is_not_yet_due_at_the_resume_keeps_its_time() {
    check(
        r#"
        start   order-7 call {"order":7,"retry":{"attempts":3,"delay_ms":60000}}
        expect  call ship attempt 1
        answer  ship attempt 1 failed Busy
        suspend order-7
        time    +10s
        resume  order-7
        time    +49s
        expect  nothing
        time    +1s
        expect  call ship attempt 2
        "#,
    );
}

#[test]
fn attempts_that_were_lost_with_their_worker_while_suspended_begin_again_at_the_resume() {
    check(
        "
        faults  live
        start   order-7 chain 1
        expect  call a
        suspend order-7
        takeover
        takeover
        takeover
        takeover
        expect  suspended
        answer  a attempt 1 ok 1            # a late answer of the first worker
        expect  suspended
        resume  order-7
        answer  a attempt 1 ok 1
        expect  call b
        ",
    );
}

#[test]
fn suspending_twice_and_resuming_twice_is_once() {
    check(
        r#"
        start   order-7 wait ["a"]
        suspend order-7
        suspend order-7
        expect  answer accepted
        resume  order-7
        expect  answer accepted
        resume  order-7
        expect  answer accepted
        expect  running
        event   order-7 a 1
        expect  completed [1]
        expect  history started suspended resumed raised completed
        "#,
    );
}

#[test]
fn an_instance_can_be_suspended_again_and_again() {
    check(
        r#"
        start   order-7 wait ["a","a","a"]
        suspend order-7
        event   order-7 a 1
        resume  order-7
        suspend order-7
        event   order-7 a 2
        event   order-7 a 3
        expect  suspended
        resume  order-7
        expect  completed [1,2,3]
        "#,
    );
}

#[test]
fn suspend_and_resume_of_nobody_and_of_what_has_ended_say_so() {
    check(
        "
        faults  live
        suspend nobody
        expect  answer not-found
        start   order-7 echo 1
        expect  completed 1
        suspend order-7
        expect  answer finished
        resume  order-7
        expect  answer finished
        expect  completed 1
        ",
    );
}

#[test]
fn a_race_decided_while_suspended_sees_the_recorded_order() {
    check(
        r#"
        faults  evict
        start   order-7 race_calls 1
        expect  call left
        expect  call right
        suspend order-7
        answer  right ok 2
        answer  left ok 1
        resume  order-7
        expect  completed ["right",2]
        "#,
    );
}

#[test]
fn the_end_of_a_suspended_instance_lists_what_it_was_sent() {
    check(
        r#"
        start   order-7 wait ["a","b"]
        event   order-7 b 1
        suspend order-7
        event   order-7 a 2
        terminate order-7 "enough"
        expect  terminated
        expect  unconsumed [["b",1],["a",2]]
        "#,
    );
}
