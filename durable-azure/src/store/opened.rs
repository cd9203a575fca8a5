//! Taking a partition over, and giving it back.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use durable_core::machine::model::{
    CommitNumber, EnvelopeId, Fence, InstanceId, Message, MessageNumber, PartitionId, Timestamp,
};
use durable_core::machine::store::Snapshot;
use durable_core::store::StoreError;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use super::commit::{Prepared, Sent};
use super::failure::not_applied;
use super::head::HeadRow;
use super::inbox::Inbox;
use super::known::Cache;
use super::plan::Garbage;
use super::rows::{CREATED, RUN, instance_id, read_number};
use super::{Inner, body, garbage, keys, poller};
use crate::service::{Etag, Fault, Op, Row};

/// How long the id of a consumed message is remembered.
pub(super) const CONSUMED_KEPT_MICROS: i64 = 3_600_000_000;
/// Times that owners may overtake each other before an opening gives up.
const TAKE_OVERS_MAX: usize = 20;

/// One opening of a partition by this store.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) partition: PartitionId,
    /// Partition key.
    pub(super) key: String,
    pub(super) fence: Fence,
    pub(super) committer: tokio::sync::Mutex<Committer>,
    cache: Mutex<Cache>,
    inbox: Mutex<Inbox>,
    /// Something may be in the queue.
    pub(super) poke: Notify,
    stopped: watch::Sender<bool>,
    pub(super) garbage: garbage::Heap,
}

/// What only one commit at a time may use.
#[derive(Debug)]
pub(super) struct Committer {
    /// The head row as this owner wrote it last.
    pub(super) row: HeadRow,
    pub(super) etag: Etag,
    pub(super) last: CommitNumber,
    /// A commit that was sent, or could not be, and that nobody knows to be applied.
    pub(super) prepared: Option<Prepared>,
    /// Rows of messages that are there: receiver and first number, to the last number.
    pub(super) outbox: BTreeMap<(PartitionId, MessageNumber), MessageNumber>,
    /// Rows of consumed ids that are there, oldest first.
    pub(super) consumed: VecDeque<(Timestamp, String)>,
}

impl Opened {
    pub(super) fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on it takes no messages.
    pub(super) fn stop(&self) {
        self.stopped.send_replace(true);
    }

    pub(super) fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    pub(super) async fn until_stopped(&self) {
        // The sender lives as long as this.
        let _ = self.stopped.subscribe().wait_for(|stopped| *stopped).await;
    }
}

/// Takes a partition over.
pub(super) async fn open(
    inner: &Arc<Inner>,
    partition: PartitionId,
) -> Result<Snapshot, StoreError> {
    let before = inner.opened().remove(&partition);
    if let Some(before) = before {
        before.stop();
        poller::give_back(inner, &before).await;
    }
    let key = keys::partition(partition);
    let (row, etag) = take_over(inner, &key).await?;
    let opened_at = inner.now();
    let (in_flight, outbox, consumed, left, starts) = futures::try_join!(
        inner.range(&key, "w|", &[super::rows::ID]),
        inner.range(&key, "o|", &[]),
        inner.range(&key, "c|", &[]),
        inner.range(&key, "g|", &[]),
        inner.acceptances(&key),
    )?;
    let (messages, outbox) = read_outbox(inner, &outbox, &row).await?;
    let (consumed, consumed_rows) = read_consumed(inner, &consumed, opened_at).await?;
    let snapshot = Snapshot {
        fence: row.fence,
        head: row.head.clone(),
        in_flight: in_flight.iter().filter_map(readable_id).collect(),
        outbox: messages,
        consumed: consumed.iter().map(|(id, at)| (id.clone(), *at)).collect(),
    };
    let opened = Arc::new(Opened {
        partition,
        key,
        fence: row.fence,
        committer: tokio::sync::Mutex::new(Committer {
            row,
            etag,
            last: CommitNumber(0),
            prepared: None,
            outbox,
            consumed: consumed_rows,
        }),
        cache: Mutex::default(),
        inbox: Mutex::new(Inbox::new(opened_at, consumed.into_keys(), starts)),
        poke: Notify::new(),
        stopped: watch::Sender::new(false),
        garbage: garbage::Heap::default(),
    });
    if let Some(other) = inner.opened().insert(partition, Arc::clone(&opened)) {
        other.stop();
    }
    let left: Vec<_> = left.iter().filter_map(readable_garbage).collect();
    garbage::collect(inner, &opened, left);
    inner.runtime.spawn(poller::poll(Arc::downgrade(inner), Arc::clone(&opened)));
    Ok(snapshot)
}

async fn take_over(inner: &Inner, key: &str) -> Result<(HeadRow, Etag), StoreError> {
    let opening = Uuid::new_v4().simple().to_string();
    let owner = inner.worker().map(|worker| worker.to_string()).unwrap_or_default();
    for _ in 0..TAKE_OVERS_MAX {
        let stored = inner.read_head(key).await?;
        let (row, op) = match stored {
            // An earlier try, whose answer was lost.
            Some((row, etag)) if row.opening == opening => return Ok((row, etag)),
            Some((row, etag)) => {
                let mut row = HeadRow { opening: opening.clone(), owner: owner.clone(), ..row };
                raise(&mut row);
                let columns = row.columns();
                (row, Op::Replace { key: keys::HEAD.into(), columns, etag })
            }
            None => {
                let mut row = HeadRow {
                    fence: Fence(0),
                    opening: opening.clone(),
                    owner: owner.clone(),
                    commit: String::new(),
                    head: Default::default(),
                    counts: Default::default(),
                    outbox_done: Default::default(),
                };
                raise(&mut row);
                let columns = row.columns();
                (row, Op::Insert { key: keys::HEAD.into(), columns })
            }
        };
        match inner.table.transact(key, &[op]).await.map(|etags| etags.into_iter().next()) {
            Ok(Some(Some(etag))) => return Ok((row, etag)),
            // Applied or not, or overtaken: the next look tells.
            Ok(_) | Err(Fault::Unknown { .. } | Fault::Refused { status: 404 | 409 | 412, .. }) => {
            }
            Err(fault) => return Err(not_applied(fault)),
        }
    }
    Err(StoreError::Busy {
        retry_after: std::time::Duration::from_secs(1),
        reason: format!("partition {key} changes its owner all the time"),
    })
}

fn raise(row: &mut HeadRow) {
    row.fence = row.fence.next();
    row.head.unclean_opens += 1;
    row.commit = keys::commit(row.fence, CommitNumber(0));
}

fn readable_id(row: &Row) -> Option<InstanceId> {
    instance_id(row)
        .inspect_err(|error| tracing::error!(%error, "work in flight is passed over"))
        .ok()
}

fn readable_garbage(row: &Row) -> Option<Garbage> {
    let read = || {
        Ok::<_, StoreError>(Garbage::Run {
            instance: instance_id(row)?,
            run: durable_core::machine::model::RunNumber(read_number(row, RUN)?),
            created: read_number(row, CREATED)?,
        })
    };
    read().inspect_err(|error| tracing::error!(%error, "garbage is left where it is")).ok()
}

type OutboxRows = BTreeMap<(PartitionId, MessageNumber), MessageNumber>;

/// Messages that were not confirmed, and the rows of all that are there.
async fn read_outbox(
    inner: &Inner,
    rows: &[Row],
    head: &HeadRow,
) -> Result<(Vec<Message>, OutboxRows), StoreError> {
    let (mut messages, mut kept) = (Vec::new(), BTreeMap::new());
    for row in rows {
        let body = body::read_fixed(&inner.container, row).await;
        let decoded = body.and_then(|bytes| {
            body::decode::<Vec<Message>>(&bytes)
                .map_err(|error| super::failure::corrupt(&row.partition, &row.key, error))
        });
        let found = match decoded {
            Ok(found) => found,
            Err(error @ StoreError::Corrupt { .. }) => {
                poller::bury_row(inner, row, &error).await?;
                continue;
            }
            Err(error) => return Err(error),
        };
        if let (Some(first), Some(last)) = (found.first(), found.last()) {
            kept.insert((first.to, first.number), last.number);
        }
        messages.extend(found.into_iter().filter(|message| {
            head.outbox_done.get(&message.to).is_none_or(|done| message.number > *done)
        }));
    }
    Ok((messages, kept))
}

type ConsumedIds = BTreeMap<EnvelopeId, Timestamp>;

/// The ids that are still remembered, and the rows of all that are there: for an hour from this opening on, since
/// what they stand for may be in the queue again.
async fn read_consumed(
    inner: &Inner,
    rows: &[Row],
    opened_at: Timestamp,
) -> Result<(ConsumedIds, VecDeque<(Timestamp, String)>), StoreError> {
    let (mut ids, mut kept) = (BTreeMap::new(), VecDeque::new());
    for row in rows {
        let at = row.key.split('|').nth(1).and_then(keys::read_time).unwrap_or_default();
        kept.push_back((at.max(opened_at), row.key.clone()));
        let body = body::read_fixed(&inner.container, row).await?;
        let found: Vec<EnvelopeId> = body::decode(&body)
            .map_err(|error| super::failure::corrupt(&row.partition, &row.key, error))?;
        // Rows come in the order of their times.
        ids.extend(found.into_iter().map(|id| (id, at)));
    }
    Ok((ids, kept))
}

/// Gives a partition back in good order.
pub(super) async fn release(
    inner: &Arc<Inner>,
    partition: PartitionId,
    fence: Fence,
) -> Result<(), StoreError> {
    let opened = inner.owned(partition, fence).await?;
    {
        let mut committer = opened.committer.lock().await;
        let mut row = committer.row.clone();
        row.owner.clear();
        row.head.unclean_opens = 0;
        row.head.probing = None;
        row.commit = format!("{}-released", fence.0);
        let prepared = Prepared::head_only(&row, &committer.etag);
        match super::commit::send(inner, &opened, &mut committer, prepared, Instant::now()).await {
            Sent::Applied => {}
            Sent::Failed(error) => return Err(error),
        }
    }
    opened.stop();
    inner.close(&opened);
    poller::hand_on(inner, &opened).await;
    Ok(())
}
