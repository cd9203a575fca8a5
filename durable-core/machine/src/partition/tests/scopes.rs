//! Calls that are cancelled together, and whose end is waited for.

use super::story::check;

/// A story that begins with both calls of the scope at work; code need not stay in memory.
fn with_both_calls(story: &str) {
    let begin = r#"
        faults  evict
        start   order-7 scoped {"order":1}
        expect  call left
        expect  call right
        "#;
    check(&format!("{begin}{story}"));
}

#[test]
fn a_cancel_is_over_when_all_calls_have_really_ended() {
    with_both_calls(
        r#"
        event   order-7 stop 1
        expect  cancel left
        expect  cancel right
        answer  left failed Stopped
        expect  running
        expect  nothing
        answer  right ok 5
        expect  call ended [[0,"left","Cancelled","Cancelled"],[1,"right",5]]
        answer  ended ok
        expect  completed ["Cancelled",5]
        expect  history started scheduled scheduled raised cancelling cancelling failure result scheduled result completed
        "#,
    );
}

#[test]
fn what_had_its_result_before_the_cancel_keeps_it() {
    check(
        r#"
        start   order-7 scoped {"order":1}
        expect  call left
        expect  call right
        answer  left ok 4
        answer  right failed Busy
        event   order-7 stop 1
        expect  call ended []
        answer  ended ok
        expect  completed [4,"Busy"]
        "#,
    );
}

#[test]
fn a_call_that_waits_for_a_retry_ends_at_once_and_is_not_tried_again() {
    check(
        r#"
        start   order-7 scoped {"order":1,"retry":{"attempts":5,"delay_ms":60000}}
        expect  call left
        expect  call right
        answer  left failed Busy
        answer  right failed Busy
        event   order-7 stop 1
        expect  call ended [[0,"left","Cancelled","Cancelled"],[1,"right","Cancelled","Cancelled"]]
        answer  ended ok
        expect  completed ["Cancelled","Cancelled"]
        time    +1h
        expect  nothing
        "#,
    );
}

#[test]
fn an_attempt_that_is_to_end_is_waited_for_beyond_its_time_limit_and_not_tried_again() {
    check(
        r#"
        faults  evict
        start   order-7 scoped {"order":1,"limit_ms":10000,"retry":{"attempts":5,"delay_ms":1000}}
        expect  call left
        expect  call right
        begin   left
        begin   right
        answer  right ok 5
        event   order-7 stop 1
        expect  cancel left
        time    +1h
        expect  running
        expect  nothing
        answer  left failed Stopped
        expect  call ended [[0,"left","Cancelled","Cancelled"]]
        answer  ended ok
        expect  completed ["Cancelled",5]
        "#,
    );
}

#[test]
fn a_new_owner_starts_nothing_that_was_cancelled_and_the_waiter_is_answered() {
    for end in ["crash", "release"] {
        let open = if end == "crash" { "open" } else { "" };
        check(&format!(
            r#"
            faults  live
            start   order-7 scoped {{"order":1}}
            expect  call left
            expect  call right
            event   order-7 stop 1
            expect  cancel left
            expect  cancel right
            {end}
            {open}
            expect  call ended [[0,"left","Cancelled","Cancelled"],[1,"right","Cancelled","Cancelled"]]
            expect  nothing
            answer  ended ok
            expect  completed ["Cancelled","Cancelled"]
            "#
        ));
    }
}

#[test]
fn the_end_of_a_call_that_was_dropped_in_its_scope_is_waited_for() {
    check(
        r#"
        faults  evict
        start   order-7 scoped_drop {"order":1}
        expect  call left
        event   order-7 stop 1
        expect  cancel left
        expect  running
        answer  left ok 3
        expect  call ended [[0,"left",3]]
        answer  ended ok
        expect  completed
        expect  history started scheduled raised cancelling result scheduled result completed
        "#,
    );
}

#[test]
fn the_cancel_of_a_scope_reaches_those_within_it() {
    check(
        r#"
        faults  evict
        start   order-7 scoped_within
        expect  call left
        expect  call right
        event   order-7 stop 1
        expect  cancel left
        expect  cancel right
        answer  right failed Stopped
        answer  left failed Stopped
        expect  call ended
        answer  ended ok
        expect  completed
        "#,
    );
}

#[test]
fn a_child_is_terminated_and_has_ended_when_its_parent_hears_of_it() {
    for partitions in [1, 2] {
        check(&format!(
            r#"
            partitions {partitions}
            start   mother scoped_child {{"name":"tree","input":1,"id":"baby"}}
            expect  running baby
            expect  running g1
            event   mother stop 1
            expect  terminated baby
            expect  terminated g1
            expect  call ended [[0,"tree","Terminated","Cancelled"]]
            answer  ended ok
            expect  completed mother "Terminated"
            time    +2h
            expect  nothing
            "#
        ));
    }
}

#[test]
fn a_child_that_goes_on_by_itself_is_given_up_at_once() {
    check(
        r#"
        partitions 2
        start   mother scoped_child {"name":"wait","input":["go"],"id":"baby","abandon":true}
        expect  running baby
        event   mother stop 1
        expect  call ended []
        answer  ended ok
        expect  completed mother "Cancelled"
        expect  running baby
        "#,
    );
}

#[test]
fn a_suspended_instance_hears_of_the_end_when_it_is_resumed() {
    with_both_calls(
        r#"
        event   order-7 stop 1
        expect  cancel left
        expect  cancel right
        suspend order-7
        answer  left failed Stopped
        answer  right failed Stopped
        expect  nothing
        resume  order-7
        expect  call ended
        answer  ended ok
        expect  completed
        "#,
    );
}

#[test]
fn a_call_whose_end_is_asked_for_may_have_answered_while_the_instance_was_suspended() {
    with_both_calls(
        r#"
        suspend order-7
        event   order-7 stop 1
        answer  left ok 4
        resume  order-7
        expect  cancel right
        answer  right failed Stopped
        expect  call ended [[0,"left",4],[1,"right","Cancelled","Cancelled"]]
        answer  ended ok
        expect  completed [4,"Cancelled"]
        "#,
    );
}

#[test]
fn what_was_cancelled_stays_so_in_a_rewind() {
    with_both_calls(
        r#"
        event   order-7 stop 1
        expect  cancel left
        expect  cancel right
        answer  left failed Stopped
        answer  right ok 5
        expect  call ended [[0,"left","Cancelled","Cancelled"],[1,"right",5]]
        answer  ended failed Busy
        expect  failed Busy
        rewind  order-7
        expect  call ended [[0,"left","Cancelled","Cancelled"],[1,"right",5]]
        expect  nothing
        answer  ended ok
        expect  completed ["Cancelled",5]
        "#,
    );
}
