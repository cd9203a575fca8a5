//! A workflow in a plain unit test.

use std::sync::atomic::{AtomicU32, Ordering};

use durable_core::prelude::*;
use durable_core::testing::TestHub;

use super::{Bank, charge, order, place_order, reserve, said};

fn hub() -> TestHub {
    TestHub::new().register(place_order).register(reserve)
}

#[test]
fn an_order_is_approved_after_three_hours_and_charged() {
    let hub = hub().mock(charge, |_, cents| Ok::<_, ActivityError>(cents));
    let placed = hub.start(place_order, order());
    assert_eq!(placed.custom_status::<String>().as_deref(), Some("lamp is reserved"));
    placed.raise_event_after(hours(3), "approved", &true);
    assert_eq!(placed.output().unwrap(), 4_200);
    assert_eq!(hub.elapsed(), hours(3));
    let reserved = hub.calls(reserve);
    assert_eq!((reserved.len(), &reserved[0].input, reserved[0].attempt), (1, &order(), 1));
    assert_eq!(hub.calls(charge)[0].began, hours(3));
}

#[test]
fn without_an_approval_it_fails_after_a_day() {
    let hub = hub().mock(charge, |_, _| -> Result<u32, ActivityError> { panic!("not charged") });
    let error = hub.start(place_order, order()).output().unwrap_err();
    assert!(error.is("NotApproved"), "{error}");
    assert_eq!(hub.elapsed(), days(1));
}

#[test]
fn retries_and_time_limits_pass_in_virtual_time() {
    let hub = hub().mock(charge, |call, cents| {
        match call.attempt() {
            1 => return Err(ActivityError::new("Busy", "the bank is busy")),
            2 => call.takes(secs(60)),
            _ => call.takes(millis(1500)),
        }
        Ok(cents)
    });
    let placed = hub.start(place_order, order());
    placed.raise_event("approved", &true);
    assert_eq!(placed.output().unwrap(), 4_200);
    // At once; a second later, cut off after ten; two seconds later.
    let began: Vec<_> = hub.calls(charge).iter().map(|call| call.began).collect();
    assert_eq!(began, [secs(0), secs(1), secs(13)]);
    assert_eq!(hub.elapsed(), secs(13) + millis(1500));
}

#[test]
fn a_permanent_error_ends_the_order_at_once() {
    let hub = hub().mock(charge, |_, _| -> Result<u32, ActivityError> {
        Err(ActivityError::new("CardDeclined", "no money").permanent())
    });
    let placed = hub.start(place_order, order());
    placed.raise_event("approved", &true);
    assert!(placed.output().unwrap_err().is("CardDeclined"));
    assert_eq!(hub.calls(charge)[0].error.as_deref(), Some("CardDeclined"));
}

#[test]
fn a_worker_that_dies_takes_nothing_with_it() {
    let hub = hub().mock(charge, |call, cents| {
        call.takes(secs(5));
        Ok::<_, ActivityError>(cents)
    });
    let placed = hub.start(place_order, order());
    hub.restart_worker();
    placed.raise_event("approved", &true);
    hub.advance(secs(2));
    hub.restart_worker();
    assert_eq!(placed.output().unwrap(), 4_200);
    assert_eq!(hub.calls(reserve).len(), 1, "its result was stored");
    assert_eq!(hub.calls(charge).len(), 2, "it ran when the worker died");
}

#[test]
fn an_order_that_is_suspended_goes_on_when_resumed_and_ends_when_terminated() {
    let hub = hub().mock(charge, |_, cents| Ok::<_, ActivityError>(cents));
    let placed = hub.start(place_order, order());
    placed.suspend();
    placed.raise_event("approved", &true);
    hub.advance(hours(1));
    assert_eq!(placed.status().runtime_status(), RuntimeStatus::Suspended);
    placed.resume();
    assert_eq!(placed.output().unwrap(), 4_200);
    let other = hub.start_as("other", place_order, order());
    other.terminate("out of stock");
    let error = other.output().unwrap_err();
    assert!(error.is("Terminated") && error.message() == "out of stock", "{error}");
}

#[orchestrator]
async fn monitor(ctx: OrchestrationContext, limit: u32) -> Result<u32, OrchestrationError> {
    loop {
        let value = ctx.call_by_name::<u32>("measure", &()).await?;
        if value >= limit {
            return Ok(value);
        }
        ctx.sleep(hours(1)).await;
    }
}

#[test]
fn a_monitor_of_thirty_days_takes_a_moment() {
    let hub = TestHub::new()
        .register(monitor)
        .mock_by_name("measure", |call, _| Ok(Payload::of(&call.number())?));
    let watched = hub.start(monitor, 30 * 24);
    hub.advance(days(10));
    assert_eq!(watched.status().runtime_status(), RuntimeStatus::Running);
    assert_eq!(watched.output().unwrap(), 720);
    assert_eq!(hub.elapsed(), days(30) - hours(1));
}

#[test]
fn a_real_activity_that_panics_fails_its_call() {
    let hub = hub().register(charge).state(Bank);
    let placed = hub.start(place_order, order());
    placed.raise_event("approved", &true);
    let error = placed.output().unwrap_err();
    assert!(error.is("Panic") && error.to_string().contains("4200"), "{error}");
}

#[tokio::test]
async fn real_activities_run_within_an_async_test_too() {
    let hub = hub().mock(charge, |_, cents| Ok::<_, ActivityError>(cents));
    let placed = hub.start(place_order, order());
    assert_eq!(placed.custom_status::<String>().as_deref(), Some("lamp is reserved"));
}

#[test]
fn what_waits_for_ever_is_told_with_its_story() {
    #[orchestrator]
    async fn waits(ctx: OrchestrationContext) -> Result<(), OrchestrationError> {
        ctx.sleep(minutes(5)).await;
        Ok(ctx.wait_event("go").await?)
    }
    let text = said(|| drop(TestHub::new().register(waits).start(waits, ()).output()));
    for line in [
        r#"test-1 does not end by itself: it waits for event "go""#,
        "Running at +00:05:00",
        "+00:05:00  timer 0 fired",
    ] {
        assert!(text.contains(line), "{line:?} is missing:\n{text}");
    }
}

#[test]
fn what_is_asked_of_an_instance_that_has_ended_is_refused_with_a_sentence() {
    #[orchestrator]
    async fn ends(_: OrchestrationContext) -> Result<(), OrchestrationError> {
        Ok(())
    }
    let hub = TestHub::new().register(ends);
    let ended = hub.start(ends, ());
    for (text, what) in [
        (said(|| ended.raise_event("go", &1)), r#"the event "go""#),
        (said(|| ended.suspend()), "a suspend"),
        (said(|| ended.rewind()), "a rewind"),
    ] {
        assert!(
            text.starts_with(&format!("test-1 does not take {what}: it has ended (Completed)")),
            "{text}"
        );
    }
}

#[test]
fn a_missing_mock_is_told_with_what_to_do() {
    let text = said(|| {
        let hub = TestHub::new().register(place_order);
        hub.start(place_order, order());
    });
    assert!(text.contains(r#"activity "reserve" is neither registered nor mocked"#), "{text}");
}

#[test]
fn code_that_is_not_deterministic_is_found_when_it_ends() {
    static ROUND: AtomicU32 = AtomicU32::new(0);
    #[orchestrator(allow(global, reason = "a replay has to differ here"))]
    async fn moody(ctx: OrchestrationContext) -> Result<(), OrchestrationError> {
        if ROUND.fetch_add(1, Ordering::SeqCst) == 0 {
            ctx.sleep(secs(1)).await;
        } else {
            ctx.call_by_name::<()>("other", &()).await?;
        }
        Ok(())
    }
    let text = said(|| drop(TestHub::new().register(moody).start(moody, ()).output()));
    assert!(text.contains("not deterministic"), "{text}");
    assert!(text.contains("->    1  +00:00:00  timer 0"), "{text}");
}

#[test]
fn an_input_that_differs_in_a_replay_is_found_too() {
    static ROUND: AtomicU32 = AtomicU32::new(0);
    #[orchestrator(allow(global, reason = "a replay has to differ here"))]
    async fn counts(ctx: OrchestrationContext) -> Result<(), OrchestrationError> {
        let round = ROUND.fetch_add(1, Ordering::SeqCst);
        Ok(ctx.call_by_name("note", &round).await?)
    }
    let text = said(|| {
        let hub = TestHub::new().register(counts).mock_by_name("note", |_, _| Ok(Payload::null()));
        drop(hub.start(counts, ()).output());
    });
    assert!(text.contains("another input"), "{text}");
}
