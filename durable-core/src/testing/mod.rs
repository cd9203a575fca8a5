//! Running one's own workflows in plain unit tests: virtual time, mocked activities, scripted events, and
//! stored histories replayed against changed code. Behind the feature `testing`.
//!
//! A [`TestHub`] is a hub in memory with one worker on the test's own thread. It is the engine itself, with
//! a clock that jumps: thirty days of a monitor pass in milliseconds, and retries, time limits and races
//! are decided as they are in production.
//!
//! ```
//! use durable_core::prelude::*;
//! use durable_core::testing::TestHub;
//!
//! #[activity]
//! async fn price(symbol: String) -> Result<u32, ActivityError> {
//!     unimplemented!("asks the exchange for {symbol}")
//! }
//!
//! #[orchestrator]
//! async fn falls_below(
//!     ctx: OrchestrationContext,
//!     (symbol, limit): (String, u32),
//! ) -> Result<u32, OrchestrationError> {
//!     loop {
//!         let now = ctx.call(price, &symbol).retry(RetryPolicy::fixed(secs(30)).attempts(3)).await?;
//!         if now < limit {
//!             return Ok(now);
//!         }
//!         ctx.sleep(hours(1)).await;
//!     }
//! }
//!
//! let hub = TestHub::new().register(falls_below).mock(price, |call, symbol| {
//!     assert_eq!(symbol, "ACME");
//!     match call.number() {
//!         // The exchange is busy once; then the price falls by one an hour.
//!         3 => Err(ActivityError::new("Busy", "try again")),
//!         asked => Ok(1_000 - asked),
//!     }
//! });
//! let watch = hub.start(falls_below, ("ACME".into(), 280));
//! assert_eq!(watch.output().unwrap(), 279);
//! assert_eq!(hub.elapsed(), days(30) - hours(1) + secs(30));
//! assert_eq!(hub.calls(price).len(), 721);
//! ```
//!
//! What a test finds is told as a story: an instance that would wait for ever, a mock that is missing, or a
//! history that its own code does not repeat panic with what happened up to there.

mod hub;
mod instance;
mod mock;
mod replay;
mod story;
mod world;

pub use hub::TestHub;
pub use instance::TestInstance;
pub use mock::{MockCall, TestCall};
pub use replay::{ReplayFailed, Replayed, replay, replay_main};
