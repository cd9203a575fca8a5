//! What stays in memory, and how commits are cut.

use super::story::{check, id, told};

#[test]
fn idle_instances_leave_memory_and_those_with_work_stay_known() {
    check(
        r#"
        faults  live
        cache   1
        start   order-7 wait ["a"]
        expect  resident 0
        start   order-8 chain 1
        expect  call a
        expect  resident 1                  # its attempt runs here
        answer  a ok
        expect  call b
        event   order-7 a 1
        expect  completed order-7 [1]
        answer  b ok
        expect  call c
        answer  c ok 3
        expect  completed order-8 3
        expect  resident 0
        "#,
    );
}

#[test]
fn an_instance_with_something_uncommitted_is_not_evicted() {
    check(
        r#"
        faults  live
        cache   1
        start   order-7 wait ["a","b"]
        commits wait
        event   order-7 a 1
        evict
        expect  resident 1
        event   order-8 a 1                 # a commit goes by; this one's is not part of it
        commit
        evict
        event   order-7 b 2
        commits flow
        expect  completed order-7 [1,2]
        "#,
    );
}

#[test]
fn the_least_recently_used_leave_first() {
    let mut story = String::from("faults live\ncache 20000\n");
    for n in 0..7 {
        story += &format!("start order-{n} wait [\"a\"]\n");
    }
    // In use again, just before room has to be made.
    story += "event order-0 unasked 1\nstart order-7 wait [\"a\"]\nstart order-8 wait [\"a\"]\n";
    let world = told(&story);
    let owner = world.owners[0].as_ref().expect("open");
    let stays: Vec<_> = owner.partition.entries.keys().map(ToString::to_string).collect();
    assert!(owner.partition.stats().evictions > 0, "{stays:?}");
    assert!(stays.contains(&"order-0".into()), "{stays:?}");
    assert!(stays.contains(&"order-8".into()), "{stays:?}");
    assert!(!stays.contains(&"order-1".into()), "{stays:?}");
}

#[test]
fn a_commit_is_cut_between_instances_oldest_first() {
    for limit in ["rows 20", "bytes 1500", "rows 7", "bytes 1"] {
        let mut story = format!("faults live\n{limit}\ncommits wait\n");
        for n in 0..12 {
            story += &format!("start order-{n} chain {n}\n");
        }
        story += "commit\nexpect running order-0\n";
        story += "commits flow\nexpect calls 12 a\n";
        for n in 0..12 {
            story += &format!("answer order-{n} a ok\n");
        }
        story += "expect calls 12 b\n";
        check(&story);
    }
}

#[test]
fn the_first_of_two_commits_has_what_came_first() {
    let mut world = told(
        "
        faults live
        rows 7
        start order-1 wait [\"a\"]
        start order-2 wait [\"a\"]
        start order-3 wait [\"a\"]
        commits wait
        event order-3 b 1
        event order-1 b 1
        event order-2 b 1
        event order-3 b 2
        ",
    );
    let owner = world.owners[0].as_mut().expect("open");
    let mut order = Vec::new();
    while let Some(commit) = owner.partition.take_commit() {
        order.extend(commit.instances.iter().map(|write| write.key.instance.clone()));
        world.store.commit(owner.fence, &commit).expect("it fits");
        let _ = owner.partition.committed(commit.number);
    }
    assert_eq!(order, ["order-3", "order-1", "order-2"].map(id));
}

#[test]
fn a_turn_is_never_split_however_large() {
    check(
        "
        faults  live
        rows    7
        bytes   1000
        start   order-1 fan 300
        start   order-2 fan 300
        expect  calls 600 work
        answer  all work
        expect  completed order-1 44850
        expect  completed order-2 44850
        ",
    );
}

#[test]
fn new_work_is_refused_while_commits_do_not_come_through_and_old_work_goes_on() {
    check(
        r#"
        faults  live
        uncommitted 2
        start   order-1 wait ["a"]
        start   order-2 wait ["a"]
        start   order-3 chain 1
        expect  call a
        commits wait
        event   order-1 b 1
        write                               # handed to the store, no answer yet
        event   order-1 b 2
        expect  answer none
        event   order-2 b 2
        expect  answer none
        event   order-2 b 3
        expect  answer overloaded
        start   order-4 echo 4
        expect  answer overloaded
        answer  a ok                        # results are always taken
        confirm
        commits flow
        expect  call b
        event   order-1 a 1
        expect  completed order-1 [1]
        expect  unconsumed order-1 [["b",1],["b",2]]
        event   order-2 a 1
        expect  unconsumed order-2 [["b",2]]
        start   order-4 echo 4
        expect  completed order-4 4
        "#,
    );
}

#[test]
fn instances_that_have_ended_leave_memory() {
    check(
        "
        faults  live
        start   order-1 echo 1
        start   order-2 panics
        start   order-3 wait [\"a\"]
        terminate order-3
        expect  terminated order-3
        expect  resident 0
        ",
    );
}
