//! Owners that die: lost workers, careful openings, fences, crashes around a commit.

use super::story::{check, id, told};
use crate::model::PartitionId;
use crate::store::Refusal;

#[test]
fn a_worker_lost_three_times_fails_the_attempt() {
    check(
        "
        faults  live
        start   order-7 chain 1
        expect  call a attempt 1
        takeover
        expect  nothing
        takeover
        expect  running
        takeover
        expect  failed WorkerLost lost 3 times while it ran this attempt of \"a\"
        ",
    );
}

#[test]
fn a_lost_worker_is_a_failure_that_the_policy_retries() {
    check(
        r#"
        faults  live
        start   order-7 call {"order":7,"retry":{"attempts":2}}
        expect  call ship attempt 1
        takeover
        takeover
        takeover
        time    +1s
        expect  call ship attempt 2
        takeover
        takeover
        answer  ship attempt 2 ok 1
        expect  completed 1
        "#,
    );
    check(
        r#"
        faults  live
        start   order-7 call {"order":7,"retry":{"except":"WorkerLost"}}
        expect  call ship attempt 1
        takeover
        takeover
        takeover
        expect  failed WorkerLost
        "#,
    );
}

#[test]
fn leaving_in_good_order_does_not_count_as_a_lost_worker() {
    check(
        "
        faults  live
        start   order-7 call 1
        expect  call ship attempt 1
        release
        release
        release
        release
        release
        expect  running
        answer  ship ok 1
        expect  completed 1
        ",
    );
}

#[test]
fn an_attempt_of_the_owner_before_may_still_answer() {
    check(
        "
        faults  live
        start   order-7 call 1
        expect  call ship attempt 1
        takeover
        answer  ship attempt 1 ok 5
        expect  completed 5
        answer  ship attempt 1 ok 6
        expect  completed 5
        ",
    );
}

#[test]
fn a_crash_at_any_point_around_a_commit_loses_nothing_that_was_promised() {
    for at in ["crash\nopen", "write\ncrash\nopen", "commit\ncrash\nopen"] {
        check(&format!(
            r#"
            faults  live
            start   order-7 chain 1
            expect  call a
            commits wait
            answer  a ok 2
            {at}
            commits flow
            evict
            answer  a ok 2                  # again, where it was lost
            expect  call b 2
            answer  b ok 3
            expect  call c 3
            answer  c ok 4
            expect  completed 4
            expect  history started scheduled result scheduled result scheduled result completed
            "#
        ));
    }
}

#[test]
fn nothing_is_started_answered_or_told_before_its_commit() {
    check(
        r#"
        faults  live
        commits wait
        start   order-7 chain 1
        expect  nothing
        expect  answer none
        expect  absent order-7
        write
        expect  nothing
        expect  answer none
        confirm
        expect  call a
        expect  answer started
        event   order-7 unasked 1
        expect  answer none
        commit
        expect  answer accepted
        "#,
    );
}

#[test]
fn an_owner_that_was_fenced_off_changes_nothing() {
    let mut world = told(
        "
        faults live
        start order-7 chain 1
        expect call a
        commits wait
        answer a ok 2
        ",
    );
    let zombie = world.owners[0].as_mut().expect("open");
    let (commit, old) = (zombie.partition.take_commit().expect("a commit"), zombie.fence);
    let new = world.store.open(commit.partition).fence;
    assert_eq!(world.store.commit(old, &commit), Err(Refusal::Fenced { newest: new }));
    assert_eq!(world.store.history(&id("order-7")).expect("a history").len(), 1);
}

#[test]
fn an_instance_that_kills_its_process_is_found_and_held_and_the_others_run() {
    check(
        r#"
        faults  live
        start   order-6 wait ["a"]
        start   order-7 chain 1
        start   order-8 chain 1
        expect  calls 2 a
        deadly  order-7
        crash
        open
        open-again
        open-again
        open-again
        open-again
        expect  held order-7 KilledProcess died while it loaded
        expect  running order-6
        expect  running order-8
        harmless
        answer  order-8 a ok
        expect  call order-8 b
        takeover
        expect  held order-7 KilledProcess
        resume  order-7
        expect  running order-7
        expect  at-work order-7 a
        answer  order-7 a ok
        expect  call order-7 b
        event   order-6 a 1
        expect  completed order-6 [1]
        "#,
    );
}

#[test]
fn a_sleeper_that_kills_its_process_is_found_and_held() {
    check(
        r#"
        faults  live
        start   order-7 sleep {"micros":1000000}
        start   order-8 wait ["a"]
        deadly  order-7
        crash
        jump    +1s
        open
        open-again
        open-again
        open-again
        open-again
        expect  held order-7 KilledProcess
        event   order-8 a 1
        expect  completed order-8 [1]
        harmless
        resume  order-7
        expect  completed order-7
        "#,
    );
}

#[test]
fn a_sleeper_that_kills_its_process_is_found_while_its_neighbours_commit() {
    let mut story = String::from(
        r#"
        faults  live
        start   order-7 sleep {"micros":1000000}
        start   order-8 wait ["a"]
        deadly  order-7
        crash
        jump    +1s
        "#,
    );
    for _ in 0..6 {
        // The first page of timers is slower than the neighbour's commit.
        story += "pages wait\nopen-again\nevent order-8 tick 1\npages come\n";
    }
    story += "
        expect  held order-7 KilledProcess
        event   order-8 a 1
        expect  completed order-8 [1]
        harmless
        resume  order-7
        expect  completed order-7
        ";
    check(&story);
}

#[test]
fn a_careful_owner_names_an_instance_in_the_head_row_before_it_loads_it() {
    let mut world = told(
        "
        faults live
        start order-6 chain 1
        start order-7 chain 1
        start order-8 chain 1
        deadly order-7
        crash
        open
        open-again
        ",
    );
    assert_eq!(world.store.open(PartitionId(0)).head.probing, Some(id("order-7")));
    // Those in front of it were probed, and those behind it not loaded.
    let probed: Vec<_> = world.notes.iter().filter(|note| note.starts_with("probing")).collect();
    assert_eq!(probed, ["probing order-6", "probing order-7"]);
}

#[test]
fn a_start_that_kills_its_process_is_found_and_held() {
    check(
        r#"
        faults  live
        crash
        start   order-7 echo 7 reuse refuse
        start   order-8 echo 8 reuse refuse
        deadly  order-7
        open
        open-again
        open-again
        open-again
        open-again
        expect  held order-7 KilledProcess
        expect  completed order-8 8
        takeover
        expect  held order-7 KilledProcess
        harmless
        resume  order-7
        expect  completed order-7 7
        "#,
    );
}

#[test]
fn an_innocent_instance_is_not_held_for_the_death_of_its_process_later_on() {
    check(
        r#"
        faults  live
        start   order-7 call {"order":7,"retry":{"delay_ms":60000}}
        expect  call ship attempt 1
        answer  ship attempt 1 failed Busy
        takeover
        takeover
        takeover
        takeover
        takeover
        takeover
        expect  running
        expect  free
        time    +60s
        expect  call ship attempt 2
        "#,
    );
}

#[test]
fn an_instance_that_was_resumed_after_it_killed_a_process_is_not_held_when_it_comes_back() {
    check(
        r#"
        faults  live
        start   order-7 sleeps [1,1000]
        deadly  order-7
        crash
        jump    +1s
        open
        open-again
        open-again
        open-again
        open-again
        expect  held KilledProcess
        harmless
        resume  order-7
        expect  running
        evict
        event   order-7 unasked 1
        expect  running
        expect  free
        "#,
    );
}

#[test]
fn what_was_kept_for_a_held_instance_survives_a_crash_while_it_is_taken_up() {
    check(
        r#"
        faults  live
        start   order-7 race_timer 1
        expect  call slow
        crash
        code    race_timer is chain_short
        open
        event   order-7 go 1
        expect  held Diverged
        crash
        code    race_timer is race_timer
        commits wait
        open-only
        load-only                           # its rows are read, its code is not back yet
        write
        crash
        commits flow
        open
        answer  slow ok 5
        expect  completed "call"
        "#,
    );
}

#[test]
fn what_was_kept_for_a_held_instance_is_listed_where_its_run_ends_first() {
    check(
        r#"
        faults  live
        start   order-7 wait ["a"]
        crash
        code    wait is chain_short
        open
        event   order-7 a 1
        event   order-7 a 2
        event   order-7 a 3
        expect  held Diverged
        code    wait is wait
        resume  order-7
        expect  completed [1]
        expect  unconsumed [["a",2],["a",3]]
        "#,
    );
}

#[test]
fn a_message_is_not_confirmed_before_its_commit() {
    check(
        r#"
        partitions 2
        faults  live
        start   heir wait_sum 1
        network down
        start   sender send {"to":"heir","events":[1]}
        expect  running heir
        commits wait
        network up
        time    +10s
        take                                # the receiver's commit is built, and lost
        time    +10s                        # the message comes again meanwhile
        commit
        crash
        commits flow
        open
        time    +10s
        expect  completed heir 1
        "#,
    );
}

#[test]
fn duplicates_of_everything_change_nothing() {
    check(
        r#"
        faults  live
        network doubles
        start   heir wait_sum 3
        start   order-7 chain 1
        expect  call a
        begin   a
        begin   a
        answer  a ok 2
        answer  a ok 2
        answer  a failed Late
        expect  call b
        event   order-7 unasked 1 as once
        event   order-7 unasked 1 as once
        start   sender send_then_wait {"to":"heir"}
        event   sender go 1 as go-1
        event   sender go 1 as go-1
        expect  completed heir 3
        expect  running sender
        answer  order-7 b ok
        expect  call c
        takeover
        event   order-7 unasked 1 as once
        event   sender go 1 as go-1
        begin   c
        answer  order-7 c ok 9
        answer  order-7 c ok 9
        expect  completed order-7 9
        expect  unconsumed order-7 [["unasked",1]]
        expect  running sender
        expect  unconsumed heir []
        "#,
    );
}
