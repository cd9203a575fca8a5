//! The kit for testing one's own workflows: stories of its users.

mod children;
mod hub;
mod replay;

use std::panic::{AssertUnwindSafe, catch_unwind};

use durable_core::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Order {
    item: String,
    cents: u32,
}

#[activity]
async fn reserve(order: Order) -> Result<String, ActivityError> {
    Ok(format!("{} is reserved", order.item))
}

#[derive(Clone)]
struct Bank;

#[activity]
async fn charge(State(_bank): State<Bank>, cents: u32) -> Result<u32, ActivityError> {
    panic!("takes {cents} from a real account")
}

/// Reserves, waits a day for an approval, and charges.
#[orchestrator]
async fn place_order(ctx: OrchestrationContext, order: Order) -> Result<u32, OrchestrationError> {
    let reserved = ctx.call(reserve, &order).await?;
    ctx.set_custom_status(&reserved)?;
    if ctx.wait_event::<bool>("approved").timeout(hours(24)).await? != Some(true) {
        return Err(OrchestrationError::new("NotApproved", "nobody approved it within a day"));
    }
    let policy = RetryPolicy::exponential(secs(1)).jitter(0.0).attempts(4);
    Ok(ctx.call(charge, &order.cents).retry(policy).timeout(secs(10)).await?)
}

fn order() -> Order {
    Order { item: "lamp".into(), cents: 4_200 }
}

/// What a test that fails says.
pub(crate) fn said(test: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(test)).expect_err("it fails");
    panic.downcast_ref::<String>().cloned().expect("a text")
}
