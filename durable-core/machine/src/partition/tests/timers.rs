//! Timers: their lengths, the window that memory holds of them, and clocks that run backwards.

use super::story::{check, told};

#[test]
fn timers_of_every_length_fire_once_and_in_time() {
    for (micros, before, rest) in [
        (1_000_i64, "+999us", "+1us"),
        (1_000_000, "+999ms", "+1ms"),
        (8 * 86_400_000_000, "+7d", "+1d"),
        (400 * 86_400_000_000, "+399d", "+1d"),
    ] {
        check(&format!(
            r#"
            start   order-7 sleep {{"micros":{micros}}}
            expect  running
            time    {before}
            expect  running
            time    {rest}
            expect  completed {{"slept":{micros}}}
            expect  history started timer fired completed
            time    +500d
            expect  history started timer fired completed
            "#
        ));
    }
}

#[test]
fn timers_of_no_length_and_into_the_past_fire_at_once() {
    for micros in [0_i64, -1, -86_400_000_000, i64::MIN] {
        check(&format!(
            r#"
            start   order-7 sleep {{"micros":{micros}}}
            expect  completed {{"slept":0}}
            expect  history started timer fired completed
            "#
        ));
    }
}

#[test]
fn a_timer_at_the_end_of_time_never_fires_and_harms_nobody() {
    check(&format!(
        r#"
        start   forever sleep {{"micros":{}}}
        start   order-7 sleep {{"micros":1}}
        time    +1us
        expect  completed order-7 {{"slept":1}}
        time    +500d
        expect  running forever
        terminate forever
        "#,
        i64::MAX
    ));
}

#[test]
fn a_timer_that_fires_late_tells_the_time_at_which_it_fired() {
    check(
        r#"
        faults  evict
        start   order-7 sleep {"micros":1000000}
        jump    +1h
        expect  completed {"slept":3600000000}
        "#,
    );
}

#[test]
fn a_timer_that_is_dropped_is_cancelled() {
    check(
        r#"
        start   order-7 race_timer 1
        expect  call slow
        answer  slow ok 1
        expect  custom "call"
        expect  history started scheduled timer result cancelled
        time    +1d
        expect  history started scheduled timer result cancelled
        event   order-7 go
        expect  completed "call"
        "#,
    );
}

#[test]
fn timers_that_are_due_together_fire_in_the_order_of_their_due_times() {
    check(
        "
        faults  evict
        start   order-7 sleeps [3]
        start   order-8 sleeps [1,1,1]
        start   order-9 sleeps [2,2]
        time    +2s
        expect  custom order-8 2
        expect  custom order-9 1
        time    +1s
        expect  completed order-7 3
        expect  completed order-8 3
        time    +1s
        expect  completed order-9 4
        ",
    );
}

#[test]
fn after_a_long_downtime_each_timer_fires_and_the_next_ones_are_set_from_then_on() {
    check(
        "
        faults  live
        start   order-7 sleeps [10,10,10]
        crash
        jump    +1h
        open
        expect  custom 1
        expect  running
        time    +20s
        expect  completed 3620
        ",
    );
}

#[test]
fn time_never_runs_backwards_in_a_history() {
    check(
        r#"
        faults  evict
        start   order-7 sleep {"micros":10000000}
        time    +5s
        time    -1h                         # the host's clock is set back
        event   order-7 unasked 1
        expect  running
        time    +1h
        expect  running
        time    +5s
        expect  completed {"slept":10000000}
        "#,
    );
}

#[test]
fn a_new_owner_whose_clock_is_behind_goes_on_from_the_recorded_time() {
    check(
        r#"
        faults  live
        start   order-7 sleep {"micros":10000000}
        time    +5s
        event   order-7 unasked 1
        crash
        jump    -5m
        open
        event   order-7 unasked 2
        expect  running
        time    +305s
        expect  completed {"slept":10000000}
        "#,
    );
}

fn herd(count: u64, page: u64, extra: &str) -> String {
    let mut story = format!("faults live\npage {page}\ncache 0\n");
    for n in 0..count {
        // Neighbours have the same due time, so that pages end between equal times too.
        story += &format!("start sleeper-{n} sleep {{\"micros\":{}}}\n", 1_000_000 * (n / 2 + 1));
    }
    story += extra;
    for n in 0..count {
        story +=
            &format!("expect completed sleeper-{n} {{\"slept\":{}}}\n", 1_000_000 * (n / 2 + 1));
    }
    story
}

#[test]
fn more_timers_than_a_page_all_fire_in_time() {
    for page in [1, 3, 7] {
        check(&herd(20, page, "takeover\ntime +10s\n"));
        check(&herd(20, page, "time +10s\n"));
        check(&herd(20, page, "time +3s\ntakeover\nevict\ntime +4s\ntakeover\ntime +3s\n"));
    }
}

#[test]
fn a_timer_set_while_a_page_is_being_read_is_not_lost() {
    check(
        r#"
        faults  live
        page    1
        cache   0
        start   far sleep {"micros":9000000}
        start   near sleep {"micros":4000000}
        crash
        pages   wait
        open
        start   between sleep {"micros":6000000}
        start   first sleep {"micros":1000000}
        evict
        pages   come
        time    +1s
        expect  completed first {"slept":1000000}
        time    +3s
        expect  completed near {"slept":4000000}
        time    +2s
        expect  completed between {"slept":6000000}
        time    +3s
        expect  completed far {"slept":9000000}
        "#,
    );
}

#[test]
fn sleepers_evicted_on_either_side_of_the_windows_edge_wake_in_time() {
    // The window ends with `b`; `a` lies within, `c` and `d` beyond, `e` is set into the window later.
    check(
        r#"
        faults  live
        page    2
        start   a sleep {"micros":1000000}
        start   b sleep {"micros":4000000}
        start   c sleep {"micros":5000000}
        start   d sleep {"micros":6000000}
        takeover
        event   a unasked 1
        event   b unasked 1
        event   c unasked 1
        event   d unasked 1
        start   e sleep {"micros":3000000}
        evict
        expect  resident 0
        time    +1s
        expect  completed a {"slept":1000000}
        time    +2s
        expect  completed e {"slept":3000000}
        time    +1s
        expect  completed b {"slept":4000000}
        time    +1s
        expect  completed c {"slept":5000000}
        time    +1s
        expect  completed d {"slept":6000000}
        "#,
    );
}

#[test]
fn a_timer_moved_while_its_page_was_read_fires_at_its_new_time_only() {
    check(
        r#"
        faults  live
        page    5
        start   order-7 wait_limit
        start   order-8 wait_limit
        crash
        pages   wait
        open
        event   order-7 approved "in time"
        expect  completed order-7 "in time"
        pages   come
        time    +59m
        expect  running order-8
        time    +1m
        expect  failed order-8 TooLate
        expect  completed order-7 "in time"
        "#,
    );
}

#[test]
fn sleeping_instances_are_not_loaded_at_a_takeover() {
    let mut story = String::from("faults live\n");
    for n in 0..50 {
        story += &format!("start sleeper-{n} sleep {{\"micros\":86400000000}}\n");
    }
    story += "start busy chain 1\nexpect call a\ntakeover\nexpect resident 1\n";
    story += "time +1d\nexpect completed sleeper-7\n";
    drop(told(&story));
}
