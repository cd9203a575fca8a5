//! Sending a commit, and finding out what became of it.
//!
//! The head row is written in each transaction, under the version that this owner knows, with the name of
//! the commit in it. So whatever is lost on the way, the head row tells: it names the commit, which was applied
//! then; or the one before, and the same bytes can be sent again; or another owner's fence.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use durable_core::machine::codec::encode_row;
use durable_core::machine::model::{
    CommitNumber, EnvelopeId, Fence, InstanceId, MessageNumber, PartitionId, RunNumber,
};
use durable_core::machine::store::Commit;
use durable_core::store::StoreError;
use futures::{StreamExt as _, TryStreamExt as _};
use uuid::Uuid;

use super::failure::{not_applied, passes};
use super::head::HeadRow;
use super::known::Known;
use super::opened::{CONSUMED_KEPT_MICROS, Committer, Opened};
use super::ops::{Blob, Body, Rows};
use super::plan::{Garbage, Planner};
use super::rows::number;
use super::{Inner, body, facts, garbage, keys, poller};
use crate::service::{Columns, Etag, Fault, Op, Table};

/// Rows beside the head row that one transaction takes.
pub(super) const ROWS_MAX: usize = 99;
/// How long the head row is asked for, before nobody knows what became of a commit.
const SETTLING_MAX: Duration = Duration::from_secs(10);
const SETTLING_WAIT: Duration = Duration::from_millis(100);
/// Times that the same commit is sent, before its caller is told that storage is busy.
const SENDS_MAX: usize = 3;
const BUSY_WAIT: Duration = Duration::from_millis(500);
/// Rows of forgotten ids that one commit takes along.
const FORGOTTEN_MAX: usize = 4;

/// A commit as it is sent, again and again if need be.
#[derive(Debug)]
pub(super) struct Prepared {
    number: Option<CommitNumber>,
    ops: Vec<Op>,
    row: HeadRow,
    after: After,
    /// Whether an earlier try may have been applied, or may yet be.
    unsettled: bool,
}

impl Prepared {
    /// A new head row and nothing else.
    pub(super) fn head_only(row: &HeadRow, etag: &Etag) -> Self {
        let (columns, etag) = (row.columns(), etag.clone());
        let ops = vec![Op::Replace { key: keys::HEAD.into(), columns, etag }];
        let after = After::default();
        Self { number: None, ops, row: row.clone(), after, unsettled: false }
    }
}

impl Prepared {
    /// Leaves out the deletion of a row that is not there, though other rows say that it is: someone removed it by
    /// hand, or a backup was restored in part. What the deletion wants holds already, and the partition goes on.
    /// `false`: something else was refused. An acceptance that is missing is no such row: its run has begun before.
    fn leave_out_missing(&mut self, fault: &Fault) -> bool {
        let Fault::Refused { status: 404, index: Some(index), .. } = fault else { return false };
        let Some(Op::Delete { key, .. }) = self.ops.get(*index) else { return false };
        if key.starts_with(keys::ACCEPTANCE) {
            return false;
        }
        tracing::error!(
            row = key,
            "a row is missing that others say is there; its deletion is passed over"
        );
        self.ops.remove(*index);
        true
    }
}

/// What follows from a commit once it is applied.
#[derive(Debug, Default)]
struct After {
    changes: Vec<(InstanceId, Option<Known>)>,
    begun: Vec<(InstanceId, RunNumber)>,
    consumed: Vec<EnvelopeId>,
    outbox: BTreeMap<(PartitionId, MessageNumber), MessageNumber>,
    outbox_gone: Vec<(PartitionId, MessageNumber)>,
    consumed_row: Option<(durable_core::machine::model::Timestamp, String)>,
    forgotten: usize,
    garbage: Vec<Garbage>,
    blobs: Vec<String>,
}

/// What became of a commit.
pub(super) enum Sent {
    Applied,
    Failed(StoreError),
}

/// Writes one group.
pub(super) async fn commit(
    inner: &Arc<Inner>,
    fence: Fence,
    commit: &Commit,
) -> Result<(), StoreError> {
    let opened = inner.owned(commit.partition, fence).await?;
    let mut committer = opened.committer.lock().await;
    if committer.last == commit.number {
        return Ok(());
    }
    let began = Instant::now();
    let prepared = match committer.prepared.take() {
        Some(prepared) if prepared.number == Some(commit.number) => prepared,
        Some(_) | None => {
            opened.cache().write(instances(commit));
            match prepare(inner, &opened, &committer, commit).await {
                Ok(prepared) => prepared,
                Err(error) => {
                    refuse(&opened, commit);
                    return Err(error);
                }
            }
        }
    };
    match send(inner, &opened, &mut committer, prepared, began).await {
        Sent::Applied => Ok(()),
        Sent::Failed(error) => {
            match &error {
                StoreError::Fenced { .. } => poller::lost(inner, &opened),
                StoreError::Unusable(_) => refuse(&opened, commit),
                _ => {}
            }
            Err(error)
        }
    }
}

/// The instances that a commit touches.
fn instances(commit: &Commit) -> impl Iterator<Item = InstanceId> {
    let keys = commit.instances.iter().map(|write| &write.key).chain(&commit.purges);
    keys.map(|key| key.instance.clone())
}

/// What is remembered of the instances of this commit may be wrong.
fn refuse(opened: &Opened, commit: &Commit) {
    opened.cache().refused();
    opened.inbox().written(instances(commit));
}

/// Sends until it is known to be applied, or cannot be.
pub(super) async fn send(
    inner: &Arc<Inner>,
    opened: &Arc<Opened>,
    committer: &mut Committer,
    mut prepared: Prepared,
    mut began: Instant,
) -> Sent {
    let mut sends = 0;
    let mut refusal = None;
    loop {
        if prepared.unsettled {
            match settle(inner, opened, committer, &prepared, began).await {
                Settled::Applied(etag) => return applied(inner, opened, committer, prepared, etag),
                Settled::NotYet => {
                    if let Some(fault) = &refusal {
                        if prepared.leave_out_missing(fault) {
                            (sends, refusal, prepared.unsettled) = (0, None, false);
                            continue;
                        }
                        opened.cache().refused();
                        return Sent::Failed(refused(&prepared, fault));
                    }
                    prepared.unsettled = false;
                }
                Settled::Failed(error) => {
                    // Asked again, the same commit is settled first.
                    if matches!(error, StoreError::Unknown(_) | StoreError::Busy { .. }) {
                        committer.prepared = Some(prepared);
                    } else {
                        opened.cache().refused();
                    }
                    return Sent::Failed(error);
                }
            }
            if sends >= SENDS_MAX {
                committer.prepared = Some(prepared);
                let reason = "storage did not answer, and did not apply the commit".into();
                return Sent::Failed(StoreError::Busy { retry_after: BUSY_WAIT, reason });
            }
        }
        sends += 1;
        match inner.table.transact(&opened.key, &prepared.ops).await {
            Ok(etags) => {
                // Settled by reading where the answer has none.
                if let Some(Some(etag)) = etags.into_iter().next() {
                    return applied(inner, opened, committer, prepared, etag);
                }
                prepared.unsettled = true;
            }
            Err(Fault::Unknown { reason }) => {
                tracing::debug!(partition = opened.partition.0, reason, "the answer was lost");
                prepared.unsettled = true;
                began = Instant::now();
            }
            // Another owner, an earlier try that was applied, or a contradiction: the head row tells.
            Err(fault @ Fault::Refused { .. }) => {
                refusal = Some(fault);
                prepared.unsettled = true;
                began = Instant::now();
            }
            Err(fault @ (Fault::Throttled { .. } | Fault::Unreachable { .. })) => {
                committer.prepared = Some(prepared);
                return Sent::Failed(not_applied(fault));
            }
            Err(fault) => {
                opened.cache().refused();
                return Sent::Failed(refused(&prepared, &fault));
            }
        }
    }
}

fn refused(prepared: &Prepared, fault: &Fault) -> StoreError {
    let Fault::Refused { index: Some(index), .. } = fault else {
        return not_applied(fault.clone());
    };
    let row = prepared.ops.get(*index).map(Op::key).unwrap_or_default();
    StoreError::Unusable(format!(
        "commit {} contradicts what is stored: row {row:?}: {fault}",
        prepared.row.commit
    ))
}

enum Settled {
    Applied(Etag),
    NotYet,
    Failed(StoreError),
}

/// Asks the head row what became of a commit.
async fn settle(
    inner: &Inner,
    opened: &Opened,
    committer: &Committer,
    prepared: &Prepared,
    began: Instant,
) -> Settled {
    let (row, etag) = loop {
        match inner.head(&opened.key).await {
            Ok(Some(found)) => break found,
            Ok(None) => {
                let what = format!("the head row of partition {} is gone", opened.key);
                return Settled::Failed(StoreError::Unusable(what));
            }
            Err(HeadFault::Storage(fault @ Fault::Throttled { .. })) => {
                return Settled::Failed(not_applied(fault));
            }
            Err(HeadFault::Storage(fault)) if began.elapsed() >= SETTLING_MAX => {
                return Settled::Failed(StoreError::Unknown(Box::new(fault)));
            }
            Err(HeadFault::Storage(_)) => tokio::time::sleep(SETTLING_WAIT).await,
            Err(HeadFault::Store(error)) => return Settled::Failed(error),
        }
    };
    // The same fence may have been given out twice where storage was set back in between.
    if row.fence != opened.fence || row.opening != committer.row.opening {
        opened.stop();
        return Settled::Failed(StoreError::Fenced { newest: row.fence });
    }
    if row.commit == prepared.row.commit {
        return Settled::Applied(etag);
    }
    if row.commit == committer.row.commit && etag == committer.etag {
        return Settled::NotYet;
    }
    Settled::Failed(StoreError::Unusable(format!(
        "the head row of partition {} is at {:?}, which this owner did not write",
        opened.key, row.commit
    )))
}

/// Why a head row could not be read.
pub(super) enum HeadFault {
    Storage(Fault),
    Store(StoreError),
}

fn applied(
    inner: &Arc<Inner>,
    opened: &Arc<Opened>,
    committer: &mut Committer,
    prepared: Prepared,
    etag: Etag,
) -> Sent {
    let after = prepared.after;
    committer.etag = etag;
    committer.row = prepared.row;
    committer.prepared = None;
    if let Some(number) = prepared.number {
        committer.last = number;
    }
    for gone in after.outbox_gone {
        committer.outbox.remove(&gone);
    }
    committer.outbox.extend(after.outbox);
    committer.consumed.drain(..after.forgotten);
    committer.consumed.extend(after.consumed_row);
    let done = {
        let mut inbox = opened.inbox();
        inbox.written(after.changes.iter().map(|(instance, _)| instance.clone()));
        inbox.committed(&after.begun, after.consumed, inner.now())
    };
    opened.cache().written(after.changes);
    poller::remove(inner, opened, done);
    garbage::collect(inner, opened, after.garbage);
    garbage::remove_blobs(inner, after.blobs);
    Sent::Applied
}

/// Checks a commit and makes its rows. Writes nothing but blobs that no row names yet.
async fn prepare(
    inner: &Inner,
    opened: &Opened,
    committer: &Committer,
    commit: &Commit,
) -> Result<Prepared, StoreError> {
    let id = keys::commit(opened.fence, commit.number);
    let facts = facts::of(inner, opened, commit).await?;
    let sequence = || inner.sequence();
    let partitions = inner.hub.partitions;
    let planner = Planner::new(commit, &opened.key, &id, partitions, facts, &sequence);
    let mut plan = planner.plan()?;
    let mut row =
        HeadRow { commit: id.clone(), head: commit.head.clone(), ..committer.row.clone() };
    for (status, delta) in commit.counts.iter().chain(&plan.counted) {
        *row.counts.entry(*status).or_default() += delta;
    }
    let mut after = After {
        begun: std::mem::take(&mut plan.begun),
        consumed: commit.consumed.iter().map(|consumed| consumed.id.clone()).collect(),
        garbage: std::mem::take(&mut plan.garbage),
        blobs: std::mem::take(&mut plan.blobs),
        ..After::default()
    };
    let mut rows = std::mem::take(&mut plan.rows);
    let early = early_rows(commit, &mut rows);
    add_messages(opened, committer, commit, &id, &mut row, &mut rows, &mut after);
    let oldest = commit.at.as_micros().saturating_sub(CONSUMED_KEPT_MICROS);
    for (at, key) in committer.consumed.iter().take(FORGOTTEN_MAX) {
        if at.as_micros() >= oldest || rows.len() >= ROWS_MAX {
            break;
        }
        rows.delete(key.clone());
        after.forgotten += 1;
    }
    if rows.len() > ROWS_MAX {
        return Err(StoreError::Unusable(format!(
            "commit {} needs {} rows, a transaction takes {ROWS_MAX}",
            commit.number,
            rows.len()
        )));
    }
    let head = Op::Replace {
        key: keys::HEAD.into(),
        columns: row.columns(),
        etag: committer.etag.clone(),
    };
    let (ops, blobs) = rows.finish(Table::encoded_bytes(std::slice::from_ref(&head)));
    after.changes = name_blobs(std::mem::take(&mut plan.changes), &blobs);
    for rows in early {
        let (ops, _) = rows.finish(0);
        for portion in ops.chunks(ROWS_MAX) {
            inner.table.transact(&opened.key, portion).await.map_err(not_applied)?;
        }
    }
    inner.write_blobs(blobs).await?;
    let ops = std::iter::once(head).chain(ops).collect();
    Ok(Prepared { number: Some(commit.number), ops, row, after, unsettled: false })
}

/// Rows that name garbage and places in the list, where there is no room for them. They may be written before the
/// commit: what reads them looks whether it was applied.
fn early_rows(commit: &Commit, rows: &mut Rows) -> Vec<Rows> {
    let others = commit.outbox.len() + usize::from(!commit.consumed.is_empty());
    let mut early = Vec::new();
    for kind in ["g|", "n|"] {
        if rows.len() + others > ROWS_MAX {
            early.push(rows.split_off(kind));
        }
    }
    early
}

fn add_messages(
    opened: &Opened,
    committer: &Committer,
    commit: &Commit,
    id: &str,
    row: &mut HeadRow,
    rows: &mut Rows,
    after: &mut After,
) {
    let blob_name = || format!("{}/messages/{id}-{}", opened.key, Uuid::new_v4().simple());
    for outbox in &commit.outbox {
        if let (Some(first), Some(last)) = (outbox.messages.first(), outbox.messages.last()) {
            let columns = Columns::from([("last".into(), number(last.number.0))]);
            let body = Body { bytes: encode_row(&outbox.messages), blob: blob_name() };
            rows.put(keys::outbox(outbox.to, first.number), columns, Some(body), false);
            after.outbox.insert((outbox.to, first.number), last.number);
        }
    }
    let remembered: Vec<_> =
        commit.consumed.iter().filter(|c| c.remember).map(|c| c.id.clone()).collect();
    if !remembered.is_empty() {
        let key = keys::consumed(commit.at, id);
        let body = Body { bytes: encode_row(&remembered), blob: blob_name() };
        rows.put(key.clone(), Columns::new(), Some(body), false);
        after.consumed_row = Some((commit.at, key));
    }
    for (to, upto) in &commit.outbox_done {
        let done = row.outbox_done.entry(*to).or_default();
        *done = (*done).max(*upto);
    }
    // Those beyond what fits go with a later commit: the head row says that they are done.
    for ((to, first), last) in committer.outbox.iter().chain(&after.outbox.clone()) {
        let done = row.outbox_done.get(to).is_some_and(|done| last <= done);
        if !done {
            continue;
        }
        if after.outbox.remove(&(*to, *first)).is_some() {
            rows.delete(keys::outbox(*to, *first));
        } else if rows.len() < ROWS_MAX {
            rows.delete(keys::outbox(*to, *first));
            after.outbox_gone.push((*to, *first));
        }
    }
}

/// Notes which blobs the rows name.
fn name_blobs(
    changes: Vec<(InstanceId, Option<Known>)>,
    blobs: &[Blob],
) -> Vec<(InstanceId, Option<Known>)> {
    if blobs.is_empty() {
        return changes;
    }
    let names: HashMap<&str, &str> =
        blobs.iter().map(|blob| (blob.row.as_str(), blob.name.as_str())).collect();
    let named = |key: String| names.get(key.as_str()).map(|name| (*name).to_owned());
    changes
        .into_iter()
        .map(|(instance, known)| {
            let known = known.map(|mut known| {
                known.status_blob = named(keys::status(&instance)).or(known.status_blob);
                known.in_flight_blob = named(keys::in_flight(&instance)).or(known.in_flight_blob);
                known
            });
            (instance, known)
        })
        .collect()
}

impl Inner {
    /// Writes blobs that the rows of a transaction are going to name.
    pub(super) async fn write_blobs(&self, blobs: Vec<Blob>) -> Result<(), StoreError> {
        let writes = blobs.into_iter().map(|blob| async move {
            body::write_blob(&self.container, &blob.name, &blob.bytes).await
        });
        futures::stream::iter(writes).buffer_unordered(8).try_collect().await
    }

    /// The head row of a partition, told apart by what its caller can do about a failure.
    pub(super) async fn head(&self, key: &str) -> Result<Option<(HeadRow, Etag)>, HeadFault> {
        match self.table.get(key, keys::HEAD).await {
            Ok(None) => Ok(None),
            Ok(Some(row)) => {
                HeadRow::read(&self.container, &row).await.map(Some).map_err(HeadFault::Store)
            }
            Err(fault) if passes(&fault) => Err(HeadFault::Storage(fault)),
            Err(fault) => Err(HeadFault::Store(not_applied(fault))),
        }
    }

    pub(super) async fn read_head(&self, key: &str) -> Result<Option<(HeadRow, Etag)>, StoreError> {
        self.head(key).await.map_err(|fault| match fault {
            HeadFault::Storage(fault) => not_applied(fault),
            HeadFault::Store(error) => error,
        })
    }
}
