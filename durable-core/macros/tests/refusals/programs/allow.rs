//! Escapes that say too little or too much.

use std::time::Instant;

use durable_core::prelude::*;

#[orchestrator(allow(clock))]
async fn without_a_reason(_ctx: OrchestrationContext) -> Result<(), OrchestrationError> {
    Instant::now();
    Ok(())
}

#[orchestrator(allow(clock, reason = ""))]
async fn with_an_empty_one(_ctx: OrchestrationContext) -> Result<(), OrchestrationError> {
    Instant::now();
    Ok(())
}

#[orchestrator(allow(time, colour = 3, reason = "only for the log"))]
async fn of_no_known_kind(_ctx: OrchestrationContext) -> Result<(), OrchestrationError> {
    Ok(())
}

#[orchestrator(allow)]
async fn of_nothing(_ctx: OrchestrationContext) -> Result<(), OrchestrationError> {
    Ok(())
}

#[orchestrator(allow(clock, clock, reason = "only for the log"))]
async fn twice(_ctx: OrchestrationContext) -> Result<(), OrchestrationError> {
    Instant::now();
    Ok(())
}

#[orchestrator(allow(clock, io, reason = "only for the log"))]
async fn more_than_there_is(_ctx: OrchestrationContext) -> Result<(), OrchestrationError> {
    Instant::now();
    Ok(())
}

#[activity(allow(clock, reason = "only for the log"))]
async fn in_an_activity() -> Result<(), ActivityError> {
    Ok(())
}

fn main() {}
