//! The queue of an opened partition: taking messages, and removing them once they have done their work.

use std::sync::{Arc, Weak};
use std::time::Duration;

use durable_core::machine::codec::DecodeError;
use durable_core::machine::model::{Acceptance, DeadLetter, InstanceId, PartitionId, StartNonce};
use durable_core::machine::store::{ArrivalPosition, Arrivals};
use durable_core::store::StoreError;
use futures::StreamExt as _;
use uuid::Uuid;

use super::failure::{not_applied, passes, retry_after};
use super::inbox::{Message, Verdict};
use super::opened::Opened;
use super::rows::{AcceptanceColumns, calendar, text};
use super::wire::{ReadError, Wire, WireStart};
use super::{Inner, keys, wire};
use crate::service::{Columns, Fault, Op, Queue, Received, Row};

/// Messages that one get returns at most.
const MESSAGES_MAX: u32 = 32;
/// The first wait after a get that found nothing; each further one is twice as long.
const IDLE_MIN: Duration = Duration::from_millis(100);
/// Wait after a get that failed, and before looking again where no messages are taken.
const FAILED_WAIT: Duration = Duration::from_secs(1);
/// Things in memory from which on no more are taken.
const WAITING_MAX: usize = 20_000;
/// How long a message is hidden that this build cannot read, and one that an acceptance row stands behind.
const LATER: Duration = Duration::from_secs(300);
const REMOVALS_AT_ONCE: usize = 8;
const REMOVAL_TRIES: usize = 3;
/// Characters of an unreadable body that a dead letter keeps.
const BURIED_CHARS_MAX: usize = 30_000;

/// Takes messages for as long as the partition is open.
pub(super) async fn poll(weak: Weak<Inner>, opened: Arc<Opened>) {
    let mut idle = IDLE_MIN;
    loop {
        let Some(inner) = weak.upgrade() else { return };
        if opened.is_stopped() {
            // What came in the meantime.
            hand_on(&inner, &opened).await;
            return;
        }
        let (wait, max_idle) = if inner.may_be_dead() || opened.inbox().waiting() > WAITING_MAX {
            (FAILED_WAIT, FAILED_WAIT)
        } else {
            match take(&inner, &opened).await {
                Ok(0) => {
                    idle = (idle * 2).min(inner.options.idle_poll_max);
                    (idle, inner.options.idle_poll_max)
                }
                Ok(_) => {
                    idle = IDLE_MIN / 2;
                    continue;
                }
                Err(error) => {
                    tracing::warn!(partition = opened.key, %error, "messages cannot be taken");
                    let wait = FAILED_WAIT.max(retry_after(&error));
                    (wait, wait)
                }
            }
        };
        drop(inner);
        tokio::select! {
            () = opened.until_stopped() => return,
            () = opened.poke.notified() => idle = IDLE_MIN / 2,
            () = tokio::time::sleep(wait.min(max_idle)) => {}
        }
    }
}

/// Takes messages once. Returns how many there were.
async fn take(inner: &Arc<Inner>, opened: &Arc<Opened>) -> Result<usize, StoreError> {
    let queue = inner.queue(opened.partition)?;
    let got = queue.get(MESSAGES_MAX, inner.options.visibility).await.map_err(not_applied)?;
    let count = got.len();
    let mut taken = Taken::default();
    let mut result = Ok(count);
    for received in got {
        if let Err(error) = take_one(inner, opened, queue, received, &mut taken).await {
            // The others do not wait for one that cannot be dealt with, nor for storage.
            let passes = matches!(error, StoreError::Busy { .. } | StoreError::Unknown(_));
            result = Err(error);
            if passes {
                break;
            }
        }
    }
    remove(inner, opened, taken.done);
    if taken.news {
        inner.changed();
    }
    result
}

/// What came of the messages of one get.
#[derive(Default)]
struct Taken {
    /// There is something to pass on.
    news: bool,
    /// They have done their work.
    done: Vec<Message>,
}

async fn take_one(
    inner: &Inner,
    opened: &Opened,
    queue: &Queue,
    received: Received,
    taken: &mut Taken,
) -> Result<(), StoreError> {
    let dequeued = received.dequeue_count;
    let Some((message, wire)) = open_message(inner, opened, queue, received).await? else {
        return Ok(());
    };
    let verdict = opened.inbox().take(message.clone(), dequeued, wire);
    match verdict {
        Verdict::New => taken.news = true,
        Verdict::Keep => {}
        Verdict::Remove => {
            opened.inbox().let_go(&message.id);
            taken.done.push(message);
        }
        Verdict::Doubtful(instance, nonce) => {
            opened.inbox().let_go(&message.id);
            if is_there(inner, opened, &instance, nonce).await? {
                // Its row is what counts; the message need not come back soon.
                hide(queue, &message, LATER).await?;
            } else {
                opened.inbox().is_gone(&instance, nonce);
                taken.done.push(message);
            }
        }
        Verdict::Unproven(start) => {
            let Acceptance { instance, nonce, .. } = &start.acceptance;
            let there = is_there(inner, opened, instance, *nonce).await?;
            if there && opened.inbox().proven(*start) {
                taken.news = true;
            } else {
                opened.inbox().let_go(&message.id);
                taken.done.push(message);
            }
        }
    }
    Ok(())
}

async fn is_there(
    inner: &Inner,
    opened: &Opened,
    instance: &InstanceId,
    nonce: StartNonce,
) -> Result<bool, StoreError> {
    let row = inner.row(&opened.key, &keys::acceptance(instance)).await?;
    let there = row.as_ref().map(AcceptanceColumns::read).transpose()?;
    Ok(there.is_some_and(|there| there.nonce == nonce))
}

/// Reads a message. `None`: it is not for this partition, and has been dealt with.
async fn open_message(
    inner: &Inner,
    opened: &Opened,
    queue: &Queue,
    received: Received,
) -> Result<Option<(Message, Wire)>, StoreError> {
    let Received { id, receipt, text, .. } = received;
    let mut message = Message { id, receipt, text, blob: None };
    match wire::read(&inner.container, &message.text).await {
        Ok((wire, blob)) => {
            message.blob = blob;
            let count = inner.hub.partitions;
            let mine = |id: &InstanceId| id.partition(count) == opened.partition;
            let here = match &wire {
                Wire::Start(start) => {
                    let WireStart { acceptance, .. } = &**start;
                    mine(&acceptance.instance)
                }
                Wire::Command(envelope) => mine(&envelope.instance),
                Wire::Result(result) => mine(&result.attempt.key.instance),
                Wire::Posts(_) => true,
                Wire::Work(_) | Wire::WorkAgain { .. } | Wire::Blob { .. } => false,
            };
            if here {
                return Ok(Some((message, wire)));
            }
            bury(inner, &opened.key, &message.text, "it is for another queue").await?;
            queue.remove(&message.id, &message.receipt).await.map_err(not_applied)?;
            Ok(None)
        }
        Err(ReadError::Message(error @ DecodeError::Newer { .. })) => {
            tracing::warn!(partition = opened.key, %error, "a message is left to a newer build");
            hide(queue, &message, LATER).await?;
            Ok(None)
        }
        Err(ReadError::Message(error)) => {
            let (count, reason) = (inner.hub.partitions, error.to_string());
            let instance = wire::instance_of(&message.text)
                .filter(|id| id.partition(count) == opened.partition);
            if let Some(instance) = instance {
                let letter = DeadLetter { at: inner.now(), reason: reason.as_str().into() };
                if opened.inbox().dead(message.clone(), instance, letter) {
                    bury(inner, &opened.key, &message.text, &reason).await?;
                    inner.changed();
                }
                return Ok(None);
            }
            bury(inner, &opened.key, &message.text, &reason).await?;
            queue.remove(&message.id, &message.receipt).await.map_err(not_applied)?;
            Ok(None)
        }
        Err(ReadError::Storage(error)) => Err(error),
    }
}

async fn hide(queue: &Queue, message: &Message, until: Duration) -> Result<(), StoreError> {
    let hidden = queue.update(&message.id, &message.receipt, &message.text, until).await;
    hidden.map(drop).map_err(not_applied)
}

/// Keeps what can never be processed, with its reason, for a person.
pub(super) async fn bury(
    inner: &Inner,
    partition: &str,
    body: &str,
    reason: &str,
) -> Result<(), StoreError> {
    tracing::error!(partition, reason, "a message is a dead letter now");
    let now = inner.now();
    let key = format!("{}|{}", keys::time(now), Uuid::new_v4().simple());
    let columns = Columns::from([
        ("reason".into(), text(reason)),
        ("body".into(), text(body.chars().take(BURIED_CHARS_MAX / 2).collect::<String>())),
        ("at".into(), calendar(now)),
    ]);
    let put = Op::Put { key, columns };
    inner.dead.transact(partition, &[put]).await.map(drop).map_err(not_applied)
}

/// The same for a row of messages, which is removed.
pub(super) async fn bury_row(
    inner: &Inner,
    row: &Row,
    error: &StoreError,
) -> Result<(), StoreError> {
    let body = row.text("body").unwrap_or_default();
    bury(inner, &row.partition, &format!("{}: {body}", row.key), &error.to_string()).await?;
    super::garbage::remove_row(inner, &row.partition, &row.key).await
}

/// Removes messages in the background. One that stays comes back and is recognised.
pub(super) fn remove(inner: &Arc<Inner>, opened: &Opened, messages: Vec<Message>) {
    if messages.is_empty() {
        return;
    }
    let (inner, partition) = (Arc::clone(inner), opened.partition);
    inner.runtime.clone().spawn(async move {
        let Ok(queue) = inner.queue(partition) else { return };
        let removals: Vec<_> =
            messages.into_iter().map(|message| remove_one(&inner, queue, message)).collect();
        futures::stream::iter(removals).buffer_unordered(REMOVALS_AT_ONCE).collect::<()>().await;
    });
}

async fn remove_one(inner: &Inner, queue: &Queue, message: Message) {
    for _ in 0..REMOVAL_TRIES {
        match queue.remove(&message.id, &message.receipt).await {
            Ok(removed) => {
                if let Some(blob) = message.blob.as_ref().filter(|_| removed) {
                    super::garbage::remove_blob(inner, blob).await;
                }
                return;
            }
            Err(fault) if passes(&fault) => tokio::time::sleep(IDLE_MIN).await,
            Err(fault) => {
                tracing::debug!(%fault, "a message stays in its queue");
                return;
            }
        }
    }
}

/// The next owner gets at once what this opening held.
pub(super) async fn give_back(inner: &Inner, opened: &Opened) {
    let held = opened.inbox().give_back();
    let Ok(queue) = inner.queue(opened.partition) else { return };
    let given = held.into_iter().map(|message| async move {
        if let Err(error) = hide(queue, &message, Duration::ZERO).await {
            tracing::debug!(%error, "a message comes back when its visibility ends");
        }
    });
    futures::stream::iter(given).buffer_unordered(REMOVALS_AT_ONCE).collect::<()>().await;
}

/// Another owner has taken the partition over, or may do so.
pub(super) fn lost(inner: &Arc<Inner>, opened: &Arc<Opened>) {
    opened.stop();
    inner.close(opened);
    let (inner, opened) = (Arc::clone(inner), Arc::clone(opened));
    inner.runtime.clone().spawn(async move { hand_on(&inner, &opened).await });
}

/// The next owner gets at once what this opening held, and hears of starts that nobody else was told of.
pub(super) async fn hand_on(inner: &Arc<Inner>, opened: &Opened) {
    let starts = opened.inbox().told_here_only();
    let told = starts.into_iter().map(|start| async move {
        super::accept::tell(inner, opened.partition, Wire::Start(Box::new(start))).await;
    });
    let told = futures::stream::iter(told).buffer_unordered(REMOVALS_AT_ONCE).collect::<()>();
    futures::join!(told, give_back(inner, opened));
}

/// What reached a partition behind `after`.
pub(super) async fn arrivals(
    inner: &Arc<Inner>,
    partition: PartitionId,
    after: ArrivalPosition,
    limit: usize,
) -> Result<Arrivals, StoreError> {
    let opened = inner.opened().get(&partition).cloned();
    let Some(opened) = opened else {
        return Err(StoreError::Unusable(format!(
            "arrivals of partition {partition} reach its owner only: open it first"
        )));
    };
    if opened.inbox().scan_is_due() {
        let found = inner.acceptances(&opened.key).await?;
        opened.inbox().scanned(found);
    }
    let (arrivals, done) = opened.inbox().arrivals(after, limit);
    remove(inner, &opened, done);
    Ok(arrivals)
}

/// Messages of the work queue that cannot be read.
pub(super) async fn bury_work(
    inner: &Inner,
    id: &str,
    receipt: &str,
    body: &str,
    reason: &str,
) -> Result<(), StoreError> {
    bury(inner, keys::FLEET, body, reason).await?;
    match inner.work.remove(id, receipt).await {
        Ok(_) => Ok(()),
        Err(fault @ Fault::Unknown { .. }) => Err(super::failure::maybe_applied(fault)),
        Err(fault) => Err(not_applied(fault)),
    }
}
