//! Clocks: imported outside of the function, by a full path, and as a value.

use std::time::Instant;

use chrono::{DateTime, Utc};
use durable_core::prelude::*;

#[orchestrator]
async fn measure(ctx: OrchestrationContext) -> Result<u64, OrchestrationError> {
    let begin = Instant::now();
    ctx.sleep(secs(1)).await;
    Ok(begin.elapsed().as_secs())
}

#[orchestrator]
async fn stamp(
    context: OrchestrationContext,
    at: Option<DateTime<Utc>>,
) -> Result<u64, OrchestrationError> {
    let at = at.unwrap_or_else(chrono::Utc::now);
    context.sleep_until(at).await;
    Ok(std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_secs())
}

fn main() {
    // The functions exist all the same: nothing is said here.
    let _ = (measure, stamp);
}
