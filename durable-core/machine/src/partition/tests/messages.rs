//! Events that orchestrators send each other, over one partition and over two.

use super::story::{both, check};

#[test]
fn an_event_sent_to_another_instance_arrives_once() {
    both(
        r#"
        start   heir wait_sum 6
        start   sender send {"to":"heir","events":[1,2,3]}
        expect  completed sender
        expect  completed heir 6
        expect  unconsumed heir []
        expect  history sender started sent sent sent completed
        "#,
    );
}

#[test]
fn instances_that_answer_each_other_come_to_an_end() {
    both(
        r#"
        start   heir pong {"to":"sender"}
        start   sender ping {"to":"heir"}
        expect  completed sender 6
        expect  completed heir 5
        "#,
    );
}

#[test]
fn messages_that_come_twice_are_taken_once() {
    both(
        r#"
        network doubles
        start   heir wait_sum 3
        start   sender send_then_wait {"to":"heir"}
        expect  running heir
        event   sender go
        expect  completed heir 3
        expect  unconsumed heir []
        "#,
    );
}

#[test]
fn a_message_that_was_lost_is_sent_again() {
    both(
        r#"
        faults  evict
        start   heir wait_sum 3
        network down
        start   sender send {"to":"heir","events":[1]}
        expect  running heir
        time    +9s
        network up
        expect  running heir
        time    +1s
        expect  running heir
        event   heir add 2
        expect  completed heir 3
        "#,
    );
}

#[test]
fn a_message_survives_its_senders_owner_and_its_receivers() {
    for partitions in [1, 2] {
        for crash in ["", "takeover", "takeover of sender", "takeover of heir"] {
            check(&format!(
                r#"
                partitions {partitions}
                faults  live
                start   heir wait_sum 3
                network down
                start   sender send_then_wait {{"to":"heir"}}
                {crash}
                network up
                time    +10s
                event   sender go
                {crash}
                event   sender go
                {crash}
                time    +10s
                expect  completed heir 3
                expect  unconsumed heir []
                expect  completed sender
                "#
            ));
        }
    }
}

#[test]
fn a_message_is_not_sent_before_its_commit_however_long_that_takes() {
    // The repeat of an older message must not carry along one that is not stored yet.
    check(
        r#"
        partitions 2
        faults  live
        start   heir wait_sum 9
        network down
        start   sender send_then_wait {"to":"heir"}
        commits wait
        event   sender go                   # sends the second
        take                                # its commit is built, and takes its time
        network up
        time    +10s                        # the first is sent again
        commit
        expect  history heir started raised
        crash
        commits flow
        open
        time    +10s
        event   sender go
        event   heir add 6
        expect  completed heir 9
        "#,
    );
}

#[test]
fn an_event_sent_to_nobody_is_dropped_with_a_word_and_the_next_ones_arrive() {
    both(
        r#"
        start   sender send {"to":"heir","events":[1]}
        expect  completed sender
        start   heir wait_sum 2
        start   sender-2 send {"to":"heir","events":[2]}
        expect  completed heir 2
        "#,
    );
}

#[test]
fn an_event_sent_to_an_instance_that_has_ended_is_listed_there() {
    both(
        r#"
        start   heir echo 1
        start   sender send {"to":"heir","events":[5]}
        expect  completed heir 1
        expect  unconsumed heir [["add",5]]
        "#,
    );
}

#[test]
fn an_instance_may_send_events_to_itself() {
    check(
        r#"
        start   heir ping {"to":"heir"}
        expect  completed 3
        "#,
    );
}
