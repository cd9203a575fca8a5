//! Removing what nobody can reach any more. Each step may be done twice, and whoever opens a partition goes on with what is left.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use durable_core::machine::model::{InstanceId, RunNumber, Timestamp};
use durable_core::machine::store::Remains;
use durable_core::store::StoreError;
use futures::{StreamExt as _, TryStreamExt as _};

use super::failure::not_applied;
use super::opened::Opened;
use super::plan::Garbage;
use super::read::PAGE;
use super::rows::{ID, StatusColumns, instance_id};
use super::{Inner, body, keys};
use crate::service::{Fault, Op, Query, Row};

/// Rows of one transaction.
const ROWS_AT_ONCE: usize = 100;
/// Rows of a run that are not its history: status, place in the list, what names it as garbage.
const ROWS_BESIDE: usize = 3;
const READS_AT_ONCE: usize = 16;
const TRY_AGAIN_FIRST: Duration = Duration::from_secs(2);
const TRY_AGAIN_MAX: Duration = Duration::from_secs(60);
/// Age of blobs that a sweep looks at: those of a commit under way are younger.
const SWEPT_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Garbage of an opening that waits to be removed. One task removes it, so that much of it goes together.
#[derive(Debug, Default)]
pub(super) struct Heap(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    garbage: Vec<Garbage>,
    served: bool,
}

impl Heap {
    /// Adds some. Whether a task has to be begun that serves it.
    fn add(&self, garbage: Vec<Garbage>) -> bool {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.garbage.extend(garbage);
        !std::mem::replace(&mut waiting.served, true)
    }

    /// All there is. Where there is nothing, nobody serves it from then on.
    fn take(&self) -> Vec<Garbage> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.served = !waiting.garbage.is_empty();
        std::mem::take(&mut waiting.garbage)
    }
}

/// Removes garbage in the background, for as long as the partition is open here.
pub(super) fn collect(inner: &Arc<Inner>, opened: &Arc<Opened>, garbage: Vec<Garbage>) {
    if garbage.is_empty() || !opened.garbage.add(garbage) {
        return;
    }
    let (weak, opened) = (Arc::downgrade(inner), Arc::clone(opened));
    inner.runtime.spawn(async move {
        let mut wait = TRY_AGAIN_FIRST;
        loop {
            let portion = opened.garbage.take();
            let Some(inner) = weak.upgrade().filter(|_| !portion.is_empty()) else { return };
            let left = remove_all(&inner, &opened.key, portion).await;
            drop(inner);
            if left.is_empty() {
                wait = TRY_AGAIN_FIRST;
                continue;
            }
            if opened.is_stopped() {
                return;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(TRY_AGAIN_MAX);
            opened.garbage.add(left);
        }
    });
}

/// The last step of removing something.
struct End {
    garbage: Garbage,
    /// At most as many as a transaction takes; what names the garbage is the last of them.
    ops: Vec<Op>,
    /// Nothing of the run is left then.
    gone: bool,
}

/// Removes as much as it can, and returns the rest. What is left to do of each goes in one transaction with that of
/// others.
async fn remove_all(inner: &Inner, partition: &str, garbage: Vec<Garbage>) -> Vec<Garbage> {
    let mut left = Vec::new();
    let ends = garbage.into_iter().map(|one| async move {
        let end = end_of(inner, partition, &one).await;
        (one, end)
    });
    let mut ends = futures::stream::iter(ends).buffered(READS_AT_ONCE);
    let mut batch: Vec<End> = Vec::new();
    while let Some((garbage, end)) = ends.next().await {
        let (ops, gone) = match end {
            Ok(end) => end,
            Err(error) => {
                tracing::debug!(partition, %error, "garbage is not removed yet");
                left.push(garbage);
                continue;
            }
        };
        let rows = batch.iter().map(|end| end.ops.len()).sum::<usize>();
        if rows + ops.len() > ROWS_AT_ONCE {
            left.extend(remove_batch(inner, partition, std::mem::take(&mut batch)).await);
        }
        batch.push(End { garbage, ops, gone });
    }
    left.extend(remove_batch(inner, partition, batch).await);
    left
}

async fn remove_batch(inner: &Inner, partition: &str, batch: Vec<End>) -> Vec<Garbage> {
    let all: Vec<_> = batch.iter().flat_map(|end| end.ops.clone()).collect();
    let together = all.is_empty() || inner.table.transact(partition, &all).await.is_ok();
    let mut left = Vec::new();
    for End { garbage, ops, gone } in batch {
        // Some rows are gone already, or were changed since they were read: one by one, then.
        if together || remove_one_by_one(inner, partition, ops).await {
            if let Garbage::Run { instance, run, .. } = garbage
                && gone
            {
                inner.note_gone(instance, run);
            }
            continue;
        }
        left.push(garbage);
    }
    left
}

async fn remove_one_by_one(inner: &Inner, partition: &str, ops: Vec<Op>) -> bool {
    for op in ops {
        match inner.table.transact(partition, &[op]).await {
            Ok(_) | Err(Fault::Refused { status: 404, .. }) => {}
            Err(fault) => {
                tracing::debug!(partition, %fault, "garbage is not removed yet");
                return false;
            }
        }
    }
    true
}

/// Does what there is to do first, and returns the deletions that end it; and whether nothing of a run is left then.
async fn end_of(
    inner: &Inner,
    partition: &str,
    garbage: &Garbage,
) -> Result<(Vec<Op>, bool), StoreError> {
    let delete = |key: String| Op::Delete { key, etag: None };
    let (instance, run, created) = match garbage {
        Garbage::Executions { instance, run, before } => {
            let to = keys::execution(instance, *run, *before);
            let rows = remove_range(inner, partition, keys::run(instance, *run), to).await?;
            return Ok((rows.into_iter().map(|row| delete(row.key)).collect(), false));
        }
        Garbage::Run { instance, run, created } => (instance, *run, *created),
    };
    let named = delete(keys::garbage(instance, run));
    // Read here and deleted under this version: a start that was accepted before the purge or after it shows.
    let row = inner.row(partition, &keys::status(instance)).await?;
    let current = row.as_ref().map(StatusColumns::read).transpose()?;
    let current = current.filter(|current| current.run == run);
    if current.as_ref().is_some_and(|current| !current.purged) {
        // Named by a commit that was not applied.
        return Ok((vec![named], false));
    }
    let prefix = keys::run(instance, run);
    let to = keys::behind(&prefix);
    let rows = remove_range(inner, partition, prefix, to).await?;
    let mut ops: Vec<_> = rows.into_iter().map(|row| delete(row.key)).collect();
    ops.push(delete(keys::listed(created, instance)));
    // A start that waits in the place of what was purged needs the row: it goes when that begins.
    if let Some(row) = row.filter(|_| current.is_some_and(|current| current.is_hidden())) {
        if let Some(blob) = body::blob(&row) {
            inner.container.remove(blob).await.map_err(not_applied)?;
        }
        ops.push(Op::Delete { key: row.key, etag: Some(row.etag) });
    }
    ops.push(named);
    Ok((ops, true))
}

/// Removes the blobs of a range, and all its rows but the last ones: those are left to be removed with something else.
async fn remove_range(
    inner: &Inner,
    partition: &str,
    from: String,
    to: String,
) -> Result<Vec<Row>, StoreError> {
    let query = Query {
        partition: Some(partition.to_owned()),
        from: Some(from),
        to: Some(to),
        select: vec!["blob"],
        top: Some(PAGE),
        ..Query::default()
    };
    let mut rows = inner.all(&query).await?;
    for blob in rows.iter().filter_map(body::blob) {
        inner.container.remove(blob).await.map_err(not_applied)?;
    }
    while rows.len() + ROWS_BESIDE > ROWS_AT_ONCE {
        let portion: Vec<_> = rows.drain(..rows.len().min(ROWS_AT_ONCE)).collect();
        remove_rows(inner, partition, &portion).await?;
    }
    Ok(rows)
}

async fn remove_rows(inner: &Inner, partition: &str, rows: &[Row]) -> Result<(), StoreError> {
    let ops: Vec<_> =
        rows.iter().map(|row| Op::Delete { key: row.key.clone(), etag: None }).collect();
    match inner.table.transact(partition, &ops).await {
        Ok(_) => Ok(()),
        // Some are gone already: one by one, then.
        Err(Fault::Refused { status: 404, .. }) => {
            for row in rows {
                remove_row(inner, partition, &row.key).await?;
            }
            Ok(())
        }
        Err(fault) => Err(not_applied(fault)),
    }
}

/// How far runs are gone that were to be purged.
pub(super) async fn remains(
    inner: &Inner,
    runs: &[(InstanceId, RunNumber)],
) -> Result<Vec<Remains>, StoreError> {
    let count = inner.hub.partitions;
    let partitions: BTreeSet<_> = runs.iter().map(|(id, _)| id.partition(count)).collect();
    // What is being removed is little at any time.
    let mut left = HashSet::new();
    for partition in partitions {
        let rows = inner.range(&keys::partition(partition), "g|", &[ID]).await?;
        left.extend(rows.iter().filter_map(|row| instance_id(row).ok()));
    }
    let left = &left;
    let looks = runs.iter().cloned().map(|(instance, run)| async move {
        if inner.is_gone(&instance, run) {
            return Ok(Remains::Nothing);
        }
        if left.contains(&instance) {
            return Ok(Remains::Rest);
        }
        let key = keys::partition(instance.partition(count));
        let row = inner.row(&key, &keys::status(&instance)).await?;
        let Some(current) = row.as_ref().map(StatusColumns::read).transpose()? else {
            return Ok(Remains::Nothing);
        };
        Ok::<_, StoreError>(match (current.run == run, current.purged) {
            // It goes with what names it, unless a start waits in its place.
            (true, true) if current.is_hidden() => Remains::Rest,
            (true, true) => Remains::Nothing,
            (true, false) => Remains::There,
            (false, _) => Remains::Replaced,
        })
    });
    futures::stream::iter(looks).buffered(READS_AT_ONCE).try_collect().await
}

pub(super) async fn remove_row(
    inner: &Inner,
    partition: &str,
    key: &str,
) -> Result<(), StoreError> {
    let op = Op::Delete { key: key.to_owned(), etag: None };
    match inner.table.transact(partition, &[op]).await {
        Ok(_) | Err(Fault::Refused { status: 404, .. }) => Ok(()),
        Err(fault) => Err(not_applied(fault)),
    }
}

/// Removes blobs that no row names any more, in the background. What is left to a crash is left to a sweep.
pub(super) fn remove_blobs(inner: &Arc<Inner>, blobs: Vec<String>) {
    if blobs.is_empty() {
        return;
    }
    let weak = Arc::downgrade(inner);
    inner.runtime.spawn(async move {
        for blob in blobs {
            let Some(inner) = weak.upgrade() else { return };
            if let Err(error) = inner.container.remove(&blob).await {
                tracing::debug!(blob, %error, "a blob is left to the next sweep");
            }
        }
    });
}

/// Removes the blob of a message that was removed.
pub(super) async fn remove_blob(inner: &Inner, blob: &str) {
    if let Err(error) = inner.container.remove(blob).await {
        tracing::debug!(blob, %error, "the blob of a message stays");
    }
}

/// Removes blobs older than a day that no row names. Returns how many.
pub(super) async fn sweep(inner: &Inner) -> Result<usize, StoreError> {
    let now = inner.now();
    let old = |modified: Timestamp| now.since(modified) > SWEPT_AFTER;
    let mut candidates = BTreeSet::new();
    let mut after = None;
    loop {
        let page = inner.container.list("", after.as_deref()).await.map_err(not_applied)?;
        candidates
            .extend(page.blobs.into_iter().filter(|blob| old(blob.modified)).map(|blob| blob.name));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    // Those of messages are named by the queue: messages that nobody takes for so long wait for an owner.
    candidates.retain(|name| !name.starts_with("messages/"));
    if candidates.is_empty() {
        return Ok(0);
    }
    let query =
        Query { filter: Some("blob gt ''".into()), select: vec!["blob"], ..Query::default() };
    for row in inner.all(&query).await? {
        if let Some(blob) = body::blob(&row) {
            candidates.remove(blob);
        }
    }
    for blob in &candidates {
        inner.container.remove(blob).await.map_err(not_applied)?;
    }
    Ok(candidates.len())
}
