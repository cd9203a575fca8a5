//! Purging: what has ended goes, one instance or as many as a query finds.

use std::collections::BTreeMap;
use std::future::IntoFuture;
use std::pin::Pin;
use std::time::Duration;

use durable_machine::model::{
    Command, Envelope, EnvelopeId, InstanceId, PartitionId, RunNumber, RuntimeStatus,
};
use durable_machine::partition::Answer;
use durable_machine::store::{ListQuery, ListToken, Remains, SendOutcome};
use futures::StreamExt as _;
use futures::stream::{self, Stream};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Client, ClientError, Handle, Instances, retry_busy};
use crate::worker::Mail;

/// Instances of one portion of a bulk purge: read, purged and counted before the next one is read.
const PORTION: usize = 500;

/// Instances that one command names.
const ALONG_MAX: usize = 100;

/// How many the worker of this process is asked for at once.
const ASKED_AT_ONCE: usize = 64;

/// How often it is looked whether something is left: at first, and at most.
const LOOK_FIRST: Duration = Duration::from_millis(10);
const LOOK_LAST: Duration = Duration::from_secs(1);

/// Of so many it is looked whether it has begun, where that is done in another process.
const SAMPLE: usize = 3;

/// When a purge that nobody has begun is asked for again: its owner may have died.
const ASK_AGAIN: Duration = Duration::from_secs(15);

/// How long nothing may happen before the caller is told so.
const PATIENCE: Duration = Duration::from_secs(60);

impl<T> Handle<T> {
    /// Removes all that is stored of the instance, which has to have ended: status, history, payloads. Returns once
    /// no row and no blob of it is left. What is still on its way to it is dropped when it arrives; a start of
    /// the same id begins anew, and a start that was accepted before the purge came stays.
    ///
    /// It is for this instance alone: its children, and what it started otherwise, stay.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[orchestrator]
    /// # async fn place_order(_: OrchestrationContext, _cents: u32) -> Result<(), OrchestrationError> { Ok(()) }
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let worker = Worker::builder(MemoryStore::new()).register(place_order).start().await?;
    /// # let client = worker.client();
    /// let order = client.start(place_order, 700).id("order-7").await?;
    /// order.wait().await?;
    /// order.purge().await?;
    /// assert!(client.status("order-7").await?.is_none());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ClientError::NotFound`] where it is not there (any more); [`ClientError::NotEnded`] where it is active;
    /// [`ClientError::Replaced`] where a later run has the id; [`ClientError::PurgeUnderWay`] where no worker
    /// takes it on; or the store's error.
    pub async fn purge(&self) -> Result<(), ClientError> {
        let found = self.client.status(&self.instance).await?;
        let status = found.ok_or_else(|| ClientError::NotFound(self.instance.clone()))?;
        if self.run().is_some_and(|run| status.run() > run) {
            return Err(ClientError::Replaced(self.instance.clone()));
        }
        if !status.has_ended() {
            let (instance, status) = (self.instance.clone(), status.runtime_status());
            return Err(ClientError::NotEnded { instance, status });
        }
        let run = (self.instance.clone(), status.run());
        let Outcome { purged, mut refused, under_way } = self.client.purge_runs(vec![run]).await?;
        if let Some((instance, waited)) = under_way {
            return Err(ClientError::PurgeUnderWay { instance, waited });
        }
        match refused.pop() {
            Some((_, why)) => Err(ClientError::Refused(why)),
            None if purged == 0 => Err(ClientError::Replaced(self.instance.clone())),
            None => Ok(()),
        }
    }
}

/// How far a bulk purge has come.
///
/// ```
/// use durable_core::Purged;
///
/// let so_far = Purged { purged: 500, kept: 1 };
/// assert_ne!(so_far, Purged::default());
/// assert_eq!(format!("{} are gone, {} stay", so_far.purged, so_far.kept), "500 are gone, 1 stay");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Purged {
    /// Instances that are gone.
    pub purged: u64,
    /// Instances that were found and are not gone: a later run took their place meanwhile, or their rows cannot be
    /// read. The log says which those are.
    pub kept: u64,
}

/// A purge of all instances that fit a query and have ended; `.await` does it and says how many were purged.
///
/// Newest start first, in portions. Dropped in the middle it leaves the rest as it is; done again it goes on
/// with what is left.
///
/// ```
/// # use durable_core::prelude::*;
/// # #[orchestrator]
/// # async fn place_order(_: OrchestrationContext, _cents: u32) -> Result<(), OrchestrationError> { Ok(()) }
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let worker = Worker::builder(MemoryStore::new()).register(place_order).start().await?;
/// # let client = worker.client();
/// for cents in [100, 200, 300] {
///     client.start(place_order, cents).await?.wait().await?;
/// }
/// assert_eq!(client.instances().of(place_order).purge().await?.purged, 3);
/// assert!(client.counts().await?.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing is purged before it is awaited, or its stream is polled"]
pub struct Purge {
    instances: Instances,
}

impl Instances {
    /// Purges all of them that have ended, each as [`Handle::purge`] does. States in which an instance has not
    /// ended are passed over: with nothing but such states the query finds nothing.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[orchestrator]
    /// # async fn place_order(_: OrchestrationContext, _cents: u32) -> Result<(), OrchestrationError> { Ok(()) }
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let worker = Worker::builder(MemoryStore::new()).register(place_order).start().await?;
    /// # let client = worker.client();
    /// # client.start(place_order, 700).await?.wait().await?;
    /// let last_month = chrono::Utc::now() - chrono::TimeDelta::days(30);
    /// let purged = client.instances().created_to(last_month).purge().await?;
    /// assert_eq!(purged.purged, 0); // none is that old
    /// # Ok(())
    /// # }
    /// ```
    pub fn purge(self) -> Purge {
        Purge { instances: self }
    }
}

impl Purge {
    /// The same, with what is done so far behind each portion. Only as much is purged as is polled.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// use futures::TryStreamExt;
    /// # #[orchestrator]
    /// # async fn place_order(_: OrchestrationContext, _cents: u32) -> Result<(), OrchestrationError> { Ok(()) }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let worker = Worker::builder(MemoryStore::new()).register(place_order).start().await?;
    /// # let client = worker.client();
    /// # client.start(place_order, 700).tag("region", "eu").await?.wait().await?;
    /// let mut purge = client.instances().tag("region", "eu").purge().stream();
    /// let mut gone = 0;
    /// while let Some(so_far) = purge.try_next().await? {
    ///     gone = so_far.purged;
    /// }
    /// assert_eq!(gone, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Each item may be [`ClientError::PurgeUnderWay`] or the store's error; it is the last one then.
    pub fn stream(self) -> impl Stream<Item = Result<Purged, ClientError>> + Send + use<> {
        let (client, query) = self.instances.into_parts();
        let query = of_the_ended(query);
        let begin = query.map(|query| (query, None::<ListToken>, Purged::default()));
        let portions = stream::try_unfold(begin, move |state| {
            let client = client.clone();
            async move {
                let Some((query, after, mut so_far)) = state else { return Ok(None) };
                let store = client.store();
                let page = retry_busy(|| store.list(&query, after, PORTION)).await?;
                let runs: Vec<_> =
                    page.rows.into_iter().map(|row| (row.instance, row.run)).collect();
                let found = runs.len() as u64;
                let Outcome { purged, refused, under_way } = client.purge_runs(runs).await?;
                for (instance, why) in refused {
                    tracing::warn!(%instance, why, "an instance is not purged");
                }
                // Where others went, the hub is served, and something is wrong with this one alone.
                if let Some((instance, waited)) = under_way {
                    if purged == 0 {
                        return Err(ClientError::PurgeUnderWay { instance, waited });
                    }
                    tracing::warn!(%instance, ?waited, "an instance is not purged in time");
                }
                so_far.purged += purged;
                so_far.kept += found - purged;
                let next = page.next.map(|next| (query, Some(next), so_far));
                Ok::<_, ClientError>(Some((so_far, next)))
            }
        });
        Box::pin(portions)
    }

    async fn run(self) -> Result<Purged, ClientError> {
        let mut so_far = Purged::default();
        let mut portions = self.stream();
        while let Some(portion) = portions.next().await {
            so_far = portion?;
        }
        Ok(so_far)
    }
}

impl IntoFuture for Purge {
    type Output = Result<Purged, ClientError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// The query for those that have ended; `None` where it can find none.
fn of_the_ended(mut query: ListQuery) -> Option<ListQuery> {
    let any = query.statuses.is_empty();
    query.statuses = RuntimeStatus::ALL
        .into_iter()
        .filter(|status| status.is_terminal() && (any || query.statuses.contains(status)))
        .collect();
    (!query.statuses.is_empty()).then_some(query)
}

/// A run that is to go.
type Run = (InstanceId, RunNumber);

/// What became of the runs of one purge.
#[derive(Debug, Default)]
struct Outcome {
    purged: u64,
    /// Those that stay, and why: their rows cannot be read.
    refused: Vec<(InstanceId, String)>,
    /// The first of those that nobody has purged in time.
    under_way: Option<(InstanceId, Duration)>,
}

/// What became of the question.
struct Asked {
    /// Those that the worker of this process refused, and why.
    refused: Vec<(InstanceId, String)>,
    /// Others were asked, too, by way of the store.
    elsewhere: bool,
}

/// What the worker of this process says to a purge.
enum Told {
    /// Taken. What became of it shows in the store: it may have gone, or given way, a moment ago.
    Taken,
    /// To be asked again.
    Later,
    /// It is another worker's.
    Elsewhere(Run),
    Refused(InstanceId, String),
}

impl Client {
    /// Purges these runs, which have ended, and waits until nothing is left of them, or nothing more happens.
    async fn purge_runs(&self, runs: Vec<Run>) -> Result<Outcome, ClientError> {
        let mut outcome = Outcome::default();
        let (mut to_ask, mut left) = (runs.clone(), runs);
        let (mut asked, mut moved) = (Instant::now(), Instant::now());
        let mut pause = LOOK_FIRST;
        let mut waits = false;
        loop {
            if !to_ask.is_empty() {
                let Asked { refused, elsewhere } = self.ask_for_purge(&mut to_ask).await?;
                left.retain(|(instance, _)| !refused.iter().any(|(other, _)| other == instance));
                outcome.refused.extend(refused);
                asked = Instant::now();
                waits = elsewhere;
            }
            let store = self.store();
            // A look may cost a call for each: until it begins elsewhere, a few of them tell.
            let some = &left[..left.len().min(if waits { SAMPLE } else { usize::MAX })];
            let mut remains = retry_busy(|| store.remains(some)).await?;
            if waits && remains.iter().any(|remains| *remains != Remains::There) {
                remains = retry_busy(|| store.remains(&left)).await?;
            }
            waits = remains.iter().all(|remains| *remains == Remains::There);
            remains.resize(left.len(), Remains::There);
            let before = left.len();
            let mut there = Vec::new();
            let mut rest = Vec::new();
            for (run, remains) in left.into_iter().zip(remains) {
                match remains {
                    Remains::Nothing => outcome.purged += 1,
                    Remains::Replaced => {}
                    Remains::There => {
                        there.push(run.clone());
                        rest.push(run);
                    }
                    Remains::Rest => rest.push(run),
                }
            }
            left = rest;
            let Some((instance, _)) = left.first() else { return Ok(outcome) };
            if left.len() < before {
                moved = Instant::now();
                pause = LOOK_FIRST;
            } else if moved.elapsed() >= PATIENCE {
                outcome.under_way = Some((instance.clone(), moved.elapsed()));
                return Ok(outcome);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK_LAST);
            if asked.elapsed() >= ASK_AGAIN {
                to_ask = there;
            }
        }
    }

    /// Tells the owners, and takes out whom it told. Who is not there any more, or has not ended, is left alone by
    /// them.
    async fn ask_for_purge(&self, runs: &mut Vec<Run>) -> Result<Asked, ClientError> {
        let partitions = self.store().hub().partitions;
        let mut elsewhere = BTreeMap::<PartitionId, Vec<Run>>::new();
        let mut refused = Vec::new();
        let asked = std::mem::take(runs).into_iter().map(|run| self.ask_here(run));
        let mut asked = stream::iter(asked).buffer_unordered(ASKED_AT_ONCE);
        while let Some(told) = asked.next().await {
            match told? {
                (_, Told::Taken) => {}
                (run, Told::Later) => runs.push(run),
                (_, Told::Elsewhere(run)) => {
                    elsewhere.entry(run.0.partition(partitions)).or_default().push(run);
                }
                (_, Told::Refused(instance, why)) => refused.push((instance, why)),
            }
        }
        for portion in elsewhere.values().flat_map(|runs| runs.chunks(ALONG_MAX)) {
            let Some(((instance, run), also)) = portion.split_first() else { continue };
            let envelope = purge(instance, *run, also);
            match retry_busy(|| self.store().send(&envelope)).await? {
                SendOutcome::Sent => {}
                // It is gone already; so the others need another one that names them.
                SendOutcome::NotFound | SendOutcome::Ended(_) => runs.extend_from_slice(also),
            }
        }
        Ok(Asked { refused, elsewhere: !elsewhere.is_empty() })
    }

    /// Asks the worker of this process.
    async fn ask_here(&self, run: Run) -> Result<(Run, Told), ClientError> {
        let Some(worker) = self.worker_of(&run.0) else {
            return Ok((run.clone(), Told::Elsewhere(run)));
        };
        let envelope = Box::new(purge(&run.0, run.1, &[]));
        let told = worker.ask(&run.0, |ticket| Mail::Command { envelope, remember: false, ticket });
        let told = match told.await {
            Ok(Ok(Answer::Overloaded | Answer::Unavailable(_))) => Told::Later,
            Ok(Ok(Answer::Refused(why))) => Told::Refused(run.0.clone(), why),
            Ok(Ok(
                Answer::Accepted
                | Answer::NotFound
                | Answer::Finished(_)
                | Answer::Unfinished(_)
                | Answer::Full
                | Answer::Started(_),
            )) => Told::Taken,
            Ok(Err(_)) if worker.shares_the_hub() => Told::Elsewhere(run.clone()),
            Ok(Err(_)) | Err(_) => return Err(ClientError::Unanswered),
        };
        Ok((run, told))
    }
}

fn purge(instance: &InstanceId, run: RunNumber, also: &[(InstanceId, RunNumber)]) -> Envelope {
    Envelope {
        id: EnvelopeId(Uuid::new_v4().simple().to_string().into()),
        instance: instance.clone(),
        run: Some(run),
        command: Command::Purge { also: also.to_vec() },
    }
}
