//! Failed instances that are rewound: what succeeded stays, what failed is done again.

use super::story::{both, check, told};

#[test]
fn what_failed_is_done_again_and_what_succeeded_is_not() {
    check(
        "
        start   order-7 chain 1
        expect  call a
        answer  a ok 2
        expect  call b
        answer  b failed Busy
        expect  failed Busy
        rewind  order-7
        expect  running
        expect  call b
        answer  b ok 3
        expect  call c
        answer  c ok 4
        expect  completed 4
        expect  history started scheduled result scheduled result scheduled result completed
        ",
    );
}

#[test]
fn what_fails_again_may_be_rewound_again() {
    check(
        "
        start   order-7 chain 1
        expect  call a
        answer  a failed Busy
        rewind  order-7
        expect  call a
        answer  a failed Busy
        expect  failed Busy
        rewind  order-7
        expect  call a
        answer  a ok 2
        expect  call b
        answer  b failed Busy
        expect  failed Busy
        rewind  order-7
        expect  call b
        answer  b ok 3
        expect  call c
        answer  c ok 4
        expect  completed 4
        ",
    );
}

#[test]
fn a_failure_of_the_code_itself_happens_again() {
    check(
        "
        start   order-7 refuse
        expect  failed Refused
        rewind  order-7
        expect  failed Refused
        expect  history started failed
        ",
    );
}

#[test]
fn repaired_code_goes_on_from_what_the_broken_one_left() {
    // Told once: what the broken code wrote does not fit the repaired one.
    let _ = told(
        "
        start   order-7 chain 1
        expect  call a
        answer  a ok 2
        expect  call b
        answer  b failed Busy
        expect  failed Busy
        code    chain is chain_patched
        rewind  order-7
        expect  call b
        answer  b ok 3
        expect  call best
        answer  best ok 4
        expect  completed 4
        ",
    );
}

#[test]
fn what_ran_beside_the_failure_is_kept_or_begun_again() {
    check(
        "
        start   order-7 fan_fast 3
        expect  calls 3 work
        answer  work call 1 ok 11
        answer  work call 0 failed Busy
        expect  failed Busy
        rewind  order-7
        expect  running
        expect  call work call 0
        answer  work call 0 ok 10
        expect  call work call 2
        answer  work call 2 ok 12
        expect  completed [10,11,12]
        ",
    );
}

#[test]
fn the_ways_that_followed_a_failure_are_left() {
    check(
        r#"
        start   order-7 settles 1
        event   order-7 go 7
        expect  call work
        answer  work failed Busy
        expect  call undo
        answer  undo ok 0
        expect  failed Busy
        rewind  order-7
        expect  call work
        answer  work ok 5
        expect  completed [7,5]
        expect  history started raised scheduled result completed
        "#,
    );
}

#[test]
fn successes_behind_a_failure_that_the_code_had_caught_are_kept_too() {
    check(
        r#"
        start   order-7 second_thoughts 1
        expect  call a
        answer  a failed Busy
        expect  call b
        answer  b ok 2
        expect  call c
        answer  c failed Busy
        expect  failed Busy
        rewind  order-7
        expect  call a
        answer  a failed Busy
        expect  call c
        answer  c failed Late
        expect  failed Late
        rewind  order-7
        expect  call a
        answer  a ok 1
        expect  call c
        answer  c ok 3
        expect  completed [1,2,3]
        "#,
    );
}

#[test]
fn children_behind_a_failure_that_the_code_had_caught_are_kept_too() {
    check(
        r#"
        start   order-7 second_child {"name":"call","input":1,"id":"baby"}
        expect  call a
        answer  a failed Busy
        expect  call ship
        answer  ship ok 2
        expect  completed baby 2
        expect  call c
        answer  c failed Busy
        expect  failed order-7 Busy
        rewind  order-7
        expect  call a
        answer  a ok 1
        expect  call c
        answer  c ok 3
        expect  completed order-7 [1,2,3]
        "#,
    );
}

#[test]
fn a_child_that_failed_behind_a_failure_is_rewound_too() {
    both(
        r#"
        start   mother second_child {"name":"naps","input":1,"id":"baby"}
        expect  call a
        answer  a failed Busy
        expect  running baby
        time    +10s
        expect  call work
        answer  work failed Busy
        expect  failed mother Busy
        rewind  mother
        expect  call a
        answer  a ok 1
        expect  call work   # it naps no second time
        answer  work ok 2
        expect  running baby
        time    +10s
        expect  call c
        answer  c ok 3
        expect  completed mother [1,2,3]
        "#,
    );
}

#[test]
fn a_call_never_gets_the_result_of_another_one_that_had_its_number() {
    check(
        r#"
        start   order-7 shifts
        expect  call work call 0 "first"
        answer  work call 0 failed Busy
        expect  call work call 1 "instead"
        answer  work call 1 ok 1
        expect  call work call 2 "second"
        answer  work call 2 ok 2
        expect  call end
        answer  end failed Late
        expect  failed Late
        rewind  order-7
        expect  call work call 0 "first"
        answer  work call 0 ok 0
        expect  call work call 1 "second"
        answer  work call 1 ok 3
        expect  call end
        answer  end ok 0
        expect  completed [3]
        "#,
    );
}

#[test]
fn events_that_nobody_consumed_are_there_again() {
    check(
        r#"
        start   order-7 settles 1
        event   order-7 go 1
        event   order-7 go 2
        expect  call work
        answer  work failed Busy
        expect  call undo
        answer  undo failed Busy
        expect  failed Busy
        expect  unconsumed [["go",2]]
        rewind  order-7
        expect  call work
        answer  work ok 5
        expect  completed [1,5]
        expect  unconsumed [["go",2]]
        "#,
    );
}

#[test]
fn an_event_that_came_behind_the_end_is_there_too() {
    check(
        r#"
        start   order-7 wait_then_call "add"
        event   order-7 add 1
        expect  call work
        answer  work failed Busy
        expect  failed order-7 Busy
        start   sender send {"to":"order-7","events":[2]}
        expect  completed sender null
        expect  unconsumed order-7 [["add",2]]
        rewind  order-7
        expect  call work
        answer  work ok 5
        expect  completed order-7 [1,5,2]
        "#,
    );
}

#[test]
fn uuids_and_random_numbers_are_those_of_the_first_execution() {
    check(
        "
        start   order-7 stable
        expect  call note call 0
        answer  note call 0 ok
        expect  call note call 1
        answer  note call 1 failed Busy
        expect  failed Busy
        rewind  order-7
        expect  call note call 1
        answer  note call 1 failed Busy
        rewind  order-7
        expect  call note call 1
        answer  note call 1 ok
        expect  call note call 2
        answer  note call 2 ok
        expect  completed 9
        ",
    );
}

#[test]
fn only_what_failed_can_be_rewound_and_only_that_failure() {
    check(
        "
        start   order-7 chain 1
        rewind  order-7
        expect  answer refused
        expect  call a
        answer  a failed Busy
        rewind  order-7 of 3
        expect  answer finished
        rewind  order-7
        expect  call a
        terminate order-7
        rewind  order-7
        expect  answer finished
        expect  terminated
        ",
    );
}

#[test]
fn a_timer_that_has_fired_has_fired() {
    check(
        "
        start   order-7 naps 1
        time    +10s
        expect  call work
        answer  work failed Busy
        expect  failed Busy
        time    +1h
        rewind  order-7
        expect  call work
        answer  work ok 5
        expect  running
        time    +9s
        expect  running
        time    +1s
        expect  completed 5
        ",
    );
}

#[test]
fn what_has_taken_back_what_it_did_is_not_repeated() {
    check(
        r#"
        start   order-7 call_again {"compensates":true}
        expect  call ship
        answer  ship failed Busy
        expect  call mend
        answer  mend failed Late
        expect  failed Late
        rewind  order-7
        expect  failed Late
        "#,
    );
}

#[test]
fn children_that_failed_are_rewound_with_their_parent() {
    both(
        r#"
        start   mother family {"left":{"name":"chain","input":1,"id":"baby"},"right":{"name":"echo","input":7}}
        expect  call own
        expect  call a
        answer  own ok 1
        answer  a ok 2
        expect  call b
        answer  b failed Busy
        expect  failed baby Busy
        expect  failed mother Busy
        rewind  mother
        expect  running mother
        expect  call b
        answer  b ok 3
        expect  call c
        answer  c ok 4
        expect  completed baby 4
        expect  completed mother [1,4,7]
        "#,
    );
}

#[test]
fn a_child_that_ended_with_its_parent_begins_again() {
    both(
        r#"
        start   mother family {"left":{"name":"call","input":1,"id":"baby"},"right":{"name":"echo","input":7}}
        expect  call own
        expect  call ship
        answer  own failed Busy
        expect  failed mother Busy
        expect  terminated baby
        rewind  mother
        expect  call own
        expect  call ship
        answer  own ok 1
        answer  ship ok 4
        expect  completed mother [1,4,7]
        "#,
    );
}

/// Tells how a rewind of `mother` goes on whose child was to go on by itself.
fn with_a_child_that_went_on(story: &str) {
    let begin = r#"
        start   mother family {"left":{"name":"call","input":1,"id":"baby","abandon":true},"right":{"name":"echo","input":7}}
        expect  call own
        expect  call ship
        answer  own failed Busy
        expect  failed mother Busy
        expect  running baby
        "#;
    both(&format!("{begin}{story}"));
}

#[test]
fn a_child_that_went_on_by_itself_is_waited_for_again() {
    with_a_child_that_went_on(
        "
        rewind  mother
        expect  call own
        answer  own ok 1
        answer  ship ok 4
        expect  completed baby 4
        expect  completed mother [1,4,7]
        ",
    );
}

#[test]
fn what_a_child_that_went_on_by_itself_has_said_meanwhile_is_heard() {
    with_a_child_that_went_on(
        "
        answer  ship ok 4
        expect  completed baby 4
        rewind  mother
        expect  call own
        answer  own ok 1
        expect  completed mother [1,4,7]
        ",
    );
}

#[test]
fn a_child_that_went_on_by_itself_behind_a_failure_is_not_started_again() {
    for meanwhile in [
        "rewind  mother
        expect  call a
        answer  a ok 1
        answer  ship ok 4",
        "answer  ship ok 4
        expect  completed baby 4
        rewind  mother
        expect  call a
        answer  a ok 1",
    ] {
        both(&format!(
            r#"
        start   mother second_child {{"name":"call","input":1,"id":"baby","abandon":true}} within +1h
        expect  call a
        answer  a failed Busy
        expect  call ship
        time    +2h
        expect  failed mother DeadlineExceeded
        expect  running baby
        {meanwhile}
        expect  completed baby 4
        expect  call c
        answer  c ok 5
        expect  completed mother [1,4,5]
        "#
        ));
    }
}

#[test]
fn a_child_that_was_rewound_alone_tells_nobody_until_its_parent_is() {
    both(
        r#"
        start   mother family {"left":{"name":"call","input":1,"id":"baby"},"right":{"name":"echo","input":7}}
        expect  call own
        expect  call ship
        answer  own ok 1
        answer  ship failed Busy
        expect  failed mother Busy
        rewind  baby
        expect  call ship
        answer  ship ok 4
        expect  completed baby 4
        expect  failed mother Busy
        rewind  mother
        expect  completed mother [1,4,7]
        "#,
    );
}

#[test]
fn an_event_for_a_rewind_that_a_start_wins_over_is_for_the_run_that_begins() {
    // Nothing of the rewind is stored when the start is accepted: the store shows a failure, and the sender of the
    // event was told nothing yet.
    check(
        r#"
        faults  live
        start   order-7 chain 1
        expect  call a
        answer  a failed Busy
        expect  failed Busy
        commits wait
        start   other echo 1
        rewind  order-7
        event   order-7 a 5
        start   order-7 wait ["a"]
        commits flow
        expect  completed order-7 [5]
        "#,
    );
}
