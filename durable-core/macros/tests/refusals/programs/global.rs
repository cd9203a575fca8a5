//! What outlives the function.

use std::sync::atomic::{AtomicU32, Ordering};

use durable_core::prelude::*;

static STARTED: AtomicU32 = AtomicU32::new(0);

#[orchestrator]
async fn count(ctx: OrchestrationContext) -> Result<u32, OrchestrationError> {
    static ENDED: AtomicU32 = AtomicU32::new(0);
    let started = STARTED.fetch_add(1, Ordering::Relaxed);
    ctx.sleep(secs(1)).await;
    Ok(started - ENDED.load(Ordering::Relaxed))
}

fn main() {}
