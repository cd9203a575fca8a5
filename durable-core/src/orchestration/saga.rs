//! Taking back what was done, last step first.

use std::sync::Arc;

use durable_machine::model::{Payload, RetryPolicy};
use serde::de::IgnoredAny;

use super::OrchestrationContext;
use crate::activity::Activity;
use crate::error::{CallError, OrchestrationError, Subject, payload_failure};
use crate::time::{minutes, secs};

/// Steps that can be taken back, in the order in which they were taken.
///
/// Note how a step is undone *before* you call it: one that failed, or ran out of time, may have had its effect
/// all the same. So what undoes it should do nothing where there is nothing to undo.
///
/// ```
/// use durable_core::prelude::*;
/// # #[activity]
/// # async fn book_hotel(trip: String) -> Result<u32, ActivityError> { Ok(1) }
/// # #[activity]
/// # async fn cancel_hotel(trip: String) -> Result<(), ActivityError> { Ok(()) }
/// # #[activity]
/// # async fn book_flight(trip: String) -> Result<u32, ActivityError> {
/// #     Err(ActivityError::new("SoldOut", "no seat is left").permanent())
/// # }
/// # #[activity]
/// # async fn cancel_flight(trip: String) -> Result<(), ActivityError> { Ok(()) }
///
/// #[orchestrator]
/// async fn book(ctx: OrchestrationContext, trip: String) -> Result<(u32, u32), OrchestrationError> {
///     let mut saga = ctx.saga();
///     let booked = async {
///         saga.undo_with(cancel_hotel, &trip)?;
///         let hotel = ctx.call(book_hotel, &trip).await?;
///         saga.undo_with(cancel_flight, &trip)?;
///         let flight = ctx.call(book_flight, &trip).await?;
///         Ok::<_, CallError>((hotel, flight))
///     }
///     .await;
///     saga.settle(booked).await
/// }
/// # #[cfg(feature = "testing")] {
/// # use durable_core::testing::TestHub;
/// # let hub = TestHub::new().register(book).register(book_hotel).register(cancel_hotel);
/// # let hub = hub.register(book_flight).register(cancel_flight);
/// # assert!(hub.start(book, "Rome".into()).output().unwrap_err().is("SoldOut"));
/// # assert_eq!((hub.calls(cancel_flight).len(), hub.calls(cancel_hotel).len()), (1, 1));
/// # }
/// ```
#[must_use = "a saga takes back what was done when it is settled"]
pub struct Saga {
    context: OrchestrationContext,
    steps: Vec<(Arc<str>, Payload)>,
    retry: RetryPolicy,
}

impl Saga {
    pub(super) fn new(context: OrchestrationContext) -> Self {
        let retry = RetryPolicy::exponential(secs(1)).max_delay(minutes(1));
        Self { context, steps: Vec::new(), retry }
    }

    /// How calls that take something back are retried. Without it: until they succeed, a second after the first
    /// failure, doubling up to a minute.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[activity]
    /// # async fn cancel(trip: String) -> Result<(), ActivityError> { Ok(()) }
    /// #[orchestrator]
    /// async fn book(ctx: OrchestrationContext, trip: String) -> Result<(), OrchestrationError> {
    ///     let mut saga = ctx.saga().retry(RetryPolicy::fixed(minutes(1)).attempts(3));
    ///     saga.undo_with(cancel, &trip)?;
    ///     saga.settle(Err(OrchestrationError::new("SoldOut", "no seat is left"))).await
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let hub = TestHub::new().register(book).mock(cancel, |call, _| match call.attempt() {
    ///     3 => Ok(()),
    ///     _ => Err(ActivityError::new("Busy", "try again")),
    /// });
    /// assert!(hub.start(book, "Rome".into()).output().unwrap_err().is("SoldOut"));
    /// assert_eq!(hub.elapsed(), minutes(2));
    /// # }
    /// ```
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Notes the activity that takes the next step back.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[activity]
    /// # async fn cancel(trip: String) -> Result<(), ActivityError> { Ok(()) }
    /// #[orchestrator]
    /// async fn give_up(ctx: OrchestrationContext) -> Result<(), OrchestrationError> {
    ///     let mut saga = ctx.saga();
    ///     saga.undo_with(cancel, &"the hotel".into())?;
    ///     saga.undo_with(cancel, &"the flight".into())?;
    ///     saga.settle(Err(OrchestrationError::new("SoldOut", "no seat is left"))).await
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let hub = TestHub::new().register(give_up).register(cancel);
    /// hub.start(give_up, ()).output().unwrap_err();
    /// let undone: Vec<_> = hub.calls(cancel).into_iter().map(|call| call.input).collect();
    /// assert_eq!(undone, ["the flight", "the hotel"]);
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Where the input has no JSON form.
    pub fn undo_with<A: Activity>(
        &mut self,
        _activity: A,
        input: &A::Input,
    ) -> Result<(), CallError> {
        let name: Arc<str> = A::NAME.into();
        let input = Payload::of(input).map_err(|error| {
            CallError::new(Subject::Activity(name.clone()), payload_failure("its input", &error))
        })?;
        self.steps.push((name, input));
        Ok(())
    }

    /// Takes back what was noted, last step first, one at a time; goes on where one cannot be. From the first of
    /// these calls on the execution cannot be [rewound](crate::Handle::rewind): what had succeeded would be taken
    /// for done.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[activity]
    /// # async fn cancel(trip: String) -> Result<(), ActivityError> {
    /// #     Err(ActivityError::new("Closed", "nobody is there").permanent())
    /// # }
    /// #[orchestrator]
    /// async fn give_up(ctx: OrchestrationContext) -> Result<usize, OrchestrationError> {
    ///     let mut saga = ctx.saga();
    ///     saga.undo_with(cancel, &"the hotel".into())?;
    ///     Ok(saga.compensate().await.err().map_or(0, |failed| failed.len()))
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let hub = TestHub::new().register(give_up).register(cancel);
    /// assert_eq!(hub.start(give_up, ()).output().unwrap(), 1);
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The failures of those that could not be taken back.
    pub async fn compensate(self) -> Result<(), Vec<CallError>> {
        let mut failed = Vec::new();
        for (activity, input) in self.steps.into_iter().rev() {
            let undone =
                self.context.call_by_name::<IgnoredAny>(activity, &input).retry(self.retry.clone());
            let undone = undone.compensating();
            if let Err(error) = undone.await {
                failed.push(error);
            }
        }
        if failed.is_empty() { Ok(()) } else { Err(failed) }
    }

    /// Ends it with what the steps came to: a success stays, after an error all that was noted is taken back.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[activity]
    /// # async fn cancel(trip: String) -> Result<(), ActivityError> { Ok(()) }
    /// #[orchestrator]
    /// async fn book(ctx: OrchestrationContext, seats: u32) -> Result<u32, OrchestrationError> {
    ///     let mut saga = ctx.saga();
    ///     saga.undo_with(cancel, &"the flight".into())?;
    ///     let booked = match seats {
    ///         0 => Err(OrchestrationError::new("SoldOut", "no seat is left")),
    ///         seat => Ok(seat),
    ///     };
    ///     saga.settle(booked).await
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let hub = TestHub::new().register(book).register(cancel);
    /// assert_eq!(hub.start(book, 17).output().unwrap(), 17); // the flight stays booked
    /// assert!(hub.start(book, 0).output().unwrap_err().is("SoldOut"));
    /// assert_eq!(hub.calls(cancel).len(), 1);
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The error that was handed in; one of kind `CompensationFailed`, with that error as its cause, where something
    /// could not be taken back.
    pub async fn settle<T, E: Into<OrchestrationError>>(
        self,
        result: Result<T, E>,
    ) -> Result<T, OrchestrationError> {
        let error = match result {
            Ok(value) => return Ok(value),
            Err(error) => error.into(),
        };
        match self.compensate().await {
            Ok(()) => Err(error),
            Err(failed) => {
                let listed: Vec<_> = failed.iter().map(ToString::to_string).collect();
                let message = format!("not everything was taken back: {}", listed.join("; "));
                Err(OrchestrationError::new("CompensationFailed", message).caused_by(error))
            }
        }
    }
}
