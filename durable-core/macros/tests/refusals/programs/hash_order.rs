//! The order of hash collections.

use std::collections::{BTreeMap, HashMap, HashSet};

use durable_core::prelude::*;

#[activity]
async fn ship(order: String) -> Result<(), ActivityError> {
    drop(order);
    Ok(())
}

#[orchestrator]
async fn ship_all(
    ctx: OrchestrationContext,
    orders: HashMap<String, u32>,
) -> Result<(), OrchestrationError> {
    for order in orders.keys() {
        ctx.call(ship, order).await?;
    }
    let seen: HashSet<String> = orders.clone().into_keys().collect();
    for order in &seen {
        ctx.call(ship, order).await?;
    }
    // This is how to do it.
    let orders: BTreeMap<_, _> = orders.into_iter().collect();
    for order in orders.keys() {
        ctx.call(ship, order).await?;
    }
    Ok(())
}

fn main() {}
