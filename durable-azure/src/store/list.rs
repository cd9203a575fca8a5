//! Lists and counts.

use std::collections::{BTreeMap, VecDeque};

use durable_core::machine::model::{InstanceId, PartitionId, RuntimeStatus, StatusRow};
use durable_core::machine::store::{ListPage, ListQuery, ListToken};
use durable_core::store::StoreError;
use futures::{StreamExt as _, TryStreamExt as _};

use super::failure::not_applied;
use super::read::PAGE;
use super::rows::{
    CREATED, CREATED_AT, Counts, NAME, NEW, STATUS, StatusColumns, decode_counts, held,
    instance_id, read_number,
};
use super::{Inner, body, head, keys};
use crate::service::{Continuation, Query, Row};

const READS_AT_ONCE: usize = 16;

impl Inner {
    fn partitions(&self) -> impl Iterator<Item = String> + use<> {
        (0..self.hub.partitions).map(|number| keys::partition(PartitionId(number)))
    }

    /// Instances, newest start first.
    pub(super) async fn list(
        &self,
        query: &ListQuery,
        after: Option<ListToken>,
        limit: usize,
    ) -> Result<ListPage, StoreError> {
        let rows = if *query == ListQuery::default() {
            self.newest(after, limit.saturating_add(1)).await?
        } else {
            self.filtered(query, after, limit.saturating_add(1)).await?
        };
        let more = rows.len() > limit;
        let next = rows.get(limit.saturating_sub(1)).filter(|_| more).map(|(at, _)| ListToken(*at));
        let page =
            ListPage { rows: rows.into_iter().take(limit).map(|(_, row)| row).collect(), next };
        Ok(page)
    }

    /// By the list rows, which are there for this: as many reads as instances.
    async fn newest(
        &self,
        after: Option<ListToken>,
        most: usize,
    ) -> Result<Vec<(u64, StatusRow)>, StoreError> {
        let mut walks: Vec<_> =
            self.partitions().map(|partition| Walk::new(partition, after, most)).collect();
        let mut found = Vec::new();
        while found.len() < most {
            // As many as are missing, the newest of all partitions.
            let mut batch = Vec::new();
            while batch.len() < most - found.len() {
                for walk in &mut walks {
                    walk.fill(self).await?;
                }
                let newest = walks
                    .iter_mut()
                    .filter(|walk| !walk.rows.is_empty())
                    .max_by_key(|walk| walk.rows.front().map(|(created, _)| *created));
                let Some(walk) = newest else { break };
                if let Some((created, instance)) = walk.rows.pop_front() {
                    batch.push((walk.partition.clone(), created, instance));
                }
            }
            if batch.is_empty() {
                break;
            }
            let reads = batch.into_iter().map(|(partition, created, instance)| async move {
                let row = self.row(&partition, &keys::status(&instance)).await?;
                match row {
                    // A list row that an earlier run left behind names another place.
                    Some(row) if read_number(&row, CREATED)? == created => {
                        let shown = self.shown(&row).await?;
                        Ok::<_, StoreError>(shown.map(|shown| (created, shown)))
                    }
                    Some(_) | None => Ok(None),
                }
            });
            let read: Vec<_> =
                futures::stream::iter(reads).buffered(READS_AT_ONCE).try_collect().await?;
            found.extend(read.into_iter().flatten());
        }
        Ok(found)
    }

    /// By the status rows: all of them are looked at by the service.
    async fn filtered(
        &self,
        query: &ListQuery,
        after: Option<ListToken>,
        most: usize,
    ) -> Result<Vec<(u64, StatusRow)>, StoreError> {
        // The newest, by the number of their place.
        let mut found: BTreeMap<u64, StatusRow> = BTreeMap::new();
        for partition in self.partitions() {
            let query_rows = condition(query, partition);
            let mut next: Option<Continuation> = None;
            loop {
                let page = self.table.query(&query_rows, next).await.map_err(not_applied)?;
                for row in &page.rows {
                    let created = read_number(row, CREATED)?;
                    let too_old = found.len() >= most
                        && found.first_key_value().is_some_and(|(oldest, _)| created < *oldest);
                    if after.is_some_and(|after| created >= after.0) || too_old {
                        continue;
                    }
                    if let Some(shown) = self.shown(row).await?
                        && query.holds(&shown)
                    {
                        found.insert(created, shown);
                        if found.len() > most {
                            found.pop_first();
                        }
                    }
                }
                next = page.next;
                if next.is_none() {
                    break;
                }
            }
        }
        Ok(found.into_iter().rev().collect())
    }

    /// A status row as lists show it.
    async fn shown(&self, row: &Row) -> Result<Option<StatusRow>, StoreError> {
        if StatusColumns::read(row)?.purged {
            return Ok(None);
        }
        let bytes = match body::read(&self.container, row).await {
            Ok(Some(bytes)) => bytes,
            // Replaced since it was read: read it once more.
            Ok(None) => {
                let instance = instance_id(row)?;
                return self.status(&instance).await;
            }
            Err(StoreError::Corrupt { source, .. }) => return held(row, &source).map(Some),
            Err(error) => return Err(error),
        };
        match body::decode(&bytes) {
            Ok(status) => Ok(Some(status)),
            Err(error) => held(row, &error).map(Some),
        }
    }

    /// How many instances are in each status.
    pub(super) async fn counts(&self) -> Result<BTreeMap<RuntimeStatus, u64>, StoreError> {
        let mut sums = Counts::new();
        for partition in self.partitions() {
            let (head, starts) = futures::try_join!(
                self.row(&partition, keys::HEAD),
                self.range(&partition, keys::ACCEPTANCE, &[NEW])
            )?;
            let counts = head.as_ref().map(|row| decode_counts(row, head::COUNTS)).transpose()?;
            for (status, count) in counts.unwrap_or_default() {
                *sums.entry(status).or_default() += count;
            }
            let uncounted = starts.iter().filter(|row| row.bool(NEW) == Some(true)).count();
            *sums.entry(RuntimeStatus::Pending).or_default() +=
                i64::try_from(uncounted).unwrap_or(i64::MAX);
        }
        let positive = |(status, count)| Some((status, u64::try_from(count).ok()?));
        Ok(sums.into_iter().filter_map(positive).filter(|(_, count)| *count > 0).collect())
    }
}

/// The list rows of one partition, newest first.
struct Walk {
    partition: String,
    query: Query,
    rows: VecDeque<(u64, InstanceId)>,
    next: Option<Continuation>,
    ended: bool,
}

impl Walk {
    fn new(partition: String, after: Option<ListToken>, most: usize) -> Self {
        // Behind all rows of that moment.
        let from = after.map_or("n|".to_owned(), |after| keys::behind(&keys::listed_from(after.0)));
        let query = Query {
            partition: Some(partition.clone()),
            from: Some(from),
            to: Some(keys::behind("n|")),
            top: Some(u32::try_from(most).unwrap_or(PAGE).min(PAGE)),
            ..Query::default()
        };
        Self { partition, query, rows: VecDeque::new(), next: None, ended: false }
    }

    async fn fill(&mut self, inner: &Inner) -> Result<(), StoreError> {
        while self.rows.is_empty() && !self.ended {
            let page =
                inner.table.query(&self.query, self.next.take()).await.map_err(not_applied)?;
            for row in &page.rows {
                match (read_number(row, CREATED), instance_id(row)) {
                    (Ok(created), Ok(instance)) => self.rows.push_back((created, instance)),
                    (Err(error), _) | (_, Err(error)) => {
                        tracing::error!(%error, "a place in the list is passed over");
                    }
                }
            }
            self.ended = page.next.is_none();
            self.next = page.next;
        }
        Ok(())
    }
}

/// What the service can decide of a query; the rest is decided here.
fn condition(query: &ListQuery, partition: String) -> Query {
    let mut conditions = Vec::new();
    if !query.statuses.is_empty() {
        let any: Vec<_> = query
            .statuses
            .iter()
            .map(|status| format!("{STATUS} eq '{}'", status.name()))
            .collect();
        conditions.push(format!("({})", any.join(" or ")));
    }
    if let Some(from) = query.created_from {
        conditions.push(format!("{CREATED_AT} ge {}L", from.as_micros()));
    }
    if let Some(to) = query.created_to {
        conditions.push(format!("{CREATED_AT} le {}L", to.as_micros()));
    }
    if let Some(name) = &query.name
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
    {
        conditions.push(format!("{NAME} eq '{name}'"));
    }
    let prefix = format!("i|{}", keys::id_prefix(query.id_prefix.as_deref().unwrap_or_default()));
    Query {
        partition: Some(partition),
        to: Some(keys::behind(&prefix)),
        from: Some(prefix),
        filter: (!conditions.is_empty()).then(|| conditions.join(" and ")),
        ..Query::default()
    }
}

/// Whether the row is there and readable; for errors only.
pub(super) fn is_active(row: &Row) -> Result<bool, StoreError> {
    let columns = StatusColumns::read(row)?;
    Ok(!columns.status.is_terminal() || columns.waiting.is_some_and(|run| run > columns.run))
}
