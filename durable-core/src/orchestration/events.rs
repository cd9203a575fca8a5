//! External events.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use ::futures::future::FusedFuture;
use durable_machine::model::Payload;
use durable_machine::replay::{Context, EventWait, Timer};
use serde::de::DeserializeOwned;

use crate::error::{CallError, Subject, payload_failure};

/// The name of an external event, with the type of its value.
///
/// Any text converts into one, of the type that is asked for.
///
/// ```
/// use durable_core::prelude::*;
///
/// const APPROVED: EventName<bool> = EventName::new("approved");
///
/// #[orchestrator]
/// async fn place_order(ctx: OrchestrationContext) -> Result<bool, OrchestrationError> {
///     Ok(ctx.wait_event(APPROVED).await?)
/// }
///
/// # #[cfg(feature = "testing")] {
/// # use durable_core::testing::TestHub;
/// let order = TestHub::new().register(place_order).start(place_order, ());
/// order.raise_event(APPROVED.as_str(), &true);
/// assert!(order.output().unwrap());
/// # }
/// ```
pub struct EventName<T> {
    name: Cow<'static, str>,
    value: PhantomData<fn() -> T>,
}

impl<T> EventName<T> {
    /// An event of this name.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name: Cow::Borrowed(name), value: PhantomData }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.name
    }

    pub(super) fn shared(self) -> Arc<str> {
        self.name.into()
    }
}

impl<T> From<&str> for EventName<T> {
    fn from(name: &str) -> Self {
        Self::from(name.to_owned())
    }
}

impl<T> From<String> for EventName<T> {
    fn from(name: String) -> Self {
        Self { name: Cow::Owned(name), value: PhantomData }
    }
}

impl<T> Clone for EventName<T> {
    fn clone(&self) -> Self {
        Self { name: self.name.clone(), value: PhantomData }
    }
}

impl<T> fmt::Debug for EventName<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

impl<T> fmt::Display for EventName<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A wait for one external event; resolves to its value, or to an error where the value has another
/// shape. Dropped before, it leaves its event to the next wait.
///
/// ```
/// use durable_core::prelude::*;
///
/// #[orchestrator]
/// async fn place_order(ctx: OrchestrationContext) -> Result<Vec<u32>, OrchestrationError> {
///     // Two waits for one name: the first event goes to the first.
///     let (first, second) = (ctx.wait_event::<u32>("item"), ctx.wait_event::<u32>("item"));
///     Ok(ctx.try_join_all([first, second]).await?)
/// }
///
/// # #[cfg(feature = "testing")] {
/// # use durable_core::testing::TestHub;
/// let hub = TestHub::new().register(place_order);
/// let placed = hub.start(place_order, ());
/// placed.raise_event("item", &7);
/// placed.raise_event("item", &8);
/// assert_eq!(placed.output().unwrap(), [7, 8]);
///
/// let failed = hub.start(place_order, ());
/// failed.raise_event("item", "a lamp"); // not a number
/// assert!(failed.output().unwrap_err().is("Payload"));
/// # }
/// ```
#[must_use = "an event is waited for when this is awaited"]
pub struct WaitEvent<T> {
    context: Context,
    name: Arc<str>,
    /// Until it is ready.
    wait: Option<EventWait>,
    value: PhantomData<fn() -> T>,
}

impl<T> WaitEvent<T> {
    pub(super) fn new(context: Context, name: Arc<str>) -> Self {
        let wait = Some(context.event(name.clone()));
        Self { context, name, wait, value: PhantomData }
    }

    /// Gives up after this long from now: `Ok(None)`. The event is left to the next wait.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// #[orchestrator]
    /// async fn approve(ctx: OrchestrationContext) -> Result<bool, OrchestrationError> {
    ///     let answer = ctx.wait_event::<bool>("approved").timeout(hours(24)).await?;
    ///     Ok(answer.unwrap_or(false))
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let hub = TestHub::new().register(approve);
    /// assert!(!hub.start(approve, ()).output().unwrap());
    /// assert_eq!(hub.elapsed(), hours(24));
    /// # }
    /// ```
    pub fn timeout(self, duration: Duration) -> WaitEventTimeout<T> {
        let timer = Some(self.context.sleep(duration));
        WaitEventTimeout { event: self, timer }
    }

    fn read(&self, payload: &Payload) -> Result<T, CallError>
    where
        T: DeserializeOwned,
    {
        payload.to().map_err(|error| {
            CallError::new(
                Subject::ReceivedEvent(self.name.clone()),
                payload_failure("its value", &error),
            )
        })
    }
}

impl<T: DeserializeOwned> Future for WaitEvent<T> {
    type Output = Result<T, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let Some(wait) = &mut self.wait else { return Poll::Pending };
        match Pin::new(wait).poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(payload) => {
                self.wait = None;
                Poll::Ready(self.read(&payload))
            }
        }
    }
}

impl<T: DeserializeOwned> FusedFuture for WaitEvent<T> {
    fn is_terminated(&self) -> bool {
        self.wait.is_none()
    }
}

/// A wait for one external event that gives up: resolves to `None` then.
///
/// ```
/// use durable_core::prelude::*;
///
/// #[orchestrator]
/// async fn count_clicks(ctx: OrchestrationContext) -> Result<u32, OrchestrationError> {
///     let mut clicks = 0;
///     while let Some(()) = ctx.wait_event("click").timeout(minutes(1)).await? {
///         clicks += 1;
///     }
///     Ok(clicks) // for a minute there was none
/// }
///
/// # #[cfg(feature = "testing")] {
/// # use durable_core::testing::TestHub;
/// let counter = TestHub::new().register(count_clicks).start(count_clicks, ());
/// for after in [10, 30, 50, 200] {
///     counter.raise_event_after(secs(after), "click", &());
/// }
/// assert_eq!(counter.output().unwrap(), 3);
/// # }
/// ```
#[must_use = "an event is waited for when this is awaited"]
pub struct WaitEventTimeout<T> {
    event: WaitEvent<T>,
    /// Until it is ready.
    timer: Option<Timer>,
}

impl<T: DeserializeOwned> Future for WaitEventTimeout<T> {
    type Output = Result<Option<T>, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Some(timer) = &mut this.timer else { return Poll::Pending };
        if let Poll::Ready(value) = Pin::new(&mut this.event).poll(cx) {
            this.timer = None;
            return Poll::Ready(value.map(Some));
        }
        match Pin::new(timer).poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                this.timer = None;
                this.event.wait = None;
                Poll::Ready(Ok(None))
            }
        }
    }
}

impl<T: DeserializeOwned> FusedFuture for WaitEventTimeout<T> {
    fn is_terminated(&self) -> bool {
        self.timer.is_none()
    }
}
