//! A `select!` that takes any of the branches that are ready.

use durable_core::prelude::*;

#[orchestrator]
async fn either(ctx: OrchestrationContext) -> Result<u8, OrchestrationError> {
    let fair = tokio::select! {
        () = ctx.sleep(secs(1)) => 1,
        () = ctx.sleep(secs(2)) => 2,
    };
    let in_order = tokio::select! {
        biased;
        () = ctx.sleep(secs(1)) => 1,
        () = ctx.sleep(secs(2)) => 2,
    };
    Ok(fair + in_order)
}

fn main() {}
