//! The orchestrators of the stories: real code over [`Context`], by name.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, join_all, select};
use futures::stream::{FuturesUnordered, StreamExt};
use futures::{FutureExt, select_biased};
use serde::Serialize;
use serde_json::{Value, json};

use crate::model::ParentClose;
use crate::model::{
    ActivityOptions, Failure, FailureClass, InstanceId, Payload, RetryPolicy, Timestamp,
};
use crate::replay::{ActivityCall, ChildCall, ChildOptions, Context, EndedCall, OrchestratorFn};

type Outcome = Result<Payload, Failure>;

pub(super) fn payload(value: &(impl Serialize + ?Sized)) -> Payload {
    Payload::of(value).expect("test values have a JSON form")
}

fn value(payload: &Payload) -> Value {
    payload.to().expect("payloads are JSON")
}

fn code<F, Fut>(code: F) -> OrchestratorFn
where
    F: Fn(Context, Value) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Outcome> + Send + 'static,
{
    Arc::new(move |ctx, input| Box::pin(code(ctx, value(&input))))
}

fn call(ctx: &Context, name: &str, input: &Value) -> ActivityCall {
    ctx.activity(name, payload(input), ActivityOptions::default())
}

fn micros(input: &Value) -> i64 {
    input["micros"].as_i64().expect("micros")
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// All of them, by name.
pub(super) fn book() -> BTreeMap<String, OrchestratorFn> {
    let mut book: BTreeMap<String, OrchestratorFn> = BTreeMap::new();
    let mut add = |name: &str, code| assert!(book.insert(name.into(), code).is_none(), "{name}");
    add("echo", code(|_, input| async move { Ok(payload(&input)) }));
    add("refuse", code(|_, _| async { Err(application("Refused", "no")) }));
    add("chain", code(chain));
    add("call", code(one_call));
    add("call_again", code(call_again));
    add("sleep", code(sleep));
    add("sleeps", code(sleeps));
    add("race_calls", code(race_calls));
    add("race_biased", code(race_biased));
    add("race_timer", code(race_timer));
    add("race_same", code(race_same));
    add("fan", code(fan));
    add("fan_fast", code(fan_fast));
    add("settles", code(settles));
    add("family", code(family));
    add("wait_then_call", code(wait_then_call));
    add("naps", code(naps));
    add("shifts", code(shifts));
    add("second_thoughts", code(second_thoughts));
    add("second_child", code(second_child));
    add("unordered", code(unordered));
    add("buffered", code(buffered));
    add("wait", code(wait));
    add("wait_pair", code(wait_pair));
    add("wait_dropped", code(wait_dropped));
    add("wait_given_back", code(wait_given_back));
    add("wait_limit", code(wait_limit));
    add("wait_sum", code(wait_sum));
    add("custom", code(custom));
    add("custom_bytes", code(custom_bytes));
    add("stable", code(stable));
    add("send", code(send));
    add("send_then_wait", code(send_then_wait));
    add("ping", code(ping));
    add("pong", code(pong));
    add("unawaited", code(unawaited));
    add("unawaited_fails", code(unawaited_fails));
    add("panics", code(|_, _| async { panic!("at once") }));
    add("panics_later", code(panics_later));
    add("panics_dropping", code(panics_dropping));
    add("panics_after_actions", code(panics_after_actions));
    add("asks_while_dropped", code(asks_while_dropped));
    add("panics_making", Arc::new(|_, _| panic!("before the first poll")));
    add("foreign", code(foreign));
    add("foreign_later", code(foreign_later));
    add("foreign_thread", code(foreign_thread));
    add("yields", code(yields));
    add("many_actions", code(many_actions));
    add("many_open", code(many_open));
    add("sizes", code(sizes));
    add("golden", code(golden));
    add("golden_again", code(golden_again));
    add("again", code(again));
    add("batches", code(batches));
    add("again_and_again", code(again_and_again));
    add("again_ignored", code(again_ignored));
    add("again_with_work", code(again_with_work));
    add("golden_family", code(golden_family));
    add("golden_rewound", code(golden_rewound));
    add("golden_heir", code(golden_heir));
    add("parent", code(parent));
    add("parent_of_two", code(parent_of_two));
    add("tree", code(tree));
    add("drops_child", code(drops_child));
    add("again_with_child", code(again_with_child));
    add("leaves_child", code(leaves_child));
    add("starts_child", code(starts_child));
    add("scoped", code(scoped));
    add("scoped_drop", code(scoped_drop));
    add("scoped_child", code(scoped_child));
    add("scoped_within", code(scoped_within));
    // Other versions of `chain`.
    add("chain_patched", code(chain_patched));
    add("chain_renamed", code(chain_renamed));
    add("chain_timer", code(chain_timer));
    add("chain_short", code(|_, _| async { Ok(payload(&"short")) }));
    add("chain_longer", code(chain_longer));
    add("chain_other_input", code(chain_other_input));
    add("chain_waits", code(chain_waits));
    book
}

pub(super) fn application(kind: &str, message: &str) -> Failure {
    Failure::new(FailureClass::Application, kind, message)
}

async fn chain(ctx: Context, input: Value) -> Outcome {
    let a = call(&ctx, "a", &input).await?;
    let b = call(&ctx, "b", &value(&a)).await?;
    call(&ctx, "c", &value(&b)).await
}

async fn chain_renamed(ctx: Context, input: Value) -> Outcome {
    let a = call(&ctx, "first", &input).await?;
    let b = call(&ctx, "b", &value(&a)).await?;
    call(&ctx, "c", &value(&b)).await
}

async fn chain_patched(ctx: Context, input: Value) -> Outcome {
    let a = call(&ctx, "a", &input).await?;
    let b = call(&ctx, if ctx.patched("b") { "better" } else { "b" }, &value(&a)).await?;
    call(&ctx, if ctx.patched("c") { "best" } else { "c" }, &value(&b)).await
}

async fn chain_timer(ctx: Context, input: Value) -> Outcome {
    ctx.sleep(secs(1)).await;
    chain(ctx, input).await
}

async fn chain_longer(ctx: Context, input: Value) -> Outcome {
    let _ = futures::join!(call(&ctx, "a", &input), call(&ctx, "extra", &input));
    Ok(Payload::null())
}

async fn chain_other_input(ctx: Context, _: Value) -> Outcome {
    let a = call(&ctx, "a", &json!("another")).await?;
    let b = call(&ctx, "b", &value(&a)).await?;
    call(&ctx, "c", &value(&b)).await
}

async fn chain_waits(ctx: Context, _: Value) -> Outcome {
    Ok(ctx.event("never").await)
}

fn options(input: &Value) -> ActivityOptions {
    let millis = |of: &Value| of.as_u64().map(Duration::from_millis);
    let retry = &input["retry"];
    let retry = retry.is_object().then(|| RetryPolicy {
        attempts_max: retry["attempts"].as_u64().map_or(0, |n| u32::try_from(n).expect("small")),
        delay: millis(&retry["delay_ms"]).unwrap_or(secs(1)),
        backoff: retry["backoff"].as_f64().unwrap_or(1.0),
        delay_max: millis(&retry["cap_ms"]).unwrap_or(secs(3600)),
        jitter: retry["jitter"].as_f64().unwrap_or(0.0),
        total_time_max: millis(&retry["total_ms"]),
        not_retried: retry["except"].as_str().map(str::to_owned).into_iter().collect(),
    });
    ActivityOptions {
        retry,
        start_to_finish: millis(&input["limit_ms"]),
        heartbeat_timeout: millis(&input["silence_ms"]),
        compensates: input["compensates"] == json!(true),
        ..ActivityOptions::default()
    }
}

/// One activity, `ship`, with the options that the input describes.
async fn one_call(ctx: Context, input: Value) -> Outcome {
    ctx.activity("ship", payload(&input["order"]), options(&input)).await
}

/// The author's own retry: a failed call is followed by another call.
async fn call_again(ctx: Context, input: Value) -> Outcome {
    match ctx.activity("ship", payload(&input), options(&input)).await {
        Ok(output) => Ok(output),
        Err(failure) => call(&ctx, "mend", &json!(failure.kind)).await,
    }
}

/// A timer this far from now, possibly in the past. Returns how long it took.
async fn sleep(ctx: Context, input: Value) -> Outcome {
    let before = ctx.now();
    let due = Timestamp::from_micros(before.as_micros().saturating_add(micros(&input)));
    ctx.timer(due).await;
    Ok(payload(&json!({ "slept": ctx.now().as_micros() - before.as_micros() })))
}

/// One timer after the other, of these lengths in seconds; the custom status counts them.
async fn sleeps(ctx: Context, input: Value) -> Outcome {
    for (n, length) in input.as_array().expect("a list").iter().enumerate() {
        ctx.sleep(secs(length.as_u64().expect("seconds"))).await;
        ctx.set_custom_status(payload(&(n + 1)));
    }
    Ok(payload(&ctx.now().since(ctx.started_at()).as_secs()))
}

fn either(left: Either<(Outcome, ActivityCall), (Outcome, ActivityCall)>) -> Outcome {
    match left {
        Either::Left((outcome, _)) => Ok(payload(&json!(["left", value(&outcome?)]))),
        Either::Right((outcome, _)) => Ok(payload(&json!(["right", value(&outcome?)]))),
    }
}

async fn race_calls(ctx: Context, input: Value) -> Outcome {
    either(select(call(&ctx, "left", &input), call(&ctx, "right", &input)).await)
}

async fn race_biased(ctx: Context, input: Value) -> Outcome {
    let (mut left, mut right) =
        (call(&ctx, "left", &input).fuse(), call(&ctx, "right", &input).fuse());
    select_biased! {
        outcome = left => Ok(payload(&json!(["left", value(&outcome?)]))),
        outcome = right => Ok(payload(&json!(["right", value(&outcome?)]))),
    }
}

/// A call against ten seconds; the loser is dropped, and the instance waits for one more event.
async fn race_timer(ctx: Context, input: Value) -> Outcome {
    let winner = match select(call(&ctx, "slow", &input), ctx.sleep(secs(10))).await {
        Either::Left(_) => "call",
        Either::Right(_) => "timer",
    };
    ctx.set_custom_status(payload(winner));
    ctx.event("go").await;
    Ok(payload(winner))
}

/// Both sides become ready while the code is busy elsewhere: the left one wins.
async fn race_same(ctx: Context, _: Value) -> Outcome {
    let (left, right) = (ctx.event("left"), ctx.event("right"));
    ctx.event("go").await;
    match select(left, right).await {
        Either::Left((event, _)) => Ok(payload(&json!(["left", value(&event)]))),
        Either::Right((event, _)) => Ok(payload(&json!(["right", value(&event)]))),
    }
}

async fn fan(ctx: Context, input: Value) -> Outcome {
    let n = input.as_u64().expect("a number");
    let outcomes = join_all((0..n).map(|i| call(&ctx, "work", &json!(i)))).await;
    let mut sum = 0;
    for outcome in outcomes {
        sum += value(&outcome?).as_u64().expect("a number");
    }
    Ok(payload(&sum))
}

/// Fails with the first failure.
async fn fan_fast(ctx: Context, input: Value) -> Outcome {
    let n = input.as_u64().expect("a number");
    let calls = (0..n).map(|i| call(&ctx, "work", &json!(i)));
    let outcomes = futures::future::try_join_all(calls).await?;
    Ok(payload(&outcomes.iter().map(value).collect::<Vec<_>>()))
}

/// Waits for an event, and where what it then does fails, for another one before it fails, too.
async fn settles(ctx: Context, input: Value) -> Outcome {
    let first = ctx.event("go").await;
    match call(&ctx, "work", &input).await {
        Ok(result) => Ok(payload(&json!([value(&first), value(&result)]))),
        Err(failure) => {
            call(&ctx, "undo", &input).await?;
            Err(failure)
        }
    }
}

/// Waits twice, with work in between.
async fn wait_then_call(ctx: Context, input: Value) -> Outcome {
    let name = input.as_str().expect("a name").to_owned();
    let first = ctx.event(name.clone()).await;
    let done = call(&ctx, "work", &input).await?;
    let second = ctx.event(name).await;
    Ok(payload(&json!([value(&first), value(&done), value(&second)])))
}

/// Goes on where its first call fails.
async fn second_thoughts(ctx: Context, _: Value) -> Outcome {
    let a = call(&ctx, "a", &json!(0)).await.map_or(Value::Null, |a| value(&a));
    let b = call(&ctx, "b", &json!(0)).await?;
    let c = call(&ctx, "c", &json!(0)).await?;
    Ok(payload(&json!([a, value(&b), value(&c)])))
}

/// The same, with a child in between.
async fn second_child(ctx: Context, input: Value) -> Outcome {
    let a = call(&ctx, "a", &json!(0)).await.map_or(Value::Null, |a| value(&a));
    let b = child(&ctx, &input).await?;
    let c = call(&ctx, "c", &json!(0)).await?;
    Ok(payload(&json!([a, value(&b), value(&c)])))
}

/// A failure inserts a call, and those behind it get other numbers.
async fn shifts(ctx: Context, _: Value) -> Outcome {
    let mut done = Vec::new();
    if call(&ctx, "work", &json!("first")).await.is_err() {
        done.push(value(&call(&ctx, "work", &json!("instead")).await?));
    }
    done.push(value(&call(&ctx, "work", &json!("second")).await?));
    call(&ctx, "end", &json!(0)).await?;
    Ok(payload(&done))
}

/// Sleeps, works, and sleeps again.
async fn naps(ctx: Context, input: Value) -> Outcome {
    ctx.sleep(secs(10)).await;
    let done = call(&ctx, "work", &input).await?;
    ctx.sleep(secs(10)).await;
    Ok(done)
}

/// A call and two children at once; fails with whoever fails first.
async fn family(ctx: Context, input: Value) -> Outcome {
    let own = call(&ctx, "own", &json!(0));
    let (own, left, right) =
        futures::try_join!(own, child(&ctx, &input["left"]), child(&ctx, &input["right"]))?;
    Ok(payload(&json!([value(&own), value(&left), value(&right)])))
}

async fn unordered(ctx: Context, input: Value) -> Outcome {
    let n = input.as_u64().expect("a number");
    let mut calls: FuturesUnordered<_> = (0..n).map(|i| call(&ctx, "work", &json!(i))).collect();
    let mut order = Vec::new();
    while let Some(outcome) = calls.next().await {
        order.push(value(&outcome?));
    }
    Ok(payload(&order))
}

async fn buffered(ctx: Context, input: Value) -> Outcome {
    let n = input.as_u64().expect("a number");
    let calls = futures::stream::iter(0..n).map(|i| call(&ctx, "work", &json!(i)));
    let outcomes: Vec<_> = calls.buffer_unordered(3).collect().await;
    let outcomes: Result<Vec<_>, _> = outcomes.into_iter().collect();
    Ok(payload(&outcomes?.iter().map(value).collect::<Vec<_>>()))
}

/// Waits for the named events one after the other.
async fn wait(ctx: Context, input: Value) -> Outcome {
    let mut seen = Vec::new();
    for name in input.as_array().expect("a list") {
        seen.push(value(&ctx.event(name.as_str().expect("a name")).await));
    }
    Ok(payload(&seen))
}

async fn wait_pair(ctx: Context, _: Value) -> Outcome {
    let waits = [ctx.event("tick"), ctx.event("tick"), ctx.event("tick")];
    let seen: Vec<_> = join_all(waits).await.iter().map(value).collect();
    Ok(payload(&seen))
}

/// A waiter that lost a race leaves its place to the next.
async fn wait_dropped(ctx: Context, _: Value) -> Outcome {
    let in_time = match select(ctx.event("tick"), ctx.sleep(secs(10))).await {
        Either::Left((event, _)) => Some(event),
        Either::Right((_, _late)) => None,
    };
    match in_time {
        Some(event) => Ok(payload(&json!(["in time", value(&event)]))),
        None => Ok(payload(&json!(["late", value(&ctx.event("tick").await)]))),
    }
}

/// The first waiter has an event ready when it is dropped: the event goes back to the head.
async fn wait_given_back(ctx: Context, _: Value) -> Outcome {
    let mut first = ctx.event("tick");
    let second = ctx.event("tick");
    assert!(futures::poll!(&mut first).is_pending());
    ctx.event("go").await;
    drop(first);
    let second = second.await;
    let third = ctx.event("tick").await;
    Ok(payload(&json!([value(&second), value(&third)])))
}

async fn wait_limit(ctx: Context, _: Value) -> Outcome {
    match select(ctx.event("approved"), ctx.sleep(secs(3600))).await {
        Either::Left((event, _)) => Ok(event),
        Either::Right(_) => Err(application("TooLate", "nobody approved within an hour")),
    }
}

/// Sums events until their sum reaches the input.
async fn wait_sum(ctx: Context, input: Value) -> Outcome {
    let mut sum = 0;
    while sum < input.as_u64().expect("a number") {
        sum += value(&ctx.event("add").await).as_u64().expect("a number");
    }
    Ok(payload(&sum))
}

async fn custom(ctx: Context, _: Value) -> Outcome {
    ctx.set_custom_status(payload("begun"));
    ctx.event("go").await;
    ctx.set_custom_status(payload("overwritten"));
    ctx.set_custom_status(payload("gone"));
    ctx.event("go").await;
    ctx.set_custom_status(payload("done"));
    Ok(Payload::null())
}

async fn custom_bytes(ctx: Context, input: Value) -> Outcome {
    ctx.event("go").await;
    ctx.set_custom_status(text(input.as_u64().expect("bytes")));
    ctx.event("go").await;
    Ok(Payload::null())
}

/// A payload of exactly this many bytes.
pub(super) fn text(bytes: u64) -> Payload {
    let letters = usize::try_from(bytes).expect("fits") - 2;
    Payload::from_json(format!("\"{}\"", "x".repeat(letters))).expect("JSON")
}

async fn stable(ctx: Context, _: Value) -> Outcome {
    let mut all = Vec::new();
    for _ in 0..3 {
        let drawn = json!([
            ctx.now().as_micros(),
            ctx.new_uuid().to_string(),
            ctx.new_uuid().to_string(),
            ctx.random(),
            ctx.started_at().as_micros(),
        ]);
        // What was drawn goes into the history: a replay that draws otherwise shows as a difference.
        call(&ctx, "note", &drawn).await?;
        all.push(drawn);
    }
    let text = |draw: usize, at: usize| all[draw][at].to_string();
    let distinct = (0..3).flat_map(|draw| [text(draw, 1), text(draw, 2), text(draw, 3)]);
    let distinct: std::collections::BTreeSet<_> = distinct.collect();
    Ok(payload(&distinct.len()))
}

fn target(input: &Value) -> InstanceId {
    InstanceId::new(input["to"].as_str().expect("a receiver")).expect("valid")
}

/// Sends events and ends at once.
async fn send(ctx: Context, input: Value) -> Outcome {
    for event in input["events"].as_array().expect("a list") {
        ctx.raise_event(target(&input), "add", payload(event));
    }
    Ok(Payload::null())
}

async fn send_then_wait(ctx: Context, input: Value) -> Outcome {
    ctx.raise_event(target(&input), "add", payload(&1));
    ctx.event("go").await;
    ctx.raise_event(target(&input), "add", payload(&2));
    ctx.event("go").await;
    Ok(Payload::null())
}

async fn ping(ctx: Context, input: Value) -> Outcome {
    let mut n = 0;
    for _ in 0..3 {
        ctx.raise_event(target(&input), "ball", payload(&n));
        n = value(&ctx.event("ball").await).as_u64().expect("a number") + 1;
    }
    Ok(payload(&n))
}

async fn pong(ctx: Context, input: Value) -> Outcome {
    let mut n = 0;
    for _ in 0..3 {
        n = value(&ctx.event("ball").await).as_u64().expect("a number") + 1;
        ctx.raise_event(target(&input), "ball", payload(&n));
    }
    Ok(payload(&n))
}

async fn unawaited(ctx: Context, input: Value) -> Outcome {
    let mut call = call(&ctx, "side", &input);
    let mut timer = ctx.sleep(secs(60));
    assert!(futures::poll!(&mut call).is_pending());
    assert!(futures::poll!(&mut timer).is_pending());
    ctx.event("go").await;
    Ok(payload("ended"))
}

async fn unawaited_fails(ctx: Context, input: Value) -> Outcome {
    let mut call = call(&ctx, "side", &input);
    assert!(futures::poll!(&mut call).is_pending());
    ctx.event("go").await;
    Err(application("Gone", "left work behind"))
}

async fn panics_later(ctx: Context, input: Value) -> Outcome {
    let _ = call(&ctx, "a", &input).await?;
    panic!("after {}", "a")
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "in a destructor");
    }
}

/// The destructor of a local panics when the future is dropped, at its end or before.
async fn panics_dropping(ctx: Context, _: Value) -> Outcome {
    let _bomb = Bomb;
    Ok(ctx.event("go").await)
}

async fn panics_after_actions(ctx: Context, input: Value) -> Outcome {
    let mut a = call(&ctx, "a", &input);
    assert!(futures::poll!(&mut a).is_pending());
    ctx.set_custom_status(payload("about to panic"));
    panic!("with an open call")
}

struct Farewell(Context);

impl Drop for Farewell {
    fn drop(&mut self) {
        self.0.raise_event(InstanceId::new("heir").expect("valid"), "add", payload(&7));
        self.0.set_custom_status(payload("from the grave"));
    }
}

/// A value that asks for things when it is dropped with the future.
async fn asks_while_dropped(ctx: Context, _: Value) -> Outcome {
    let _farewell = Farewell(ctx.clone());
    ctx.event("go").await;
    futures::future::pending::<()>().await;
    Ok(Payload::null())
}

async fn foreign(_: Context, _: Value) -> Outcome {
    futures::future::pending::<()>().await;
    Ok(Payload::null())
}

async fn foreign_later(ctx: Context, input: Value) -> Outcome {
    let _ = call(&ctx, "a", &input).await?;
    let (_keep, channel) = futures::channel::oneshot::channel::<()>();
    let _ = channel.await;
    Ok(Payload::null())
}

/// Waits for an event, and beside it for a thread, which wakes it from outside.
#[allow(clippy::disallowed_methods, reason = "what orchestrators must not do")]
async fn foreign_thread(ctx: Context, _: Value) -> Outcome {
    let (tell, told) = futures::channel::oneshot::channel::<()>();
    let event = ctx.event("go");
    let first = select(event, told);
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        let _ = tell.send(());
    });
    let _ = first.await;
    Ok(payload("got away with it"))
}

/// Wakes itself within its poll: that is allowed, and the engine polls again.
async fn yields(ctx: Context, _: Value) -> Outcome {
    for _ in 0..5 {
        let mut yielded = false;
        std::future::poll_fn(|cx| {
            if std::mem::replace(&mut yielded, true) {
                return std::task::Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            std::task::Poll::Pending
        })
        .await;
    }
    Ok(ctx.event("go").await)
}

async fn many_actions(ctx: Context, input: Value) -> Outcome {
    ctx.event("go").await;
    for i in 0..input.as_u64().expect("a number") {
        ctx.raise_event(InstanceId::new("nobody").expect("valid"), "add", payload(&i));
    }
    ctx.event("go").await;
    Ok(payload("sent"))
}

/// Opens this many timers, in turns of 10 000.
async fn many_open(ctx: Context, input: Value) -> Outcome {
    let mut open = Vec::new();
    let mut rest = input.as_u64().expect("a number");
    while rest > 0 {
        for _ in 0..rest.min(10_000) {
            let mut timer = ctx.sleep(secs(1_000_000));
            assert!(futures::poll!(&mut timer).is_pending());
            open.push(timer);
        }
        rest -= rest.min(10_000);
        ctx.event("go").await;
    }
    Ok(payload(&open.len()))
}

/// Payloads of a given size at every place that takes one.
async fn sizes(ctx: Context, input: Value) -> Outcome {
    let bytes = input["bytes"].as_u64().expect("bytes");
    match input["place"].as_str().expect("a place") {
        "output" => Ok(text(bytes)),
        "input" => {
            let outcome = ctx.activity("take", text(bytes), ActivityOptions::default()).await;
            outcome.map(|_| payload("taken"))
        }
        "event" => {
            ctx.raise_event(InstanceId::new("nobody").expect("valid"), "big", text(bytes));
            Ok(payload("sent"))
        }
        "failure" => {
            Err(application("Long", &"é".repeat(usize::try_from(bytes / 2).expect("fits"))))
        }
        other => panic!("{other}"),
    }
}

/// Waits a second and begins again with one more, until it has this many.
async fn again(ctx: Context, input: Value) -> Outcome {
    let (n, last) = (input[0].as_u64().expect("a number"), input[1].as_u64().expect("a number"));
    ctx.set_custom_status(payload(&n));
    call(&ctx, "look", &json!(n)).await?;
    ctx.sleep(secs(1)).await;
    if n < last {
        Err(ctx.continue_as_new(payload(&json!([n + 1, last]))))
    } else {
        Ok(payload(&n))
    }
}

/// Sums so many events, each execution as many as it takes at once.
async fn batches(ctx: Context, input: Value) -> Outcome {
    let number = |name: &str| input[name].as_u64().expect("a number");
    let (mut left, mut sum) = (number("left"), number("sum"));
    for _ in 0..number("batch").min(left) {
        sum += value(&ctx.event("add").await).as_u64().expect("a number");
        left -= 1;
    }
    if left == 0 {
        return Ok(payload(&sum));
    }
    Err(ctx
        .continue_as_new(payload(&json!({ "left": left, "sum": sum, "batch": number("batch") }))))
}

/// Begins again so many times without waiting for anything, and then waits.
async fn again_and_again(ctx: Context, input: Value) -> Outcome {
    match input.as_u64().expect("a number") {
        0 => Ok(ctx.event("go").await),
        n => Err(ctx.continue_as_new(payload(&(n - 1)))),
    }
}

async fn again_ignored(ctx: Context, _: Value) -> Outcome {
    let _ = ctx.continue_as_new(Payload::null());
    Ok(payload("done"))
}

/// Begins again with a call and a timer open.
async fn again_with_work(ctx: Context, input: Value) -> Outcome {
    if input.is_null() {
        let mut open = call(&ctx, "old", &json!(null));
        let mut timer = ctx.sleep(secs(60));
        assert!(futures::poll!(&mut open).is_pending());
        assert!(futures::poll!(&mut timer).is_pending());
        ctx.event("go").await;
        return Err(ctx.continue_as_new(payload("next")));
    }
    call(&ctx, "new", &input).await
}

/// Two executions with patches, the second of which gets what the first did not consume; kept as a file.
async fn golden_again(ctx: Context, input: Value) -> Outcome {
    let path = if ctx.patched("path") { "new" } else { "old" };
    let seen = call(&ctx, path, &json!([input, ctx.new_uuid().to_string()])).await?;
    ctx.deprecate_patch("gone");
    let event = ctx.event("next").await;
    if input["last"].is_null() {
        return Err(ctx.continue_as_new(payload(&json!({ "last": value(&seen) }))));
    }
    ctx.sleep(secs(5)).await;
    Ok(payload(&json!([value(&event), ctx.random()])))
}

/// A little of everything; its history is kept as a file.
async fn golden(ctx: Context, input: Value) -> Outcome {
    ctx.set_custom_status(payload("reserving"));
    let drawn = json!([input, ctx.new_uuid().to_string(), ctx.random(), ctx.now().as_micros()]);
    let place = call(&ctx, "reserve", &drawn).await?;
    let approval = ctx.event("approved").await;
    let declined = ctx
        .activity(
            "charge",
            payload(&json!([value(&place), value(&approval), ctx.new_uuid().to_string()])),
            options(&json!({
                "retry": { "attempts": 3, "delay_ms": 100, "jitter": 0.5, "except": "CardDeclined" },
                "limit_ms": 5000,
            })),
        )
        .await;
    if let Err(failure) = &declined {
        ctx.raise_event(
            InstanceId::new("clerk").expect("valid"),
            "declined",
            payload(&failure.kind),
        );
    }
    let told = match select(call(&ctx, "notify", &json!(null)), ctx.sleep(secs(60))).await {
        Either::Left(_) => "told",
        Either::Right(_) => "nobody answered",
    };
    ctx.sleep(secs(5)).await;
    Ok(payload(&json!([told, ctx.random(), ctx.now().since(ctx.started_at()).as_secs()])))
}

/// Children of every kind; its history is kept as a file.
async fn golden_family(ctx: Context, input: Value) -> Outcome {
    let child = |name: &str, input: Value, id: Option<&str>, close| {
        let id = id.map(|id| InstanceId::new(id).expect("valid"));
        ctx.child(name, payload(&input), ChildOptions { id, close, time_limit: None })
    };
    let drawn = json!([input, ctx.new_uuid().to_string()]);
    let made = child("echo", drawn, None, ParentClose::Terminate).await?;
    let refused = child("refuse", json!(null), Some("heir"), ParentClose::Terminate).await;
    let options = ChildOptions { close: ParentClose::Abandon, ..ChildOptions::default() };
    let detached = ctx.start_child("echo", payload("alone"), options)?;
    let late = child("wait", json!(["go"]), None, ParentClose::Terminate);
    let late = matches!(select(late, ctx.sleep(secs(60))).await, Either::Right(_));
    let waits = child("wait", json!(["go"]), Some("heir"), ParentClose::Abandon).await?;
    let kind = refused.err().map(|failure| failure.kind);
    Ok(payload(&json!([value(&made), kind, detached.as_str(), late, value(&waits), ctx.random()])))
}

/// What it draws, hears and waits for stays when it is rewound, and so does what it was answered; its history is
/// kept as a file.
async fn golden_rewound(ctx: Context, input: Value) -> Outcome {
    let drawn = json!([input, ctx.new_uuid().to_string(), ctx.random()]);
    let place = call(&ctx, "reserve", &drawn).await?;
    let approval = ctx.event("approved").await;
    ctx.sleep(secs(5)).await;
    let heir = Some(InstanceId::new("heir").expect("valid"));
    let heir =
        ctx.child("golden_heir", place, ChildOptions { id: heir, ..ChildOptions::default() });
    let made = heir.await?;
    let drawn = json!([value(&made), value(&approval), ctx.new_uuid().to_string()]);
    let paid = call(&ctx, "charge", &drawn).await?;
    Ok(payload(&json!([value(&paid), ctx.random()])))
}

/// Its child.
async fn golden_heir(ctx: Context, input: Value) -> Outcome {
    call(&ctx, "carve", &json!([input, ctx.new_uuid().to_string()])).await
}

/// The child that the input describes: `name`, `input`, `id`, `abandon`, `within_ms`.
fn described(input: &Value) -> (String, Payload, ChildOptions) {
    let close = match input["abandon"].as_bool() {
        Some(true) => ParentClose::Abandon,
        Some(false) | None => ParentClose::Terminate,
    };
    let id = input["id"].as_str().map(|id| InstanceId::new(id).expect("valid"));
    let name = input["name"].as_str().expect("a name").to_owned();
    let time_limit = input["within_ms"].as_u64().map(Duration::from_millis);
    (name, payload(&input["input"]), ChildOptions { id, close, time_limit })
}

fn child(ctx: &Context, input: &Value) -> ChildCall {
    let (name, input, options) = described(input);
    ctx.child(name, input, options)
}

/// Waits for its child, and says how it came out.
async fn parent(ctx: Context, input: Value) -> Outcome {
    Ok(match child(&ctx, &input).await {
        Ok(output) => payload(&json!({ "ok": value(&output) })),
        Err(failure) => payload(&json!({ "kind": failure.kind })),
    })
}

/// Two children at once.
async fn parent_of_two(ctx: Context, input: Value) -> Outcome {
    let (left, right) = futures::join!(child(&ctx, &input["left"]), child(&ctx, &input["right"]));
    Ok(payload(&json!([value(&left?), value(&right?)])))
}

/// As many generations below it as the input says; the last waits for an event.
async fn tree(ctx: Context, input: Value) -> Outcome {
    let generations = input.as_u64().expect("a number");
    if generations == 0 {
        return Ok(ctx.event("go").await);
    }
    let id = Some(InstanceId::new(format!("g{generations}")).expect("valid"));
    let options = ChildOptions { id, ..ChildOptions::default() };
    ctx.child("tree", payload(&(generations - 1)), options).await
}

/// Gives its child ten seconds, and goes on.
async fn drops_child(ctx: Context, input: Value) -> Outcome {
    let winner = match select(child(&ctx, &input), ctx.sleep(secs(10))).await {
        Either::Left(_) => "child",
        Either::Right(_) => "timer",
    };
    ctx.event("go").await;
    Ok(payload(winner))
}

/// Ends, as the input says, without waiting for its child.
async fn leaves_child(ctx: Context, input: Value) -> Outcome {
    let mut left = child(&ctx, &input);
    assert!(futures::poll!(&mut left).is_pending());
    ctx.event("go").await;
    if input["fail"].as_bool() == Some(true) {
        return Err(application("Gone", "left a child behind"));
    }
    Ok(payload("ended"))
}

/// An execution with an open child and a detached one, as the input says, and the next with a child of its own.
async fn again_with_child(ctx: Context, input: Value) -> Outcome {
    if input["first"].is_object() {
        let mut open = child(&ctx, &input["first"]);
        assert!(futures::poll!(&mut open).is_pending());
        if input["detached"].is_object() {
            let (name, child_input, options) = described(&input["detached"]);
            ctx.start_child(name, child_input, options)?;
        }
        ctx.event("next").await;
        return Err(ctx.continue_as_new(payload(&json!({ "second": input["second"] }))));
    }
    parent(ctx, input["second"].clone()).await
}

/// Starts a child and forgets it.
async fn starts_child(ctx: Context, input: Value) -> Outcome {
    let (name, child_input, options) = described(&input);
    let id = ctx.start_child(name, child_input, options)?;
    if input["waits"].as_bool() == Some(true) {
        ctx.event("go").await;
    }
    Ok(payload(id.as_str()))
}

/// Calls `left` and `right` in a scope, as the input's options say, until `stop` comes; then waits for their end, and
/// says how both came out.
async fn scoped(ctx: Context, input: Value) -> Outcome {
    let scope = ctx.scope();
    let call = |name: &str| scope.activity(name, payload(&input["order"]), options(&input));
    let both = futures::future::join(call("left"), call("right"));
    let (mut both, stop) = (Box::pin(both), ctx.event("stop"));
    assert!(futures::poll!(&mut both).is_pending());
    stop.await;
    let (ended, (left, right)) = futures::join!(scope.cancel(), both);
    call_ended(&ctx, &ended).await?;
    let seen = [left, right]
        .map(|result| result.map_or_else(|failure| json!(failure.kind), |v| value(&v)));
    Ok(payload(&seen))
}

/// Tells an activity what the calls of a scope came to.
async fn call_ended(ctx: &Context, ended: &[EndedCall]) -> Outcome {
    let told: Vec<_> = ended
        .iter()
        .map(|end| match &end.result {
            Ok(output) => json!([end.call.0, &*end.name, value(output)]),
            Err(failure) => {
                json!([end.call.0, &*end.name, failure.kind, format!("{:?}", failure.class)])
            }
        })
        .collect();
    call(ctx, "ended", &json!(told)).await
}

/// As `scoped`, but what runs in the scope is dropped in front of the cancel.
async fn scoped_drop(ctx: Context, input: Value) -> Outcome {
    let scope = ctx.scope();
    let work = scope.activity("left", payload(&input["order"]), options(&input));
    let _ = select(Box::pin(work), ctx.event("stop")).await;
    let ended = scope.cancel().await;
    call_ended(&ctx, &ended).await
}

/// A child in a scope, as the input says, and a timer beside it.
async fn scoped_child(ctx: Context, input: Value) -> Outcome {
    let scope = ctx.scope();
    let (name, child_input, options) = described(&input);
    let mut open = scope.child(name, child_input, options);
    assert!(futures::poll!(&mut open).is_pending());
    let mut timer = scope.sleep(secs(3600));
    assert!(futures::poll!(&mut timer).is_pending());
    ctx.event("stop").await;
    let (ended, child, ()) = futures::join!(scope.cancel(), open, timer);
    let kind = child.err().map(|failure| failure.kind);
    call_ended(&ctx, &ended).await?;
    Ok(payload(&kind))
}

/// Scopes in a scope: the outer one is cancelled.
async fn scoped_within(ctx: Context, _: Value) -> Outcome {
    let outer = ctx.scope();
    let inner = outer.scope();
    let mut calls = Box::pin(futures::future::join(
        call(&outer, "left", &json!(1)),
        call(&inner, "right", &json!(2)),
    ));
    assert!(futures::poll!(&mut calls).is_pending());
    ctx.event("stop").await;
    let ended = outer.cancel().await;
    assert!(outer.is_cancelled() && inner.is_cancelled() && !ctx.is_cancelled());
    let late = call(&inner, "late", &json!(3)).await;
    assert_eq!(late.map_err(|failure| failure.class), Err(FailureClass::Cancelled));
    inner.sleep(secs(3600)).await;
    assert!(inner.scope().is_cancelled());
    assert_eq!(inner.cancel().await, []);
    call_ended(&ctx, &ended).await
}
