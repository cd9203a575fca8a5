//! Futures that run side by side, taken as they are ready.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll, Wake, Waker};

use ::futures::future::FusedFuture;
use ::futures::stream::{FusedStream, Stream};

/// Futures that run side by side; their values are taken in the order in which they are ready, while the others go on.
/// Made by [`OrchestrationContext::join_set`](crate::OrchestrationContext::join_set).
///
/// Each has a key, which comes back with its value. More can be put in at any time, so that there are always as many
/// under way as you like. They may be of different kinds (calls, children, timers, async blocks), as long as their values are
/// of one type.
///
/// ```
/// use durable_core::prelude::*;
/// # #[activity]
/// # async fn scan(page: u32) -> Result<Vec<u32>, ActivityError> {
/// #     Ok(if page < 3 { vec![2 * page + 1, 2 * page + 2] } else { Vec::new() })
/// # }
///
/// /// Follows every link, four pages at a time.
/// #[orchestrator]
/// async fn crawl(ctx: OrchestrationContext, first: u32) -> Result<u32, OrchestrationError> {
///     let (mut found, mut seen) = (vec![first], 0);
///     let mut set = ctx.join_set();
///     loop {
///         while set.len() < 4
///             && let Some(page) = found.pop()
///         {
///             set.insert(page, ctx.call(scan, &page));
///         }
///         let Some((_page, links)) = set.join_next().await else { return Ok(seen) };
///         found.extend(links?);
///         seen += 1;
///     }
/// }
/// # #[cfg(feature = "testing")] {
/// # use durable_core::testing::TestHub;
/// # assert_eq!(TestHub::new().register(crawl).register(scan).start(crawl, 0).output().unwrap(), 7);
/// # }
/// ```
///
/// A future that was put in begins at the next [`join_next`](Self::join_next), as all durable futures begin when they are awaited.
/// The order is the same on every replay: it is that of the events which made them ready, and where one event makes
/// several ready, that of their begin. A future that is [removed](Self::remove), or dropped with the set, is cancelled.
///
/// It is a [`Stream`], too, for the combinators of the `futures` crate.
pub struct JoinSet<'a, K, T> {
    members: BTreeMap<u64, Member<'a, K, T>>,
    next_number: u64,
    ready: Arc<Ready>,
}

struct Member<'a, K, T> {
    key: K,
    future: Pin<Box<dyn Future<Output = T> + Send + 'a>>,
    waker: Waker,
}

/// Members that were woken and not polled since, in the order of their wake-ups.
#[derive(Default)]
struct Ready(Mutex<Woken>);

#[derive(Default)]
struct Woken {
    numbers: VecDeque<u64>,
    whole: Option<Waker>,
}

struct MemberWaker {
    ready: Arc<Ready>,
    number: u64,
}

impl Ready {
    fn lock(&self) -> MutexGuard<'_, Woken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for MemberWaker {
    fn wake(self: Arc<Self>) {
        let whole = {
            let mut woken = self.ready.lock();
            if !woken.numbers.contains(&self.number) {
                woken.numbers.push_back(self.number);
            }
            woken.whole.clone()
        };
        if let Some(whole) = whole {
            whole.wake();
        }
    }
}

impl<'a, K, T> JoinSet<'a, K, T> {
    pub(super) fn new() -> Self {
        Self { members: BTreeMap::new(), next_number: 0, ready: Arc::default() }
    }

    /// Puts a future in. Keys need not differ.
    pub fn insert(&mut self, key: K, future: impl Future<Output = T> + Send + 'a) {
        let number = self.next_number;
        self.next_number += 1;
        let waker = Waker::from(Arc::new(MemberWaker { ready: self.ready.clone(), number }));
        self.members.insert(number, Member { key, future: Box::pin(future), waker });
        self.ready.lock().numbers.push_back(number);
    }

    /// The next value with its key, when one is ready; `None` where no future is left. Dropped before, it leaves the
    /// futures where they are.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[activity]
    /// # async fn quote(carrier: String) -> Result<u32, ActivityError> { Ok(7) }
    /// #[orchestrator]
    /// async fn offers(ctx: OrchestrationContext) -> Result<Vec<(String, u32)>, OrchestrationError> {
    ///     let mut set = ctx.join_set();
    ///     for carrier in ["snail", "ox", "pigeon"] {
    ///         set.insert(carrier, ctx.call(quote, &carrier.to_owned()));
    ///     }
    ///     // Those that come within ten minutes; the others are cancelled at the end.
    ///     let (mut came, mut time) = (Vec::new(), ctx.sleep(minutes(10)));
    ///     while let Either::Left(Some((carrier, price))) = ctx.race(set.join_next(), &mut time).await {
    ///         came.push((carrier.to_owned(), price?));
    ///     }
    ///     Ok(came)
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let hub = TestHub::new().register(offers).mock(quote, |call, carrier| {
    ///     call.takes(match carrier.as_str() { "snail" => days(7), "ox" => minutes(5), _ => secs(1) });
    ///     Ok::<_, ActivityError>(7)
    /// });
    /// let came = hub.start(offers, ()).output().unwrap();
    /// assert_eq!(came, [("pigeon".to_string(), 7), ("ox".to_string(), 7)]);
    /// # }
    /// ```
    pub fn join_next(&mut self) -> JoinNext<'_, 'a, K, T> {
        JoinNext { set: Some(self) }
    }

    /// Drops the first future of this key, which cancels it. Whether there was one.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// #[orchestrator]
    /// async fn naps(ctx: OrchestrationContext) -> Result<usize, OrchestrationError> {
    ///     let mut set = ctx.join_set();
    ///     set.insert("short", ctx.sleep(hours(1)));
    ///     set.insert("long", ctx.sleep(hours(8)));
    ///     assert!(set.remove(&"long") && !set.remove(&"long"));
    ///     assert_eq!(set.keys().collect::<Vec<_>>(), [&"short"]);
    ///     set.join_next().await;
    ///     Ok(set.len())
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let hub = TestHub::new().register(naps);
    /// assert_eq!(hub.start(naps, ()).output().unwrap(), 0);
    /// assert_eq!(hub.elapsed(), hours(1));
    /// # }
    /// ```
    pub fn remove(&mut self, key: &K) -> bool
    where
        K: PartialEq,
    {
        let number = self.members.iter().find(|(_, member)| member.key == *key).map(|(n, _)| *n);
        number.and_then(|number| self.members.remove(&number)).is_some()
    }

    /// Drops all futures, which cancels them.
    pub fn clear(&mut self) {
        self.members.clear();
    }

    /// How many futures have not given their value.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether no future is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The keys of those that have not given their value, in the order in which they were put in.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.members.values().map(|member| &member.key)
    }

    fn poll_ready(&mut self, cx: &TaskContext<'_>) -> Poll<Option<(K, T)>> {
        if self.members.is_empty() {
            return Poll::Ready(None);
        }
        self.ready.lock().whole = Some(cx.waker().clone());
        loop {
            let Some(number) = self.ready.lock().numbers.pop_front() else { return Poll::Pending };
            // One that was removed may have been woken before.
            let Some(member) = self.members.get_mut(&number) else { continue };
            let waker = member.waker.clone();
            let polled = member.future.as_mut().poll(&mut TaskContext::from_waker(&waker));
            if let Poll::Ready(value) = polled
                && let Some(member) = self.members.remove(&number)
            {
                return Poll::Ready(Some((member.key, value)));
            }
        }
    }
}

// Members are boxed, keys and values never pinned.
impl<K, T> Unpin for JoinSet<'_, K, T> {}

impl<K, T> Stream for JoinSet<'_, K, T> {
    type Item = (K, T);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<(K, T)>> {
        self.poll_ready(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len(), Some(self.len()))
    }
}

impl<K, T> FusedStream for JoinSet<'_, K, T> {
    fn is_terminated(&self) -> bool {
        self.is_empty()
    }
}

impl<K: fmt::Debug, T> fmt::Debug for JoinSet<'_, K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.keys()).finish()
    }
}

/// The next value of a [`JoinSet`].
///
/// ```
/// use durable_core::prelude::*;
///
/// #[orchestrator]
/// async fn two_naps(ctx: OrchestrationContext) -> Result<Vec<u64>, OrchestrationError> {
///     let mut naps = ctx.join_set();
///     for length in [2, 1] {
///         naps.insert(length, ctx.sleep(hours(length)));
///     }
///     let mut woken = Vec::new();
///     while let Some((length, ())) = naps.join_next().await {
///         woken.push(length);
///     }
///     Ok(woken)
/// }
///
/// # #[cfg(feature = "testing")] {
/// # use durable_core::testing::TestHub;
/// let hub = TestHub::new().register(two_naps);
/// assert_eq!(hub.start(two_naps, ()).output().unwrap(), [1, 2]);
/// # }
/// ```
#[must_use = "futures do nothing unless awaited"]
pub struct JoinNext<'s, 'a, K, T> {
    /// Until it is ready.
    set: Option<&'s mut JoinSet<'a, K, T>>,
}

impl<K, T> Future for JoinNext<'_, '_, K, T> {
    type Output = Option<(K, T)>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let Some(set) = &mut self.set else { return Poll::Pending };
        let polled = set.poll_ready(cx);
        if polled.is_ready() {
            self.set = None;
        }
        polled
    }
}

impl<K, T> FusedFuture for JoinNext<'_, '_, K, T> {
    fn is_terminated(&self) -> bool {
        self.set.is_none()
    }
}
