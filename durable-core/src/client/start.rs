//! Starting an instance.

use std::future::IntoFuture;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use durable_machine::model::{
    Acceptance, Command, Deadline, Envelope, InstanceId, InvalidName, Payload, ReusePolicy,
    RunNumber, StartNonce, StatusRow, Timestamp, TraceContext, UnconsumedEvent, limits,
};
use durable_machine::partition::{Answer, Input};
use durable_machine::store::AcceptOutcome;
use serde::Serialize;
use uuid::Uuid;

use super::raise::{check_event_name, event_id};
use super::{Client, ClientError, Handle, retry_busy};
use crate::ids::IntoInstanceId;
use crate::time::from_utc;
use crate::worker::Mail;

/// Wait before a start whose event missed the active run looks again, doubled each time: the end of that run
/// may not be stored yet.
const MISSED_FIRST: Duration = Duration::from_millis(5);
const MISSED_LAST: Duration = Duration::from_secs(5);

/// A start that is being put together; `.await` starts it.
///
/// Without [`id`](Self::id) the instance gets a fresh one: 32 lower-case hexadecimal digits.
///
/// ```
/// use durable_core::prelude::*;
///
/// #[orchestrator]
/// async fn place_order(ctx: OrchestrationContext, item: String) -> Result<String, OrchestrationError> {
///     Ok(format!("{item} for {}", ctx.tag("customer").unwrap_or_default()))
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let worker = Worker::builder(MemoryStore::new()).register(place_order).start().await?;
/// # let client = worker.client();
/// let start = client.start(place_order, "a lamp".into()).id("order-7").tag("customer", "Ada");
/// let handle = start.await?; // durable from here on
/// assert_eq!(handle.output().await?, "a lamp for Ada");
///
/// let other = client.start(place_order, "a chair".into()).await?;
/// assert_eq!(other.id().as_str().len(), 32);
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is started before it is awaited"]
pub struct Start<T> {
    client: Client,
    name: Arc<str>,
    input: Result<Payload, ClientError>,
    id: Option<Result<InstanceId, InvalidName>>,
    reuse: ReusePolicy,
    time: Option<Time>,
    deadline: Option<Time>,
    version: Option<Arc<str>>,
    tags: Vec<(Arc<str>, Arc<str>)>,
    event: Option<Raised>,
    event_id: Option<Arc<str>>,
    trace: Option<TraceContext>,
    output: PhantomData<fn() -> T>,
}

/// An event that goes with the start.
struct Raised {
    name: Arc<str>,
    payload: Result<Payload, ClientError>,
}

/// By the hub's clock.
enum Time {
    At(Timestamp),
    After(Duration),
}

impl<T> Start<T> {
    pub(super) fn new(client: Client, name: Arc<str>, input: Result<Payload, ClientError>) -> Self {
        Self {
            client,
            name,
            input,
            id: None,
            reuse: ReusePolicy::default(),
            time: None,
            deadline: None,
            version: None,
            tags: Vec::new(),
            event: None,
            event_id: None,
            trace: None,
            output: PhantomData,
        }
    }

    /// Chooses the instance's id. An active instance of that id refuses the start, one that has ended is
    /// replaced, unless another method says otherwise.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = Client::new(MemoryStore::new());
    /// client.start_by_name("order", &7).id("order-7").await?;
    /// let again = client.start_by_name("order", &7).id("order-7").await;
    /// assert!(matches!(again, Err(ClientError::Active { .. })));
    /// # Ok(())
    /// # }
    /// ```
    pub fn id(mut self, id: impl IntoInstanceId) -> Self {
        self.id = Some(id.into_instance_id());
        self
    }

    /// An active instance of the id is what the caller gets, as if it had been started now.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = Client::new(MemoryStore::new());
    /// let first = client.start_by_name("monitor", &7).id("monitor-7").use_existing().await?;
    /// let second = client.start_by_name("monitor", &7).id("monitor-7").use_existing().await?;
    /// assert_eq!(second.run(), first.run());
    /// # Ok(())
    /// # }
    /// ```
    pub fn use_existing(mut self) -> Self {
        self.reuse = ReusePolicy::UseActive;
        self
    }

    /// An active instance of the id is terminated, and replaced. Only one that is accepted and that no worker has taken
    /// up yet stays, and refuses this start as [`ClientError::Active`]: try again a moment later.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[orchestrator]
    /// # async fn monitor(ctx: OrchestrationContext, target: u32) -> Result<(), OrchestrationError> {
    /// #     ctx.sleep(days(1)).await;
    /// #     Ok(())
    /// # }
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let worker = Worker::builder(MemoryStore::new()).register(monitor).start().await?;
    /// # let client = worker.client();
    /// let first = client.start(monitor, 7).id("monitor").await?;
    /// first.wait_until(|status| status.runtime_status() == RuntimeStatus::Running).await?;
    /// let second = client.start(monitor, 8).id("monitor").replace_existing().await?;
    /// assert!(second.run() > first.run());
    /// assert_eq!(second.status().await?.input::<u32>()?, 8);
    /// assert!(matches!(first.wait().await, Err(ClientError::Replaced(_))));
    /// # Ok(())
    /// # }
    /// ```
    pub fn replace_existing(mut self) -> Self {
        self.reuse = ReusePolicy::ReplaceActive;
        self
    }

    /// Starts it then, by the hub's clock; a time that has passed is now. Until then the instance is
    /// `Pending`: events sent to it are kept, terminate ends it, suspend makes it begin suspended.
    ///
    /// With [`replace_existing`](Self::replace_existing) the active instance is terminated at once.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = Client::new(MemoryStore::new());
    /// let tomorrow = chrono::Utc::now() + chrono::TimeDelta::days(1);
    /// let report = client.start_by_name("report", &7).at(tomorrow).await?;
    /// assert_eq!(report.status().await?.runtime_status(), RuntimeStatus::Pending);
    /// # Ok(())
    /// # }
    /// ```
    pub fn at(mut self, time: DateTime<Utc>) -> Self {
        self.time = Some(Time::At(from_utc(time)));
        self
    }

    /// Starts it this long from now; otherwise as [`at`](Self::at).
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = Client::new(MemoryStore::new());
    /// let reminder = client.start_by_name("remind", "stand up").delay(minutes(30)).await?;
    /// let status = reminder.status().await?;
    /// assert!(status.scheduled_for() >= Some(status.created_at() + minutes(30)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn delay(mut self, delay: Duration) -> Self {
        self.time = Some(Time::After(delay));
        self
    }

    /// The whole run has to have ended this long after it may begin: after the start, or the time that
    /// [`at`](Self::at) or [`delay`](Self::delay) gives it. If it has not, it fails there with the kind
    /// `DeadlineExceeded`, whatever it waits for, and also while it is suspended or held.
    ///
    /// It is one time for all executions of the run. At the deadline running activities are cancelled, children are
    /// left as their [`parent_close`](crate::Child::parent_close) says, and no code of the orchestrator runs any
    /// more: where something has to be taken back, bound the steps by
    /// [`within`](crate::OrchestrationContext::within) in the code, and let the deadline be later.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = Client::new(MemoryStore::new());
    /// let report = client.start_by_name("report", &7).time_limit(hours(2)).await?;
    /// let status = report.status().await?;
    /// assert_eq!(status.deadline(), Some(status.created_at() + hours(2)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.deadline = Some(Time::After(limit));
        self
    }

    /// The whole run has to have ended by then, by the hub's clock; otherwise as [`time_limit`](Self::time_limit). A
    /// run whose deadline is over when it may begin fails without running any code.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = Client::new(MemoryStore::new());
    /// let midnight = chrono::Utc::now() + hours(9);
    /// let report = client.start_by_name("report", &7).deadline(midnight).await?;
    /// assert!(report.status().await?.deadline() >= Some(midnight));
    /// # Ok(())
    /// # }
    /// ```
    pub fn deadline(mut self, time: DateTime<Utc>) -> Self {
        self.deadline = Some(Time::At(from_utc(time)));
        self
    }

    /// The version of the orchestrator that is meant: its code reads it by
    /// [`version`](crate::OrchestrationContext::version), and the status shows it. At most 128 bytes.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// #[orchestrator]
    /// async fn place_order(ctx: OrchestrationContext) -> Result<u32, OrchestrationError> {
    ///     Ok(if ctx.version().as_deref() == Some("2") { 200 } else { 100 })
    /// }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let worker = Worker::builder(MemoryStore::new()).register(place_order).start().await?;
    /// # let client = worker.client();
    /// assert_eq!(client.start(place_order, ()).version("2").await?.output().await?, 200);
    /// assert_eq!(client.start(place_order, ()).await?.output().await?, 100);
    /// # Ok(())
    /// # }
    /// ```
    pub fn version(mut self, version: impl Into<Arc<str>>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// Gives the instance a tag, by which lists can be filtered; a second one of the same key takes the
    /// place of the first. At most 32 tags, with keys up to 128 and values up to 512 bytes.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = Client::new(MemoryStore::new());
    /// client.start_by_name("order", &7).tag("customer", "c-12").tag("region", "eu").await?;
    /// let page = client.instances().tag("customer", "c-12").page(None, 10).await?;
    /// assert_eq!(page.instances[0].tag("region"), Some("eu"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn tag(mut self, key: impl Into<Arc<str>>, value: impl Into<Arc<str>>) -> Self {
        let (key, value) = (key.into(), value.into());
        self.tags.retain(|(known, _)| *known != key);
        self.tags.push((key, value));
        self
    }

    /// Raises an event to the active instance of the id; where there is none, starts it, and the event comes
    /// with its start. Either way it reaches the run of the handle that is returned, and no other.
    ///
    /// The event of a new run is durable with its start, and in front of all others. Where an active run ends
    /// before the event reaches it, the next one is started; an event that was on its way already is listed by
    /// the run as [`unconsumed`](super::InstanceStatus::unconsumed). With
    /// [`replace_existing`](Self::replace_existing) it goes to the new run always.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// #[orchestrator]
    /// async fn cart(ctx: OrchestrationContext, customer: String) -> Result<Vec<u32>, OrchestrationError> {
    ///     let first = ctx.wait_event::<u32>("add").await?;
    ///     let second = ctx.wait_event::<u32>("add").await?;
    ///     Ok(vec![first, second])
    /// }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let worker = Worker::builder(MemoryStore::new()).register(cart).start().await?;
    /// # let client = worker.client();
    /// // Whoever comes first starts the cart; both items are in it.
    /// let add = |item: u32| client.start(cart, "c-12".into()).id("cart-12").with_event("add", &item);
    /// add(7).event_id("click-1").await?;
    /// let handle = add(8).event_id("click-2").await?;
    /// assert_eq!(handle.output().await?, [7, 8]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_event<E: Serialize + ?Sized>(
        mut self,
        name: impl Into<Arc<str>>,
        payload: &E,
    ) -> Self {
        let payload = super::payload(payload, "event's payload");
        self.event = Some(Raised { name: name.into(), payload });
        self
    }

    /// Gives that event an id of the caller's own: repeating the call with it within an hour raises no second
    /// event to the same run.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[orchestrator]
    /// # async fn cart(ctx: OrchestrationContext) -> Result<u32, OrchestrationError> {
    /// #     let (mut items, mut end) = (0, ctx.wait_event::<()>("pay"));
    /// #     while let Either::Left(item) = ctx.race(ctx.wait_event::<u32>("add"), &mut end).await { items += item?; }
    /// #     Ok(items)
    /// # }
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let worker = Worker::builder(MemoryStore::new()).register(cart).start().await?;
    /// # let client = worker.client();
    /// let add = || client.start(cart, ()).id("cart-12").with_event("add", &1).event_id("click-1");
    /// add().await?;
    /// let handle = add().await?; // the answer was lost, say: it is one item all the same
    /// handle.raise_event("pay", &()).await?;
    /// assert_eq!(handle.output().await?, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn event_id(mut self, id: impl Into<Arc<str>>) -> Self {
        self.event_id = Some(id.into());
        self
    }

    /// The trace that it belongs to.
    #[cfg(feature = "http")]
    pub(crate) fn trace(mut self, trace: TraceContext) -> Self {
        self.trace = Some(trace);
        self
    }

    async fn run(self) -> Result<Handle<T>, ClientError> {
        let Self {
            client, name, input, id, mut reuse, time, deadline, version, tags, trace, ..
        } = self;
        let input = input?;
        check_labels(version.as_deref(), &tags)?;
        let chosen = id.transpose()?;
        client.check_name(&name).await?;
        if self.event.is_some() && reuse == ReusePolicy::RefuseActive {
            reuse = ReusePolicy::UseActive;
        }
        let generated = chosen.is_none();
        let instance = match chosen {
            Some(id) => id,
            None => InstanceId::new(Uuid::new_v4().simple().to_string())?,
        };
        let remember = self.event_id.is_some();
        let event = self
            .event
            .map(|event| {
                check_event_name(&event.name)?;
                let id = event_id(&instance, self.event_id);
                Ok::<_, ClientError>(UnconsumedEvent {
                    name: event.name,
                    input: event.payload?,
                    id: Some(id),
                })
            })
            .transpose()?;
        let now = client.store().now();
        let scheduled_for = time.map(|time| match time {
            Time::At(time) => time,
            Time::After(delay) => now.after(delay),
        });
        let begin = scheduled_for.map_or(now, |due| due.max(now));
        let deadline = deadline.map(|deadline| match deadline {
            Time::At(time) => Deadline::at(time, begin),
            Time::After(limit) => Deadline::after(begin, limit),
        });
        let acceptance = Acceptance {
            reuse,
            scheduled_for,
            deadline,
            version,
            tags,
            raised: event.iter().cloned().collect(),
            trace,
            ..Acceptance::new(
                instance.clone(),
                RunNumber(u64::try_from(now.as_micros()).unwrap_or(1)),
                StartNonce(Uuid::new_v4()),
                name,
                input,
                now,
            )
        };
        // Watching begins before the start, so that no change can be missed and none has to be read.
        let mut watcher = client.watcher(&instance);
        let mut acceptance = Box::new(acceptance);
        // One that waits has to be durable before it begins.
        if generated
            && scheduled_for.is_none()
            && let Some(worker) = client.worker_of(&instance)
            // One that has not is not refused: the worker that has it gets the partition.
            && worker.functions.orchestrators.contains_key(&*acceptance.name)
        {
            let told = worker.ask(&instance, |ticket| Mail::Start { acceptance, ticket });
            acceptance = match told.await.map_err(|_| ClientError::Unanswered)? {
                Ok(Answer::Started(run)) => {
                    return Ok(Handle::new(client, instance, Some(run), watcher));
                }
                Ok(answer) => return Err(super::refusal(&instance, answer)),
                Err(Mail::Start { acceptance, .. }) if worker.shares_the_hub() => acceptance,
                Err(_) => return Err(ClientError::Unanswered),
            };
        }
        let mut pause = MISSED_FIRST;
        let run = loop {
            match retry_busy(|| client.store().accept(&acceptance)).await? {
                AcceptOutcome::Accepted { run, fresh } => {
                    if let Some(worker) = client.worker() {
                        acceptance.run = run;
                        let input = Input::Accepted { acceptance, fresh };
                        // Whoever owns the partition elsewhere hears of it from the store.
                        let _ = worker.send_to_instance(&instance, Mail::Input(input));
                    }
                    break run;
                }
                AcceptOutcome::Active(row) if reuse == ReusePolicy::UseActive => {
                    // It has a status that was not published to this watcher.
                    watcher = None;
                    let Some(event) = &event else { break row.run };
                    match client.command(raise(&row, event), remember).await {
                        Ok(()) => break row.run,
                        // It ended, or gave way, before the event reached it: the store will say so, too.
                        Err(
                            ClientError::Ended { .. }
                            | ClientError::NotFound(_)
                            | ClientError::Replaced(_),
                        ) if pause <= MISSED_LAST => {
                            tokio::time::sleep(pause).await;
                            pause *= 2;
                        }
                        Err(error) => return Err(error),
                    }
                }
                AcceptOutcome::Active(row) => {
                    return Err(ClientError::Active { instance, status: row.status });
                }
            }
        };
        Ok(Handle::new(client, instance, Some(run), watcher))
    }
}

/// The event, for this run and no other.
fn raise(row: &StatusRow, event: &UnconsumedEvent) -> Envelope {
    let UnconsumedEvent { name, input, id } = event.clone();
    Envelope {
        id: id.unwrap_or_else(|| event_id(&row.instance, None)),
        instance: row.instance.clone(),
        run: Some(row.run),
        command: Command::Raise { name, input },
    }
}

fn check_labels(version: Option<&str>, tags: &[(Arc<str>, Arc<str>)]) -> Result<(), ClientError> {
    let refuse = |what: String| Err(ClientError::InvalidLabel(what));
    if tags.len() > limits::TAGS_MAX {
        let (most, given) = (limits::TAGS_MAX, tags.len());
        return refuse(format!("an instance has at most {most} tags, these are {given}"));
    }
    let too_long = |text: &str, most: usize| text.len() > most;
    if version
        .is_some_and(|version| version.is_empty() || too_long(version, limits::TAG_KEY_BYTES_MAX))
    {
        let most = limits::TAG_KEY_BYTES_MAX;
        return refuse(format!("a version has 1 to {most} bytes"));
    }
    for (key, value) in tags {
        if key.is_empty() || too_long(key, limits::TAG_KEY_BYTES_MAX) {
            let most = limits::TAG_KEY_BYTES_MAX;
            return refuse(format!("a tag's key has 1 to {most} bytes, {key:?} has {}", key.len()));
        }
        if too_long(value, limits::TAG_VALUE_BYTES_MAX) {
            let (most, has) = (limits::TAG_VALUE_BYTES_MAX, value.len());
            return refuse(format!(
                "a tag's value has at most {most} bytes, that of {key:?} has {has}"
            ));
        }
    }
    Ok(())
}

impl<T: Send + 'static> IntoFuture for Start<T> {
    type Output = Result<Handle<T>, ClientError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
