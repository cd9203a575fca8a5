//! The orchestrator and its activities.

use durable_core::prelude::*;
use serde::{Deserialize, Serialize};

use crate::world::{Step, World};

/// What was ordered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) id: String,
    pub(crate) item: String,
    pub(crate) cents: u32,
    /// Whether the carrier delivers to its address.
    pub(crate) deliverable: bool,
}

/// What became of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Shipped { receipt: u64, parcel: u64 },
    TakenBack { why: String },
}

/// Something to take back.
enum Undo {
    Release,
    Refund,
}

#[orchestrator]
pub(crate) async fn place_order(
    ctx: OrchestrationContext,
    order: Order,
) -> Result<Outcome, OrchestrationError> {
    let mut undo = Vec::new();
    let error = match forward(&ctx, &order, &mut undo).await {
        Ok(outcome) => return Ok(outcome),
        Err(error) => error,
    };
    // The last step first. Taking back goes on until it succeeds, however long that takes.
    let patient = RetryPolicy::exponential(millis(200)).max_delay(minutes(1));
    while let Some(step) = undo.pop() {
        match step {
            Undo::Release => ctx.call(release, &order).retry(patient.clone()).await?,
            Undo::Refund => ctx.call(refund, &order).retry(patient.clone()).await?,
        }
    }
    Ok(Outcome::TakenBack { why: error.to_string() })
}

/// A step is noted in `undo` before it is called: one that failed may have had its effect all the same.
async fn forward(
    ctx: &OrchestrationContext,
    order: &Order,
    undo: &mut Vec<Undo>,
) -> Result<Outcome, CallError> {
    let retry = RetryPolicy::exponential(millis(200)).attempts(10);
    undo.push(Undo::Release);
    ctx.call(reserve, order).retry(retry.clone()).await?;
    undo.push(Undo::Refund);
    let receipt = ctx.call(charge, order).retry(retry.clone()).await?;
    let parcel = ctx.call(ship, order).retry(retry).await?;
    Ok(Outcome::Shipped { receipt, parcel })
}

#[activity(blocking)]
pub(crate) fn reserve(
    ctx: ActivityContext,
    State(world): State<World>,
    order: Order,
) -> Result<(), ActivityError> {
    world.once(Step::Reserve, &ctx, &order)?;
    Ok(())
}

/// An activity runs at least once. The payment service takes a key and makes one payment for each key, so
/// that the payment is made exactly once.
#[activity(blocking)]
pub(crate) fn charge(
    ctx: ActivityContext,
    State(world): State<World>,
    order: Order,
) -> Result<u64, ActivityError> {
    Ok(world.once(Step::Charge, &ctx, &order)?)
}

#[activity(blocking)]
pub(crate) fn ship(
    ctx: ActivityContext,
    State(world): State<World>,
    order: Order,
) -> Result<u64, ActivityError> {
    if !order.deliverable {
        world.refuse(Step::Ship);
        let why = "the carrier does not deliver to this address";
        return Err(ActivityError::new("Undeliverable", why).permanent());
    }
    Ok(world.once(Step::Ship, &ctx, &order)?)
}

#[activity(blocking)]
pub(crate) fn refund(
    ctx: ActivityContext,
    State(world): State<World>,
    order: Order,
) -> Result<(), ActivityError> {
    if world.has(Step::Charge, &order)? {
        world.once(Step::Refund, &ctx, &order)?;
    }
    Ok(())
}

#[activity(blocking)]
pub(crate) fn release(
    ctx: ActivityContext,
    State(world): State<World>,
    order: Order,
) -> Result<(), ActivityError> {
    if world.has(Step::Reserve, &order)? {
        world.once(Step::Release, &ctx, &order)?;
    }
    Ok(())
}
