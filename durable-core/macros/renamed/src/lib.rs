//! Functions in a crate that knows `durable-core` as `flow`, each attribute told so.
//!
//! The generated code has to pass the strictest lints, and must not mind what else the crate's names mean.

#![deny(warnings, unused, missing_docs, unreachable_pub, unused_qualifications)]
#![deny(clippy::all, clippy::pedantic)]

pub mod shadowed;

use flow::prelude::*;

/// Doubles a number.
///
/// # Errors
///
/// Where it is too large.
#[activity(crate = "flow")]
pub async fn double(number: u32) -> Result<u32, ActivityError> {
    number.checked_mul(2).ok_or_else(|| ActivityError::new("TooLarge", "it does not fit"))
}

/// Says what a state says.
#[activity(crate = "flow", blocking, name = "Echo")]
pub fn echo(
    ctx: ActivityContext,
    State(said): State<&'static str>,
    times: usize,
) -> Result<String, ActivityError> {
    ctx.check_cancelled()?;
    Ok(said.repeat(times))
}

#[activity(crate = "flow")]
async fn nothing() -> Result<(), ActivityError> {
    Ok(())
}

/// Calls them all.
#[orchestrator(crate = "flow")]
pub async fn all_of_them(
    ctx: OrchestrationContext,
    number: u32,
) -> Result<(u32, String), OrchestrationError> {
    ctx.call(nothing, &()).await?;
    let doubled = ctx.call(double, &number).await?;
    Ok((doubled, ctx.call(echo, &2).await?))
}

/// Looks at a clock, which it says.
#[orchestrator(
    crate = "flow",
    allow(clock, reason = "the time is thrown away"),
    allow(print, reason = "there is no log in this crate")
)]
#[allow(clippy::print_stdout, reason = "the attribute stays with the function")]
pub async fn with_a_look_at_the_clock(ctx: OrchestrationContext) -> Result<(), OrchestrationError> {
    println!("{:?}", std::time::Instant::now());
    ctx.sleep(millis(1)).await;
    Ok(())
}

/// Everything of this crate.
#[must_use]
pub fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.register(double).register(echo).register(nothing).register(all_of_them);
    registry.register(with_a_look_at_the_clock).state("ho");
    registry.register(shadowed::work).register(shadowed::run);
    registry
}
