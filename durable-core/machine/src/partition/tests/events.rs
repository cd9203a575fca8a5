//! External events: names, buffers, waiters, custom status.

use super::story::check;

#[test]
fn events_are_told_apart_by_name_and_kept_until_somebody_waits() {
    check(
        r#"
        start   order-7 wait ["a","b","a"]
        event   order-7 b 1
        event   order-7 c 2
        expect  running
        event   order-7 a 3
        expect  running
        event   order-7 a 4
        expect  completed [3,1,4]
        expect  unconsumed [["c",2]]
        "#,
    );
}

#[test]
fn events_of_one_name_come_in_the_order_of_their_arrival() {
    check(
        r#"
        start   order-7 wait ["go","tick","tick","tick"]
        events  order-7 4 tick
        expect  running
        event   order-7 go "now"
        expect  completed ["now",0,1,2]
        expect  unconsumed [["tick",3]]
        "#,
    );
}

#[test]
fn several_waiters_of_one_name_are_served_first_in_first_out() {
    check(
        r#"
        start   order-7 wait_pair
        event   order-7 tick "first"
        event   order-7 tick "second"
        expect  running
        event   order-7 tick "third"
        expect  completed ["first","second","third"]
        "#,
    );
}

#[test]
fn a_waiter_that_lost_its_race_leaves_its_place_to_the_next() {
    check(
        r#"
        start   order-7 wait_dropped
        time    +10s
        event   order-7 tick 1
        expect  completed ["late",1]
        "#,
    );
    check(
        r#"
        start   order-7 wait_dropped
        event   order-7 tick 1
        expect  completed ["in time",1]
        "#,
    );
}

#[test]
fn a_dropped_waiter_gives_its_event_back_to_the_head_of_the_queue() {
    check(
        r#"
        start   order-7 wait_given_back
        event   order-7 tick 1
        event   order-7 tick 2
        event   order-7 go
        expect  completed [1,2]
        "#,
    );
    check(
        r#"
        start   order-7 wait_given_back
        event   order-7 tick 1
        event   order-7 go
        expect  running
        event   order-7 tick 2
        expect  completed [1,2]
        "#,
    );
}

#[test]
fn waiting_for_an_event_has_a_time_limit_where_the_code_sets_one() {
    check(
        r#"
        start   order-7 wait_limit
        time    +59m
        event   order-7 approved {"by":"x"}
        expect  completed {"by":"x"}
        "#,
    );
    check(
        "
        start   order-7 wait_limit
        time    +1h
        expect  failed TooLate
        event   order-7 approved 1
        expect  answer finished
        expect  unconsumed []
        ",
    );
}

#[test]
fn an_event_that_arrives_twice_under_one_id_is_taken_once() {
    check(
        r#"
        start   order-7 wait_sum 6
        event   order-7 add 2 as first
        event   order-7 add 2 as first
        event   order-7 add 2 as second
        event   order-7 add 2 as first
        expect  answer accepted
        expect  running
        event   order-7 add 2 as third
        expect  completed 6
        expect  unconsumed []
        "#,
    );
}

#[test]
fn an_event_id_is_known_for_an_hour_and_longer_where_nothing_came() {
    check(
        r#"
        faults  live
        start   order-7 wait_sum 4
        event   order-7 add 2 as first
        takeover
        event   order-7 add 2 as first
        expect  running
        time    +59m
        event   order-7 add 2 as first
        expect  running
        takeover
        event   order-7 add 2 as first
        expect  running
        time    +2h
        event   order-7 unasked 1 as other
        event   order-7 add 2 as first
        expect  completed 4
        "#,
    );
}

#[test]
fn an_event_for_nobody_is_not_found() {
    check(
        "
        faults  live
        event   nobody go 1
        expect  answer not-found
        expect  absent nobody
        expect  resident 0
        ",
    );
}

#[test]
fn an_event_to_a_pending_instance_is_there_when_it_runs() {
    check(
        r#"
        faults  live
        crash
        start   order-7 wait ["go"] reuse refuse
        event   order-7 go 0                # nobody is there to take it
        open
        expect  running
        event   order-7 go 1
        expect  completed [1]
        "#,
    );
}

#[test]
fn events_to_an_evicted_instance_bring_it_back() {
    check(
        r#"
        faults  evict
        start   order-7 wait ["a","b"]
        evict
        expect  resident 0
        event   order-7 a 1
        evict
        event   order-7 b 2
        expect  completed [1,2]
        "#,
    );
}

#[test]
fn the_custom_status_of_a_turn_is_the_last_one_set() {
    check(
        r#"
        start   order-7 custom
        expect  custom "begun"
        event   order-7 go
        expect  custom "gone"
        evict
        expect  custom "gone"
        event   order-7 go
        expect  completed null
        expect  custom "done"
        "#,
    );
}

#[test]
fn a_custom_status_at_the_limit_fits_and_one_byte_more_fails_the_turn() {
    check(
        "
        start   order-7 custom_bytes 16384
        event   order-7 go
        expect  running
        event   order-7 go
        expect  completed null
        start   order-8 custom_bytes 16385
        event   order-8 go
        expect  failed order-8 LimitExceeded 16385 bytes; at most 16384
        expect  history order-8 started raised failed
        ",
    );
}

#[test]
fn what_can_never_be_applied_is_named_in_the_status_also_after_the_end() {
    check(
        r#"
        faults  live
        start   order-7 wait ["a"]
        dead    order-7 unreadable
        expect  dead ["unreadable"]
        crash
        open
        event   order-7 a 1
        expect  completed [1]
        dead    order-7 newer
        expect  dead ["unreadable","newer"]
        dead    nobody unreadable
        expect  completed [1]
        "#,
    );
}
