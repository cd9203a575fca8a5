//! Arguments of the attributes. All problems of a function are told at once.

use durable_core::prelude::*;

#[orchestrator(blocking, colour = "red", name = "", name = "Two")]
async fn much_is_wrong(_ctx: OrchestrationContext) -> Result<(), OrchestrationError> {
    Ok(())
}

#[activity(retry(5), blocking)]
async fn here_too() -> Result<(), ActivityError> {
    Ok(())
}

fn main() {}
