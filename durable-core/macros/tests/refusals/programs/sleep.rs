//! Waiting that no history knows.

use std::thread;

use durable_core::prelude::*;
use tokio::time::{sleep, timeout};

#[activity]
async fn work() -> Result<(), ActivityError> {
    // An activity may do so.
    sleep(millis(1)).await;
    Ok(())
}

#[orchestrator]
async fn wait(ctx: OrchestrationContext) -> Result<(), OrchestrationError> {
    sleep(secs(1)).await;
    thread::sleep(secs(1));
    let _ = timeout(secs(1), ctx.call(work, &())).await;
    let _ = tokio::time::interval(secs(1));
    Ok(())
}

fn main() {}
