//! Looking for instances.

use chrono::{DateTime, Utc};
use durable_machine::model::RuntimeStatus;
use durable_machine::store::{ListQuery, ListToken};
use futures::stream::{self, Stream};

use super::{Client, ClientError, InstanceStatus};
use crate::orchestration::Orchestrator;
use crate::time::from_utc;

/// Instances that one read of a stream asks for.
const PAGE: usize = 100;

/// A query for instances that is being put together: each method leaves fewer. Newest start first.
///
/// ```
/// use durable_core::prelude::*;
/// use futures::TryStreamExt;
///
/// #[orchestrator]
/// async fn place_order(_: OrchestrationContext, _cents: u32) -> Result<(), OrchestrationError> {
///     Ok(())
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let worker = Worker::builder(MemoryStore::new()).register(place_order).start().await?;
/// # let client = worker.client();
/// for (id, region) in [("order-1", "eu"), ("order-2", "us"), ("order-3", "eu")] {
///     client.start(place_order, 700).id(id).tag("region", region).await?.wait().await?;
/// }
///
/// let an_hour_ago = chrono::Utc::now() - chrono::TimeDelta::hours(1);
/// let europe = client.instances().of(place_order).ended().tag("region", "eu").created_from(an_hour_ago);
/// let found: Vec<_> = europe.stream().try_collect().await?;
/// let ids: Vec<_> = found.iter().map(|status| status.id().as_str()).collect();
/// assert_eq!(ids, ["order-3", "order-1"]); // newest start first
///
/// let none = client.instances().created_to(an_hour_ago).page(None, 10).await?;
/// assert!(none.instances.is_empty());
/// let active = client.instances().active().id_prefix("order-").page(None, 10).await?;
/// assert!(active.instances.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing is looked for before a page or the stream is asked for"]
pub struct Instances {
    client: Client,
    query: ListQuery,
}

impl Instances {
    pub(super) fn new(client: Client) -> Self {
        Self { client, query: ListQuery::default() }
    }

    /// In this state; called again: or in that one.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # let client = Client::new(MemoryStore::new());
    /// use RuntimeStatus::{Failed, Terminated};
    ///
    /// let bad = client.instances().status(Failed).status(Terminated);
    /// assert_eq!(bad.query().statuses, [Failed, Terminated]);
    /// assert_eq!(client.instances().statuses([Failed, Terminated]).query(), bad.query());
    /// ```
    pub fn status(mut self, status: RuntimeStatus) -> Self {
        self.query.statuses.push(status);
        self
    }

    /// In one of these states.
    pub fn statuses(mut self, statuses: impl IntoIterator<Item = RuntimeStatus>) -> Self {
        self.query.statuses.extend(statuses);
        self
    }

    /// Those that have not ended.
    pub fn active(self) -> Self {
        self.statuses(RuntimeStatus::ALL.into_iter().filter(|status| !status.is_terminal()))
    }

    /// Those that have ended.
    pub fn ended(self) -> Self {
        self.statuses(RuntimeStatus::ALL.into_iter().filter(|status| status.is_terminal()))
    }

    /// Created then or later.
    pub fn created_from(mut self, time: DateTime<Utc>) -> Self {
        self.query.created_from = Some(from_utc(time));
        self
    }

    /// Created then or earlier.
    pub fn created_to(mut self, time: DateTime<Utc>) -> Self {
        self.query.created_to = Some(from_utc(time));
        self
    }

    /// Whose id begins with this; case matters.
    pub fn id_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.query.id_prefix = Some(prefix.into());
        self
    }

    /// Of this orchestrator.
    pub fn of<O: Orchestrator>(self, _orchestrator: O) -> Self {
        self.name(O::NAME)
    }

    /// Of the orchestrator of that name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.query.name = Some(name.into());
        self
    }

    /// With this tag; called again: and with that one.
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.query.tags.push((key.into(), value.into()));
        self
    }

    /// One page of at most `limit` instances. Pass the page's `next` to get the one behind it.
    ///
    /// # Errors
    ///
    /// The store's error.
    pub async fn page(
        &self,
        after: Option<ListToken>,
        limit: usize,
    ) -> Result<InstancePage, ClientError> {
        self.client.list(&self.query, after, limit).await
    }

    /// All of them, read in pages as the stream is polled. An instance that changes meanwhile is seen as it is
    /// when its page is read; one that is started meanwhile is not seen.
    pub fn stream(&self) -> impl Stream<Item = Result<InstanceStatus, ClientError>> + Send + use<> {
        let pages = stream::try_unfold((self.clone(), Some(None)), |(query, after)| async move {
            let Some(after) = after else { return Ok::<_, ClientError>(None) };
            let page = query.page(after, PAGE).await?;
            let instances = stream::iter(page.instances.into_iter().map(Ok));
            Ok(Some((instances, (query, page.next.map(Some)))))
        });
        Box::pin(futures::TryStreamExt::try_flatten(pages))
    }

    pub(super) fn into_parts(self) -> (Client, ListQuery) {
        (self.client, self.query)
    }

    /// The query as a value.
    #[must_use]
    pub fn query(&self) -> &ListQuery {
        &self.query
    }
}

/// One page of instances.
///
/// ```
/// # use durable_core::prelude::*;
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = Client::new(MemoryStore::new());
/// for day in 1..=5 {
///     client.start_by_name("report", &day).await?;
/// }
///
/// let (mut pages, mut after) = (Vec::new(), None);
/// loop {
///     let page = client.instances().page(after, 2).await?;
///     pages.push(page.instances.len());
///     after = page.next;
///     if after.is_none() {
///         break;
///     }
/// }
/// assert_eq!(pages, [2, 2, 1]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct InstancePage {
    /// Newest start first.
    pub instances: Vec<InstanceStatus>,
    /// Pass this to get the next page; `None` on the last.
    pub next: Option<ListToken>,
}
