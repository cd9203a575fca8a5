//! What can be seen of an instance.

use chrono::{DateTime, Utc};
use durable_machine::codec;
use durable_machine::model::{
    DeadLetter, Event, ExecutionNumber, Failure, Hold, InstanceId, Payload, RunNumber,
    RuntimeStatus, StatusRow, UnconsumedEvent,
};
use durable_machine::store::HistoryToken;
use futures::stream::{self, Stream, TryStreamExt as _};
use serde::de::DeserializeOwned;

use super::{Client, ClientError, retry_busy};
use crate::store::StoreError;
use crate::time::to_utc;

/// An instance as it was at one moment.
///
/// ```
/// use durable_core::prelude::*;
///
/// #[orchestrator]
/// async fn place_order(ctx: OrchestrationContext, cents: u32) -> Result<String, OrchestrationError> {
///     ctx.set_custom_status("packed")?;
///     Ok(format!("{cents} paid"))
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let worker = Worker::builder(MemoryStore::new()).register(place_order).start().await?;
/// # let client = worker.client();
/// let handle = client.start(place_order, 700).id("order-7").version("2").tag("region", "eu").await?;
/// let status = handle.wait().await?;
///
/// assert_eq!((status.id().as_str(), status.name()), ("order-7", "place_order"));
/// assert_eq!((Some(status.run()), status.execution().0), (handle.run(), 0));
/// assert_eq!(status.runtime_status(), RuntimeStatus::Completed);
/// assert!(status.has_ended() && status.updated_at() >= status.created_at());
/// assert_eq!((status.version(), status.tag("region")), (Some("2"), Some("eu")));
/// assert_eq!(status.tags().collect::<Vec<_>>(), [("region", "eu")]);
///
/// assert_eq!(status.input::<u32>()?, 700);
/// assert_eq!(status.output::<String>()?.as_deref(), Some("700 paid"));
/// assert_eq!(status.custom_status::<String>()?.as_deref(), Some("packed"));
///
/// // It was started at once, by a client; it did not fail, and nothing is left over.
/// assert!(status.scheduled_for().is_none() && status.parent().is_none());
/// assert!(status.failure().is_none() && status.hold().is_none());
/// assert!(status.unconsumed().is_empty() && status.dead_letters().is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct InstanceStatus {
    row: StatusRow,
}

impl InstanceStatus {
    pub(crate) fn new(row: StatusRow) -> Self {
        Self { row }
    }

    /// The instance id.
    #[must_use]
    pub fn id(&self) -> &InstanceId {
        &self.row.instance
    }

    /// The number of its run: higher for each later start of the same id.
    #[must_use]
    pub fn run(&self) -> RunNumber {
        self.row.run
    }

    /// The execution of that run: one more after each continue-as-new.
    #[must_use]
    pub fn execution(&self) -> ExecutionNumber {
        self.row.execution
    }

    /// The name of its orchestrator.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.row.name
    }

    /// Its state.
    #[must_use]
    pub fn runtime_status(&self) -> RuntimeStatus {
        self.row.status
    }

    /// Whether it has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.row.status.is_terminal()
    }

    /// When its start was accepted.
    #[must_use]
    pub fn created_at(&self) -> DateTime<Utc> {
        to_utc(self.row.created_at)
    }

    /// When its status last changed.
    #[must_use]
    pub fn updated_at(&self) -> DateTime<Utc> {
        to_utc(self.row.updated_at)
    }

    /// When it is, or was, to start, where that was not at once.
    #[must_use]
    pub fn scheduled_for(&self) -> Option<DateTime<Utc>> {
        self.row.scheduled_for.map(to_utc)
    }

    /// When its run has to have ended, where its start gave it a deadline: otherwise it fails with the kind
    /// `DeadlineExceeded`.
    #[must_use]
    pub fn deadline(&self) -> Option<DateTime<Utc>> {
        self.row.deadline.map(|deadline| to_utc(deadline.at))
    }

    /// The version that its start asked for.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.row.version.as_deref()
    }

    /// The tags that its start gave it, in that order.
    pub fn tags(&self) -> impl Iterator<Item = (&str, &str)> {
        self.row.tags.iter().map(|(key, value)| (&**key, &**value))
    }

    /// The value of one of its tags.
    #[must_use]
    pub fn tag(&self, key: &str) -> Option<&str> {
        self.tags().find(|(known, _)| *known == key).map(|(_, value)| value)
    }

    /// Its input.
    ///
    /// # Errors
    ///
    /// Where the input does not have the shape of `T`.
    pub fn input<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        read(&self.row.input, "input")
    }

    /// Its output: what a completed instance returned, or the reason of a termination.
    ///
    /// # Errors
    ///
    /// Where the output does not have the shape of `T`.
    pub fn output<T: DeserializeOwned>(&self) -> Result<Option<T>, ClientError> {
        self.row.output.as_ref().map(|output| read(output, "output")).transpose()
    }

    /// What its code last set for people to see.
    ///
    /// # Errors
    ///
    /// Where the custom status does not have the shape of `T`.
    pub fn custom_status<T: DeserializeOwned>(&self) -> Result<Option<T>, ClientError> {
        self.row.custom_status.as_ref().map(|status| read(status, "custom status")).transpose()
    }

    /// The instance that started it as a child.
    #[must_use]
    pub fn parent(&self) -> Option<&InstanceId> {
        self.row.parent.as_ref().map(|parent| &parent.instance)
    }

    /// Why it failed.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        self.row.failure.as_ref()
    }

    /// Why the engine holds it, if it does. Such an instance counts as `Suspended`; resuming it tries
    /// again.
    #[must_use]
    pub fn hold(&self) -> Option<&Hold> {
        self.row.hold.as_ref()
    }

    /// External events that were accepted and never waited for; known at its end. Those that wait in an active
    /// instance are not listed: only its code knows which they are, and a status that followed each event
    /// would cost a write of its own. Its history has them all.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[orchestrator]
    /// # async fn place_order(ctx: OrchestrationContext) -> Result<(), OrchestrationError> {
    /// #     Ok(ctx.wait_event("approved").await?)
    /// # }
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let worker = Worker::builder(MemoryStore::new()).register(place_order).start().await?;
    /// # let client = worker.client();
    /// let order = client.start(place_order, ()).await?;
    /// order.raise_event("colour", "green").await?; // its code never asks for a colour
    /// order.raise_event("approved", &()).await?;
    /// let status = order.wait().await?;
    /// assert_eq!(&*status.unconsumed()[0].name, "colour");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn unconsumed(&self) -> &[UnconsumedEvent] {
        &self.row.unconsumed
    }

    /// What was sent to it and could never be applied: the store keeps it, these say why. The newest ones.
    #[must_use]
    pub fn dead_letters(&self) -> &[DeadLetter] {
        &self.row.dead_letters
    }

    /// The stored form.
    #[must_use]
    pub fn row(&self) -> &StatusRow {
        &self.row
    }
}

/// The history of an instance's current execution.
///
/// ```
/// # use durable_core::prelude::*;
/// # #[orchestrator]
/// # async fn double(_: OrchestrationContext, number: u32) -> Result<u32, OrchestrationError> { Ok(2 * number) }
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let worker = Worker::builder(MemoryStore::new()).register(double).start().await?;
/// # let client = worker.client();
/// let handle = client.start(double, 21).await?;
/// handle.wait().await?;
/// for event in handle.history().await?.events() {
///     println!("{} {:?}", event.at, event.is);
/// }
/// # assert_eq!(handle.history().await?.events().len(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    pub(super) events: Vec<Event>,
}

impl History {
    /// The events, in order.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }
}

/// Rows of a history that one read asks for. A row has the events of one commit.
const HISTORY_ROWS: usize = 100;

/// The events of an instance's current execution, page by page.
pub(super) fn history_events(
    client: Client,
    instance: InstanceId,
) -> impl Stream<Item = Result<Event, ClientError>> + Send {
    struct Place {
        client: Client,
        instance: InstanceId,
        execution: Option<(RunNumber, ExecutionNumber)>,
        after: Option<HistoryToken>,
        ended: bool,
    }
    let place = Place { client, instance, execution: None, after: None, ended: false };
    let pages = stream::try_unfold(place, |mut place| async move {
        if place.ended {
            return Ok::<_, ClientError>(None);
        }
        let store = place.client.store();
        let read = || store.history_page(&place.instance, place.after, HISTORY_ROWS);
        let page = retry_busy(read).await?;
        let page = page.ok_or_else(|| ClientError::NotFound(place.instance.clone()))?;
        let execution = (page.run, page.execution);
        if *place.execution.get_or_insert(execution) != execution {
            return Err(ClientError::Replaced(place.instance.clone()));
        }
        let mut events = Vec::new();
        for row in &page.rows {
            events.extend(codec::decode_events(&row.body).map_err(|source| {
                let key = format!("the history of {:?}", place.instance);
                StoreError::Corrupt { key, source }
            })?);
        }
        (place.after, place.ended) = (page.next, page.next.is_none());
        Ok(Some((stream::iter(events.into_iter().map(Ok)), place)))
    });
    Box::pin(pages.try_flatten())
}

pub(super) fn read<T: DeserializeOwned>(payload: &Payload, what: &str) -> Result<T, ClientError> {
    payload.to().map_err(|error| {
        ClientError::Payload(format!("the {what} does not have the shape asked for: {error}"))
    })
}
