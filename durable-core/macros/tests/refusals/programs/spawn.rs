//! Work beside the orchestrator.

use std::thread;

use durable_core::prelude::*;

#[orchestrator]
async fn beside(ctx: OrchestrationContext) -> Result<(), OrchestrationError> {
    tokio::spawn(ctx.sleep(secs(1)));
    tokio::task::spawn_blocking(|| 1);
    thread::spawn(|| 1);
    futures::executor::block_on(ctx.sleep(secs(1)));
    Ok(())
}

fn main() {}
