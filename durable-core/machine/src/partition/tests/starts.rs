//! Starts: acceptances, reuse of ids, duplicates.

use super::story::check;

#[test]
fn an_id_that_is_in_use_is_refused() {
    check(
        "
        start   order-7 chain 1
        expect  call a
        start   order-7 echo 2 reuse refuse
        expect  answer refused
        expect  running
        answer  a ok
        expect  call b
        ",
    );
}

#[test]
fn an_active_instance_is_what_a_start_that_reuses_gets() {
    check(
        "
        start   order-7 chain 1
        expect  call a
        start   order-7 echo 2 reuse use
        expect  running
        answer  a ok 2
        expect  call b 2
        ",
    );
}

#[test]
fn a_start_that_replaces_ends_the_active_run_and_begins_the_next() {
    check(
        "
        start   order-7 race_timer 1
        expect  call slow
        start   order-7 chain 2 reuse replace
        expect  cancel slow
        expect  call a 2
        answer  slow ok 1
        time    +1h
        expect  running
        answer  a ok 3
        expect  call b 3
        answer  b ok
        expect  call c
        answer  c ok 4
        expect  completed 4
        ",
    );
}

#[test]
fn a_run_that_was_never_committed_can_be_replaced() {
    check(
        "
        faults  live
        start   order-7 wait [\"a\"]
        commits wait
        event   order-7 a 1                 # ended in memory, active in the store
        start   order-7 chain 2 reuse replace
        commits flow
        evict
        expect  call a 2
        expect  running
        expect  history started scheduled
        ",
    );
    check(
        "
        faults  live
        start   order-7 race_timer 1
        expect  call slow
        commits wait
        time    +10s                        # the call is cancelled, the custom status set
        start   order-7 echo 2 reuse replace
        commits flow
        evict
        expect  completed 2
        expect  history started completed
        expect  custom
        ",
    );
}

#[test]
fn an_id_whose_run_has_ended_can_be_started_again_under_every_policy() {
    for reuse in ["refuse", "use", "replace"] {
        check(&format!(
            "
            start   order-7 echo 1
            expect  completed 1
            start   order-7 sleep {{\"micros\":1000000}} reuse {reuse}
            expect  running
            time    +1s
            expect  completed
            start   order-7 echo 3 reuse {reuse}
            expect  completed 3
            expect  history started completed
            "
        ));
    }
}

#[test]
fn the_same_id_is_started_again_while_the_old_run_ends() {
    // The store has the end and the new start before the partition is told of either.
    check(
        "
        faults  live
        start   order-7 call 1
        expect  call ship
        commits wait
        answer  ship ok 5
        write
        start   order-7 chain 2 reuse refuse
        commits flow
        evict
        expect  call a 2
        expect  running
        ",
    );
    check(
        "
        faults  live
        start   order-7 call 1
        expect  call ship
        commits wait
        answer  ship ok 5
        write
        start   order-7 chain 2 reuse refuse
        crash
        commits flow
        open
        expect  call a 2
        ",
    );
}

#[test]
fn a_run_replaced_while_its_end_is_being_written_is_replaced_once() {
    check(
        "
        faults  live
        start   order-7 call 1
        expect  call ship
        commits wait
        start   order-8 echo 1              # a commit that is under way
        answer  ship ok 5
        start   order-7 chain 2 reuse replace
        write
        commits flow
        confirm
        expect  call a 2
        expect  running order-7
        ",
    );
}

#[test]
fn the_store_may_tell_of_a_start_more_than_once() {
    check(
        r#"
        faults  live
        commits wait
        start   order-7 wait ["a"] reuse refuse
        accepted order-7
        accepted order-7
        commits flow
        evict
        expect  running
        event   order-7 a 1
        expect  completed [1]
        expect  history started raised completed
        "#,
    );
}

#[test]
fn a_pending_start_survives_the_owner_that_began_it_in_memory_only() {
    check(
        "
        faults  live
        commits wait
        start   order-7 chain 1 reuse refuse
        expect  pending
        crash
        commits flow
        open
        expect  call a
        ",
    );
}

#[test]
fn results_for_an_older_run_are_dropped() {
    check(
        "
        start   order-7 chain 1
        expect  call a 1
        start   order-7 chain 2 reuse replace
        expect  cancel first a
        expect  call a 2
        answer  first a ok 100
        expect  nothing
        answer  a ok 3
        expect  call b 3
        ",
    );
}

#[test]
fn a_start_for_which_no_worker_here_has_the_code_is_refused_by_its_own_process() {
    check(
        "
        faults  live
        start   order-7 nonesuch
        expect  answer refused
        expect  absent order-7
        ",
    );
}

#[test]
fn events_of_an_older_run_do_not_reach_the_next() {
    check(
        r#"
        start   order-7 wait ["a"] reuse refuse
        event   order-7 b 1
        expect  running
        start   order-7 wait ["b"] reuse replace
        expect  running
        event   order-7 b 2
        expect  completed [2]
        expect  unconsumed []
        "#,
    );
}

#[test]
fn an_event_comes_with_its_start_in_front_of_all_others() {
    check(
        r#"
        start   order-7 wait ["a","b"] with a 5
        event   order-7 a 6
        event   order-7 b 7
        expect  completed
        expect  unconsumed [["a",6]]
        expect  history started raised raised raised completed
        "#,
    );
}

#[test]
fn an_event_that_came_with_its_start_is_listed_where_nobody_waited_for_it() {
    check(
        r#"
        start   order-7 echo 1 with a 5
        expect  completed 1
        expect  unconsumed [["a",5]]
        start   order-8 wait ["a"] at +1h with a 5
        terminate order-8 enough
        expect  terminated
        expect  unconsumed order-8 [["a",5]]
        "#,
    );
}

#[test]
fn an_event_that_came_with_its_start_is_known_when_it_comes_again() {
    check(
        r#"
        start   order-7 wait ["a","b"] with a 5
        stored  event order-7 a 5 as with order-7
        event   order-7 b 1
        expect  completed
        expect  unconsumed []
        start   order-8 wait ["a","b"] at +30s with a 5
        stored  event order-8 a 5 as with order-8
        time    +30s
        event   order-8 b 1
        expect  completed
        expect  unconsumed order-8 []
        "#,
    );
}
