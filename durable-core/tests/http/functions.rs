//! What the server of a test runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use durable_core::Payload;
use durable_core::prelude::*;

/// Returns its input unchanged.
#[orchestrator(name = "Echo")]
async fn echo(_ctx: OrchestrationContext, input: Payload) -> Result<Payload, OrchestrationError> {
    Ok(input)
}

#[activity(name = "Step")]
async fn step(number: i64) -> Result<i64, ActivityError> {
    Ok(number + 1)
}

/// Two steps, one after the other.
#[orchestrator(name = "Chain")]
async fn chain(ctx: OrchestrationContext, number: i64) -> Result<i64, OrchestrationError> {
    let first = ctx.call(step, &number).await?;
    Ok(ctx.call(step, &first).await?)
}

/// Three steps at once.
#[orchestrator(name = "FanOut")]
async fn fan_out(ctx: OrchestrationContext, number: i64) -> Result<i64, OrchestrationError> {
    let steps = (0..3).map(|i| ctx.call(step, &(number + i)));
    Ok(ctx.try_join_all(steps).await?.into_iter().sum())
}

/// Waits for an event and returns what came with it.
#[orchestrator(name = "WaitForApproval")]
async fn wait_for_approval(
    ctx: OrchestrationContext,
    _input: Payload,
) -> Result<Payload, OrchestrationError> {
    ctx.set_custom_status(&"waiting")?;
    Ok(ctx.wait_event::<Payload>("approval").await?)
}

/// Three events of one name, as a list.
#[orchestrator(name = "ThreeEvents")]
async fn three_events(
    ctx: OrchestrationContext,
    _input: Payload,
) -> Result<Vec<Payload>, OrchestrationError> {
    let mut events = Vec::new();
    for _ in 0..3 {
        events.push(ctx.wait_event::<Payload>("go").await?);
    }
    Ok(events)
}

/// Sleeps so many milliseconds.
#[orchestrator(name = "Sleeper")]
async fn sleeper(ctx: OrchestrationContext, milliseconds: u64) -> Result<u64, OrchestrationError> {
    ctx.sleep(millis(milliseconds)).await;
    Ok(milliseconds)
}

#[activity(name = "Fail")]
async fn fail(_input: Payload) -> Result<(), ActivityError> {
    Err(ActivityError::new("Told", "to fail").permanent())
}

/// Its activity fails, and so does it.
#[orchestrator(name = "Failing")]
async fn failing(ctx: OrchestrationContext, input: Payload) -> Result<(), OrchestrationError> {
    Ok(ctx.call(fail, &input).await?)
}

/// Its child chains, and its other child fails.
#[orchestrator(name = "Parent")]
async fn parent(ctx: OrchestrationContext, number: i64) -> Result<i64, OrchestrationError> {
    let chained = ctx.child(chain, &number).id("child-1").await?;
    match ctx.child(failing, &Payload::null()).id("child-2").await {
        Ok(()) => Ok(0),
        Err(_) => Ok(chained),
    }
}

/// Waits for a child that waits.
#[orchestrator(name = "Waiting")]
async fn waiting(ctx: OrchestrationContext) -> Result<Payload, OrchestrationError> {
    Ok(ctx.child(wait_for_approval, &Payload::null()).id("child-3").await?)
}

/// Ends as the first event says that has the name of an end.
#[orchestrator(name = "Told")]
async fn told(ctx: OrchestrationContext) -> Result<(), OrchestrationError> {
    let (completes, fails) = (ctx.wait_event::<()>("Completed"), ctx.wait_event::<()>("Failed"));
    match ctx.race(completes, fails).await {
        Either::Left(_) => Ok(()),
        Either::Right(_) => Err(OrchestrationError::new("Told", "to fail")),
    }
}

/// The version that its start asked for.
#[orchestrator(name = "Version")]
async fn version(ctx: OrchestrationContext) -> Result<Option<String>, OrchestrationError> {
    Ok(ctx.version().as_deref().map(str::to_owned))
}

/// Why `FailingUntil` fails, and how often it ran what does not fail.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cause {
    removed: Arc<AtomicBool>,
    counted: Arc<AtomicU32>,
}

impl Cause {
    pub(crate) fn remove(&self) {
        self.removed.store(true, Ordering::Release);
    }
}

#[activity(name = "Count")]
async fn count(State(cause): State<Cause>) -> Result<u32, ActivityError> {
    Ok(cause.counted.fetch_add(1, Ordering::AcqRel) + 1)
}

#[activity(name = "FailUntil")]
async fn fail_until(State(cause): State<Cause>) -> Result<(), ActivityError> {
    match cause.removed.load(Ordering::Acquire) {
        true => Ok(()),
        false => Err(ActivityError::new("Told", "to fail").permanent()),
    }
}

/// Fails until its cause is removed, and returns how often it counted.
#[orchestrator(name = "FailingUntil")]
async fn failing_until(ctx: OrchestrationContext) -> Result<u32, OrchestrationError> {
    let counted = ctx.call(count, &()).await?;
    ctx.call(fail_until, &()).await?;
    Ok(counted)
}

pub(crate) fn registry() -> Registry {
    registry_with(Cause::default())
}

pub(crate) fn registry_with(cause: Cause) -> Registry {
    let mut registry = Registry::new();
    registry.state(cause).register(count).register(fail_until).register(failing_until);
    registry.register(echo).register(step).register(chain).register(fan_out);
    registry.register(wait_for_approval).register(three_events).register(sleeper);
    registry.register(fail).register(failing).register(version);
    registry.register(parent).register(waiting).register(told);
    registry
}
