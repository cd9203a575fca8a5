//! Signatures that are no orchestrator's.

use durable_core::prelude::*;

#[orchestrator]
fn not_async(_ctx: OrchestrationContext) -> Result<(), OrchestrationError> {
    Ok(())
}

#[orchestrator]
async fn without_context() -> Result<(), OrchestrationError> {
    Ok(())
}

#[orchestrator]
async fn by_reference(_ctx: &OrchestrationContext) -> Result<(), OrchestrationError> {
    Ok(())
}

#[orchestrator]
async fn of_the_other_kind(_ctx: ActivityContext) -> Result<(), OrchestrationError> {
    Ok(())
}

#[orchestrator]
async fn context_last(_n: u8, _ctx: OrchestrationContext) -> Result<(), OrchestrationError> {
    Ok(())
}

#[orchestrator]
async fn two_inputs(_ctx: OrchestrationContext, _a: u8, _b: u8) -> Result<(), OrchestrationError> {
    Ok(())
}

#[orchestrator]
async fn with_state(_ctx: OrchestrationContext, _s: State<u8>) -> Result<(), OrchestrationError> {
    Ok(())
}

#[orchestrator]
async fn without_result(_ctx: OrchestrationContext) {}

#[orchestrator]
async fn never(_ctx: OrchestrationContext) -> ! {
    loop {}
}

#[orchestrator]
const unsafe extern "C" fn everything<T>(&self, _ctx: OrchestrationContext, _t: T)
where
    T: Copy,
{
    std::thread::sleep(secs(1));
}

#[orchestrator]
struct NoFunction;

fn main() {}
