//! Removing what nobody can reach any more. Each step may be done twice, and whoever opens a partition goes on with what is left.

use std::sync::Arc;
use std::time::Duration;

use durable_core::machine::model::Timestamp;
use durable_core::store::StoreError;

use super::failure::not_applied;
use super::opened::Opened;
use super::plan::Garbage;
use super::read::PAGE;
use super::rows::StatusColumns;
use super::{Inner, body, keys};
use crate::service::{Fault, Op, Query, Row};

const ROWS_AT_ONCE: usize = 100;
const TRIES_MAX: usize = 5;
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(2);
/// Age of blobs that a sweep looks at: those of a commit under way are younger.
const SWEPT_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Removes garbage in the background.
pub(super) fn collect(inner: &Arc<Inner>, opened: &Arc<Opened>, garbage: Vec<Garbage>) {
    if garbage.is_empty() {
        return;
    }
    let (weak, partition) = (Arc::downgrade(inner), opened.key.clone());
    inner.runtime.spawn(async move {
        for one in garbage {
            for _ in 0..TRIES_MAX {
                let Some(inner) = weak.upgrade() else { return };
                match remove(&inner, &partition, &one).await {
                    Ok(()) => break,
                    Err(error) => {
                        tracing::debug!(partition, %error, "garbage is not removed yet");
                    }
                }
                drop(inner);
                tokio::time::sleep(TRY_AGAIN_AFTER).await;
            }
        }
    });
}

async fn remove(inner: &Inner, partition: &str, garbage: &Garbage) -> Result<(), StoreError> {
    match garbage {
        Garbage::Executions { instance, run, before } => {
            let to = keys::execution(instance, *run, *before);
            remove_range(inner, partition, keys::run(instance, *run), to).await
        }
        Garbage::Run { instance, run, created } => {
            let row = inner.row(partition, &keys::status(instance)).await?;
            let current = row.as_ref().map(StatusColumns::read).transpose()?;
            // Named by a commit that was not applied.
            if current.is_none_or(|current| current.run != *run) {
                let prefix = keys::run(instance, *run);
                let to = keys::behind(&prefix);
                remove_range(inner, partition, prefix, to).await?;
                remove_row(inner, partition, &keys::listed(*created, instance)).await?;
            }
            remove_row(inner, partition, &keys::garbage(instance, *run)).await
        }
    }
}

async fn remove_range(
    inner: &Inner,
    partition: &str,
    from: String,
    to: String,
) -> Result<(), StoreError> {
    let query = Query {
        partition: Some(partition.to_owned()),
        from: Some(from),
        to: Some(to),
        select: vec!["blob"],
        top: Some(PAGE),
        ..Query::default()
    };
    let rows = inner.all(&query).await?;
    for portion in rows.chunks(ROWS_AT_ONCE) {
        for blob in portion.iter().filter_map(body::blob) {
            inner.container.remove(blob).await.map_err(not_applied)?;
        }
        remove_rows(inner, partition, portion).await?;
    }
    Ok(())
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
    let mut candidates = std::collections::BTreeSet::new();
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
