//! Instances that the engine holds for a reason, and how they go on.

use super::story::check;

#[test]
fn code_that_no_longer_fits_is_held_with_what_was_recorded_and_what_it_did() {
    for (other, message) in [
        (
            "chain_renamed",
            r#"event 1: the history has call 0 of activity "a", the code asks for call 0 of activity "first""#,
        ),
        (
            "chain_timer",
            r#"event 1: the history has call 0 of activity "a", the code asks for timer 0"#,
        ),
        (
            "chain_short",
            r#"event 1: the history has call 0 of activity "a", the code asks for completed"#,
        ),
        (
            "chain_longer",
            r#"event 2: the history has result of call 0, the code asks for call 1 of activity "extra""#,
        ),
        (
            "chain_waits",
            r#"event 1: the history has call 0 of activity "a", the code asks for nothing here"#,
        ),
    ] {
        check(&format!(
            r#"
            faults  live
            start   order-7 chain 1
            expect  call a
            answer  a ok 2
            expect  call b
            crash
            code    chain is {other}
            open
            expect  held Diverged {message}
            expect  history started scheduled result scheduled
            answer  b ok 3                  # kept
            event   order-7 unasked 1       # kept
            expect  history started scheduled result scheduled
            code    chain is chain
            resume  order-7
            expect  free
            expect  call c 3
            expect  history started scheduled result scheduled result scheduled raised
            answer  c ok 4
            expect  completed 4
            expect  unconsumed [["unasked",1]]
            "#
        ));
    }
}

#[test]
fn a_held_instance_stays_held_while_the_code_is_wrong_however_often_it_is_resumed() {
    check(
        r#"
        faults  live
        start   order-7 wait ["a","b"]
        event   order-7 a 1
        crash
        code    wait is chain_short
        open
        event   order-7 b 2
        expect  held Diverged
        resume  order-7
        expect  held Diverged
        takeover
        expect  held Diverged
        resume  order-7
        expect  held Diverged
        crash
        code    wait is wait
        open
        expect  free
        expect  completed [1,2]
        "#,
    );
}

#[test]
fn a_changed_input_is_worth_a_warning_and_the_recorded_one_stands() {
    check(
        "
        faults  live
        start   order-7 chain 1
        expect  call a 1
        crash
        code    chain is chain_other_input
        open
        expect  note 1 calls have another input
        answer  a ok 2
        expect  call b 2
        ",
    );
}

#[test]
fn events_to_a_held_instance_are_kept_over_takeovers_and_come_in_order() {
    check(
        r#"
        faults  live
        start   order-7 wait ["a","a","a"]
        event   order-7 a 1
        crash
        code    wait is chain_short
        open
        event   order-7 a 2
        expect  held Diverged
        event   order-7 a 3
        takeover
        expect  held Diverged
        crash
        code    wait is wait
        open
        expect  completed [1,2,3]
        "#,
    );
}

#[test]
fn a_timer_that_came_due_when_the_code_diverged_fires_after_the_resume() {
    check(
        r#"
        faults  live
        start   order-7 sleep {"micros":5000000}
        evict
        code    sleep is chain_short
        time    +5s
        expect  held Diverged
        code    sleep is sleep
        resume  order-7
        expect  completed {"slept":5000000}
        "#,
    );
}

#[test]
fn timers_of_a_held_instance_fire_when_it_is_resumed() {
    check(
        r#"
        faults  live
        start   order-7 sleep {"micros":5000000}
        evict
        code    sleep is chain_short
        event   order-7 unasked 1
        expect  held Diverged
        time    +1h
        expect  held Diverged
        expect  history started timer
        code    sleep is sleep
        resume  order-7
        expect  completed {"slept":3600000000}
        "#,
    );
}

#[test]
fn retries_of_a_held_instance_go_on_when_it_is_resumed() {
    check(
        r#"
        faults  live
        start   order-7 call {"order":7,"retry":{"attempts":3}}
        expect  call ship attempt 1
        crash
        code    call is chain_short
        open
        expect  held Diverged
        answer  ship attempt 1 failed Busy
        time    +1h
        expect  nothing
        code    call is call
        resume  order-7
        expect  call ship attempt 2
        answer  ship attempt 2 ok 1
        expect  completed 1
        "#,
    );
}

#[test]
fn an_orchestrator_that_nobody_here_knows_is_held_until_somebody_does() {
    check(
        r#"
        faults  live
        crash
        code    wait is missing
        start   order-7 wait ["a","b"] reuse refuse
        start   order-8 echo 8
        open
        start   order-8 echo 8
        expect  held order-7 UnknownOrchestrator no orchestrator "wait"
        expect  completed order-8 8
        event   order-7 a 1
        event   order-7 b 2
        takeover
        expect  held order-7 UnknownOrchestrator
        crash
        code    wait is wait
        open
        expect  completed order-7 [1,2]
        expect  history order-7 started raised raised completed
        "#,
    );
}

#[test]
fn an_owner_says_which_orchestrators_its_instances_need_and_it_lacks() {
    check(
        r#"
        faults  live
        start   order-7 chain 1
        start   order-8 echo 8
        expect  call a
        expect  lacks
        crash
        code    chain is missing
        open
        expect  held order-7 UnknownOrchestrator
        expect  lacks chain
        code    wait is missing
        start   order-9 wait [] reuse refuse
        expect  held order-9 UnknownOrchestrator
        expect  lacks chain wait
        crash
        code    chain is chain
        code    wait is wait
        open
        expect  free order-7
        expect  lacks
        "#,
    );
}

#[test]
fn a_start_that_waits_for_its_code_behind_a_run_that_has_ended_counts_as_lacked() {
    check(
        "
        faults  live
        start   order-7 echo 1
        expect  completed 1
        code    chain is missing
        start   order-7 chain 2 reuse refuse
        expect  note no orchestrator \"chain\"
        expect  lacks chain
        crash
        code    chain is chain
        open
        expect  call a 2
        ",
    );
}

#[test]
fn a_pending_start_without_code_begins_at_the_resume_when_the_code_is_there() {
    check(
        r#"
        faults  live
        crash
        code    wait is missing
        start   order-7 wait ["a"] reuse refuse
        open
        expect  held UnknownOrchestrator
        resume  order-7
        expect  held UnknownOrchestrator
        event   order-7 a 1
        code    wait is wait
        resume  order-7
        expect  completed [1]
        "#,
    );
}

#[test]
fn a_running_instance_whose_orchestrator_left_is_held_and_taken_up_again() {
    check(
        "
        faults  live
        start   order-7 chain 1
        expect  call a
        crash
        code    chain is missing
        open
        expect  held UnknownOrchestrator resume it on one that has it
        expect  nothing
        takeover
        expect  held UnknownOrchestrator
        expect  nothing
        crash
        code    chain is chain
        open
        answer  a ok 2
        expect  call b 2
        ",
    );
}

#[test]
fn a_held_instance_can_be_terminated() {
    check(
        r#"
        faults  live
        start   order-7 wait ["a","b"]
        event   order-7 b 1
        crash
        code    wait is chain_short
        open
        event   order-7 a 2
        expect  held Diverged
        event   order-7 a 3
        terminate order-7 away
        expect  terminated "away"
        expect  unconsumed [["b",1],["a",2],["a",3]]
        expect  history started raised terminated
        code    wait is wait
        "#,
    );
    check(
        r#"
        faults  live
        crash
        code    wait is missing
        start   order-7 wait ["a"] reuse refuse
        open
        event   order-7 a 1
        expect  held UnknownOrchestrator
        terminate order-7
        expect  terminated
        expect  unconsumed [["a",1]]
        expect  history started terminated
        code    wait is wait
        "#,
    );
}

#[test]
fn a_held_instance_can_be_replaced() {
    check(
        r#"
        faults  live
        start   order-7 chain 1
        expect  call a
        crash
        code    chain is chain_short
        open
        expect  held Diverged
        start   order-7 echo 2 reuse replace
        expect  completed 2
        code    chain is chain
        "#,
    );
}

#[test]
fn a_replacing_start_without_code_leaves_the_active_run_alone() {
    check(
        r#"
        faults  live
        start   order-7 chain 1
        expect  call a
        code    echo is missing
        start   order-7 echo 2 reuse replace
        expect  note no orchestrator "echo"
        answer  a ok
        expect  call b
        answer  b ok
        expect  call c
        answer  c ok 3                      # the old run ends; the start still waits
        takeover
        crash
        code    echo is echo
        open
        expect  completed 2
        "#,
    );
}

#[test]
fn a_history_that_cannot_be_read_is_held_while_its_neighbours_run() {
    for (how, message) in [
        ("", "damaged"),
        ("newer", "format 2, this build reads up to 1"),
        ("unknown", "does not know"),
    ] {
        check(&format!(
            r#"
            faults  live
            start   order-7 wait ["a","b"]
            event   order-7 a 1
            start   order-8 chain 1
            expect  call a
            crash
            damage  order-7 {how}
            open
            event   order-7 b 2
            expect  held order-7 Undecodable {message}
            answer  order-8 a ok
            expect  call order-8 b
            terminate order-8
            expect  cancel order-8 b
            terminate order-7
            expect  answer refused
            takeover
            expect  held order-7 Undecodable
            crash
            repair  order-7
            open
            expect  completed order-7 [1,2]
            "#
        ));
    }
}

#[test]
fn an_instance_with_open_calls_whose_history_cannot_be_read_loses_none_of_its_attempts() {
    check(
        r#"
        faults  live
        start   order-7 call {"order":7,"retry":{"attempts":3}}
        expect  call ship attempt 1
        answer  ship attempt 1 failed Busy
        time    +1s
        expect  call ship attempt 2
        crash
        damage  order-7
        open
        expect  held Undecodable
        event   order-7 unasked 1
        takeover
        expect  held Undecodable
        repair  order-7
        resume  order-7
        expect  free
        answer  ship attempt 2 failed Busy
        time    +1s
        expect  call ship attempt 3
        answer  ship attempt 3 failed Busy
        expect  failed Busy
        expect  unconsumed [["unasked",1]]
        "#,
    );
}

#[test]
fn what_was_kept_for_a_held_instance_outlives_damage_to_its_history() {
    check(
        r#"
        faults  live
        start   order-7 wait ["a","a"]
        crash
        code    wait is chain_short
        open
        event   order-7 a 1
        expect  held Diverged
        crash
        code    wait is wait
        damage  order-7
        open
        expect  held Undecodable
        event   order-7 a 2
        repair  order-7
        resume  order-7
        expect  completed [1,2]
        "#,
    );
}

#[test]
fn what_was_kept_survives_a_crash_between_the_resume_and_the_code_being_back() {
    check(
        r#"
        faults  live
        start   order-7 wait ["a","a"]
        crash
        code    wait is chain_short
        open
        event   order-7 a 1
        event   order-7 a 2
        expect  held Diverged
        code    wait is wait
        commits wait
        resume-only order-7
        write
        crash
        commits flow
        open
        expect  completed [1,2]
        "#,
    );
}

#[test]
fn a_timer_of_an_unreadable_instance_is_not_forgotten() {
    check(
        r#"
        faults  live
        start   order-7 sleep {"micros":5000000}
        crash
        damage  order-7
        open
        time    +5s
        expect  held Undecodable
        crash
        repair  order-7
        open
        expect  completed {"slept":5000000}
        "#,
    );
}

#[test]
fn rows_that_cannot_be_read_at_all_stop_nobody_else() {
    check(
        r#"
        faults  live
        start   order-7 wait ["a"]
        start   order-8 wait ["a"]
        evict
        unreadable order-7
        event   order-7 a 1
        expect  answer refused
        expect  note order-7: its rows cannot be read
        event   order-8 a 1
        expect  completed order-8 [1]
        "#,
    );
}

#[test]
fn an_instance_on_the_stuck_list_is_held_until_it_is_resumed() {
    check(
        r#"
        faults  live
        start   order-7 chain 1
        expect  call a
        start   order-8 chain 1
        expect  call order-8 a
        crash
        stuck   order-7
        open
        expect  held order-7 Stuck did not return in time
        answer  order-8 a ok
        expect  call order-8 b
        resume  order-7
        expect  free order-7
        expect  at-work order-7 a
        answer  order-7 a ok
        expect  call order-7 b
        evict
        answer  order-7 b ok
        expect  call order-7 c
        stuck-no-more
        "#,
    );
}

#[test]
fn a_stuck_sleeper_is_not_held_again_when_it_comes_back_into_memory() {
    check(
        r#"
        faults  live
        start   order-7 wait ["a","b"]
        crash
        stuck   order-7
        open
        event   order-7 a 1
        expect  held Stuck
        resume  order-7
        expect  free
        evict
        event   order-7 b 2
        expect  completed [1,2]
        stuck-no-more
        "#,
    );
}

#[test]
fn a_stuck_instance_stays_held_with_the_next_owner() {
    check(
        "
        faults  live
        start   order-7 chain 1
        expect  call a
        crash
        stuck   order-7
        open
        expect  held Stuck
        stuck-no-more
        takeover
        expect  held Stuck
        takeover
        expect  held Stuck
        resume  order-7
        expect  running
        answer  a ok
        expect  call b
        ",
    );
}
