//! Under another name, in closures, blocks and arguments of macros.

use durable_core::prelude::*;

#[orchestrator]
async fn hidden(ctx: OrchestrationContext) -> Result<String, OrchestrationError> {
    use std::time::Instant as Clock;
    use tokio::time as watch;
    type Wall = std::time::SystemTime;

    let later = || Clock::now();
    let waited = async { watch::sleep(secs(1)).await };
    waited.await;
    ctx.set_custom_status(&json!({ "began": format!("{:?}", Wall::now()) }))?;
    Ok(format!("{:?}", later()))
}

fn main() {}
