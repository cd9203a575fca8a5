//! The first of several futures, and all of them.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use ::futures::StreamExt;
use ::futures::future::{Either, FusedFuture, JoinAll, TryFuture, join_all};
use ::futures::stream::FuturesUnordered;

use super::OrchestrationContext;
use super::join_set::JoinSet;

impl OrchestrationContext {
    /// Bounds anything: `None` where the time is over first. What `future` has under way then is cancelled.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[activity]
    /// # async fn book(trip: u64) -> Result<u64, ActivityError> { Ok(trip) }
    /// #[orchestrator]
    /// async fn travel(ctx: OrchestrationContext) -> Result<(u64, u64), OrchestrationError> {
    ///     let booked = async {
    ///         let there = ctx.call(book, &1).await?;
    ///         let back = ctx.call(book, &2).await?;
    ///         Ok::<_, CallError>((there, back))
    ///     };
    ///     let Some(tickets) = ctx.within(hours(2), booked).await else {
    ///         return Err(OrchestrationError::new("TooLate", "it was not booked within two hours"));
    ///     };
    ///     Ok(tickets?)
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let hub = TestHub::new().register(travel).mock(book, |call, trip| {
    ///     call.takes(if call.number() == 1 { hours(3) } else { minutes(5) });
    ///     Ok::<_, ActivityError>(trip)
    /// });
    /// assert!(hub.start(travel, ()).output().unwrap_err().is("TooLate"));
    /// assert_eq!(hub.start(travel, ()).output().unwrap(), (1, 2));
    /// # }
    /// ```
    pub async fn within<F: Future>(&self, time: Duration, future: F) -> Option<F::Output> {
        match self.race(future, self.sleep(time)).await {
            Either::Left(output) => Some(output),
            Either::Right(()) => None,
        }
    }

    /// The first of two futures that is ready; the other is dropped, which cancels it. If both are, the
    /// left one.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// #[orchestrator]
    /// async fn approve(ctx: OrchestrationContext) -> Result<bool, OrchestrationError> {
    ///     match ctx.race(ctx.wait_event("approved"), ctx.sleep(hours(24))).await {
    ///         Either::Left(answer) => Ok(answer?),
    ///         Either::Right(()) => Ok(false), // nobody answered
    ///     }
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let hub = TestHub::new().register(approve);
    /// let answered = hub.start(approve, ());
    /// answered.raise_event_after(hours(3), "approved", &true);
    /// assert!(answered.output().unwrap());
    /// assert!(!hub.start(approve, ()).output().unwrap());
    /// # }
    /// ```
    pub fn race<A: Future, B: Future>(&self, left: A, right: B) -> Race<A, B> {
        Race::new(left, right)
    }

    /// The first of many futures that is ready, and its place among them; the others are dropped, which
    /// cancels them. If several are, the one in front. Without any future it is never ready.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[activity]
    /// # async fn ask(mirror: String) -> Result<String, ActivityError> { Ok(mirror) }
    /// #[orchestrator]
    /// async fn fastest(ctx: OrchestrationContext) -> Result<(usize, String), OrchestrationError> {
    ///     let mirrors = ["de", "fr", "us"].map(String::from);
    ///     let (place, answer) = ctx.race_all(mirrors.iter().map(|mirror| ctx.call(ask, mirror))).await;
    ///     Ok((place, answer?))
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let hub = TestHub::new().register(fastest).mock(ask, |call, mirror| {
    ///     call.takes(if mirror == "fr" { millis(20) } else { secs(1) });
    ///     Ok::<_, ActivityError>(mirror)
    /// });
    /// assert_eq!(hub.start(fastest, ()).output().unwrap(), (1, "fr".to_string()));
    /// # }
    /// ```
    pub fn race_all<F: Future>(&self, futures: impl IntoIterator<Item = F>) -> RaceAll<F> {
        RaceAll::new(futures)
    }

    /// An empty set of futures that run side by side: their values are taken as they come, and more can be put in
    /// meanwhile. See [`JoinSet`].
    #[must_use]
    pub fn join_set<'a, K, T>(&self) -> JoinSet<'a, K, T> {
        JoinSet::new()
    }

    /// What all of these futures resolve to, in their order.
    ///
    /// All of them run at once. To bound how many do, use `futures::stream::iter(…).buffered(n)`.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[activity]
    /// # async fn visit(site: String) -> Result<u32, ActivityError> {
    /// #     if site == "b" { return Err(ActivityError::new("Gone", "it is not there any more")) }
    /// #     Ok(200)
    /// # }
    /// #[orchestrator]
    /// async fn crawl(ctx: OrchestrationContext, sites: Vec<String>) -> Result<usize, OrchestrationError> {
    ///     // A site that fails does not stop the others.
    ///     let visited = ctx.join_all(sites.iter().map(|site| ctx.call(visit, site))).await;
    ///     Ok(visited.iter().filter(|result| result.is_ok()).count())
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let hub = TestHub::new().register(crawl).register(visit);
    /// assert_eq!(hub.start(crawl, ["a", "b", "c"].map(String::from).into()).output().unwrap(), 2);
    /// # }
    /// ```
    pub fn join_all<F: Future>(&self, futures: impl IntoIterator<Item = F>) -> JoinAll<F> {
        join_all(futures)
    }

    /// The values of all of these futures in their order, or the first error, which cancels the others.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[activity]
    /// # async fn resize(width: u32) -> Result<String, ActivityError> { Ok(format!("{width}.jpg")) }
    /// #[orchestrator]
    /// async fn thumbnails(ctx: OrchestrationContext) -> Result<Vec<String>, OrchestrationError> {
    ///     let widths = [100, 200, 400];
    ///     Ok(ctx.try_join_all(widths.iter().map(|width| ctx.call(resize, width))).await?)
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let hub = TestHub::new().register(thumbnails).register(resize);
    /// let thumbs = hub.start(thumbnails, ()).output().unwrap();
    /// assert_eq!(thumbs, ["100.jpg", "200.jpg", "400.jpg"]);
    /// # }
    /// ```
    pub fn try_join_all<F: TryFuture>(
        &self,
        futures: impl IntoIterator<Item = F>,
    ) -> TryJoinAll<F> {
        TryJoinAll::new(futures)
    }
}

/// The first of two futures that is ready.
///
/// The futures are boxed, so that this can be awaited and selected like the other durable futures, also
/// where one of them is an async block.
///
/// ```
/// use durable_core::prelude::*;
///
/// #[orchestrator]
/// async fn approve(ctx: OrchestrationContext) -> Result<String, OrchestrationError> {
///     let two_steps = async {
///         ctx.wait_event::<()>("signed").await?;
///         ctx.wait_event::<()>("sealed").await
///     };
///     match ctx.race(two_steps, ctx.sleep(days(7))).await {
///         Either::Left(done) => done.map(|()| "approved".to_string()).map_err(Into::into),
///         Either::Right(()) => Ok("too late".to_string()),
///     }
/// }
///
/// # #[cfg(feature = "testing")] {
/// # use durable_core::testing::TestHub;
/// let approval = TestHub::new().register(approve).start(approve, ());
/// approval.raise_event("signed", &());
/// assert_eq!(approval.output().unwrap(), "too late");
/// # }
/// ```
#[must_use = "futures do nothing unless awaited"]
pub struct Race<A, B> {
    /// Until one is ready.
    sides: Option<Sides<A, B>>,
}

type Sides<A, B> = (Pin<Box<A>>, Pin<Box<B>>);

impl<A: Future, B: Future> Race<A, B> {
    pub(super) fn new(left: A, right: B) -> Self {
        Self { sides: Some((Box::pin(left), Box::pin(right))) }
    }
}

impl<A: Future, B: Future> Future for Race<A, B> {
    type Output = Either<A::Output, B::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let Some((left, right)) = &mut self.sides else { return Poll::Pending };
        let first = match left.as_mut().poll(cx) {
            Poll::Ready(output) => Either::Left(output),
            Poll::Pending => match right.as_mut().poll(cx) {
                Poll::Ready(output) => Either::Right(output),
                Poll::Pending => return Poll::Pending,
            },
        };
        // Here and not when this is dropped, which may be in a later turn or outside of one.
        self.sides = None;
        Poll::Ready(first)
    }
}

impl<A: Future, B: Future> FusedFuture for Race<A, B> {
    fn is_terminated(&self) -> bool {
        self.sides.is_none()
    }
}

/// The first of many futures that is ready, with its place among them.
///
/// ```
/// use durable_core::prelude::*;
///
/// #[orchestrator]
/// async fn first_answer(ctx: OrchestrationContext) -> Result<usize, OrchestrationError> {
///     let answers = ["by mail", "by phone"].map(|name| ctx.wait_event::<String>(name));
///     let (place, answer) = ctx.race_all(answers).await;
///     assert_eq!(answer?, "yes");
///     Ok(place)
/// }
///
/// # #[cfg(feature = "testing")] {
/// # use durable_core::testing::TestHub;
/// let first = TestHub::new().register(first_answer).start(first_answer, ());
/// first.raise_event("by phone", "yes");
/// assert_eq!(first.output().unwrap(), 1);
/// # }
/// ```
#[must_use = "futures do nothing unless awaited"]
pub struct RaceAll<F> {
    /// Until one is ready.
    futures: Option<Vec<Pin<Box<F>>>>,
}

impl<F: Future> RaceAll<F> {
    pub(super) fn new(futures: impl IntoIterator<Item = F>) -> Self {
        Self { futures: Some(futures.into_iter().map(Box::pin).collect()) }
    }
}

impl<F: Future> Future for RaceAll<F> {
    type Output = (usize, F::Output);

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let Some(futures) = &mut self.futures else { return Poll::Pending };
        let first = futures.iter_mut().enumerate().find_map(|(place, future)| {
            match future.as_mut().poll(cx) {
                Poll::Ready(output) => Some((place, output)),
                Poll::Pending => None,
            }
        });
        match first {
            Some(first) => {
                self.futures = None;
                Poll::Ready(first)
            }
            None => Poll::Pending,
        }
    }
}

impl<F: Future> FusedFuture for RaceAll<F> {
    fn is_terminated(&self) -> bool {
        self.futures.is_none()
    }
}

/// The values of many futures in their order, or the first error.
///
/// Unlike the function of that name in the `futures` crate, which awaits more than 30 futures in their
/// order, it sees an error as soon as it is there.
///
/// ```
/// use durable_core::prelude::*;
///
/// #[activity]
/// async fn visit(site: String) -> Result<u32, ActivityError> {
///     match site.as_str() {
///         "b" => Err(ActivityError::new("Gone", "it is not there any more")),
///         _ => Ok(200),
///     }
/// }
///
/// #[orchestrator]
/// async fn crawl(ctx: OrchestrationContext, sites: Vec<String>) -> Result<Vec<u32>, OrchestrationError> {
///     Ok(ctx.try_join_all(sites.iter().map(|site| ctx.call(visit, site))).await?)
/// }
///
/// # #[cfg(feature = "testing")] {
/// # use durable_core::testing::TestHub;
/// let hub = TestHub::new().register(crawl).register(visit);
/// assert_eq!(hub.start(crawl, vec!["a".into(), "c".into()]).output().unwrap(), [200, 200]);
/// assert!(hub.start(crawl, vec!["a".into(), "b".into()]).output().unwrap_err().is("Gone"));
/// # }
/// ```
#[must_use = "futures do nothing unless awaited"]
pub struct TryJoinAll<F: TryFuture> {
    /// Until it is ready.
    running: Option<FuturesUnordered<Placed<F>>>,
    values: Vec<Option<F::Ok>>,
}

/// A future with its place among others.
struct Placed<F> {
    place: usize,
    future: Pin<Box<F>>,
}

impl<F: TryFuture> Future for Placed<F> {
    type Output = Result<(usize, F::Ok), F::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let place = self.place;
        self.future.as_mut().try_poll(cx).map_ok(|value| (place, value))
    }
}

impl<F: TryFuture> TryJoinAll<F> {
    pub(super) fn new(futures: impl IntoIterator<Item = F>) -> Self {
        let running: FuturesUnordered<_> = futures
            .into_iter()
            .enumerate()
            .map(|(place, future)| Placed { place, future: Box::pin(future) })
            .collect();
        let values = (0..running.len()).map(|_| None).collect();
        Self { running: Some(running), values }
    }
}

// Values are moved out when they are all there, never pinned.
impl<F: TryFuture> Unpin for TryJoinAll<F> {}

impl<F: TryFuture> Future for TryJoinAll<F> {
    type Output = Result<Vec<F::Ok>, F::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Some(running) = &mut this.running else { return Poll::Pending };
        let result = loop {
            match running.poll_next_unpin(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok((place, value)))) => this.values[place] = Some(value),
                Poll::Ready(Some(Err(error))) => break Err(error),
                Poll::Ready(None) => break Ok(()),
            }
        };
        this.running = None;
        let values = std::mem::take(&mut this.values);
        Poll::Ready(result.map(|()| values.into_iter().flatten().collect()))
    }
}

impl<F: TryFuture> FusedFuture for TryJoinAll<F> {
    fn is_terminated(&self) -> bool {
        self.running.is_none()
    }
}
