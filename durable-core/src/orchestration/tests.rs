//! Orchestrators driven event by event, each story live and then as a replay of what it recorded.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ::futures::StreamExt;
use ::futures::future::FusedFuture;
use ::futures::stream::FuturesUnordered;
use durable_machine::model::{
    CallNumber, Event, EventKind, ExecutionKey, ExecutionNumber, ExecutionStarted, Failure,
    FailureClass, InstanceId, Payload, RunNumber, Timestamp,
};
use durable_machine::replay::{Action, Orchestration, OrchestratorFn};
use serde::{Deserialize, Serialize};

use crate::prelude::*;
use crate::{Call, Race, RaceAll, Sleep, TryJoinAll, WaitEvent, WaitEventTimeout};

/// One execution: what it is fed, what it asked for, and the history of both.
struct Story {
    code: OrchestratorFn,
    live: Orchestration,
    history: Vec<Event>,
    now: Timestamp,
}

const BEGIN: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

fn key() -> ExecutionKey {
    ExecutionKey {
        instance: InstanceId::new("order-7").expect("valid"),
        run: RunNumber(3),
        execution: ExecutionNumber(0),
    }
}

impl Story {
    /// An orchestrator that has not begun.
    fn of<F, Fut, I, O>(function: F) -> Self
    where
        F: Fn(OrchestrationContext, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, OrchestrationError>> + Send + 'static,
        I: serde::de::DeserializeOwned,
        O: Serialize,
    {
        let mut registry = Registry::new();
        registry.register_orchestrator_fn("tested", function);
        Self::registered(registry, "tested")
    }

    fn registered(registry: Registry, name: &str) -> Self {
        let code = registry.into_functions().expect("complete").orchestrators[name].clone();
        let live = Orchestration::new(key(), code.clone(), None);
        Self { code, live, history: Vec::new(), now: BEGIN }
    }

    fn start(&mut self, input: &impl Serialize) -> Vec<String> {
        let started = ExecutionStarted {
            name: "tested".into(),
            input: Payload::of(input).expect("JSON"),
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
        };
        self.feed(EventKind::ExecutionStarted(Box::new(started)))
    }

    fn answer(&mut self, call: u32, output: &impl Serialize) -> Vec<String> {
        let output = Payload::of(output).expect("JSON");
        self.feed(EventKind::ActivityCompleted { call: CallNumber(call), output })
    }

    fn fail(&mut self, call: u32, failure: Failure) -> Vec<String> {
        let failure = Box::new(failure);
        self.feed(EventKind::ActivityFailed { call: CallNumber(call), failure, attempts: 1 })
    }

    fn fire(&mut self, timer: u32) -> Vec<String> {
        self.feed(EventKind::TimerFired { call: CallNumber(timer) })
    }

    fn raise(&mut self, name: &str, value: &impl Serialize) -> Vec<String> {
        let input = Payload::of(value).expect("JSON");
        self.feed(EventKind::EventRaised { name: name.into(), input, id: None })
    }

    /// Applies one arrival, a second after the one before; returns what the code asked for.
    fn feed(&mut self, arrival: EventKind) -> Vec<String> {
        self.now = self.now.after(Duration::from_secs(1));
        let event = Event { at: self.now, is: arrival };
        let actions = self.live.advance(&event);
        self.history.push(event);
        let shown = actions.iter().map(shown).collect();
        let recorded = actions.into_iter().filter_map(Action::into_event);
        self.history.extend(recorded.map(|is| Event { at: self.now, is }));
        shown
    }

    /// The same history once more, by a new process.
    #[track_caller]
    fn replays(&self) {
        let mut again = Orchestration::new(key(), self.code.clone(), None);
        let report = again.replay(&self.history).expect("the code fits its own history");
        assert_eq!(report.input_differences, 0);
    }

    fn last_failure(&self) -> &Failure {
        match &self.history.last().expect("has begun").is {
            EventKind::ExecutionFailed { failure } => failure,
            other => panic!("{}", other.summary()),
        }
    }
}

fn shown(action: &Action) -> String {
    match action {
        Action::ScheduleActivity { call, name, input, .. } => {
            format!("call {call} {name} {}", input.json())
        }
        Action::CreateTimer { call, due } => {
            format!("timer {call} +{}s", due.since(BEGIN).as_secs())
        }
        Action::StartChild(child) => {
            format!("child {} {} {}", child.call, child.name, child.input.json())
        }
        Action::SendEvent { call, instance, name, input } => {
            format!("send {call} {instance} {name} {}", input.json())
        }
        Action::Cancel { call } => format!("cancel {call}"),
        Action::RequestCancel { call } => format!("end {call}"),
        Action::SetCustomStatus(status) => format!("status {}", status.json()),
        Action::Complete(output) => format!("completed {}", output.json()),
        Action::Fail(failure) => format!("failed {failure}"),
        Action::Patched { id, .. } => format!("patched {id}"),
        Action::ContinueAsNew(input) => format!("continued with {}", input.json()),
    }
}

fn declined() -> Failure {
    ActivityError::new("CardDeclined", "over the limit").details(&5000).permanent().into_failure()
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Order {
    id: u64,
    items: Vec<String>,
}

#[activity]
async fn reserve(order: Order) -> Result<usize, ActivityError> {
    Ok(order.items.len())
}

#[activity(name = "Add")]
async fn add((a, b): (i64, i64)) -> Result<i64, ActivityError> {
    Ok(a + b)
}

/// Reserves, adds, and waits for an approval.
#[orchestrator]
async fn place_order(
    ctx: OrchestrationContext,
    order: Order,
) -> Result<String, OrchestrationError> {
    let reserved = ctx
        .call(reserve, &order)
        .retry(RetryPolicy::exponential(secs(1)).attempts(5))
        .timeout(secs(30))
        .await?;
    let by_name: i64 = ctx.call_by_name("add", &(1, 2)).await?;
    ctx.set_custom_status(&json!({ "step": 2 }))?;
    let approval = ctx.wait_event::<String>("approved");
    match ctx.race(approval, ctx.sleep(hours(24))).await {
        Either::Left(approval) => Ok(format!("{reserved} {by_name} {}", approval?)),
        Either::Right(()) => Err(OrchestrationError::new("Late", "nobody approved")),
    }
}

fn order() -> Order {
    Order { id: 7, items: vec!["hat".into(), "scarf".into()] }
}

fn placed() -> Story {
    let mut registry = Registry::new();
    registry.register(place_order);
    Story::registered(registry, place_order::NAME)
}

#[test]
fn an_order_is_placed() {
    let mut story = placed();
    assert_eq!(story.start(&order()), [r#"call 0 reserve {"id":7,"items":["hat","scarf"]}"#]);
    let EventKind::ActivityScheduled(scheduled) = &story.history[1].is else { panic!() };
    assert_eq!(scheduled.options.start_to_finish, Some(secs(30)));
    assert_eq!(scheduled.options.retry.as_ref().map(|retry| retry.attempts_max), Some(5));
    assert_eq!(story.answer(0, &2), ["call 1 add [1,2]"]);
    assert_eq!(story.answer(1, &3), ["timer 2 +86403s", r#"status {"step":2}"#]);
    assert_eq!(story.raise("approved", &"boss"), [r#"completed "2 3 boss""#]);
    story.replays();
}

#[test]
fn the_timer_wins_the_race_and_a_late_event_stays() {
    let mut story = placed();
    story.start(&order());
    story.answer(0, &2);
    story.answer(1, &3);
    assert_eq!(story.fire(2), ["failed Late: nobody approved"]);
    assert_eq!(story.last_failure().class, FailureClass::Application);
    story.replays();
}

#[test]
fn an_activitys_failure_becomes_the_orchestrations() {
    let mut story = placed();
    story.start(&order());
    assert_eq!(story.fail(0, declined()), ["failed CardDeclined: over the limit"]);
    assert_eq!(*story.last_failure(), declined());
    story.replays();
}

#[test]
fn a_failure_by_the_engine_becomes_the_cause() {
    let mut story = placed();
    story.start(&order());
    let late = Failure::new(FailureClass::Timeout, "Timeout", "took longer than 30 s");
    assert_eq!(
        story.fail(0, late.clone()),
        ["failed Timeout: activity \"reserve\" failed; caused by Timeout: took longer than 30 s"]
    );
    assert_eq!(story.last_failure().class, FailureClass::Application);
    assert_eq!(story.last_failure().cause.as_deref(), Some(&late));
    story.replays();
}

#[test]
fn callers_decide_by_kind_class_and_details() {
    let mut story = Story::of(|ctx: OrchestrationContext, (): ()| async move {
        let error = ctx.call(add, &(1, 2)).await.expect_err("fails");
        assert!(error.is("CardDeclined") && error.is_permanent() && !error.is_timeout());
        assert_eq!(error.activity(), Some("Add"));
        assert_eq!(error.details::<String>(), None);
        assert_eq!(error.class(), FailureClass::Application);
        Ok(error.details::<u32>())
    });
    assert_eq!(story.start(&()), ["call 0 Add [1,2]"]);
    assert_eq!(story.fail(0, declined()), ["completed 5000"]);
    story.replays();
}

#[test]
fn values_of_another_shape_are_typed_errors() {
    let mut story = Story::of(|ctx: OrchestrationContext, (): ()| async move {
        let no_json = BTreeMap::from([(vec![1], 2)]);
        let refused = ctx.call_by_name::<()>("add", &no_json).await.expect_err("no JSON");
        let nameless = ctx.call_by_name::<()>("", &()).await.expect_err("no name");
        let output = ctx.call(add, &(1, 2)).await.expect_err("not a number");
        let event = ctx.wait_event::<u8>("number").await.expect_err("not a number");
        let status = ctx.set_custom_status(&"x".repeat(20_000)).expect_err("too large");
        let sent = ctx.raise_event("a/b", "hello", &()).expect_err("not an id");
        Ok([refused, nameless, output, event, status, sent]
            .map(|error| (format!("{:?}", error.class()), error.to_string())))
    });
    assert_eq!(story.start(&()), ["call 0 Add [1,2]"]);
    assert!(story.answer(0, &"three").is_empty());
    let end = story.raise("number", &300);
    assert_eq!(end.len(), 1, "{end:?}");
    for sentence in [
        r#"["Payload","activity \"add\" failed: Payload: its input: not a JSON value"#,
        r#"["Payload","activity \"\" failed: InvalidName: the name is empty"#,
        r#"["Payload","activity \"Add\" failed: Payload: its output: "#,
        r#"["Payload","event \"number\" cannot be read: Payload: its value: "#,
        r#"["Limit","the custom status cannot be set: LimitExceeded: it has 20002 bytes"#,
        r#"["Payload","event \"hello\" cannot be sent: InvalidInstanceId: "#,
    ] {
        assert!(end[0].replace('\\', "").contains(&sentence.replace('\\', "")), "{end:?}");
    }
    story.replays();
}

#[test]
fn an_input_of_another_shape_fails_for_good() {
    let mut story = placed();
    let end = story.start(&"no order");
    assert!(end[0].starts_with("failed Payload: the input of orchestrator \"place_order\""));
    let failure = story.last_failure();
    assert!(failure.permanent && failure.class == FailureClass::Payload);
    story.replays();
}

#[test]
fn a_returned_limit_error_keeps_what_the_turn_asked_for() {
    let mut story = Story::of(|ctx: OrchestrationContext, (): ()| async move {
        ctx.raise_event("other", "hello", &1)?;
        ctx.set_custom_status(&"x".repeat(20_000))?;
        Ok(())
    });
    let asked = story.start(&());
    assert_eq!(asked[0], "send 0 other hello 1");
    assert!(asked[1].starts_with("failed LimitExceeded: the custom status cannot be set"));
    story.replays();
}

#[test]
fn joins_take_any_number_in_any_order() {
    for count in [0, 1, 30, 31, 100, 2000] {
        let mut story = Story::of(|ctx: OrchestrationContext, count: i64| async move {
            let calls = (0..count).map(|n| ctx.call(add, &(n, 1)));
            let sums = ctx.try_join_all(calls).await?;
            let calls = sums.iter().map(|sum| ctx.call(add, &(*sum, 1)));
            let results = ctx.join_all(calls).await;
            Ok(results.into_iter().map(Result::ok).collect::<Vec<_>>())
        });
        let asked = story.start(&count);
        let calls = u32::try_from(count).expect("small");
        assert_eq!(asked.len(), usize::try_from(calls.max(1)).expect("small"));
        let mut end = Vec::new();
        for call in (0..calls).rev() {
            end = story.answer(call, &(i64::from(call) * 10));
        }
        for call in (0..calls).rev() {
            let number = calls + call;
            end = if call == 0 {
                story.fail(number, declined())
            } else {
                story.answer(number, &i64::from(call))
            };
        }
        if calls > 0 {
            let sums: Vec<_> = (0..count).map(|n| (n != 0).then_some(n)).collect();
            assert_eq!(end, [format!("completed {}", json!(sums))]);
        }
        story.replays();
    }
}

#[test]
fn the_first_error_of_a_try_join_cancels_the_others() {
    let mut story = Story::of(|ctx: OrchestrationContext, count: u32| async move {
        let calls = (0..count).map(|n| ctx.call_by_name::<u32>("work", &n));
        let failed = ctx.try_join_all(calls).await.expect_err("one fails");
        ctx.sleep(secs(1)).await;
        Ok(failed.kind().to_owned())
    });
    assert_eq!(story.start(&40).len(), 40);
    assert!(story.answer(3, &3).is_empty());
    let asked = story.fail(5, declined());
    assert_eq!(asked.len(), 1 + 38, "{asked:?}");
    assert_eq!(asked[..3], ["timer 40 +4s", "cancel 0", "cancel 1"]);
    assert_eq!(story.fire(40), [r#"completed "CardDeclined""#]);
    story.replays();
}

#[test]
fn streams_are_worked_off_a_few_at_a_time() {
    let mut story = Story::of(|ctx: OrchestrationContext, count: u32| async move {
        let calls = (0..count).map(|n| ctx.call_by_name::<u32>("work", &n));
        let done: Vec<_> =
            ::futures::stream::iter(calls).buffer_unordered(2).collect::<Vec<_>>().await;
        let mut all: FuturesUnordered<_> =
            done.into_iter().map(|n| ctx.call_by_name::<u32>("twice", &n.unwrap_or(99))).collect();
        let mut order = Vec::new();
        while let Some(doubled) = all.next().await {
            order.push(doubled?);
        }
        Ok(order)
    });
    assert_eq!(story.start(&4), ["call 0 work 0", "call 1 work 1"]);
    assert_eq!(story.answer(1, &1), ["call 2 work 2"]);
    assert_eq!(story.answer(2, &2), ["call 3 work 3"]);
    assert!(story.answer(3, &3).is_empty());
    let mut asked = story.answer(0, &0);
    asked.sort();
    assert_eq!(asked.len(), 4, "{asked:?}");
    for call in [6, 4, 7] {
        assert!(story.answer(call, &call).is_empty());
    }
    assert_eq!(story.answer(5, &5), ["completed [6,4,7,5]"]);
    story.replays();
}

#[test]
fn select_biased_and_select_see_the_recorded_order() {
    let mut story = Story::of(|ctx: OrchestrationContext, (): ()| async move {
        let mut sum = ctx.call(add, &(1, 2));
        let mut stop = ctx.wait_event::<()>("stop");
        let mut log = Vec::new();
        loop {
            let mut tick = ctx.sleep(secs(10));
            ::futures::select_biased! {
                value = sum => log.push(format!("sum {}", value?)),
                _ = stop => break,
                () = tick => log.push("tick".into()),
            }
        }
        let both = ::futures::future::select(ctx.sleep(secs(1)), ctx.call(add, &(3, 4))).await;
        if let Either::Left(((), call)) = both {
            log.push(format!("late {}", call.await?));
        }
        Ok(log)
    });
    assert_eq!(story.start(&()), ["call 0 Add [1,2]", "timer 1 +11s"]);
    assert_eq!(story.fire(1), ["timer 2 +12s"]);
    assert_eq!(story.answer(0, &3), ["timer 3 +13s", "cancel 2"]);
    assert_eq!(story.raise("stop", &()), ["timer 4 +5s", "call 5 Add [3,4]", "cancel 3"]);
    assert!(story.fire(4).is_empty());
    assert_eq!(story.answer(5, &7), [r#"completed ["tick","sum 3","late 7"]"#]);
    story.replays();
}

#[test]
fn the_loser_of_a_race_is_cancelled_in_the_same_turn() {
    let mut story = Story::of(|ctx: OrchestrationContext, (): ()| async move {
        let both = async {
            ctx.sleep(secs(1)).await;
            ctx.call(add, &(1, 2)).await
        };
        let mut race = ctx.race(both, ctx.sleep(secs(5)));
        let first = match (&mut race).await {
            Either::Left(sum) => sum?,
            Either::Right(()) => -1,
        };
        assert!(race.is_terminated());
        let (place, ()) = ctx.race_all([9, 8, 7].map(|n| ctx.sleep(secs(n)))).await;
        ctx.sleep(secs(1)).await;
        Ok((first, place))
    });
    assert_eq!(story.start(&()), ["timer 0 +2s", "timer 1 +6s"]);
    assert_eq!(story.fire(0), ["call 2 Add [1,2]"]);
    assert_eq!(story.fire(1), ["timer 3 +12s", "timer 4 +11s", "timer 5 +10s", "cancel 2"]);
    assert_eq!(story.fire(5), ["timer 6 +5s", "cancel 3", "cancel 4"]);
    assert_eq!(story.fire(6), ["completed [-1,2]"]);
    story.replays();
}

#[test]
fn of_two_sides_that_are_ready_the_left_wins() {
    let mut story = Story::of(|ctx: OrchestrationContext, (): ()| async move {
        ctx.sleep(secs(1)).await;
        let (left, right) = (ctx.wait_event::<u8>("a"), ctx.wait_event::<u8>("b"));
        match ctx.race(left, right).await {
            Either::Left(left) => Ok(left?),
            Either::Right(right) => Ok(right?),
        }
    });
    story.start(&());
    story.raise("b", &2);
    story.raise("a", &1);
    assert_eq!(story.fire(0), ["completed 1"]);
    assert_eq!(story.live.unconsumed().len(), 1);
    story.replays();
}

#[test]
fn a_wait_gives_up_and_leaves_its_event_to_the_next() {
    const APPROVED: EventName<bool> = EventName::new("approved");
    let mut story = Story::of(|ctx: OrchestrationContext, (): ()| async move {
        let none = ctx.wait_event(APPROVED).timeout(minutes(1)).await?;
        let some = ctx.wait_event(APPROVED).timeout(minutes(1)).await?;
        let kept = ctx.wait_event::<bool>(String::from("approved")).await?;
        Ok((none, some, kept))
    });
    assert_eq!(story.start(&()), ["timer 0 +61s"]);
    assert_eq!(story.fire(0), ["timer 1 +62s"]);
    assert_eq!(story.raise("approved", &true), ["cancel 1"]);
    assert_eq!(story.raise("approved", &false), ["completed [null,true,false]"]);
    story.replays();
}

#[test]
fn time_is_that_of_the_events_and_due_times_are_set_at_once() {
    let mut story = Story::of(|ctx: OrchestrationContext, (): ()| async move {
        let begin = ctx.now();
        assert_eq!(begin, ctx.started_at());
        let later = ctx.sleep(secs(100));
        ctx.sleep_until(begin - chrono::TimeDelta::seconds(1)).await;
        assert_eq!(ctx.now() - begin, chrono::TimeDelta::seconds(1));
        later.await;
        Ok(ctx.started_at().timestamp_micros())
    });
    // A time that has passed is a timer that is due.
    assert_eq!(story.start(&()), ["timer 0 +0s"]);
    assert_eq!(story.fire(0), ["timer 1 +101s"]);
    assert_eq!(story.fire(1), ["completed 1700000001000000"]);
    story.replays();
}

#[test]
fn random_numbers_and_uuids_are_the_same_on_every_replay() {
    let mut story = Story::of(|ctx: OrchestrationContext, (): ()| async move {
        assert_eq!(ctx.instance_id().as_str(), "order-7");
        assert_eq!((ctx.run(), ctx.execution()), (RunNumber(3), ExecutionNumber(0)));
        let uuids = [ctx.new_uuid(), ctx.new_uuid()];
        assert_ne!(uuids[0], uuids[1]);
        let mut seen = [0; 6];
        for _ in 0..600 {
            let random = ctx.random();
            assert!((0.0..1.0).contains(&random));
            seen[usize::from(ctx.random_range(1..=6_u8)) - 1] += 1;
            assert!((-3..0).contains(&ctx.random_range(-3..0_i64)));
        }
        assert!(seen.iter().all(|count| (60..140).contains(count)), "{seen:?}");
        let _: (u64, i64) = (ctx.random_range(..), ctx.random_range(i64::MIN..));
        assert_eq!(ctx.random_range(4..5), 4);
        let drawn = ctx.random_range(0..1_000_000_u32);
        ctx.call_by_name::<()>("keep", &(uuids, drawn)).await?;
        Ok(())
    });
    assert_eq!(story.start(&()).len(), 1);
    story.answer(0, &());
    // The replay compares the inputs too.
    story.replays();
}

#[test]
fn an_empty_range_fails_the_orchestration() {
    let mut story =
        Story::of(|ctx: OrchestrationContext, max: u8| async move { Ok(ctx.random_range(0..max)) });
    assert_eq!(story.start(&0), ["failed Panic: random_range of an empty range"]);
}

#[test]
fn every_future_is_unpin_send_and_fused() {
    fn check<F: FusedFuture + Unpin + Send + 'static>() {}
    struct NotUnpin(std::marker::PhantomPinned);
    impl Future for NotUnpin {
        type Output = ();
        fn poll(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<()> {
            std::task::Poll::Pending
        }
    }
    check::<Call<Order>>();
    check::<Sleep>();
    check::<WaitEvent<Order>>();
    check::<WaitEventTimeout<Order>>();
    check::<Race<NotUnpin, Sleep>>();
    check::<RaceAll<NotUnpin>>();
    check::<TryJoinAll<Call<Order>>>();
}

#[test]
fn a_replay_logs_nothing() {
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Counting(Arc<AtomicU32>);
    impl tracing::Subscriber for Counting {
        fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
            tracing::span::Id::from_u64(1)
        }
        fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
        fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
        fn event(&self, _: &tracing::Event<'_>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        fn enter(&self, _: &tracing::span::Id) {}
        fn exit(&self, _: &tracing::span::Id) {}
    }

    let lines = Arc::new(AtomicU32::new(0));
    tracing::subscriber::with_default(Counting(lines.clone()), || {
        let mut story = Story::of(|ctx: OrchestrationContext, (): ()| async move {
            tracing::info!("begins");
            ctx.sleep(secs(1)).await;
            tracing::info!("ends");
            Ok(())
        });
        story.start(&());
        story.fire(0);
        assert_eq!(lines.load(Ordering::Relaxed), 2);
        super::silenced(|| story.replays());
        assert_eq!(lines.load(Ordering::Relaxed), 2);
        tracing::info!("after");
        assert_eq!(lines.load(Ordering::Relaxed), 3);
    });
}

/// As many pages at once as the input says, and of each that is odd one more.
async fn pages(ctx: OrchestrationContext, most: usize) -> Result<Vec<u32>, OrchestrationError> {
    let (mut waiting, mut seen) = (VecDeque::from([1, 2, 3, 4]), Vec::new());
    let mut set = ctx.join_set();
    loop {
        while set.len() < most
            && let Some(page) = waiting.pop_front()
        {
            set.insert(page, ctx.call_by_name::<u32>("page", &page));
        }
        let Some((page, links)) = set.join_next().await else { return Ok(seen) };
        waiting.extend((0..links?).map(|n| 10 * page + n));
        seen.push(page);
    }
}

#[test]
fn a_join_set_gives_values_as_they_come_and_takes_more() {
    let mut story = Story::of(pages);
    assert_eq!(story.start(&2), ["call 0 page 1", "call 1 page 2"]);
    assert_eq!(story.answer(1, &0), ["call 2 page 3"]);
    assert_eq!(story.answer(0, &2), ["call 3 page 4"]);
    assert_eq!(story.answer(3, &0), ["call 4 page 10"]);
    assert_eq!(story.answer(2, &0), ["call 5 page 11"]);
    assert_eq!(story.answer(4, &0), Vec::<String>::new());
    assert_eq!(story.answer(5, &0), ["completed [2,1,4,3,10,11]"]);
    story.replays();
}

#[test]
fn values_that_came_while_the_code_was_elsewhere_are_given_in_their_order() {
    let mut story = Story::of(|ctx: OrchestrationContext, (): ()| async move {
        let mut set = ctx.join_set();
        for n in 0..3_u32 {
            set.insert(n, ctx.call_by_name::<u32>("n", &n));
        }
        // They begin, and go on while nobody looks at them.
        let mut first = ctx.wait_event::<()>("first");
        assert!(matches!(ctx.race(&mut first, set.join_next()).await, Either::Left(_)));
        ctx.wait_event::<()>("second").await?;
        let mut seen = Vec::new();
        while let Some((n, value)) = set.join_next().await {
            seen.push((n, value?));
        }
        Ok::<_, OrchestrationError>(seen)
    });
    assert_eq!(story.start(&()), ["call 0 n 0", "call 1 n 1", "call 2 n 2"]);
    assert_eq!(story.raise("first", &()), Vec::<String>::new());
    for n in [2, 0, 1] {
        assert_eq!(story.answer(n, &(10 * n)), Vec::<String>::new());
    }
    assert_eq!(story.raise("second", &()), ["completed [[2,20],[0,0],[1,10]]"]);
    story.replays();
}

#[test]
fn what_is_removed_from_a_join_set_or_left_in_it_is_cancelled() {
    let mut story = Story::of(|ctx: OrchestrationContext, (): ()| async move {
        let done = {
            let mut set = ctx.join_set();
            for key in ["a", "b", "c", "d"] {
                set.insert(key, ctx.call_by_name::<u32>(key, &()));
            }
            // Of different kinds: they only have to give the same.
            let slow = ctx.clone();
            set.insert("slow", async move {
                slow.sleep(secs(60)).await;
                slow.call_by_name::<u32>("late", &()).await
            });
            let first = set.join_next().await.map(|(key, _)| key);
            assert!(set.remove(&"b") && !set.remove(&"b"), "it is gone");
            assert_eq!(set.keys().copied().collect::<Vec<_>>(), ["c", "d", "slow"]);
            assert_eq!(format!("{set:?}"), r#"{"c", "d", "slow"}"#);
            let second = set.join_next().await.map(|(key, _)| key);
            [first, second]
        };
        ctx.wait_event::<()>("end").await?;
        Ok::<_, OrchestrationError>(done)
    });
    let asked =
        ["call 0 a null", "call 1 b null", "call 2 c null", "call 3 d null", "timer 4 +61s"];
    assert_eq!(story.start(&()), asked);
    assert_eq!(story.answer(0, &1), ["cancel 1"]);
    assert_eq!(story.answer(1, &1), Vec::<String>::new(), "nobody waits for it");
    assert_eq!(story.answer(3, &1), ["cancel 2", "cancel 4"]);
    assert_eq!(story.raise("end", &()), [r#"completed ["a","d"]"#]);
    story.replays();
}

#[test]
fn a_join_set_is_a_stream_and_ends() {
    let mut story = Story::of(|ctx: OrchestrationContext, (): ()| async move {
        let mut set = ctx.join_set::<u32, u32>();
        assert!(set.join_next().await.is_none());
        for n in 0..3 {
            let ctx = ctx.clone();
            set.insert(n, async move { ctx.call_by_name("n", &n).await.unwrap_or(n) });
        }
        let two: Vec<_> = StreamExt::take(&mut set, 2).collect().await;
        let (left, more) = (set.len(), set.is_empty());
        set.clear();
        assert!(set.is_empty());
        Ok::<_, OrchestrationError>((two, left, more))
    });
    assert_eq!(story.start(&()).len(), 3);
    assert_eq!(story.answer(2, &7), Vec::<String>::new());
    assert_eq!(story.answer(1, &8), ["completed [[[2,7],[1,8]],1,false]"]);
    story.replays();
}

#[test]
fn a_scope_waits_for_the_end_of_what_it_cancels() {
    let mut story = Story::of(|ctx: OrchestrationContext, (): ()| async move {
        let scope = ctx.scope();
        let calls = ctx.join_all(["a", "b", "c"].map(|name| scope.call_by_name::<u32>(name, &())));
        let _ = ctx.race(calls, ctx.sleep(secs(60))).await;
        let ended = scope.cancel().await;
        let told = ended.iter().map(|call| (call.name().to_owned(), call.output::<u32>().ok()));
        Ok::<_, OrchestrationError>(told.collect::<Vec<_>>())
    });
    story.start(&());
    assert_eq!(story.answer(1, &5), Vec::<String>::new());
    assert_eq!(story.fire(3), ["end 0", "end 2"], "they are dropped, and their end is asked for");
    let failure = Failure::new(FailureClass::Cancelled, "Cancelled", "it has ended");
    assert_eq!(story.fail(2, failure), Vec::<String>::new());
    assert_eq!(story.answer(0, &4), [r#"completed [["a",4],["c",null]]"#]);
    story.replays();
}

#[test]
fn what_is_awaited_in_a_scope_that_is_cancelled_fails_when_it_has_ended() {
    let mut story = Story::of(|ctx: OrchestrationContext, (): ()| async move {
        let scope = ctx.scope();
        let (call, nap) = (scope.call_by_name::<u32>("a", &()), scope.sleep(secs(60)));
        let stopper = async {
            ctx.wait_event::<()>("stop").await?;
            Ok::<_, CallError>(scope.cancel().await.len())
        };
        let (ended, result, ()) = ::futures::join!(stopper, call, nap);
        let again = scope.call_by_name::<u32>("b", &()).await;
        let classes =
            [result, again].map(|result| result.expect_err("cancelled").kind().to_owned());
        Ok::<_, OrchestrationError>((ended?, classes))
    });
    story.start(&());
    // The timer is over at once, and the activity when it says so.
    assert_eq!(story.raise("stop", &()), ["end 0", "cancel 1"]);
    let failure = Failure::new(FailureClass::Cancelled, "Cancelled", "it has ended");
    assert_eq!(story.fail(0, failure), [r#"completed [1,["Cancelled","Cancelled"]]"#]);
    story.replays();
}

#[test]
fn a_wait_for_an_end_that_is_dropped_may_be_begun_again() {
    let mut story = Story::of(|ctx: OrchestrationContext, (): ()| async move {
        let scope = ctx.scope();
        let call = scope.call_by_name::<u32>("a", &());
        let _ = ctx.race(call, ctx.wait_event::<()>("stop")).await;
        // Not longer than a minute.
        let first = ctx.within(secs(60), scope.cancel()).await.is_some();
        let second = scope.cancel().await.len();
        Ok::<_, OrchestrationError>((first, second, scope.cancel().await.len()))
    });
    story.start(&());
    assert_eq!(story.raise("stop", &()), ["timer 1 +62s", "end 0"]);
    assert_eq!(story.fire(1), Vec::<String>::new());
    assert_eq!(story.answer(0, &7), ["completed [false,1,0]"]);
    story.replays();
}
