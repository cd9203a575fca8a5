//! Runs that have to end by a time.

use super::story::check;

#[test]
fn a_run_that_has_not_ended_at_its_deadline_fails() {
    check(
        "
        start   order-7 chain 1 within +30s
        expect  call a
        answer  a ok 2
        expect  call b
        time    +29s
        expect  running
        time    +1s
        expect  cancel b
        expect  failed DeadlineExceeded
        expect  history started scheduled result scheduled failed
        answer  b ok 3
        time    +1h
        expect  failed DeadlineExceeded
        expect  nothing
        start   order-8 echo 2
        expect  completed 2
        ",
    );
}

#[test]
fn a_run_that_ends_in_time_knows_nothing_of_its_deadline() {
    check(
        "
        start   order-7 call {} within +30s
        expect  call ship
        answer  ship ok 2
        expect  completed 2
        time    +1h
        expect  completed 2
        expect  history started scheduled result completed
        ",
    );
}

#[test]
fn it_counts_from_when_the_run_may_begin() {
    check(
        "
        start   order-7 chain 1 at +1h within +30s
        time    +1h
        expect  call a
        time    +29s
        expect  running
        time    +1s
        expect  cancel a
        expect  failed DeadlineExceeded
        ",
    );
}

#[test]
fn a_run_that_nobody_served_until_its_deadline_runs_no_code() {
    check(
        r#"
        start   order-7 wait ["a"] at +1h within +30s with a 7
        jump    +2h
        expect  failed DeadlineExceeded
        expect  unconsumed [["a",7]]
        expect  history started failed
        "#,
    );
    check(
        "
        start   order-7 chain 1 within +0s
        expect  failed DeadlineExceeded
        expect  nothing
        ",
    );
}

#[test]
fn what_waited_for_the_run_is_listed_and_its_timers_are_gone() {
    check(
        r#"
        start   order-7 chain_timer 1 within +30s
        event   order-7 go 1
        time    +1s
        expect  call a
        time    +29s
        expect  cancel a
        expect  failed DeadlineExceeded
        expect  unconsumed [["go",1]]
        time    +10h
        expect  nothing
        "#,
    );
}

#[test]
fn timers_that_were_due_before_it_fire_before_it() {
    check(
        r#"
        start   order-7 sleep {"micros":20000000} within +30s
        jump    +1h
        expect  completed
        "#,
    );
}

#[test]
fn it_comes_while_the_run_is_suspended() {
    check(
        r#"
        start   order-7 chain 1 within +30s
        expect  call a
        suspend order-7
        event   order-7 go 1
        time    +30s
        expect  cancel a
        expect  failed DeadlineExceeded
        expect  unconsumed [["go",1]]
        expect  history started scheduled suspended raised failed
        resume  order-7
        expect  failed DeadlineExceeded
        "#,
    );
}

#[test]
fn it_comes_while_the_run_is_held() {
    check(
        "
        faults  live
        start   order-7 chain 1 within +30s
        expect  call a
        code    chain is chain_renamed
        takeover
        expect  held Diverged
        time    +29s
        expect  held Diverged
        time    +1s
        expect  cancel a
        expect  failed DeadlineExceeded
        code    chain is chain
        ",
    );
    check(
        "
        faults  live
        start   order-7 stranger 1 reuse refuse within +30s
        expect  held UnknownOrchestrator
        time    +30s
        expect  failed DeadlineExceeded
        expect  history started failed
        ",
    );
}

#[test]
fn one_that_cannot_be_read_fails_when_it_can_be() {
    check(
        "
        faults  live
        start   order-7 chain 1 within +30s
        expect  call a
        crash
        damage  order-7
        open
        expect  held Undecodable
        time    +1h
        expect  held Undecodable
        repair  order-7
        resume  order-7
        expect  failed DeadlineExceeded
        ",
    );
}

#[test]
fn it_is_the_same_for_all_executions_of_a_run() {
    check(
        r#"
        start   watch again [1,3] within +30s
        expect  call look 1
        answer  look ok
        time    +20s
        expect  call look 2
        expect  execution 1
        time    +9s
        expect  running
        time    +1s
        expect  cancel look
        expect  failed DeadlineExceeded
        "#,
    );
}

#[test]
fn children_end_with_a_parent_that_is_late() {
    check(
        r#"
        partitions 2
        start   mother parent {"name":"wait","input":["go"],"id":"baby"} within +30s
        expect  running baby
        time    +30s
        expect  failed mother DeadlineExceeded
        expect  terminated baby
        "#,
    );
    check(
        r#"
        partitions 2
        start   mother parent {"name":"wait","input":["go"],"id":"baby","abandon":true} within +30s
        expect  running baby
        time    +30s
        expect  failed mother DeadlineExceeded
        expect  running baby
        "#,
    );
}

#[test]
fn a_parent_hears_of_a_child_that_is_late() {
    check(
        r#"
        partitions 2
        start   mother parent {"name":"wait","input":["go"],"id":"baby","within_ms":30000}
        expect  running baby
        time    +29s
        expect  running baby
        time    +1s
        expect  failed baby DeadlineExceeded
        expect  completed mother {"kind":"DeadlineExceeded"}
        expect  history mother started child child-failure completed
        "#,
    );
}

#[test]
fn a_rewind_gives_the_length_anew() {
    check(
        "
        start   order-7 chain 1 at +1h within +30s
        time    +1h
        expect  call a
        answer  a ok 2
        expect  call b
        time    +30s
        expect  cancel b
        expect  failed DeadlineExceeded
        time    +1h
        rewind  order-7
        expect  call b 2
        expect  running
        time    +29s
        expect  running
        time    +1s
        expect  cancel b
        expect  failed DeadlineExceeded
        rewind  order-7
        expect  call b 2
        answer  b ok 3
        expect  call c
        answer  c ok 4
        expect  completed 4
        ",
    );
}

#[test]
fn a_rewind_begins_what_never_ran() {
    check(
        "
        start   order-7 chain 1 at +1h within +30s
        jump    +2h
        expect  failed DeadlineExceeded
        rewind  order-7
        expect  call a 1
        expect  running
        ",
    );
}
