//! Continue-as-new: executions that follow each other within one run.

use super::story::{check, told};

#[test]
fn an_execution_ends_and_the_next_begins_with_its_input() {
    check(
        r#"
        start   watch again [1,3]
        expect  call look 1
        answer  look ok
        expect  execution 0
        expect  custom 1
        time    +1s
        expect  call look 2
        expect  running
        expect  execution 1
        expect  history execution 0 started scheduled result timer fired continued
        expect  history started scheduled
        answer  look ok
        time    +1s
        expect  call look 3
        expect  execution 2
        answer  look ok
        time    +1s
        expect  completed 3
        expect  custom 3
        expect  history started scheduled result timer fired completed
        "#,
    );
}

#[test]
fn events_that_were_not_consumed_are_the_first_of_the_next_execution() {
    check(
        r#"
        start   order-7 batches {"left":5,"sum":0,"batch":2}
        event   order-7 other "kept"
        event   order-7 add 1
        event   order-7 other "kept, too"
        event   order-7 add 10
        expect  execution 1
        expect  history execution 0 started raised raised raised raised continued
        expect  history started raised raised
        event   order-7 add 100
        event   order-7 add 1000
        expect  execution 2
        event   order-7 add 10000
        expect  completed 11111
        expect  unconsumed [["other","kept"],["other","kept, too"]]
        "#,
    );
}

#[test]
fn events_that_came_before_anybody_waited_go_through_all_executions() {
    check(
        r#"
        start   order-7 batches {"left":20,"sum":0,"batch":3}
        suspend order-7
        events  order-7 20 add
        expect  suspended
        expect  execution 0
        resume  order-7
        expect  completed 190
        expect  unconsumed []
        expect  execution 6
        "#,
    );
}

#[test]
fn what_is_open_when_an_execution_ends_is_cancelled_and_its_result_dropped() {
    check(
        r#"
        start   order-7 again_with_work
        expect  call old call 0
        event   order-7 go null
        expect  cancel old
        expect  call new call 0
        expect  execution 1
        answer  old ok "late"           # the number of its call is that of another call now
        expect  running
        time    +60s
        answer  new ok "right"
        expect  completed "right"
        expect  history started scheduled result completed
        "#,
    );
}

#[test]
fn code_that_begins_again_without_waiting_is_stored_generation_by_generation() {
    check(
        r#"
        start   eager again_and_again 9
        start   calm echo "calm"
        expect  completed calm "calm"
        expect  running eager
        expect  execution eager 9
        event   eager go "at last"
        expect  completed eager "at last"
        "#,
    );
}

#[test]
fn an_execution_whose_first_turn_did_not_run_yet_is_taken_up_by_the_next_owner() {
    check(
        r#"
        start   eager again_and_again 9
        expect  execution 9
        event   eager go 1
        expect  completed 1
        "#,
    );
    // Three executions are stored at once, the last of them without its first turn.
    let mut world = told(
        r#"
        commits wait
        start   eager again_and_again 9
        write
        crash
        open
        commit
        expect  execution 4
        crash
        open
        commits flow
        event   eager go 1
        expect  completed 1
        expect  execution 9
        "#,
    );
    world.go("expect history execution 9 started raised completed");
}

#[test]
fn commands_mean_the_run_whatever_execution_it_is_in() {
    check(
        r#"
        start   watch again [1,9]
        expect  call look 1
        answer  look ok
        time    +1s
        expect  call look 2
        suspend watch
        time    +10s
        expect  suspended
        expect  execution 1
        resume  watch
        answer  look ok
        time    +1s
        expect  call look 3
        expect  execution 2
        terminate watch enough
        expect  cancel look
        expect  terminated "enough"
        expect  execution 2
        expect  history started scheduled terminated
        "#,
    );
}

#[test]
fn another_start_may_replace_any_execution() {
    check(
        r#"
        start   watch again [1,2]
        expect  call look 1
        answer  look ok
        time    +1s
        expect  call look 2
        start   watch echo "new" reuse replace
        expect  cancel look
        expect  completed "new"
        expect  execution 0
        "#,
    );
}

#[test]
fn a_continue_as_new_that_is_not_returned_fails_with_a_sentence() {
    check(
        r#"
        start   order-7 again_ignored
        expect  failed ContinueAsNewIgnored write `return ctx.continue_as_new(…)`
        "#,
    );
}

#[test]
fn a_tight_loop_leaves_turns_and_commits_to_others() {
    let mut world = told(
        r#"
        commits wait
        start   eager again_and_again 1000000
        start   calm wait ["go"]
        "#,
    );
    // It waits for its commit, as often as it likes to go on.
    for n in 1..=20 {
        world.go("commit");
        world.go(&format!("expect execution eager {}", 2 * n));
    }
    world.go(r#"
        event   calm go 1
        commit
        commit
        expect  completed calm [1]
        event   eager go 2
        commit
        expect  answer accepted
        terminate eager enough
        commit
        expect  terminated eager "enough"
        expect  unconsumed eager [["go",2]]
        "#);
}

#[test]
fn a_tight_loop_is_suspended_between_two_executions() {
    let mut world = told(
        r#"
        commits wait
        start   eager again_and_again 1000
        commit
        suspend eager
        commit
        commit
        commit
        expect  suspended
        commit
        expect  suspended
        event   eager go 1
        resume  eager
        commit
        expect  running
        commits flow
        expect  completed 1
        "#,
    );
    world.go("expect execution 1000");
}

#[test]
fn changed_code_goes_on_with_old_histories_where_it_asks_for_a_patch() {
    // Told once: from its first events on, today's code would take the new path.
    let _ = told(
        r#"
        start   old chain 1
        expect  call a
        answer  a ok
        expect  call b
        code    chain is chain_patched
        takeover
        start   new chain 1
        expect  call new a
        answer  new a ok
        expect  call new better
        answer  old b ok
        expect  call old best           # behind what was recorded the code is live
        answer  old best ok
        expect  completed old 1
        expect  history old started scheduled result scheduled result patched scheduled result completed
        answer  new better ok
        expect  call new best
        code    chain is chain_renamed
        takeover
        expect  held new Diverged
        code    chain is chain_patched
        resume  new
        answer  new best ok
        expect  completed new 1
        "#,
    );
}
