//! Code that changes, and executions that follow each other.

use std::sync::Arc;

use durable_machine::model::Payload;
use serde::Serialize;

use super::OrchestrationContext;
use crate::error::{OrchestrationError, payload_failure};

impl OrchestrationContext {
    /// Whether this execution takes the new path of changed code: how instances that are under way go on with
    /// the old one.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[activity]
    /// # async fn charge(cents: u32) -> Result<u32, ActivityError> { Ok(cents) }
    /// # #[activity]
    /// # async fn charge_with_tax(cents: u32) -> Result<u32, ActivityError> { Ok(cents + cents / 5) }
    /// #[orchestrator]
    /// async fn pay(ctx: OrchestrationContext, cents: u32) -> Result<u32, OrchestrationError> {
    ///     if ctx.patched("tax") {
    ///         Ok(ctx.call(charge_with_tax, &cents).await?)
    ///     } else {
    ///         Ok(ctx.call(charge, &cents).await?)
    ///     }
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let hub = TestHub::new().register(pay).register(charge).register(charge_with_tax);
    /// assert_eq!(hub.start(pay, 100).output().unwrap(), 120); // a new one
    /// # }
    /// ```
    ///
    /// Code that gets here for the first time takes the new path, which is recorded as a marker in the history.
    /// A history that passed this place without a marker is repeated on the old path. The first answer for an id
    /// stays for the whole execution, also in a loop: use a new id for each change.
    ///
    /// A patch goes in three stages, each deployed when no instance needs the one before it:
    ///
    /// 1. `if ctx.patched(id) { new } else { old }`, until no instance is left that began before it;
    /// 2. [`ctx.deprecate_patch(id)`](Self::deprecate_patch) and the new path alone, until no instance is left that
    ///    began in stage 1;
    /// 3. the new path without a word of the patch.
    ///
    /// Code that lacks a marker which its history has is held as diverged, and goes on when the right code is back.
    #[must_use]
    pub fn patched(&self, id: impl Into<Arc<str>>) -> bool {
        self.context().patched(id)
    }

    /// The second stage of a patch: only its new path is left in the code. See [`patched`](Self::patched).
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[activity]
    /// # async fn charge_with_tax(cents: u32) -> Result<u32, ActivityError> { Ok(cents + cents / 5) }
    /// #[orchestrator]
    /// async fn pay(ctx: OrchestrationContext, cents: u32) -> Result<u32, OrchestrationError> {
    ///     ctx.deprecate_patch("tax");
    ///     Ok(ctx.call(charge_with_tax, &cents).await?)
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let hub = TestHub::new().register(pay).register(charge_with_tax);
    /// assert_eq!(hub.start(pay, 100).output().unwrap(), 120);
    /// # }
    /// ```
    ///
    /// What it records says that it may be missing: histories from here on fit code of the stage before, and code
    /// without the call.
    pub fn deprecate_patch(&self, id: impl Into<Arc<str>>) {
        self.context().deprecate_patch(id);
    }

    /// Ends this execution and begins the next one of the same run, with this input and an empty history: how
    /// an orchestrator goes on for ever. It happens where the orchestrator returns what this gives.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[activity]
    /// # async fn clean_up(day: u32) -> Result<(), ActivityError> { Ok(()) }
    /// #[orchestrator]
    /// async fn every_day(ctx: OrchestrationContext, day: u32) -> Result<(), OrchestrationError> {
    ///     ctx.call(clean_up, &day).await?;
    ///     ctx.sleep(hours(24)).await;
    ///     return ctx.continue_as_new(&(day + 1));
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let hub = TestHub::new().register(every_day).register(clean_up);
    /// let daily = hub.start(every_day, 1);
    /// hub.advance(days(365));
    /// assert_eq!(daily.status().input::<u32>().unwrap(), 366);
    /// assert_eq!(daily.status().execution().0, 365);
    /// # }
    /// ```
    ///
    /// - External events that this execution has not consumed are the first that the next one gets, in their
    ///   order.
    /// - What is open is given up: activities are cancelled and their results dropped, timers are removed.
    /// - Id, run, tags, version and custom status stay; the status shows the new input, and
    ///   the history the new execution. A caller that waits for the output goes
    ///   on waiting.
    ///
    /// The input has to be one that the orchestrator takes: with another shape the instance fails here, and
    /// not in the next execution. So it does where the orchestrator calls this and returns a value after all.
    ///
    /// # Errors
    ///
    /// Always: the error ends the code, also by `?` from a helper function, and has to be returned as it is.
    /// Where the input has no JSON form or is too large, it says so, and the instance fails with it.
    #[must_use = "the execution ends only where its orchestrator returns this: `return ctx.continue_as_new(…)`"]
    pub fn continue_as_new<T>(
        &self,
        input: &(impl Serialize + ?Sized),
    ) -> Result<T, OrchestrationError> {
        let failure = match Payload::of(input) {
            Ok(input) => self.context().continue_as_new(input),
            Err(error) => payload_failure("the input of the next execution", &error),
        };
        Err(OrchestrationError::from_failure(failure))
    }
}
