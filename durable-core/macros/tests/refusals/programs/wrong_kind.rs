//! Functions in the place of others.

use durable_core::prelude::*;

#[activity]
async fn price(item: String) -> Result<u32, ActivityError> {
    Ok(u32::try_from(item.len())?)
}

#[orchestrator]
async fn ship(_: OrchestrationContext, parcel: u32) -> Result<u32, OrchestrationError> {
    Ok(parcel)
}

async fn plain(parcel: u32) -> Result<u32, ActivityError> {
    Ok(parcel)
}

#[orchestrator]
async fn order(ctx: OrchestrationContext, item: String) -> Result<u32, OrchestrationError> {
    let parcel = ctx.child(price, &item).await?;
    let receipt = ctx.call(ship, &parcel).await?;
    Ok(ctx.call(plain, &receipt).await?)
}

fn main() {}
