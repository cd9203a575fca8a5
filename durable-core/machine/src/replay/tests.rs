//! The code against its history, without a partition around it.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::time::Duration;

use futures::future::{Either, join_all, select};

use super::*;
use crate::model::{
    ActivityOptions, ActivityScheduled, CallNumber, ChildCreated, EnvelopeId, ExecutionNumber,
    ExecutionStarted, InstanceId, ParentClose, RunNumber, Timestamp,
};

fn id(text: &str) -> InstanceId {
    InstanceId::new(text).expect("valid")
}

fn of(value: &(impl serde::Serialize + ?Sized)) -> Payload {
    Payload::of(value).expect("JSON")
}

fn key() -> ExecutionKey {
    ExecutionKey { instance: id("order-7"), run: RunNumber(1), execution: ExecutionNumber(0) }
}

fn at(seconds: i64, is: EventKind) -> Event {
    Event { at: Timestamp::from_micros(seconds * 1_000_000), is }
}

fn orchestration<F, Fut>(code: F) -> Orchestration
where
    F: Fn(Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Payload, Failure>> + Send + 'static,
{
    Orchestration::new(key(), Arc::new(move |ctx, _| Box::pin(code(ctx))), None)
}

fn started() -> EventKind {
    EventKind::ExecutionStarted(Box::new(ExecutionStarted {
        name: "code".into(),
        input: Payload::null(),
        suspended: false,
        parent: None,
        version: None,
        tags: Vec::new(),
        scheduled_for: None,
        deadline: None,
        worker_build: None,
        trace: None,
        continues: None,
        taken_back: Vec::new(),
        rewind: None,
    }))
}

fn scheduled(call: u32, name: &str) -> EventKind {
    EventKind::ActivityScheduled(Box::new(ActivityScheduled {
        call: CallNumber(call),
        name: name.into(),
        input: Payload::null(),
        options: ActivityOptions::default(),
    }))
}

fn result(call: u32) -> EventKind {
    EventKind::ActivityCompleted { call: CallNumber(call), output: of(&call) }
}

fn timer(call: u32) -> EventKind {
    EventKind::TimerCreated { call: CallNumber(call), due: Timestamp::from_micros(0) }
}

fn fired(call: u32) -> EventKind {
    EventKind::TimerFired { call: CallNumber(call) }
}

fn cancelled(call: u32) -> EventKind {
    EventKind::CallCancelled { call: CallNumber(call) }
}

fn raised(name: &str, input: &(impl serde::Serialize + ?Sized)) -> EventKind {
    EventKind::EventRaised { name: name.into(), input: of(input), id: None }
}

fn sent(call: u32, to: &str, name: &str) -> EventKind {
    EventKind::EventSent {
        call: CallNumber(call),
        instance: id(to),
        name: name.into(),
        input: Payload::null(),
    }
}

fn completed() -> EventKind {
    EventKind::ExecutionCompleted { output: Payload::null() }
}

fn failed() -> EventKind {
    EventKind::ExecutionFailed {
        failure: Box::new(Failure::new(FailureClass::Application, "K", "m")),
    }
}

fn activity(ctx: &Context, name: &str) -> ActivityCall {
    ctx.activity(name, Payload::null(), ActivityOptions::default())
}

/// An activity, then a timer against an event, an event sent, and the end.
async fn order(ctx: Context) -> Result<Payload, Failure> {
    activity(&ctx, "a").await?;
    // Bound first: what a `match` looks at lives as long as the match, and so would the loser.
    let late = matches!(
        select(ctx.sleep(Duration::from_secs(10)), ctx.event("go")).await,
        Either::Left(_)
    );
    if late {
        ctx.raise_event(id("clerk"), "late", Payload::null());
    } else {
        activity(&ctx, "b").await?;
    }
    Ok(Payload::null())
}

fn in_time() -> Vec<EventKind> {
    vec![
        started(),
        scheduled(0, "a"),
        result(0),
        timer(1),
        raised("go", &1),
        scheduled(2, "b"),
        cancelled(1),
        result(2),
        completed(),
    ]
}

fn late() -> Vec<EventKind> {
    vec![
        started(),
        scheduled(0, "a"),
        result(0),
        timer(1),
        fired(1),
        sent(2, "clerk", "late"),
        completed(),
    ]
}

fn replay(history: Vec<EventKind>) -> Result<ReplayReport, String> {
    let events: Vec<_> = (0..).zip(history).map(|(second, is)| at(second, is)).collect();
    orchestration(order).replay(&events).map_err(|divergence| divergence.to_string())
}

#[test]
fn a_history_that_fits_is_replayed() {
    assert!(replay(in_time()).is_ok());
    assert!(replay(late()).is_ok());
}

#[test]
fn a_divergence_names_the_event_what_was_recorded_and_what_the_code_did() {
    let changed = |history: Vec<EventKind>, at: usize, is: EventKind| {
        let mut history = history;
        history[at] = is;
        replay(history).expect_err("does not fit")
    };
    let a = "the code asks for call 0 of activity \"a\"";
    for (place, recorded, message) in [
        (
            1,
            scheduled(0, "other"),
            format!("event 1: the history has call 0 of activity \"other\", {a}"),
        ),
        (1, scheduled(1, "a"), format!("event 1: the history has call 1 of activity \"a\", {a}")),
        (1, timer(0), format!("event 1: the history has timer 0, {a}")),
        (
            1,
            sent(0, "clerk", "a"),
            format!("event 1: the history has event \"a\" sent to \"clerk\" as 0, {a}"),
        ),
        (1, completed(), format!("event 1: the history has completed, {a}")),
        (1, failed(), format!("event 1: the history has failed with \"K\", {a}")),
        (1, result(0), format!("event 1: the history has result of call 0, {a}")),
        (3, timer(4), "event 3: the history has timer 4, the code asks for timer 1".into()),
    ] {
        assert_eq!(changed(in_time(), place, recorded), message);
    }
    for (place, recorded, message) in [
        (
            5,
            sent(2, "boss", "late"),
            "event 5: the history has event \"late\" sent to \"boss\" as 2, the code asks for event \"late\" sent to \"clerk\" as 2",
        ),
        (
            5,
            sent(2, "clerk", "x"),
            "event 5: the history has event \"x\" sent to \"clerk\" as 2, the code asks for event \"late\" sent to \"clerk\" as 2",
        ),
        (6, failed(), "event 6: the history has failed with \"K\", the code asks for completed"),
    ] {
        assert_eq!(changed(late(), place, recorded), message);
    }
}

#[test]
fn a_child_is_known_by_its_number_name_and_id_and_by_who_waits_for_it() {
    let code = |ctx: Context| async move {
        let options = ChildOptions {
            id: Some(id("parcel-7")),
            close: ParentClose::Abandon,
            time_limit: None,
        };
        ctx.child("ship", of(&1), options).await
    };
    let recorded = ChildCreated {
        call: CallNumber(0),
        name: "ship".into(),
        instance: id("parcel-7"),
        input: of(&1),
        detached: false,
        close: ParentClose::Abandon,
        time_limit: None,
    };
    let replay = |created: ChildCreated| {
        let kinds = [started(), EventKind::ChildCreated(Box::new(created))];
        let events: Vec<_> = (0..).zip(kinds).map(|(second, is)| at(second, is)).collect();
        orchestration(code).replay(&events)
    };
    assert_eq!(replay(recorded.clone()).expect("it fits").input_differences, 0);
    // What was recorded holds.
    let other = ChildCreated { close: ParentClose::Terminate, ..recorded.clone() };
    assert!(replay(other).is_ok());
    let other = ChildCreated { input: of(&2), ..recorded.clone() };
    assert_eq!(replay(other).expect("it fits").input_differences, 1);
    for other in [
        ChildCreated { call: CallNumber(1), ..recorded.clone() },
        ChildCreated { name: "send".into(), ..recorded.clone() },
        ChildCreated { instance: id("parcel-8"), ..recorded.clone() },
        ChildCreated { detached: true, ..recorded.clone() },
    ] {
        let divergence = replay(other.clone()).expect_err(&format!("{other:?}")).to_string();
        assert!(divergence.contains("parcel-7"), "{divergence}");
    }
}

#[test]
fn what_the_history_does_not_have_and_what_the_code_does_not_ask_for_diverge() {
    let mut half = in_time();
    half.truncate(6);
    assert_eq!(
        replay(half),
        Err("event 6: the history has no more events, the code asks for cancel of 1".into())
    );
    let mut longer = in_time();
    longer.insert(7, timer(3));
    assert_eq!(
        replay(longer),
        Err("event 7: the history has timer 3, the code asks for nothing here".into())
    );
    let mut swapped = in_time();
    swapped.swap(5, 6);
    assert!(replay(swapped).is_err(), "actions come in order");
}

#[test]
fn inputs_and_due_times_may_differ_and_inputs_are_counted() {
    let mut history = in_time();
    history[1] = EventKind::ActivityScheduled(Box::new(ActivityScheduled {
        call: CallNumber(0),
        name: "a".into(),
        input: of("another"),
        options: ActivityOptions { priority: Some(1), ..ActivityOptions::default() },
    }));
    assert_eq!(replay(history), Ok(ReplayReport { input_differences: 1 }));
}

#[test]
fn what_the_engine_decided_needs_no_action_of_the_code() {
    for class in [FailureClass::Limit, FailureClass::ForeignAwait] {
        let mut history = in_time();
        history.truncate(4);
        let failure = Box::new(Failure::new(class, "K", "m"));
        history.push(EventKind::ExecutionFailed { failure });
        assert!(replay(history).is_ok());
    }
    let mut ended = in_time();
    ended.truncate(4);
    ended.push(EventKind::ExecutionTerminated { reason: None, tree: false });
    assert!(replay(ended).is_ok());
}

#[test]
fn results_that_nobody_waits_for_change_nothing() {
    let mut order = orchestration(order);
    assert_eq!(order.advance(&at(0, started())).len(), 1);
    assert_eq!(order.advance(&at(0, result(7))), []);
    assert_eq!(order.advance(&at(0, fired(7))), []);
    assert_eq!(order.advance(&at(0, result(0))).len(), 1);
    assert_eq!(order.advance(&at(0, result(0))), [], "a second result");
    let cancel = Action::Cancel { call: CallNumber(1) };
    assert!(order.advance(&at(0, raised("go", &1))).contains(&cancel));
    assert_eq!(order.advance(&at(0, fired(1))), [], "it was cancelled");
    assert_eq!(order.advance(&at(0, result(2))), [Action::Complete(Payload::null())]);
    for late in in_time() {
        assert_eq!(order.advance(&at(9, late)), [], "it has ended");
    }
}

#[test]
fn cancels_come_last_and_in_the_order_of_their_calls() {
    let mut racing = orchestration(|ctx| async move {
        let calls: Vec<_> = (0..5).rev().map(|n| activity(&ctx, &format!("c{n}"))).collect();
        let mut all: VecDeque<_> = calls.into();
        for call in &mut all {
            assert!(futures::poll!(call).is_pending());
        }
        ctx.event("go").await;
        while let Some(call) = all.pop_back() {
            drop(call);
            all.rotate_left(usize::from(all.len() > 1));
        }
        ctx.set_custom_status(Payload::null());
        let _ = ctx.sleep(Duration::from_secs(1)).await;
        Ok(Payload::null())
    });
    assert_eq!(racing.advance(&at(0, started())).len(), 5);
    let actions = racing.advance(&at(1, raised("go", &1)));
    let kinds: Vec<_> = actions.iter().map(Action::summary).collect();
    assert_eq!(
        kinds,
        [
            "timer 5",
            "cancel of 0",
            "cancel of 1",
            "cancel of 2",
            "cancel of 3",
            "cancel of 4",
            "custom status"
        ]
    );
}

#[test]
fn a_call_that_was_never_polled_is_never_asked_for() {
    let mut lazy = orchestration(|ctx| async move {
        let never = activity(&ctx, "never");
        let timer = ctx.sleep(Duration::from_secs(1));
        drop((never, timer));
        ctx.event("go").await;
        Ok(Payload::null())
    });
    assert_eq!(lazy.advance(&at(0, started())), []);
    assert_eq!(lazy.advance(&at(0, raised("go", &1))), [Action::Complete(Payload::null())]);
}

#[test]
fn time_in_the_code_is_that_of_the_event_and_never_runs_back() {
    let seen: Arc<Mutex<Vec<i64>>> = Arc::default();
    let told = seen.clone();
    let mut clock = orchestration(move |ctx| {
        let told = told.clone();
        async move {
            loop {
                told.lock().expect("sound").push(ctx.now().as_micros() / 1_000_000);
                ctx.event("tick").await;
            }
        }
    });
    for (second, kind) in [(5, started()), (7, raised("tick", &1)), (6, raised("tick", &1))] {
        let _ = clock.advance(&at(second, kind));
    }
    assert_eq!(*seen.lock().expect("sound"), [5, 7, 7]);
}

#[test]
fn code_can_tell_a_replay_from_a_first_time() {
    let seen: Arc<Mutex<Vec<bool>>> = Arc::default();
    let told = seen.clone();
    let code = move |ctx: Context| {
        let told = told.clone();
        async move {
            loop {
                told.lock().expect("sound").push(ctx.is_replaying());
                ctx.event("tick").await;
            }
        }
    };
    let mut replayed = orchestration(code);
    let history = [at(0, started()), at(1, raised("tick", &1))];
    assert!(replayed.replay(&history).is_ok());
    let _ = replayed.advance(&at(2, raised("tick", &1)));
    assert_eq!(*seen.lock().expect("sound"), [true, true, false]);
}

struct Counted<F> {
    inner: F,
    polls: Arc<AtomicUsize>,
}

impl<F: Future + Unpin> Future for Counted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<F::Output> {
        self.polls.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.inner).poll(cx)
    }
}

#[test]
fn a_result_polls_the_one_call_that_it_is_for() {
    const CALLS: u32 = 1_000;
    let polls: Arc<AtomicUsize> = Arc::default();
    let counted = polls.clone();
    let mut fan = orchestration(move |ctx| {
        let counted = counted.clone();
        async move {
            let calls = (0..CALLS)
                .map(|_| Counted { inner: activity(&ctx, "work"), polls: counted.clone() });
            let _ = join_all(calls).await;
            Ok(Payload::null())
        }
    });
    assert_eq!(fan.advance(&at(0, started())).len(), CALLS as usize);
    for call in (0..CALLS).rev() {
        let _ = fan.advance(&at(1, result(call)));
    }
    assert_eq!(polls.load(Ordering::Relaxed), 2 * CALLS as usize);
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

enum Op {
    Wait,
    Poll(usize),
    Drop(usize),
}

#[derive(Default)]
struct Board {
    ops: VecDeque<Op>,
    /// The waiters that are left, in the order of their first polls, with the flag that their waker sets.
    waiters: Vec<(EventWait, Arc<Flag>, u32)>,
    next: u32,
    /// Waiter and event, as they were served.
    served: Vec<(u32, u32)>,
}

/// Waiters of one name are made, polled and dropped in any order; the oldest waiter gets the oldest event,
/// and is woken for it.
#[test]
fn events_and_waiters_meet_as_in_the_plain_model() {
    for seed in 0..400_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut random = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) % below
        };
        let board: Arc<Mutex<Board>> = Arc::default();
        let seen = board.clone();
        let mut code = orchestration(move |ctx| {
            let board = seen.clone();
            async move {
                loop {
                    ctx.event("step").await;
                    let mut board = board.lock().expect("sound");
                    while let Some(op) = board.ops.pop_front() {
                        let place = match op {
                            Op::Wait => {
                                let number = board.next;
                                board.next += 1;
                                let flag = Arc::new(Flag::default());
                                board.waiters.push((ctx.event("tick"), flag, number));
                                board.waiters.len() - 1
                            }
                            Op::Poll(place) => place,
                            Op::Drop(place) => {
                                let _ = board.waiters.remove(place);
                                continue;
                            }
                        };
                        let (wait, flag, number) = &mut board.waiters[place];
                        flag.0.store(false, Ordering::Relaxed);
                        let waker = Waker::from(flag.clone());
                        let polled = Pin::new(wait).poll(&mut TaskContext::from_waker(&waker));
                        if let Poll::Ready(event) = polled {
                            let served = (*number, event.to().expect("a number"));
                            board.served.push(served);
                            let _ = board.waiters.remove(place);
                        }
                    }
                }
            }
        });
        let _ = code.advance(&at(0, started()));
        let mut events: VecDeque<u32> = VecDeque::new();
        let mut waiters: Vec<u32> = Vec::new();
        let (mut served, mut next_event, mut next_waiter) = (Vec::new(), 0, 0);
        for _ in 0..60 {
            match random(5) {
                0 | 1 => {
                    let _ = code.advance(&at(0, raised("tick", &next_event)));
                    events.push_back(next_event);
                    next_event += 1;
                }
                kind => {
                    let op = match (kind, waiters.len()) {
                        (2, _) | (_, 0) => {
                            waiters.push(next_waiter);
                            next_waiter += 1;
                            Op::Wait
                        }
                        (3, n) => Op::Poll(usize::try_from(random(n as u64)).expect("few")),
                        (_, n) => Op::Drop(usize::try_from(random(n as u64)).expect("few")),
                    };
                    match op {
                        Op::Drop(place) => drop(waiters.remove(place)),
                        Op::Wait | Op::Poll(_) => {
                            let place =
                                if let Op::Poll(place) = op { place } else { waiters.len() - 1 };
                            if let Some(event) = events.remove(place) {
                                served.push((waiters.remove(place), event));
                            }
                        }
                    }
                    board.lock().expect("sound").ops.push_back(op);
                    let _ = code.advance(&at(0, raised("step", &0)));
                }
            }
            let board = board.lock().expect("sound");
            assert_eq!(board.served, served, "seed {seed}");
            let left: Vec<_> = board.waiters.iter().map(|(_, _, number)| *number).collect();
            assert_eq!(left, waiters, "seed {seed}");
            for (_, flag, number) in board.waiters.iter().take(events.len()) {
                let woken = flag.0.load(Ordering::Relaxed);
                assert!(woken, "seed {seed}: waiter {number} has an event and was not woken");
            }
        }
        let unconsumed: Vec<u32> =
            code.unconsumed().iter().map(|event| event.input.to().expect("a number")).collect();
        assert_eq!(unconsumed, Vec::from(events), "seed {seed}");
        assert_eq!(code.buffered_events(), unconsumed.len());
    }
}

#[test]
fn a_wake_up_from_another_thread_is_noticed_once_and_none_after_the_end() {
    let told: Arc<AtomicUsize> = Arc::default();
    let counter = told.clone();
    let kept: Arc<Mutex<Option<Waker>>> = Arc::default();
    let keep = kept.clone();
    let code: OrchestratorFn = Arc::new(move |ctx, _| {
        let keep = keep.clone();
        Box::pin(async move {
            std::future::poll_fn(|cx| {
                *keep.lock().expect("sound") = Some(cx.waker().clone());
                Poll::Ready(())
            })
            .await;
            ctx.event("go").await;
            Ok(Payload::null())
        })
    });
    let notify: ForeignWake = Arc::new(move || {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    let mut waiting = Orchestration::new(key(), code, Some(notify));
    assert_eq!(waiting.advance(&at(0, started())), []);
    assert!(!waiting.woken_from_outside());
    let waker = kept.lock().expect("sound").take().expect("kept");
    let other = waker.clone();
    #[allow(clippy::disallowed_methods, reason = "the other thread is the point")]
    std::thread::spawn(move || other.wake_by_ref()).join().expect("sound");
    waker.wake_by_ref();
    assert!(waiting.woken_from_outside());
    assert_eq!(told.load(Ordering::Relaxed), 1);

    let mut ended = orchestration(order);
    let _ = ended.advance(&at(0, started()));
    let _ = ended.advance(&at(0, EventKind::ExecutionTerminated { reason: None, tree: false }));
    assert!(!ended.woken_from_outside());
}

#[test]
fn suspended_code_sees_nothing_and_then_all_in_order() {
    let mut order = orchestration(order);
    let _ = order.advance(&at(0, started()));
    assert_eq!(order.advance(&at(1, EventKind::ExecutionSuspended { reason: None })), []);
    assert_eq!(order.advance(&at(2, result(0))), []);
    assert_eq!(order.advance(&at(3, raised("go", &1))), []);
    assert_eq!(order.advance(&at(3, raised("unasked", &2))), []);
    assert_eq!(order.unconsumed().len(), 2);
    let actions = order.advance(&at(4, EventKind::ExecutionResumed { reason: None }));
    let kinds: Vec<_> = actions.iter().map(Action::summary).collect();
    assert_eq!(kinds, ["timer 1", "call 2 of activity \"b\"", "cancel of 1"]);
    assert_eq!(order.unconsumed().len(), 1);
}

#[test]
fn a_failure_that_a_limit_caused_leaves_nothing_of_its_turn() {
    let mut over = orchestration(|ctx| async move {
        let _ = activity(&ctx, "a").await?;
        for _ in 0..=limits::TURN_ACTIONS_MAX {
            ctx.raise_event(id("clerk"), "x", Payload::null());
        }
        ctx.event("go").await;
        Ok(Payload::null())
    });
    let _ = over.advance(&at(0, started()));
    let actions = over.advance(&at(1, result(0)));
    assert!(matches!(&actions[..], [Action::Fail(f)] if f.class == FailureClass::Limit));
}

#[test]
fn a_turn_that_breaks_a_limit_keeps_its_markers_so_that_a_replay_takes_the_same_path() {
    let patched = |ctx: Context| async move {
        let _ = activity(&ctx, "a").await?;
        if ctx.patched("longer-texts") {
            ctx.set_custom_status(of(&"x".repeat(limits::CUSTOM_STATUS_BYTES_MAX + 1)));
        }
        let _ = activity(&ctx, "b").await?;
        Ok(Payload::null())
    };
    let mut order = orchestration(patched);
    let mut history = Vec::new();
    for arrival in [at(0, started()), at(0, result(0))] {
        let actions = order.advance(&arrival);
        history.push(arrival);
        let decided = actions.into_iter().filter_map(Action::into_event);
        history.extend(decided.map(|kind| at(0, kind)));
    }
    let kinds: Vec<_> = history.iter().map(|event| event.is.summary()).collect();
    let marker = "patch marker \"longer-texts\"";
    assert_eq!(kinds[2..], ["result of call 0", marker, "failed with \"LimitExceeded\""]);
    orchestration(patched).replay(&history).expect("the same path");
}

#[test]
fn identifiers_are_drawn_from_the_execution_and_nothing_else() {
    let draw = |key: ExecutionKey| {
        let drawn: Arc<Mutex<Vec<String>>> = Arc::default();
        let told = drawn.clone();
        let code: OrchestratorFn = Arc::new(move |ctx: Context, _| {
            let told = told.clone();
            Box::pin(async move {
                let mut told = told.lock().expect("sound");
                told.push(ctx.new_uuid().to_string());
                told.push(ctx.random().to_string());
                told.push(ctx.new_uuid().to_string());
                Ok(Payload::null())
            })
        });
        let _ = Orchestration::new(key, code, None).advance(&at(0, started()));
        let drawn = drawn.lock().expect("sound");
        drawn.clone()
    };
    let first = draw(key());
    assert_eq!(first, draw(key()));
    for other in [
        ExecutionKey { instance: id("order-8"), ..key() },
        ExecutionKey { run: RunNumber(2), ..key() },
        ExecutionKey { execution: ExecutionNumber(1), ..key() },
    ] {
        assert!(draw(other).iter().all(|drawn| !first.contains(drawn)));
    }
    let uuid = uuid::Uuid::parse_str(&first[0]).expect("a UUID");
    assert_eq!(uuid.get_version_num(), 8);
}

#[test]
fn unconsumed_events_keep_their_ids() {
    let mut order = orchestration(order);
    let _ = order.advance(&at(0, started()));
    let id = Some(EnvelopeId("event-1".into()));
    let event = EventKind::EventRaised { name: "x".into(), input: of(&1), id: id.clone() };
    let _ = order.advance(&at(0, event));
    assert_eq!(order.unconsumed()[0].id, id);
}

fn marker_of(id: &str, deprecated: bool) -> EventKind {
    EventKind::Patched { id: id.into(), deprecated }
}

/// The code of three stages of one patch, and before it.
async fn stage(ctx: Context, stage: u32) -> Result<Payload, Failure> {
    activity(&ctx, "first").await?;
    let new = match stage {
        0 => false,
        1 => ctx.patched("tax"),
        2 => {
            ctx.deprecate_patch("tax");
            true
        }
        _ => true,
    };
    activity(&ctx, if new { "new" } else { "old" }).await
}

fn of_stage(number: u32) -> Orchestration {
    orchestration(move |ctx| stage(ctx, number))
}

/// A history up to where the second call waits, with this between the first result and the call.
fn passed(marker: Option<EventKind>, name: &str) -> Vec<Event> {
    let mut events = vec![started(), scheduled(0, "first"), result(0)];
    events.extend(marker);
    events.push(scheduled(1, name));
    (0..).zip(events).map(|(second, is)| at(second, is)).collect()
}

#[test]
fn each_stage_of_a_patch_fits_the_histories_that_it_may_meet() {
    let before = passed(None, "old");
    let patched = passed(Some(marker_of("tax", false)), "new");
    let deprecated = passed(Some(marker_of("tax", true)), "new");
    let removed = passed(None, "new");
    for (number, history, fits) in [
        (0, &before, true),
        (0, &patched, false),
        (1, &before, true),
        (1, &patched, true),
        (1, &deprecated, true),
        (2, &before, false),
        (2, &patched, true),
        (2, &deprecated, true),
        (2, &removed, true),
        (3, &before, false),
        (3, &patched, false),
        (3, &deprecated, true),
        (3, &removed, true),
    ] {
        let replayed = of_stage(number).replay(history);
        assert_eq!(replayed.is_ok(), fits, "stage {number}, {history:?}: {replayed:?}");
    }
}

#[test]
fn code_that_gets_to_a_patch_for_the_first_time_takes_the_new_path() {
    for (number, deprecated) in [(1, false), (2, true)] {
        let mut order = of_stage(number);
        // What was recorded ends in front of it.
        order.replay(&passed(None, "old")[..2]).expect("it fits");
        let asked: Vec<_> =
            order.advance(&at(9, result(0))).into_iter().filter_map(Action::into_event).collect();
        assert_eq!(asked, [marker_of("tax", deprecated), scheduled(1, "new")]);
    }
}

#[test]
fn the_first_answer_for_a_patch_stays() {
    let mut order = orchestration(|ctx| async move {
        let mut answers = Vec::new();
        for _ in 0..3 {
            answers.push(ctx.patched("loop"));
            ctx.event("next").await;
        }
        Ok(of(&answers))
    });
    // Passed once without a marker: an older build waited for the event, too.
    order.replay(&[at(0, started()), at(1, raised("next", &1))]).expect("it fits");
    let asked = order.advance(&at(2, raised("next", &2)));
    assert_eq!(asked, []);
    let end = order.advance(&at(3, raised("next", &3)));
    assert_eq!(end, [Action::Complete(of(&[false, false, false]))]);
}

#[test]
fn a_marker_that_the_code_does_not_ask_for_is_named_with_what_to_keep() {
    let history = passed(Some(marker_of("tax", false)), "new");
    let divergence = of_stage(3).replay(&history).expect_err("it does not fit").to_string();
    assert!(divergence.contains("event 3: the history has patch marker \"tax\""), "{divergence}");
    assert!(divergence.contains("ctx.deprecate_patch(\"tax\")"), "{divergence}");
    // Asked for at another place.
    let mut early = orchestration(|ctx| async move {
        let _ = ctx.patched("tax");
        stage(ctx, 1).await
    });
    let divergence = early.replay(&history).expect_err("it does not fit").to_string();
    assert!(divergence.contains("asks for patch marker \"tax\""), "{divergence}");
}
