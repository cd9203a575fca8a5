//! Random numbers and ids.

use durable_core::prelude::*;
use uuid::Uuid;

mod rand {
    pub fn random() -> u64 {
        4
    }
    pub use self::random as rng;
}
use rand::random;

#[orchestrator]
async fn draw(ctx: OrchestrationContext) -> Result<(Uuid, u64), OrchestrationError> {
    ctx.sleep(secs(1)).await;
    Ok((Uuid::new_v4(), rand::rng() + random()))
}

fn main() {}
