//! What clients make durable: starts and commands.

use std::sync::Arc;
use std::time::{Duration, Instant};

use durable_core::machine::codec::encode_row;
use durable_core::machine::model::{Acceptance, Envelope, PartitionId, ReusePolicy, StatusRow};
use durable_core::machine::store::{AcceptOutcome, SendOutcome};
use durable_core::store::StoreError;
use uuid::Uuid;

use super::failure::{maybe_applied, not_applied};
use super::inbox::SCAN_EVERY;
use super::ops::{Body, Rows};
use super::rows::{
    StatusColumns, acceptance_columns, columns_of, id_columns, set_created, set_due, set_nonce,
    set_uncounted, set_waiting, status_body, status_columns,
};
use super::wire::{NewRows, Wire, WireStart};
use super::{Inner, body, keys, list, wire};
use crate::service::{Fault, Op, Row};

/// Looks at what is stored that may turn out to be outdated, before a start gives up.
const LOOKS_MAX: usize = 20;
/// Times that a start is sent whose answer is lost each time.
const LOST_MAX: u32 = 5;
/// The wait after the first of them; each further one is twice as long.
const LOST_WAIT: Duration = Duration::from_millis(100);
/// How long the store object of the owner waits with what its client is going to hand over itself.
const HANDED_OVER_WITHIN: Duration = Duration::from_millis(200);
/// How long the caller of a start waits for the owner to be told.
const TOLD_WITHIN: Duration = Duration::from_secs(5);
/// Waits before the owner is told again, in the background: the first, and the longest.
const TELL_AGAIN_FIRST: Duration = Duration::from_millis(500);
const TELL_AGAIN_MAX: Duration = Duration::from_secs(5);
/// Times that a message is put whose earlier try may have been applied.
const PUT_TRIES: u32 = 3;

/// Makes a start durable.
pub(super) async fn accept(
    inner: &Arc<Inner>,
    acceptance: &Acceptance,
) -> Result<AcceptOutcome, StoreError> {
    let partition = acceptance.instance.partition(inner.hub.partitions);
    let key = keys::partition(partition);
    let (mut lost, mut times_lost) = (None, 0);
    let created = inner.sequence();
    let (rows, new) = new_rows(&key, acceptance, created);
    let (ops, blobs) = rows.finish(0);
    inner.write_blobs(blobs).await?;
    for _ in 0..LOOKS_MAX {
        match inner.table.transact(&key, &ops).await {
            Ok(_) => {
                let run = acceptance.run;
                let here = wake(inner, partition, acceptance.clone(), Some(new)).await;
                return Ok(AcceptOutcome::Accepted { run, fresh: here });
            }
            Err(Fault::Refused { status: 409, .. }) => {}
            // Another try tells: what was applied is in its way.
            Err(fault @ Fault::Unknown { .. }) => {
                times_lost += 1;
                if times_lost == LOST_MAX {
                    return Err(maybe_applied(fault));
                }
                tokio::time::sleep(LOST_WAIT * 2_u32.pow(times_lost - 1)).await;
                lost = Some(fault);
                continue;
            }
            Err(fault) => return Err(settled(fault, lost)),
        }
        match beside(inner, &key, acceptance).await? {
            Beside::Accepted(run) => {
                let again = Acceptance { run, ..acceptance.clone() };
                wake(inner, partition, again, None).await;
                return Ok(AcceptOutcome::Accepted { run, fresh: false });
            }
            Beside::Began(run) => return Ok(AcceptOutcome::Accepted { run, fresh: false }),
            Beside::Active(row) => return Ok(AcceptOutcome::Active(row)),
            Beside::Changed => {}
        }
    }
    match lost {
        Some(fault) => Err(maybe_applied(fault)),
        None => Err(StoreError::Busy {
            retry_after: Duration::from_millis(100),
            reason: format!("{} changes all the time", acceptance.instance),
        }),
    }
}

fn settled(fault: Fault, lost: Option<Fault>) -> StoreError {
    lost.map_or_else(|| not_applied(fault), maybe_applied)
}

fn blob_name(partition: &str, acceptance: &Acceptance) -> String {
    let instance = keys::plain(&acceptance.instance);
    format!("{partition}/{instance}/{}/{}", acceptance.run, Uuid::new_v4().simple())
}

/// The rows of a start under an id that nothing is stored of.
fn new_rows(partition: &str, acceptance: &Acceptance, created: u64) -> (Rows, NewRows) {
    let mut rows = Rows::default();
    let status = StatusRow::pending(acceptance);
    let mut columns = status_columns(&status);
    set_created(&mut columns, created);
    set_due(&mut columns, None);
    set_waiting(&mut columns, Some(acceptance.run));
    set_uncounted(&mut columns, true);
    set_nonce(&mut columns, acceptance.nonce, acceptance.run);
    let bodies = [status_body(&status), encode_row(acceptance)]
        .map(|bytes| Body { bytes, blob: blob_name(partition, acceptance) });
    let blob = |body: &Body| (body.bytes.len() > body::INLINE_BYTES_MAX).then(|| body.blob.clone());
    let new = NewRows { created, status_blob: blob(&bodies[0]), start_blob: blob(&bodies[1]) };
    let [status_body, start_body] = bodies;
    let instance = &acceptance.instance;
    rows.insert(keys::status(instance), columns, Some(status_body));
    let columns = acceptance_columns(acceptance, created, true);
    rows.insert(keys::acceptance(instance), columns, Some(start_body));
    let mut columns = id_columns(instance);
    set_created(&mut columns, created);
    rows.put(keys::listed(created, instance), columns, None, false);
    (rows, new)
}

/// What a start meets under its id.
enum Beside {
    /// It is durable, and has not begun.
    Accepted(durable_core::machine::model::RunNumber),
    /// It is durable, and has begun.
    Began(durable_core::machine::model::RunNumber),
    Active(Box<StatusRow>),
    /// It changed meanwhile.
    Changed,
}

/// A start of an id that exists.
async fn beside(
    inner: &Inner,
    partition: &str,
    acceptance: &Acceptance,
) -> Result<Beside, StoreError> {
    let instance = &acceptance.instance;
    let Some(row) = inner.row(partition, &keys::status(instance)).await? else {
        return Ok(Beside::Changed);
    };
    let columns = StatusColumns::read(&row)?;
    if columns.waiting.is_some() {
        let Some(start) = inner.row(partition, &keys::acceptance(instance)).await? else {
            return Ok(Beside::Changed);
        };
        let Some(earlier) = inner.acceptance(&start).await? else { return Ok(Beside::Changed) };
        return Ok(if earlier.nonce == acceptance.nonce {
            Beside::Accepted(earlier.run)
        } else {
            Beside::Active(Box::new(StatusRow::pending(&earlier)))
        });
    }
    if let Some((nonce, run)) = columns.nonce
        && nonce == acceptance.nonce
        && !columns.purged
    {
        return Ok(Beside::Began(run));
    }
    if !columns.status.is_terminal() && acceptance.reuse != ReusePolicy::ReplaceActive {
        let Some(bytes) = body::read(&inner.container, &row).await? else {
            return Ok(Beside::Changed);
        };
        return Ok(Beside::Active(Box::new(inner.decoded(&row, &bytes).await?)));
    }
    let run = acceptance.run.max(columns.run.next());
    replace(inner, partition, &Acceptance { run, ..acceptance.clone() }, row).await
}

/// A start that waits to take the place of a run. The status row stays as it is, but says that there is one: it must
/// not have changed since it was read.
async fn replace(
    inner: &Inner,
    partition: &str,
    acceptance: &Acceptance,
    row: Row,
) -> Result<Beside, StoreError> {
    let mut rows = Rows::default();
    let columns = acceptance_columns(acceptance, inner.sequence(), false);
    let body = Body { bytes: encode_row(acceptance), blob: blob_name(partition, acceptance) };
    rows.insert(keys::acceptance(&acceptance.instance), columns, Some(body));
    let (mut ops, blobs) = rows.finish(0);
    inner.write_blobs(blobs).await?;
    let (key, etag) = (row.key.clone(), row.etag.clone());
    let mut columns = columns_of(row);
    set_waiting(&mut columns, Some(acceptance.run));
    ops.push(Op::Replace { key, columns, etag });
    match inner.table.transact(partition, &ops).await {
        Ok(_) => Ok(Beside::Accepted(acceptance.run)),
        // The next look tells what became of it.
        Err(Fault::Refused { status: 404 | 409 | 412, .. } | Fault::Unknown { .. }) => {
            Ok(Beside::Changed)
        }
        Err(fault) => Err(not_applied(fault)),
    }
}

/// Notes a start for the opening that this store object has of its partition, if it has one.
fn accepted_here(
    inner: &Inner,
    partition: PartitionId,
    acceptance: &Acceptance,
    new: Option<&NewRows>,
) -> bool {
    let Some(opened) = inner.owned_here(partition) else { return false };
    let mut inbox = opened.inbox();
    // Whoever stops it looks afterwards at what was noted.
    let noted = !opened.is_stopped();
    if noted {
        inbox.accepted_here(acceptance.clone(), new.cloned());
    }
    noted
}

/// Tells the owner. Whether the owner is this store object.
async fn wake(
    inner: &Arc<Inner>,
    partition: PartitionId,
    acceptance: Acceptance,
    new: Option<NewRows>,
) -> bool {
    if accepted_here(inner, partition, &acceptance, new.as_ref()) {
        let inner = Arc::downgrade(inner);
        tokio::spawn(async move {
            tokio::time::sleep(HANDED_OVER_WITHIN).await;
            if let Some(inner) = inner.upgrade() {
                inner.changed();
            }
        });
        return true;
    }
    tell(inner, partition, Wire::Start(Box::new(WireStart { acceptance, new }))).await;
    false
}

/// Tells the owner of an accepted start. What cannot be put soon is put in the background; that it never is, as the
/// process ends, loses nothing: owners look for acceptance rows from time to time, though seldom.
pub(super) async fn tell(inner: &Arc<Inner>, partition: PartitionId, start: Wire) {
    let soon = tokio::time::timeout(TOLD_WITHIN, put_surely(inner, partition, &start)).await;
    let reason = match soon {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {TOLD_WITHIN:?}"),
    };
    tracing::warn!(%partition, reason, "the owner is not told of an accepted start yet");
    let weak = Arc::downgrade(inner);
    inner.runtime.spawn(async move {
        let (since, mut wait) = (Instant::now(), TELL_AGAIN_FIRST);
        while since.elapsed() < SCAN_EVERY {
            tokio::time::sleep(wait).await;
            let Some(inner) = weak.upgrade() else { return };
            match put(&inner, partition, &start).await {
                Err(StoreError::Busy { .. } | StoreError::Unknown(_)) => {}
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!(%partition, %error, "the owner will find a start by itself");
                    return;
                }
            }
            wait = (wait * 2).min(TELL_AGAIN_MAX);
        }
    });
}

/// Puts a message into the queue of a partition.
pub(super) async fn put(
    inner: &Inner,
    partition: PartitionId,
    wire: &Wire,
) -> Result<(), StoreError> {
    let text = wire::text(&inner.container, wire).await?;
    inner.queue(partition)?.put(&text).await.map_err(maybe_applied)
}

/// Makes a command durable, where its instance can be told so (`Command::is_for`). Twice in the queue is not twice
/// applied: its id is recognised.
pub(super) async fn send(inner: &Inner, envelope: &Envelope) -> Result<SendOutcome, StoreError> {
    let partition = envelope.instance.partition(inner.hub.partitions);
    let row = inner.row(&keys::partition(partition), &keys::status(&envelope.instance)).await?;
    let Some(row) = row else { return Ok(SendOutcome::NotFound) };
    if StatusColumns::read(&row)?.is_hidden() {
        return Ok(SendOutcome::NotFound);
    }
    if !list::is_active(&row)? {
        match inner.status(&envelope.instance).await? {
            Some(status) if !envelope.command.is_for(status.status) => {
                return Ok(SendOutcome::Ended(Box::new(status)));
            }
            Some(_) => {}
            None => return Ok(SendOutcome::NotFound),
        }
    }
    put_surely(inner, partition, &Wire::Command(Box::new(envelope.clone()))).await?;
    Ok(SendOutcome::Sent)
}

/// Puts a message whose second arrival changes nothing.
pub(super) async fn put_surely(
    inner: &Inner,
    partition: PartitionId,
    wire: &Wire,
) -> Result<(), StoreError> {
    let queue = inner.queue(partition)?;
    let mut tries = 0;
    loop {
        tries += 1;
        // A blob of its own for each message: it goes with the first that has done its work.
        let text = wire::text(&inner.container, wire).await?;
        match queue.put(&text).await {
            Ok(()) => return Ok(()),
            Err(Fault::Unknown { .. }) if tries < PUT_TRIES => {}
            Err(fault) => return Err(maybe_applied(fault)),
        }
    }
}
