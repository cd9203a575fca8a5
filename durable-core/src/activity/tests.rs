//! Activities as the attribute makes them: what they are called with, run directly and from a registry.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use durable_machine::model::{
    Attempt, AttemptKey, CallNumber, ExecutionKey, ExecutionNumber, Failure, RunNumber,
    StartAttempt, limits,
};

use futures::FutureExt;

use super::*;
use crate::prelude::*;
use crate::registry::{ActivityFn, Functions};

#[derive(Clone)]
struct Db(Arc<str>);

/// Joins the words of both states and the input.
#[activity]
async fn words(
    ctx: ActivityContext,
    State(db): State<Db>,
    State(number): State<u8>,
    (first, second): (String, String),
) -> Result<String, ActivityError> {
    tokio::task::yield_now().await;
    Ok(format!("{} {number} {first} {second} {}", db.0, ctx.attempt()))
}

#[activity(blocking, name = "Half")]
fn half(number: u32) -> Result<u32, NotEven> {
    if number.is_multiple_of(2) { Ok(number / 2) } else { Err(NotEven(number)) }
}

#[derive(Debug, thiserror::Error)]
#[error("{0} is not even")]
struct NotEven(u32);

#[activity]
async fn nothing(ctx: ActivityContext) -> Result<(), ActivityError> {
    ctx.check_cancelled()
}

fn functions() -> Functions {
    let mut registry = Registry::new();
    registry.register(words).register(half).register(nothing);
    registry.state(Db("db".into())).state(3_u8);
    registry.register_activity_fn("echo", |_, input: Payload| async move { Ok(input) });
    registry.register_blocking_activity_fn("len", |_, text: String| Ok(text.len()));
    registry.into_functions().expect("complete")
}

/// The result as JSON, or the failure.
async fn run(name: &str, input: &str) -> Result<String, Failure> {
    let functions = functions();
    let input = Payload::from_json(input).expect("JSON");
    let context = ActivityContext::for_test(2);
    let output = match &functions.activities[name] {
        ActivityFn::Async(code) => code(context, input, &functions.states).await,
        ActivityFn::Blocking(code) => code(context, input, &functions.states),
    };
    output.map(|payload| payload.json().to_owned())
}

#[tokio::test]
async fn registered_functions_go_from_json_to_json() {
    assert_eq!(run("words", r#"["a","b"]"#).await.as_deref(), Ok(r#""db 3 a b 2""#));
    assert_eq!(run("Half", "8").await.as_deref(), Ok("4"));
    assert_eq!(run("nothing", "null").await.as_deref(), Ok("null"));
    assert_eq!(run("echo", r#"{"a": [1]}"#).await.as_deref(), Ok(r#"{"a": [1]}"#));
    assert_eq!(run("len", r#""four""#).await.as_deref(), Ok("4"));
    let odd = run("Half", "7").await.expect_err("odd");
    assert_eq!((odd.kind.as_str(), odd.message.as_str()), ("NotEven", "7 is not even"));
}

#[tokio::test]
async fn an_input_of_another_shape_fails_for_good() {
    for (name, input) in [("words", "7"), ("Half", "-1"), ("nothing", "{}")] {
        let failure = run(name, input).await.expect_err("another shape");
        assert_eq!(failure.class, FailureClass::Payload);
        assert!(failure.permanent);
        assert!(
            failure.message.starts_with(&format!("the input of activity {name:?}: ")),
            "{failure}"
        );
    }
}

#[tokio::test]
async fn an_output_that_cannot_be_stored_fails_for_good() {
    let mut registry = Registry::new();
    registry.register_blocking_activity_fn("large", |_, bytes: usize| Ok("x".repeat(bytes)));
    registry.register_blocking_activity_fn("odd", |_, (): ()| {
        Ok(std::collections::BTreeMap::from([(vec![1], 2)]))
    });
    let functions = registry.into_functions().expect("complete");
    let run = |name: &str, input: Payload| match &functions.activities[name] {
        ActivityFn::Blocking(code) => {
            code(ActivityContext::for_test(1), input, &functions.states).expect_err("fails")
        }
        ActivityFn::Async(_) => panic!("registered as blocking"),
    };
    let large = run("large", Payload::of(&(16 * 1024 * 1024)).expect("JSON"));
    assert_eq!(large.class, FailureClass::Limit);
    let odd = run("odd", Payload::null());
    assert_eq!(odd.class, FailureClass::Payload);
    assert!(large.permanent && odd.permanent);
}

#[tokio::test]
async fn unit_tests_call_the_function_as_it_was_written() {
    let context = ActivityContext::for_test(1);
    let state = State(Db("here".into()));
    let joined = words.run(context, state, State(9), ("x".into(), "y".into())).await;
    assert_eq!(joined.expect("runs"), "here 9 x y 1");
    assert!(half.run(3).is_err());
    assert_eq!((half::NAME, nothing::NAME), ("Half", "nothing"));
}

#[tokio::test]
async fn an_attempt_learns_that_it_is_cancelled() {
    let (context, handle) = ActivityContext::for_test_cancellable(1);
    let waiting = tokio::spawn({
        let context = context.clone();
        async move { context.cancelled().await }
    });
    assert!(!context.is_cancelled());
    nothing.run(context.clone()).await.expect("not cancelled");
    assert!(context.cancelled().now_or_never().is_none());
    handle.cancel();
    handle.cancel();
    waiting.await.expect("no panic");
    context.cancelled().await;
    let error = nothing.run(context).await.expect_err("cancelled");
    assert_eq!(error.failure().class, FailureClass::Cancelled);

    let (context, handle) = ActivityContext::for_test_cancellable(1);
    drop(handle);
    assert!(context.cancelled().now_or_never().is_none(), "dropping the handle does not cancel");
}

#[tokio::test]
async fn what_an_attempt_reports_is_bounded_and_has_a_json_form() {
    let context = ActivityContext::for_test(1);
    assert_eq!(context.heartbeat_details::<u32>(), Ok(None));
    context.heartbeat(&7).expect("a number");
    let fits = "x".repeat(limits::HEARTBEAT_DETAILS_BYTES_MAX - 2);
    context.heartbeat(&fits).expect("it just fits");
    let error = context.heartbeat(&format!("{fits}x")).expect_err("too large");
    assert!(error.is("LimitExceeded") && error.is_permanent());
    assert_eq!(
        error.message(),
        "the details of a heartbeat have 16385 bytes; at most 16384 fit. Say where to go on, and keep large data \
         elsewhere"
    );
    let no_json = std::collections::BTreeMap::from([(vec![1], 2)]);
    assert!(context.heartbeat(&no_json).expect_err("no JSON").is("Payload"));
    assert_eq!(
        context.last_heartbeat::<String>().expect("a text"),
        Some(fits),
        "the last that fitted"
    );
    assert_eq!(context.heartbeat_count(), 2);
    // What it says itself is for the next attempt.
    assert_eq!(context.heartbeat_details::<u32>(), Ok(None));
}

#[test]
fn details_of_another_shape_are_an_error_that_names_them() {
    let context = ActivityContext::for_test_resuming(2, "six hundred");
    let error = context.heartbeat_details::<u32>().expect_err("a text");
    assert!(error.is("Payload"));
    assert!(error.message().starts_with("the details of a heartbeat: "), "{error}");
}

#[test]
fn only_what_was_not_fetched_is_told() {
    struct Counts(AtomicU32);
    impl Listener for Counts {
        fn reported(&self, _attempt: &AttemptKey) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let counts = Arc::new(Counts(AtomicU32::new(0)));
    let start = StartAttempt {
        attempt: AttemptKey {
            key: ExecutionKey {
                instance: InstanceId::new("test").expect("valid"),
                run: RunNumber(1),
                execution: ExecutionNumber(0),
            },
            call: CallNumber(0),
            attempt: Attempt::FIRST,
        },
        name: "a".into(),
        input: Payload::null(),
        start_to_finish: None,
        heartbeat_timeout: None,
        heartbeat_details: None,
    };
    let (context, _cancel) = ActivityContext::new(&start, Some(counts.clone()));
    let told = || counts.0.load(Ordering::SeqCst);
    assert_eq!(context.heartbeats().fetch(), None);
    context.beat();
    assert_eq!(told(), 0, "nothing is to be fetched at once");
    assert_eq!(context.heartbeats().fetch().expect("it spoke").details, None);
    for n in 0..1_000 {
        context.heartbeat(&n).expect("a number");
    }
    assert_eq!(told(), 1);
    let details =
        |context: &ActivityContext| context.heartbeats().fetch().expect("it spoke").details;
    assert_eq!(details(&context).expect("told").json(), "999");
    assert_eq!(details(&context), None, "told already");
    context.heartbeat(&1_000).expect("a number");
    assert_eq!(told(), 2);
}

#[test]
fn the_idempotency_key_names_the_call_and_not_the_attempt() {
    let of = |instance: &str, run, execution, call, attempt| {
        let key = ExecutionKey {
            instance: InstanceId::new(instance).expect("valid"),
            run: RunNumber(run),
            execution: ExecutionNumber(execution),
        };
        let start = StartAttempt {
            attempt: AttemptKey { key, call: CallNumber(call), attempt: Attempt(attempt) },
            name: "a".into(),
            input: Payload::null(),
            start_to_finish: None,
            heartbeat_timeout: None,
            heartbeat_details: None,
        };
        ActivityContext::new(&start, None).0.idempotency_key()
    };
    let key = of("order-7", 1, 0, 3, 1);
    // Services remember these keys: a new release must not change them.
    assert_eq!(key, "da0f4cf5-8e34-8696-a438-f4cfe7daaff4");
    assert_eq!(of("order-7", 1, 0, 3, 9), key);
    for other in [
        of("order-8", 1, 0, 3, 1),
        of("order-7", 2, 0, 3, 1),
        of("order-7", 1, 1, 3, 1),
        of("order-7", 1, 0, 4, 1),
    ] {
        assert_ne!(other, key);
    }
}
