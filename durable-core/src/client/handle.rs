//! One instance, as its client holds it.

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use durable_machine::model::{
    Command, Envelope, EnvelopeId, Event, InstanceId, Payload, RunNumber, RuntimeStatus,
};
use futures::stream::{self, Stream};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::changes::{Changes, POLL_FIRST, POLL_LAST};
use super::status::{history_events, read};
use super::{Client, ClientError, History, InstanceStatus};
use crate::worker::Watcher;

/// How long a rewind waits until its instance shows that it goes on.
const REWIND_SHOWS: Duration = Duration::from_secs(10);

/// An instance. `T` is the type of its output; [`Payload`] where that is not known.
///
/// ```
/// use durable_core::prelude::*;
///
/// #[orchestrator]
/// async fn place_order(ctx: OrchestrationContext, item: String) -> Result<String, OrchestrationError> {
///     ctx.set_custom_status("waits for approval")?;
///     let by: String = ctx.wait_event("approved").await?;
///     Ok(format!("{item}, approved by {by}"))
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let worker = Worker::builder(MemoryStore::new()).register(place_order).start().await?;
/// # let client = worker.client();
/// let order = client.start(place_order, "a lamp".into()).id("order-7").await?;
/// assert_eq!(order.id().as_str(), "order-7");
/// assert!(order.run().is_some(), "a handle that a start gave means its run");
///
/// order.wait_until(|status| status.custom_status::<String>().is_ok_and(|it| it.is_some())).await?;
/// order.raise_event("approved", "Ada").await?;
/// assert_eq!(order.output().await?, "a lamp, approved by Ada");
/// assert_eq!(order.status().await?.runtime_status(), RuntimeStatus::Completed);
/// # Ok(())
/// # }
/// ```
pub struct Handle<T> {
    pub(super) client: Client,
    pub(super) instance: InstanceId,
    /// The run that is meant; `None` means the present one.
    pub(super) run: Option<RunNumber>,
    /// Begun with the start; used by the first who waits.
    pub(super) watcher: Mutex<Option<Watcher>>,
    output: PhantomData<fn() -> T>,
}

impl<T> Handle<T> {
    pub(super) fn new(
        client: Client,
        instance: InstanceId,
        run: Option<RunNumber>,
        watcher: Option<Watcher>,
    ) -> Self {
        Self { client, instance, run, watcher: Mutex::new(watcher), output: PhantomData }
    }

    /// The instance id.
    #[must_use]
    pub fn id(&self) -> &InstanceId {
        &self.instance
    }

    /// The run that this handle means; `None` where it means whichever is there.
    #[must_use]
    pub fn run(&self) -> Option<RunNumber> {
        self.run
    }

    /// Its status now.
    ///
    /// # Errors
    ///
    /// [`ClientError::NotFound`], or the store's error.
    pub async fn status(&self) -> Result<InstanceStatus, ClientError> {
        self.client
            .status(&self.instance)
            .await?
            .ok_or_else(|| ClientError::NotFound(self.instance.clone()))
    }

    /// Waits for its end, however that comes, and returns the last status.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[orchestrator]
    /// # async fn pay(_: OrchestrationContext, cents: u32) -> Result<(), OrchestrationError> {
    /// #     Err(OrchestrationError::new("CardDeclined", "over the limit"))
    /// # }
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let worker = Worker::builder(MemoryStore::new()).register(pay).start().await?;
    /// # let client = worker.client();
    /// let status = client.start(pay, 700).await?.wait().await?;
    /// assert_eq!(status.runtime_status(), RuntimeStatus::Failed);
    /// assert_eq!(status.failure().unwrap().kind, "CardDeclined");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ClientError::NotFound`], [`ClientError::Replaced`], or the store's error.
    pub async fn wait(&self) -> Result<InstanceStatus, ClientError> {
        let mut changes = Changes::new(self);
        loop {
            let row = changes.next().await?;
            if row.status.is_terminal() {
                return Ok(InstanceStatus::new((*row).clone()));
            }
        }
    }

    /// Waits until its status is as wanted, and returns it. A change that is overtaken by the next may not be
    /// seen: wait for what stays.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// #[orchestrator]
    /// async fn import_files(ctx: OrchestrationContext, files: u32) -> Result<(), OrchestrationError> {
    ///     for file in 0..files {
    ///         ctx.set_custom_status(&(100 * file / files))?;
    ///         ctx.wait_event::<()>("next").await?;
    ///     }
    ///     Ok(())
    /// }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let worker = Worker::builder(MemoryStore::new()).register(import_files).start().await?;
    /// # let client = worker.client();
    /// let import = client.start(import_files, 4).await?;
    /// import.raise_event("next", &()).await?;
    /// import.raise_event("next", &()).await?;
    ///
    /// let percent = |progress: Option<u32>| progress.unwrap_or_default();
    /// let half = import
    ///     .wait_until(|status| percent(status.custom_status().unwrap_or_default()) >= 50)
    ///     .await?;
    /// assert_eq!(half.custom_status::<u32>()?, Some(50));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ClientError::Ended`] where it ended and was not as wanted; as for [`wait`](Self::wait) otherwise.
    pub async fn wait_until(
        &self,
        wanted: impl Fn(&InstanceStatus) -> bool,
    ) -> Result<InstanceStatus, ClientError> {
        let mut changes = Changes::new(self);
        loop {
            let status = InstanceStatus::new((*changes.next().await?).clone());
            if wanted(&status) {
                return Ok(status);
            }
            if status.has_ended() {
                let instance = self.instance.clone();
                return Err(ClientError::Ended { instance, status: status.runtime_status() });
            }
        }
    }

    /// Like [`wait_until`](Self::wait_until), for at most this long.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = Client::new(MemoryStore::new());
    /// // No worker runs it.
    /// let order = client.start_by_name("order", &7).await?;
    /// let ended = order.wait_until_within(millis(1), |status| status.has_ended()).await;
    /// assert!(matches!(ended, Err(ClientError::TimedOut { .. })));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ClientError::TimedOut`] when the time is over; the instance goes on.
    pub async fn wait_until_within(
        &self,
        limit: Duration,
        wanted: impl Fn(&InstanceStatus) -> bool,
    ) -> Result<InstanceStatus, ClientError> {
        tokio::time::timeout(limit, self.wait_until(wanted)).await.unwrap_or_else(|_| {
            Err(ClientError::TimedOut { instance: self.instance.clone(), waited: limit })
        })
    }

    /// Waits for its output.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[orchestrator]
    /// # async fn pay(_: OrchestrationContext, cents: u32) -> Result<u32, OrchestrationError> {
    /// #     if cents > 500 { return Err(OrchestrationError::new("CardDeclined", "over the limit")) }
    /// #     Ok(cents)
    /// # }
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let worker = Worker::builder(MemoryStore::new()).register(pay).start().await?;
    /// # let client = worker.client();
    /// assert_eq!(client.start(pay, 400).await?.output().await?, 400);
    ///
    /// match client.start(pay, 700).await?.output().await {
    ///     Err(ClientError::Failed { failure, .. }) => assert_eq!(failure.kind, "CardDeclined"),
    ///     other => panic!("{other:?}"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ClientError::Failed`] and [`ClientError::Terminated`] where it ended without one; as for
    /// [`wait`](Self::wait) otherwise.
    pub async fn output(&self) -> Result<T, ClientError>
    where
        T: DeserializeOwned,
    {
        let status = self.wait().await?;
        let row = status.row();
        match row.status {
            RuntimeStatus::Failed => Err(ClientError::Failed {
                instance: self.instance.clone(),
                failure: Box::new(row.failure.clone().unwrap_or_else(|| {
                    durable_machine::model::Failure::new(
                        durable_machine::model::FailureClass::Application,
                        "Unknown",
                        "no reason was recorded",
                    )
                })),
            }),
            RuntimeStatus::Terminated | RuntimeStatus::Canceled => Err(ClientError::Terminated {
                instance: self.instance.clone(),
                reason: row.output.as_ref().and_then(|output| output.to().ok()),
            }),
            _ => read(row.output.as_ref().unwrap_or(&Payload::null()), "output"),
        }
    }

    /// Like [`output`](Self::output), for at most this long.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[orchestrator]
    /// # async fn double(_: OrchestrationContext, number: u32) -> Result<u32, OrchestrationError> { Ok(2 * number) }
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let worker = Worker::builder(MemoryStore::new()).register(double).start().await?;
    /// # let client = worker.client();
    /// assert_eq!(client.start(double, 21).await?.output_within(secs(30)).await?, 42);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ClientError::TimedOut`] when the time is over; the instance goes on.
    pub async fn output_within(&self, limit: Duration) -> Result<T, ClientError>
    where
        T: DeserializeOwned,
    {
        tokio::time::timeout(limit, self.output()).await.unwrap_or_else(|_| {
            Err(ClientError::TimedOut { instance: self.instance.clone(), waited: limit })
        })
    }

    /// The status now, then each later one that is seen, up to and with the last. A change that is
    /// overtaken by the next may be left out.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[orchestrator]
    /// # async fn double(_: OrchestrationContext, number: u32) -> Result<u32, OrchestrationError> { Ok(2 * number) }
    /// use futures::TryStreamExt;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let worker = Worker::builder(MemoryStore::new()).register(double).start().await?;
    /// # let client = worker.client();
    /// let handle = client.start(double, 21).await?;
    /// let seen: Vec<_> = handle.watch().try_collect().await?;
    /// assert_eq!(seen.last().unwrap().runtime_status(), RuntimeStatus::Completed);
    /// # Ok(())
    /// # }
    /// ```
    pub fn watch(
        &self,
    ) -> impl Stream<Item = Result<InstanceStatus, ClientError>> + Send + use<'_, T> {
        stream::unfold(Some(Changes::new(self)), |changes| async move {
            let mut changes = changes?;
            match changes.next().await {
                Ok(row) => {
                    let more = !row.status.is_terminal();
                    Some((Ok(InstanceStatus::new((*row).clone())), more.then_some(changes)))
                }
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    /// Ends the instance now. The reason becomes its output. Its children end with it, and theirs, but for those
    /// that go on by themselves: which were [detached](crate::Child::detach), or left to
    /// [`ParentClose::Abandon`](crate::ParentClose).
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
    /// order.terminate("the customer changed her mind").await?;
    /// match order.output().await {
    ///     Err(ClientError::Terminated { reason, .. }) => {
    ///         assert_eq!(reason.as_deref(), Some("the customer changed her mind"));
    ///     }
    ///     other => panic!("{other:?}"),
    /// }
    /// // What has ended takes nothing more.
    /// assert!(matches!(order.terminate("again").await, Err(ClientError::Ended { .. })));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ClientError::NotFound`], [`ClientError::Ended`], or the store's error.
    pub async fn terminate(&self, reason: impl Into<Arc<str>>) -> Result<(), ClientError> {
        self.command(Command::Terminate { reason: Some(reason.into()), tree: false }).await
    }

    /// Ends the instance now, with all its children, and theirs: also those that would go on by themselves, as
    /// long as the execution that started them has not ended.
    ///
    /// Success says that the instance ends, for good. Its children follow, each in a commit of its own.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// #[orchestrator]
    /// async fn sleeper(ctx: OrchestrationContext) -> Result<(), OrchestrationError> {
    ///     ctx.sleep(days(365)).await;
    ///     Ok(())
    /// }
    ///
    /// #[orchestrator]
    /// async fn run_batch(ctx: OrchestrationContext) -> Result<(), OrchestrationError> {
    ///     ctx.child(sleeper, &()).id("sleeper-1").detach()?;
    ///     ctx.sleep(days(1)).await;
    ///     Ok(())
    /// }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let worker = Worker::builder(MemoryStore::new()).register(sleeper).register(run_batch).start().await?;
    /// # let client = worker.client();
    /// let batch = client.start(run_batch, ()).await?;
    /// # batch.wait_until(|status| status.runtime_status() == RuntimeStatus::Running).await?;
    /// # while client.status("sleeper-1").await?.is_none() { tokio::task::yield_now().await }
    /// batch.terminate_tree("not needed any more").await?;
    /// let detached = client.instance("sleeper-1")?.wait().await?;
    /// assert_eq!(detached.runtime_status(), RuntimeStatus::Terminated);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ClientError::NotFound`], [`ClientError::Ended`], or the store's error.
    pub async fn terminate_tree(&self, reason: impl Into<Arc<str>>) -> Result<(), ClientError> {
        self.command(Command::Terminate { reason: Some(reason.into()), tree: true }).await
    }

    /// Holds the instance: what arrives is kept and changes nothing until it is resumed. Doing so twice
    /// changes nothing.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[orchestrator]
    /// # async fn place_order(ctx: OrchestrationContext) -> Result<bool, OrchestrationError> {
    /// #     Ok(ctx.wait_event("approved").await?)
    /// # }
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let worker = Worker::builder(MemoryStore::new()).register(place_order).start().await?;
    /// # let client = worker.client();
    /// let order = client.start(place_order, ()).await?;
    /// order.suspend("the warehouse is closed").await?;
    /// order.raise_event("approved", &true).await?; // kept
    /// order.wait_until(|status| status.runtime_status() == RuntimeStatus::Suspended).await?;
    ///
    /// order.resume("it is open again").await?;
    /// assert!(order.output().await?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ClientError::NotFound`], [`ClientError::Ended`], or the store's error.
    pub async fn suspend(&self, reason: impl Into<Arc<str>>) -> Result<(), ClientError> {
        self.command(Command::Suspend { reason: Some(reason.into()) }).await
    }

    /// Lets the instance go on, or tries again to run one that the engine holds.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[orchestrator]
    /// # async fn place_order(ctx: OrchestrationContext) -> Result<bool, OrchestrationError> {
    /// #     Ok(ctx.wait_event("approved").await?)
    /// # }
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let worker = Worker::builder(MemoryStore::new()).register(place_order).start().await?;
    /// # let client = worker.client();
    /// let order = client.start(place_order, ()).await?;
    /// order.suspend("the warehouse is closed").await?;
    /// order.resume("it is open again").await?;
    /// order.wait_until(|status| status.runtime_status() == RuntimeStatus::Running).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ClientError::NotFound`], [`ClientError::Ended`], or the store's error.
    pub async fn resume(&self, reason: impl Into<Arc<str>>) -> Result<(), ClientError> {
        self.command(Command::Resume { reason: Some(reason.into()) }).await
    }

    /// Repeats a failed instance without its failures: activities and children that failed run again, and below
    /// those children theirs, everything that had succeeded is kept. It is running again then, and ends a second
    /// time.
    ///
    /// The code is run from its start and finds the results it had; where it takes another way now, because it
    /// was repaired or because a call no longer fails, that way is new.
    ///
    /// Success says that it is going to be rewound. Where its worker is another process, this waits some seconds
    /// for the status to show it; with no worker there, the failure is shown until there is one.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// use std::sync::atomic::{AtomicBool, Ordering};
    ///
    /// static OPEN: AtomicBool = AtomicBool::new(false);
    ///
    /// #[activity]
    /// async fn ship(order: u32) -> Result<u32, ActivityError> {
    ///     if OPEN.load(Ordering::SeqCst) {
    ///         Ok(order)
    ///     } else {
    ///         Err(ActivityError::new("Closed", "nobody is in the warehouse"))
    ///     }
    /// }
    ///
    /// #[orchestrator]
    /// async fn place_order(ctx: OrchestrationContext, order: u32) -> Result<u32, OrchestrationError> {
    ///     Ok(ctx.call(ship, &order).await?)
    /// }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let worker = Worker::builder(MemoryStore::new()).register(place_order).register(ship).start().await?;
    /// # let client = worker.client();
    /// let order = client.start(place_order, 7).await?;
    /// assert_eq!(order.wait().await?.runtime_status(), RuntimeStatus::Failed);
    ///
    /// OPEN.store(true, Ordering::SeqCst);
    /// order.rewind("the warehouse is back").await?;
    /// assert_eq!(order.output().await?, 7); // how it ends this time
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ClientError::NotFound`]; [`ClientError::NotFailed`] where it has not failed; [`ClientError::Refused`]
    /// where its worker has no such orchestrator; or the store's error.
    pub async fn rewind(&self, reason: impl Into<Arc<str>>) -> Result<(), ClientError> {
        self.rewind_because(Some(reason.into())).await
    }

    /// With a reason or without one.
    pub(crate) async fn rewind_because(&self, reason: Option<Arc<str>>) -> Result<(), ClientError> {
        let status = self.status().await?;
        if status.runtime_status() != RuntimeStatus::Failed {
            return Err(ClientError::NotFailed {
                instance: self.instance.clone(),
                status: status.runtime_status(),
            });
        }
        let execution = status.execution();
        self.command(Command::Rewind { execution, reason }).await?;
        let mut pause = POLL_FIRST;
        let until = tokio::time::Instant::now() + REWIND_SHOWS;
        while tokio::time::Instant::now() < until {
            // It was accepted, whether it can be seen or not.
            let Ok(status) = self.status().await else { break };
            if status.execution() != execution || !status.has_ended() {
                break;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(POLL_LAST);
        }
        Ok(())
    }

    /// The history of its current execution.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// use durable_core::EventKind;
    /// # #[orchestrator]
    /// # async fn double(_: OrchestrationContext, number: u32) -> Result<u32, OrchestrationError> { Ok(2 * number) }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let worker = Worker::builder(MemoryStore::new()).register(double).start().await?;
    /// # let client = worker.client();
    /// let handle = client.start(double, 21).await?;
    /// handle.wait().await?;
    /// let history = handle.history().await?;
    /// let [began, ended] = history.events() else { panic!("{history:?}") };
    /// assert!(matches!(began.is, EventKind::ExecutionStarted(_)));
    /// assert!(matches!(ended.is, EventKind::ExecutionCompleted { .. }));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ClientError::NotFound`], or the store's error; a history that cannot be read is
    /// [`StoreError::Corrupt`](crate::store::StoreError::Corrupt).
    pub async fn history(&self) -> Result<History, ClientError> {
        self.client
            .history(&self.instance)
            .await?
            .ok_or_else(|| ClientError::NotFound(self.instance.clone()))
    }

    /// The events of its current execution, read in pages as the stream is polled: for histories that are
    /// too large to hold.
    ///
    /// Ends with [`ClientError::Replaced`] where another execution begins meanwhile: read again.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// use futures::TryStreamExt;
    /// # #[orchestrator]
    /// # async fn double(_: OrchestrationContext, number: u32) -> Result<u32, OrchestrationError> { Ok(2 * number) }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let worker = Worker::builder(MemoryStore::new()).register(double).start().await?;
    /// # let client = worker.client();
    /// let handle = client.start(double, 21).await?;
    /// handle.wait().await?;
    /// let mut events = handle.history_events();
    /// let mut count = 0;
    /// while let Some(_event) = events.try_next().await? {
    ///     count += 1;
    /// }
    /// assert_eq!(count, 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn history_events(&self) -> impl Stream<Item = Result<Event, ClientError>> + Send + use<T> {
        history_events(self.client.clone(), self.instance.clone())
    }

    pub(crate) async fn command(&self, command: Command) -> Result<(), ClientError> {
        let envelope = Envelope {
            id: EnvelopeId(Uuid::new_v4().simple().to_string().into()),
            instance: self.instance.clone(),
            run: self.run,
            command,
        };
        self.client.command(envelope, false).await
    }
}

impl<T> fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("instance", &self.instance)
            .field("run", &self.run)
            .finish_non_exhaustive()
    }
}
