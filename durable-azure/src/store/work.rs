//! Attempts that are offered to whichever worker has room: one queue for the hub, several attempts in a message.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use durable_core::machine::model::{AttemptKey, EnvelopeId, Failure, FailureClass};
use durable_core::machine::partition::StartAttempt;
use durable_core::machine::store::WorkResult;
use durable_core::store::{Renewal, StoreError, TakenWork};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::accept::put_surely;
use super::failure::{maybe_applied, not_applied};
use super::rows::{AT, id_columns};
use super::wire::{ReadError, Wire, work_portions};
use super::{Inner, garbage, keys, poller, wire};
use crate::service::{Fault, Op, Received, Value};

/// Times a message may be taken. Those before have been lost with their workers.
const TAKEN_MAX: u32 = 5;
/// Messages in one get.
const MESSAGES_MAX: usize = 32;
/// Attempts that a message is expected to hold.
const EXPECTED: usize = 16;

/// Messages that this process has taken, by their ids.
#[derive(Debug, Default)]
pub(super) struct TakenMessages(HashMap<String, TakenMessage>);

#[derive(Debug)]
struct TakenMessage {
    /// New for each taking.
    taking: String,
    /// As of the latest get or update.
    receipt: String,
    text: String,
    blob: Option<String>,
    /// Attempts that are neither finished nor given back.
    open: Vec<StartAttempt>,
    /// How often it was taken, this time left out.
    taken_before: u32,
    /// The same without the takings that the service counts for the present message.
    given_back: u32,
    /// What attempts have reported is not in the message yet.
    news: bool,
    hidden_until: Instant,
    /// Held by whoever uses the receipt: the service takes each one once.
    using: Arc<tokio::sync::Mutex<()>>,
    /// Seen to be withdrawn: the row that says so goes with the result.
    withdrawn: Vec<AttemptKey>,
}

/// What is left to do when an attempt is finished.
struct Finished {
    withdrawn: bool,
    /// Whether its message is still hidden from others.
    hidden: bool,
    /// Receipt and blob of its message, where this was the last attempt in it.
    last: Option<(String, Option<String>)>,
}

impl TakenMessages {
    /// `None`: the message is no longer this taker's.
    fn of(&mut self, id: &str, taking: &str) -> Option<&mut TakenMessage> {
        self.0.get_mut(id).filter(|message| message.taking == taking)
    }

    /// `None`: the message is no longer this taker's. Where this was the last attempt in it, it stays noted until
    /// it is removed.
    fn finish(&mut self, id: &str, taking: &str, attempt: &AttemptKey) -> Option<Finished> {
        let message = self.of(id, taking)?;
        message.open.retain(|item| item.attempt != *attempt);
        let last = message.open.is_empty();
        Some(Finished {
            withdrawn: message.withdrawn.contains(attempt),
            hidden: message.hidden_until > Instant::now(),
            last: last.then(|| (message.receipt.clone(), message.blob.clone())),
        })
    }

    /// What an attempt has reported goes with the next update of its message.
    fn note(&mut self, id: &str, taking: &str, work: &StartAttempt) {
        let Some(message) = self.of(id, taking) else { return };
        let item = message.open.iter_mut().find(|item| item.attempt == work.attempt);
        if let Some(item) = item.filter(|item| item.heartbeat_details != work.heartbeat_details) {
            item.heartbeat_details.clone_from(&work.heartbeat_details);
            message.news = true;
        }
    }

    fn forget(&mut self, id: &str, taking: &str) {
        if self.of(id, taking).is_some() {
            self.0.remove(id);
        }
    }
}

/// `taking|message`.
fn receipt(taking: &str, message: &str) -> String {
    format!("{taking}|{message}")
}

fn withdrawn_key(attempt: &AttemptKey) -> String {
    let AttemptKey { key, call, attempt } = attempt;
    let text = format!("{}|{}|{}|{call}|{attempt}", key.instance, key.run, key.execution);
    let hash: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("x|{hash}")
}

/// Offers attempts to other workers.
pub(super) async fn offer(inner: &Inner, work: Vec<StartAttempt>) -> Result<(), StoreError> {
    for portion in work_portions(work) {
        let text = wire::text(&inner.container, &Wire::Work(portion)).await?;
        // Put twice, they run twice: the first result counts.
        inner.work.put(&text).await.map_err(maybe_applied)?;
    }
    Ok(())
}

/// Takes about `limit` offers.
pub(super) async fn take(
    inner: &Inner,
    limit: usize,
    visibility: Duration,
) -> Result<Vec<TakenWork>, StoreError> {
    let mut taken = Vec::new();
    while taken.len() < limit {
        let most = (limit - taken.len()).div_ceil(EXPECTED).min(MESSAGES_MAX);
        let before = Instant::now();
        let max = u32::try_from(most).unwrap_or(1);
        let got = inner.work.get(max, visibility).await.map_err(not_applied)?;
        let full = got.len() == most;
        for received in got {
            match take_message(inner, received, before + visibility, &mut taken).await {
                Ok(()) => {}
                // What was taken before it is not to be lost: nobody else sees it for now.
                Err(error) if !taken.is_empty() => {
                    tracing::warn!(%error, "an offer could not be taken");
                }
                Err(error) => return Err(error),
            }
        }
        if !full {
            break;
        }
    }
    Ok(taken)
}

async fn take_message(
    inner: &Inner,
    received: Received,
    hidden_until: Instant,
    taken: &mut Vec<TakenWork>,
) -> Result<(), StoreError> {
    let Received { id, receipt: pop_receipt, text, dequeue_count } = received;
    let (work, before, blob) = match wire::read(&inner.container, &text).await {
        Ok((Wire::Work(work), blob)) => (work, 0, blob),
        Ok((Wire::WorkAgain { work, taken }, blob)) => (work, taken, blob),
        Ok(_) => {
            let reason = "it is not an offer";
            return poller::bury_work(inner, &id, &pop_receipt, &text, reason).await;
        }
        Err(ReadError::Message(error)) => {
            return poller::bury_work(inner, &id, &pop_receipt, &text, &error.to_string()).await;
        }
        Err(ReadError::Storage(error)) => return Err(error),
    };
    let count = u32::try_from(dequeue_count).unwrap_or(u32::MAX).saturating_add(before);
    if count > TAKEN_MAX {
        for item in work {
            report(inner, lost(item)).await?;
        }
        inner.work.remove(&id, &pop_receipt).await.map_err(maybe_applied)?;
        return Ok(());
    }
    let taking = Uuid::new_v4().simple().to_string();
    for item in &work {
        taken.push(TakenWork { item: item.clone(), receipt: receipt(&taking, &id) });
    }
    let message = TakenMessage {
        taking,
        receipt: pop_receipt,
        text,
        blob,
        open: work,
        taken_before: count.saturating_sub(1),
        given_back: before,
        news: false,
        hidden_until,
        using: Arc::default(),
        withdrawn: Vec::new(),
    };
    inner.taken().0.insert(id, message);
    Ok(())
}

fn lost(item: StartAttempt) -> WorkResult {
    let message = format!("{TAKEN_MAX} workers took the attempt, and none gave a result");
    let failure = Failure::new(FailureClass::WorkerLost, "WorkerLost", message);
    WorkResult {
        id: EnvelopeId(Uuid::new_v4().to_string().into()),
        attempt: item.attempt,
        result: Err(Box::new(failure)),
        heartbeat_details: item.heartbeat_details,
    }
}

async fn report(inner: &Inner, result: WorkResult) -> Result<(), StoreError> {
    let partition = result.attempt.key.instance.partition(inner.hub.partitions);
    put_surely(inner, partition, &Wire::Result(Box::new(result))).await
}

/// Waits until nobody uses the receipt of a taken message. `None`: it is no longer this taker's.
async fn use_receipt(
    inner: &Inner,
    id: &str,
    taking: &str,
) -> Option<tokio::sync::OwnedMutexGuard<()>> {
    let using = Arc::clone(&inner.taken().of(id, taking)?.using);
    Some(using.lock_owned().await)
}

/// Hides a taken offer for longer: its whole message, once for all that ask.
pub(super) async fn renew(
    inner: &Inner,
    work: &TakenWork,
    visibility: Duration,
) -> Result<Renewal, StoreError> {
    let Some((taking, id)) = work.receipt.split_once('|') else { return Ok(Renewal::Lost) };
    // Before it waits for others who renew the same message: one update has the news of all.
    inner.taken().note(id, taking, &work.item);
    let Some(_using) = use_receipt(inner, id, taking).await else { return Ok(Renewal::Lost) };
    let (hidden_until, news) = {
        let mut taken = inner.taken();
        let Some(message) = taken.of(id, taking) else { return Ok(Renewal::Lost) };
        (message.hidden_until, message.news)
    };
    let left = hidden_until.saturating_duration_since(Instant::now());
    // Workers ask at half of it, and all attempts of a message at about the same time.
    if (left < visibility * 3 / 4 || news) && !update(inner, id, taking, visibility).await? {
        return Ok(Renewal::Lost);
    }
    let attempt = &work.item.attempt;
    let withdrawn = inner.row(keys::FLEET, &withdrawn_key(attempt)).await?.is_some();
    if withdrawn
        && let Some(message) = inner.taken().of(id, taking)
        && !message.withdrawn.contains(attempt)
    {
        message.withdrawn.push(attempt.clone());
    }
    Ok(if withdrawn { Renewal::Withdrawn } else { Renewal::Renewed })
}

/// Hides a taken message for longer, and writes into it what its attempts have reported. `false`: it is no longer
/// this taker's.
async fn update(
    inner: &Inner,
    id: &str,
    taking: &str,
    visibility: Duration,
) -> Result<bool, StoreError> {
    let (pop_receipt, mut text, news) = {
        let mut taken = inner.taken();
        let Some(message) = taken.of(id, taking) else { return Ok(false) };
        let news = std::mem::take(&mut message.news);
        let news = news.then(|| (message.open.clone(), message.given_back));
        (message.receipt.clone(), message.text.clone(), news)
    };
    let told = news.is_some();
    let updated = async {
        if let Some((work, given_back)) = news {
            let wire = match given_back {
                0 => Wire::Work(work),
                taken => Wire::WorkAgain { work, taken },
            };
            text = wire::text(&inner.container, &wire).await?;
        }
        let before = Instant::now();
        let receipt = inner.work.update(id, &pop_receipt, &text, visibility).await;
        Ok((before + visibility, receipt.map_err(maybe_applied)?))
    };
    let updated = updated.await;
    let old = {
        let mut taken = inner.taken();
        match (&updated, taken.of(id, taking)) {
            (_, None) => return Ok(false),
            (Ok((_, None)), Some(_)) => {
                taken.forget(id, taking);
                return Ok(false);
            }
            (Err(_), Some(message)) => {
                message.news |= told;
                None
            }
            (Ok((hidden_until, Some(receipt))), Some(message)) => {
                message.receipt.clone_from(receipt);
                message.hidden_until = *hidden_until;
                if told {
                    let blob = wire::blob_of(&text);
                    message.text = text;
                    std::mem::replace(&mut message.blob, blob)
                } else {
                    None
                }
            }
        }
    };
    if let Some(old) = old {
        garbage::remove_blob(inner, &old).await;
    }
    updated.map(|_| true)
}

/// Makes a result durable on its way to the owner, and removes the offer.
pub(super) async fn finish(
    inner: &Inner,
    work: &TakenWork,
    result: WorkResult,
) -> Result<bool, StoreError> {
    report(inner, result).await?;
    let Some((taking, id)) = work.receipt.split_once('|') else { return Ok(false) };
    let attempt = &work.item.attempt;
    let Some(_using) = use_receipt(inner, id, taking).await else { return Ok(false) };
    let Some(done) = inner.taken().finish(id, taking, attempt) else { return Ok(false) };
    if done.withdrawn {
        garbage::remove_row(inner, keys::FLEET, &withdrawn_key(attempt)).await?;
    }
    let Some((pop_receipt, blob)) = done.last else { return Ok(done.hidden) };
    let removed = match inner.work.remove(id, &pop_receipt).await {
        Ok(removed) => removed,
        // Where it stays, another worker runs it again, and its result is dropped.
        Err(Fault::Unknown { .. }) => true,
        Err(fault) => return Err(not_applied(fault)),
    };
    inner.taken().forget(id, taking);
    if let Some(blob) = blob.filter(|_| removed) {
        garbage::remove_blob(inner, &blob).await;
    }
    Ok(removed)
}

/// Puts taken offers that were not begun into the queue again, to be seen by all after `pause`. So that does not count
/// as a taking: those end in a failure.
pub(super) async fn give_back(
    inner: &Inner,
    work: &[TakenWork],
    pause: Duration,
) -> Result<(), StoreError> {
    let mut messages: BTreeMap<(&str, &str), Vec<&AttemptKey>> = BTreeMap::new();
    for work in work {
        if let Some(receipt) = work.receipt.split_once('|') {
            messages.entry(receipt).or_default().push(&work.item.attempt);
        }
    }
    for ((taking, id), attempts) in messages {
        give_back_message(inner, id, taking, &attempts, pause).await?;
    }
    Ok(())
}

async fn give_back_message(
    inner: &Inner,
    id: &str,
    taking: &str,
    attempts: &[&AttemptKey],
    pause: Duration,
) -> Result<(), StoreError> {
    let Some(_using) = use_receipt(inner, id, taking).await else { return Ok(()) };
    let (work, before) = {
        let mut taken = inner.taken();
        let Some(message) = taken.of(id, taking) else { return Ok(()) };
        let given = message.open.iter().filter(|item| attempts.contains(&&item.attempt));
        (given.cloned().collect::<Vec<_>>(), message.taken_before)
    };
    if work.is_empty() {
        return Ok(());
    }
    let wire = Wire::WorkAgain { work, taken: before };
    let text = wire::text(&inner.container, &wire).await?;
    // Where the old message stays after all, they run twice: the first result counts.
    inner.work.put_later(&text, pause).await.map_err(maybe_applied)?;
    let gone = {
        let mut taken = inner.taken();
        let Some(message) = taken.of(id, taking) else { return Ok(()) };
        message.open.retain(|item| !attempts.contains(&&item.attempt));
        let gone = message.open.is_empty();
        gone.then(|| (message.receipt.clone(), message.blob.clone()))
    };
    let Some((pop_receipt, blob)) = gone else { return Ok(()) };
    inner.taken().forget(id, taking);
    let removed = inner.work.remove(id, &pop_receipt).await.map_err(maybe_applied)?;
    if let Some(blob) = blob.filter(|_| removed) {
        garbage::remove_blob(inner, &blob).await;
    }
    Ok(())
}

/// Says that nobody waits for these attempts any more.
pub(super) async fn withdraw(inner: &Inner, attempts: &[AttemptKey]) -> Result<(), StoreError> {
    for portion in attempts.chunks(100) {
        let mut rows = super::ops::Rows::default();
        for attempt in portion {
            let mut columns = id_columns(&attempt.key.instance);
            columns.insert(AT.into(), Value::Int(inner.now().as_micros()));
            rows.put(withdrawn_key(attempt), columns, None, false);
        }
        let (ops, _): (Vec<Op>, _) = rows.finish(0);
        inner.table.transact(keys::FLEET, &ops).await.map_err(maybe_applied)?;
    }
    Ok(())
}
