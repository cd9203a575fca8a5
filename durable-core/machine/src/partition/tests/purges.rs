//! Purges: what has ended goes, and what was meant for it reaches nobody else.

use super::story::check;

#[test]
fn what_has_ended_is_gone_after_its_purge() {
    check(
        "
        start   order-7 echo 1
        expect  completed 1
        purge   order-7
        expect  answer accepted
        expect  absent order-7
        event   order-7 a 5
        expect  answer not-found
        expect  absent order-7
        ",
    );
}

#[test]
fn what_has_not_ended_is_not_purged() {
    check(
        "
        start   order-7 chain 1
        expect  call a
        purge   order-7
        expect  answer unfinished
        expect  running
        answer  a ok
        expect  call b
        ",
    );
    check(
        "
        start   order-7 chain 1 at +1h
        purge   order-7
        expect  answer unfinished
        expect  pending
        time    +1h
        expect  call a
        ",
    );
    check(
        "
        purge   nobody
        expect  answer not-found
        expect  absent nobody
        ",
    );
}

#[test]
fn several_go_with_one_command_and_only_those_that_have_ended() {
    check(
        "
        start   one echo 1
        start   two echo 2
        start   three chain 3
        expect  completed one 1
        expect  completed two 2
        expect  call three a
        purge   one two three nobody
        expect  absent one
        expect  absent two
        expect  running three
        answer  three a ok
        expect  call three b
        ",
    );
}

#[test]
fn the_id_begins_anew_after_its_purge() {
    check(
        r#"
        start   order-7 wait ["a"]
        terminate order-7 enough
        expect  terminated
        purge   order-7
        expect  absent order-7
        start   order-7 wait ["b"]
        expect  running
        event   order-7 b 2
        expect  completed
        purge   order-7
        expect  absent order-7
        "#,
    );
}

#[test]
fn a_purge_of_an_earlier_run_leaves_the_present_one() {
    check(
        "
        start   order-7 echo 1
        expect  completed 1
        start   order-7 chain 2
        expect  call a
        purge-earlier order-7
        expect  answer not-found
        expect  running
        answer  a ok
        expect  call b
        ",
    );
    check(
        "
        start   order-7 echo 1
        expect  completed 1
        start   order-7 echo 2
        expect  completed 2
        purge-earlier order-7
        expect  answer not-found
        expect  completed 2
        ",
    );
}

#[test]
fn a_start_that_was_accepted_meanwhile_wins() {
    // The owner has not heard of it.
    check(
        "
        faults  live
        start   order-7 echo 1
        expect  completed 1
        commits wait
        purge   order-7
        start   order-7 chain 2
        commits flow
        expect  call a 2
        expect  running
        ",
    );
    check(
        "
        faults  live
        start   order-7 echo 1
        expect  completed 1
        commits wait
        start   order-7 chain 2
        purge-earlier order-7
        commits flow
        expect  call a 2
        expect  running
        ",
    );
    // It waits for its time, keeps what it is sent, and may be suspended, held or terminated meanwhile.
    check(
        r#"
        faults  live
        start   order-7 echo 1
        expect  completed 1
        commits wait
        purge   order-7
        start   order-7 wait ["a"] at +1h
        commits flow
        expect  pending
        event   order-7 a 5
        takeover
        suspend order-7
        expect  suspended
        resume  order-7
        expect  pending
        time    +1h
        expect  completed
        "#,
    );
}

#[test]
fn an_end_is_stored_before_its_instance_is_purged() {
    check(
        "
        faults  live
        start   order-7 chain 1
        expect  call a
        commits wait
        terminate order-7 enough
        stored purge order-7
        commits flow
        expect  cancel a
        expect  absent order-7
        ",
    );
}

#[test]
fn what_comes_too_late_is_dropped() {
    check(
        "
        faults  live
        start   order-7 race_timer 1
        expect  call slow
        terminate order-7 enough
        expect  cancel slow
        purge   order-7
        expect  absent order-7
        expect  dropped 0
        answer  slow ok 1
        expect  dropped 1
        time    +1h
        expect  absent order-7
        start   order-7 chain 1
        expect  call a
        answer  slow ok 1
        expect  nothing
        ",
    );
}
