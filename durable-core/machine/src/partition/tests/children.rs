//! Children: how they begin, answer, and end with their parents. Over one partition and over two.

use super::story::{both, check};

#[test]
fn a_child_runs_and_its_parent_gets_its_result() {
    both(
        r#"
        start   mother parent {"name":"echo","input":7,"id":"baby"}
        expect  completed baby 7
        expect  completed mother {"ok":7}
        expect  history mother started child child-result completed
        expect  history baby started completed
        "#,
    );
}

#[test]
fn a_child_without_an_id_gets_one_that_no_other_has() {
    let made =
        |run: &str| format!("partitions 2\nstart {run} parent {{\"name\":\"echo\",\"input\":7}}");
    for parent in ["mother", "father", "m"] {
        check(&format!(
            "{}\nexpect completed {parent} {{\"ok\":7}}\nexpect history {parent} started child child-result completed",
            made(parent)
        ));
    }
}

#[test]
fn a_failed_child_fails_its_call_with_its_own_failure() {
    both(
        r#"
        start   mother parent {"name":"refuse","id":"baby"}
        expect  failed baby Refused no
        expect  completed mother {"kind":"Refused"}
        expect  history mother started child child-failure completed
        "#,
    );
}

#[test]
fn children_work_and_wait_as_any_instance_does() {
    both(
        r#"
        start   mother parent {"name":"chain","input":1,"id":"baby"}
        expect  call a
        answer  a ok 2
        expect  call b
        answer  b ok 3
        expect  call c
        answer  c ok 4
        expect  completed mother {"ok":4}
        "#,
    );
}

#[test]
fn several_children_run_at_once() {
    both(
        r#"
        start   mother parent_of_two {"left":{"name":"wait","input":["go"],"id":"baby"},"right":{"name":"wait","input":["go"],"id":"heir"}}
        expect  running heir
        event   heir go 2
        expect  completed heir [2]
        expect  running mother
        event   baby go 1
        expect  completed mother [[1],[2]]
        expect  history mother started child child child-result child-result completed
        "#,
    );
}

#[test]
fn the_id_of_an_active_instance_is_refused_and_that_of_an_ended_one_is_taken() {
    both(
        r#"
        start   baby wait ["go"]
        start   mother parent {"name":"echo","input":7,"id":"baby"}
        expect  completed mother {"kind":"InstanceInUse"}
        expect  running baby
        event   baby go 1
        expect  completed baby [1]
        start   mother parent {"name":"echo","input":7,"id":"baby"} reuse refuse
        expect  completed mother {"ok":7}
        expect  completed baby 7
        expect  history baby started completed
        "#,
    );
}

#[test]
fn an_instance_cannot_be_its_own_child() {
    check(
        r#"
        start   mother parent {"name":"echo","id":"mother"}
        expect  completed mother {"kind":"InstanceInUse"}
        "#,
    );
}

#[test]
fn a_later_run_of_a_childs_id_answers_to_nobody() {
    both(
        r#"
        start   mother parent_of_two {"left":{"name":"echo","input":1,"id":"baby"},"right":{"name":"wait","input":["go"],"id":"heir"}}
        expect  running heir
        expect  completed baby 1
        start   baby wait ["go"] reuse refuse
        event   baby go 2
        expect  completed baby [2]
        expect  running mother
        event   heir go 3
        expect  completed mother [1,[3]]
        "#,
    );
}

#[test]
fn a_child_that_gives_way_to_another_start_fails_its_call() {
    both(
        r#"
        start   mother parent {"name":"wait","input":["go"],"id":"baby"}
        expect  running baby
        start   baby echo 5 reuse replace
        expect  completed baby 5
        expect  completed mother {"kind":"Replaced"}
        "#,
    );
}

#[test]
fn terminating_a_parent_terminates_four_generations() {
    for partitions in [1, 2, 3] {
        check(&format!(
            r#"
            partitions {partitions}
            start   mother tree 4
            expect  running g4
            expect  running g1
            terminate mother enough
            expect  terminated mother "enough"
            expect  terminated g4 "its parent mother has ended"
            expect  terminated g3 "its parent g4 has ended"
            expect  terminated g2 "its parent g3 has ended"
            expect  terminated g1 "its parent g2 has ended"
            "#
        ));
    }
}

#[test]
fn a_result_comes_up_through_four_generations() {
    check(
        r#"
        partitions 3
        start   mother tree 4
        expect  running g1
        event   g1 go 9
        expect  completed g1 9
        expect  completed mother 9
        "#,
    );
}

#[test]
fn a_terminated_child_fails_its_call() {
    both(
        r#"
        start   mother parent {"name":"wait","input":["go"],"id":"baby"}
        expect  running baby
        terminate baby enough
        expect  terminated baby "enough"
        expect  completed mother {"kind":"Terminated"}
        "#,
    );
}

#[test]
fn a_dropped_call_terminates_its_child_unless_it_goes_on_by_itself() {
    both(
        r#"
        start   mother drops_child {"name":"wait","input":["go"],"id":"baby"}
        expect  running baby
        time    +10s
        expect  terminated baby "mother no longer waits for it"
        event   mother go
        expect  completed mother "timer"
        expect  history mother started child timer fired cancelled raised completed
        "#,
    );
    // What it returns is not for its parent any more.
    both(
        r#"
        start   mother drops_child {"name":"wait","input":["go"],"id":"baby","abandon":true}
        expect  running baby
        time    +10s
        expect  running baby
        event   baby go 1
        expect  completed baby [1]
        expect  running mother
        event   mother go
        expect  completed mother "timer"
        expect  history mother started child timer fired cancelled raised completed
        "#,
    );
}

#[test]
fn children_that_nobody_waits_for_end_with_their_parent_or_go_on() {
    for (fail, ended) in [("false", "completed mother"), ("true", "failed mother Gone")] {
        both(&format!(
            r#"
            start   mother leaves_child {{"name":"wait","input":["go"],"id":"baby","fail":{fail}}}
            expect  running baby
            event   mother go
            expect  {ended}
            expect  terminated baby "its parent mother has ended"
            "#
        ));
        both(&format!(
            r#"
            start   mother leaves_child {{"name":"wait","input":["go"],"id":"baby","fail":{fail},"abandon":true}}
            expect  running baby
            event   mother go
            expect  {ended}
            event   baby go 1
            expect  completed baby [1]
            "#
        ));
    }
}

#[test]
fn a_detached_child_tells_nobody_and_outlives_its_parent_if_asked() {
    both(
        r#"
        start   mother starts_child {"name":"wait","input":["go"],"id":"baby","abandon":true}
        expect  running baby
        expect  completed mother "baby"
        expect  history mother started child completed
        event   baby go 1
        expect  completed baby [1]
        "#,
    );
    both(
        r#"
        start   mother starts_child {"name":"wait","input":["go"],"id":"baby","waits":true}
        expect  running baby
        terminate mother
        expect  terminated mother
        expect  terminated baby "its parent mother has ended"
        "#,
    );
}

#[test]
fn a_child_without_code_is_held_with_its_start_and_runs_when_there_is_code() {
    both(
        r#"
        faults  evict
        code    echo is nothing
        start   mother parent {"name":"echo","input":7,"id":"baby"}
        expect  held baby UnknownOrchestrator
        expect  running mother
        code    echo is echo
        resume  baby
        expect  completed baby 7
        expect  history baby started resumed completed
        expect  completed mother {"ok":7}
        "#,
    );
    both(
        r#"
        faults  evict
        code    echo is nothing
        start   mother parent {"name":"echo","input":7,"id":"baby"}
        expect  held baby UnknownOrchestrator
        takeover
        expect  held baby UnknownOrchestrator
        code    echo is echo
        takeover
        expect  completed mother {"ok":7}
        "#,
    );
}

#[test]
fn a_held_or_suspended_child_is_terminated_with_its_parent() {
    for trouble in ["code wait is nothing", ""] {
        for suspend in ["suspend baby", ""] {
            both(&format!(
                r#"
                faults  evict
                {trouble}
                start   mother parent {{"name":"wait","input":["go"],"id":"baby"}}
                {suspend}
                terminate mother
                expect  terminated baby "its parent mother has ended"
                "#
            ));
        }
    }
}

#[test]
fn a_suspended_parent_takes_the_result_and_goes_on_after_the_resume() {
    both(
        r#"
        start   mother parent {"name":"wait","input":["go"],"id":"baby"}
        expect  running baby
        suspend mother
        event   baby go 1
        expect  completed baby [1]
        expect  suspended mother
        expect  history mother started child suspended child-result
        resume  mother
        expect  completed mother {"ok":[1]}
        "#,
    );
}

#[test]
fn a_held_parent_keeps_the_result_until_it_runs_again() {
    both(
        r#"
        faults  evict
        start   mother parent {"name":"wait","input":["go"],"id":"baby"}
        expect  running baby
        code    parent is nothing
        takeover
        event   baby go 1
        expect  completed baby [1]
        expect  held mother UnknownOrchestrator
        expect  history mother started child
        takeover
        expect  held mother UnknownOrchestrator
        code    parent is parent
        takeover
        expect  completed mother {"ok":[1]}
        "#,
    );
}

#[test]
fn a_child_whose_history_cannot_be_read_is_terminated_when_it_can_be() {
    check(
        r#"
        faults  live
        start   mother parent {"name":"wait","input":["go"],"id":"baby"}
        expect  running baby
        damage  baby
        takeover of baby
        resume  baby
        expect  held baby Undecodable
        terminate mother
        expect  terminated mother
        expect  held baby Undecodable
        repair  baby
        resume  baby
        expect  terminated baby "its parent mother has ended"
        "#,
    );
}

#[test]
fn a_child_that_gives_way_to_a_start_at_a_later_time_fails_its_call() {
    both(
        r#"
        start   mother parent {"name":"wait","input":["go"],"id":"baby"}
        expect  running baby
        start   baby echo 5 reuse replace at +1h
        expect  completed mother {"kind":"Replaced"}
        expect  pending baby
        time    +1h
        expect  completed baby 5
        "#,
    );
}

#[test]
fn the_id_of_a_start_at_a_later_time_is_in_use() {
    both(
        r#"
        start   baby echo 5 at +1h
        start   mother parent {"name":"echo","input":7,"id":"baby"}
        expect  completed mother {"kind":"InstanceInUse"}
        expect  pending baby
        time    +1h
        expect  completed baby 5
        "#,
    );
}

/// What a run does that continues as new with children.
fn again(first: &str, detached: &str, second: &str) -> String {
    format!(
        r#"start mother again_with_child {{"first":{first},"detached":{detached},"second":{second}}}"#
    )
}

const WAITS: &str = r#"{"name":"wait","input":["go"],"id":"baby"}"#;
const GOES_ON: &str = r#"{"name":"wait","input":["go"],"id":"baby","abandon":true}"#;
const OTHER: &str = r#"{"name":"wait","input":["go"],"id":"heir"}"#;

#[test]
fn the_children_of_an_execution_end_with_it_where_the_run_continues_as_new() {
    both(&format!(
        r#"
        {}
        expect  running baby
        event   mother next 1
        expect  terminated baby "its parent mother has continued as new"
        expect  running heir
        event   heir go 2
        expect  completed mother {{"ok":[2]}}
        expect  history mother started child child-result completed
        "#,
        again(WAITS, "null", OTHER)
    ));
}

#[test]
fn the_next_execution_may_use_the_id_of_a_child_that_ended_with_the_one_before() {
    both(&format!(
        r#"
        {}
        expect  running baby
        event   mother next 1
        expect  running baby
        expect  history baby started
        event   baby go 2
        expect  completed mother {{"ok":[2]}}
        "#,
        again(WAITS, "null", WAITS)
    ));
}

#[test]
fn an_abandoned_child_goes_on_and_what_it_returns_is_not_for_the_next_execution() {
    both(&format!(
        r#"
        {}
        expect  running baby
        event   mother next 1
        expect  running heir
        expect  running baby
        event   baby go "late"
        expect  completed baby ["late"]
        expect  running mother
        event   heir go 2
        expect  completed mother {{"ok":[2]}}
        "#,
        again(GOES_ON, "null", OTHER)
    ));
    // Its id is in use until it ends.
    both(&format!(
        r#"
        {}
        expect  running baby
        event   mother next 1
        expect  completed mother {{"kind":"InstanceInUse"}}
        expect  running baby
        "#,
        again(GOES_ON, "null", WAITS)
    ));
}

#[test]
fn a_detached_child_that_ends_with_its_parent_ends_with_the_execution_that_started_it() {
    both(&format!(
        r#"
        {}
        expect  running baby
        expect  running heir
        event   mother next 1
        expect  terminated heir "its parent mother has continued as new"
        expect  terminated baby
        expect  completed mother {{"ok":7}}
        "#,
        again(WAITS, OTHER, r#"{"name":"echo","input":7}"#)
    ));
}

#[test]
fn a_child_that_continues_as_new_answers_with_the_end_of_its_run() {
    both(
        r#"
        start   mother parent {"name":"batches","input":{"left":4,"sum":0,"batch":2},"id":"baby"}
        expect  running baby
        event   baby add 1
        event   baby add 2
        expect  history baby execution 1 started
        expect  running mother
        event   baby add 3
        event   baby add 4
        expect  completed mother {"ok":10}
        "#,
    );
    // In its later execution it ends with its parent, too.
    both(
        r#"
        start   mother parent {"name":"again_and_again","input":3,"id":"baby"}
        expect  running baby
        terminate mother
        expect  terminated baby "its parent mother has ended"
        "#,
    );
}

/// A parent of one child that may go on and one that nobody waits for, each with one of its own kind below it.
const FREE: &str = r#"start mother parent_of_two {"left":{"name":"starts_child","input":{"name":"wait","input":["go"],"id":"baby","abandon":true,"waits":true},"id":"heir","abandon":true},"right":{"name":"wait","input":["go"],"id":"twin"}}"#;

#[test]
fn a_terminate_of_all_spares_no_child_that_would_go_on_by_itself() {
    both(&format!(
        r#"
        {FREE}
        expect  running baby
        terminate-tree mother enough
        expect  terminated mother "enough"
        expect  terminated twin "its parent mother has ended"
        expect  terminated heir "its parent mother has ended"
        expect  terminated baby "its parent heir has ended"
        "#
    ));
    both(&format!(
        r#"
        {FREE}
        expect  running baby
        terminate mother enough
        expect  terminated twin "its parent mother has ended"
        expect  running heir
        expect  running baby
        event   heir go 1
        expect  completed heir "baby"
        expect  running baby
        "#
    ));
}

#[test]
fn a_terminate_of_all_reaches_a_child_whose_call_was_dropped_and_that_went_on() {
    both(
        r#"
        start   mother drops_child {"name":"wait","input":["go"],"id":"baby","abandon":true}
        expect  running baby
        time    +10s
        expect  running baby
        terminate-tree mother
        expect  terminated baby "its parent mother has ended"
        "#,
    );
}

#[test]
fn a_terminate_of_all_survives_the_death_of_every_owner_on_its_way() {
    both(&format!(
        r#"
        faults  live
        {FREE}
        expect  running baby
        network down
        terminate-tree mother
        takeover
        network up
        time    +10s
        network down
        takeover of baby
        takeover of mother
        network up
        time    +10s
        expect  terminated heir
        expect  terminated baby "its parent heir has ended"
        "#
    ));
}

#[test]
fn messages_that_come_twice_or_late_change_nothing() {
    both(
        r#"
        network doubles
        start   mother parent {"name":"wait","input":["go"],"id":"baby"}
        expect  running baby
        event   baby go 1
        expect  completed mother {"ok":[1]}
        expect  history baby started raised completed
        "#,
    );
    both(
        r#"
        faults  live
        network down
        start   mother parent {"name":"wait","input":["go"],"id":"baby"}
        takeover
        network up
        time    +10s
        expect  running baby
        network down
        event   baby go 1
        takeover
        network up
        time    +10s
        expect  completed mother {"ok":[1]}
        "#,
    );
}
