//! Reading instances.

use durable_core::machine::model::{
    Acceptance, EventSeq, InstanceId, PartitionId, StatusRow, Timestamp,
};
use durable_core::machine::store::{
    HistoryPage, HistoryRow, HistoryToken, StoredInstance, TimerPage,
};
use durable_core::store::StoreError;
use futures::{StreamExt as _, TryStreamExt as _};

use super::failure::{corrupt, damaged, not_applied};
use super::known::{Known, StartFacts};
use super::rows::{AcceptanceColumns, COUNT, FIRST, ID, StatusColumns, instance_id, read_number};
use super::{Inner, body, keys};
use crate::service::{Query, Row};

/// Times a row is read again because it was replaced between it and its blob.
const READS_MAX: usize = 4;
/// Rows on a page of the service.
pub(super) const PAGE: u32 = 1000;
const BODIES_AT_ONCE: usize = 16;

/// What a look at the rows of a purged run shows.
enum Seen {
    Nothing,
    /// A start that waits to take its place.
    Start(Box<StoredInstance>),
    /// It changed meanwhile.
    Change,
}

/// The rows of one instance but its history.
pub(super) struct InstanceRows {
    pub(super) status: Option<Row>,
    pub(super) columns: Option<StatusColumns>,
    pub(super) in_flight: Option<Row>,
    pub(super) start: Option<(Row, AcceptanceColumns)>,
}

impl InstanceRows {
    /// Its acceptance row, as a commit has to know it.
    pub(super) fn start_facts(&self) -> Option<StartFacts> {
        self.start.as_ref().map(|(row, start)| StartFacts {
            run: start.run,
            nonce: Some(start.nonce),
            blob: body::blob(row).map(str::to_owned),
        })
    }

    /// What a commit is checked against.
    pub(super) fn known(&self, next: EventSeq) -> Option<Known> {
        let columns = self.columns.as_ref()?;
        let blob = |row: &Option<Row>| row.as_ref().and_then(body::blob).map(str::to_owned);
        Some(Known {
            run: columns.run,
            execution: columns.execution,
            next,
            status: columns.status,
            timer: columns.due,
            in_flight: self.in_flight.is_some(),
            created: columns.created,
            uncounted: columns.uncounted,
            purged: columns.purged,
            start: self.start_facts().filter(|start| start.run == columns.run),
            status_blob: blob(&self.status),
            in_flight_blob: blob(&self.in_flight),
        })
    }
}

impl Inner {
    pub(super) async fn row(&self, partition: &str, key: &str) -> Result<Option<Row>, StoreError> {
        self.table.get(partition, key).await.map_err(not_applied)
    }

    /// All rows whose keys begin with `prefix`.
    pub(super) async fn range(
        &self,
        partition: &str,
        prefix: &str,
        select: &[&'static str],
    ) -> Result<Vec<Row>, StoreError> {
        let query = Query {
            partition: Some(partition.to_owned()),
            from: Some(prefix.to_owned()),
            to: Some(keys::behind(prefix)),
            select: select.to_vec(),
            ..Query::default()
        };
        self.all(&query).await
    }

    pub(super) async fn all(&self, query: &Query) -> Result<Vec<Row>, StoreError> {
        let (mut rows, mut after) = (Vec::new(), None);
        loop {
            let page = self.table.query(query, after).await.map_err(not_applied)?;
            rows.extend(page.rows);
            after = page.next;
            if after.is_none() {
                return Ok(rows);
            }
        }
    }

    /// The rows of an instance. Its acceptance row is read only where the status row says that there is one.
    pub(super) async fn read_instance(
        &self,
        partition: &str,
        instance: &InstanceId,
    ) -> Result<InstanceRows, StoreError> {
        let (status_key, in_flight_key) = (keys::status(instance), keys::in_flight(instance));
        let (status, in_flight) = futures::try_join!(
            self.row(partition, &status_key),
            self.row(partition, &in_flight_key)
        )?;
        let columns = status.as_ref().map(StatusColumns::read).transpose()?;
        let mut start = None;
        if columns.as_ref().is_some_and(|columns| columns.waiting.is_some()) {
            let row = self.row(partition, &keys::acceptance(instance)).await?;
            start = row
                .map(|row| Ok::<_, StoreError>((AcceptanceColumns::read(&row)?, row)))
                .transpose()?
                .map(|(columns, row)| (row, columns));
        }
        Ok(InstanceRows { status, columns, in_flight, start })
    }

    /// The event that the history of an active instance goes on with.
    pub(super) async fn next_event(
        &self,
        partition: &str,
        columns: &StatusColumns,
    ) -> Result<EventSeq, StoreError> {
        if columns.status.is_terminal() || columns.has_not_begun() {
            return Ok(EventSeq(0));
        }
        let prefix = keys::execution(&columns.instance, columns.run, columns.execution);
        let rows = self.range(partition, &prefix, &[FIRST, COUNT]).await?;
        rows.last().map_or(Ok(EventSeq(0)), next_of)
    }

    pub(super) async fn decoded<T: serde::de::DeserializeOwned>(
        &self,
        row: &Row,
        body: &[u8],
    ) -> Result<T, StoreError> {
        body::decode(body).map_err(|error| corrupt(&row.partition, &row.key, error))
    }

    /// The acceptance in a row; `None` where its blob is gone with it.
    pub(super) async fn acceptance(&self, row: &Row) -> Result<Option<Acceptance>, StoreError> {
        let Some(bytes) = body::read(&self.container, row).await? else { return Ok(None) };
        self.decoded(row, &bytes).await.map(Some)
    }

    /// One instance with everything needed to run it on.
    pub(super) async fn load(
        &self,
        instance: &InstanceId,
    ) -> Result<Option<StoredInstance>, StoreError> {
        let partition = instance.partition(self.hub.partitions);
        let opened = self.opened().get(&partition).cloned();
        if let Some(opened) = &opened {
            opened.cache().read(instance);
        }
        let found = self.load_rows(partition, instance).await;
        if let Some(opened) = &opened {
            let known = found.as_ref().ok().and_then(|found| found.as_ref()?.1.clone());
            opened.cache().has_read(instance, known);
        }
        found.map(|found| found.map(|(stored, _)| stored))
    }

    async fn load_rows(
        &self,
        partition: PartitionId,
        instance: &InstanceId,
    ) -> Result<Option<(StoredInstance, Option<Known>)>, StoreError> {
        let key = keys::partition(partition);
        for _ in 0..READS_MAX {
            let rows = self.read_instance(&key, instance).await?;
            let (Some(row), Some(columns)) = (&rows.status, &rows.columns) else { return Ok(None) };
            if columns.purged {
                match self.beside_purged(&rows).await? {
                    Seen::Nothing => return Ok(None),
                    Seen::Start(stored) => return Ok(Some((*stored, None))),
                    Seen::Change => continue,
                }
            }
            let Some(bytes) = body::read(&self.container, row).await? else { continue };
            let status: StatusRow = self.decoded(row, &bytes).await?;
            let acceptance = match &rows.start {
                Some((row, _)) => match self.acceptance(row).await? {
                    Some(acceptance) => Some(acceptance),
                    None => continue,
                },
                None => None,
            };
            let in_flight = match &rows.in_flight {
                Some(row) => match body::read(&self.container, row).await? {
                    Some(bytes) => Some(bytes),
                    None => continue,
                },
                None => None,
            };
            let (history, next) = if columns.status.is_terminal() || columns.has_not_begun() {
                (Vec::new(), EventSeq(0))
            } else {
                let Some(found) = self.history_rows(&key, columns).await? else { continue };
                found
            };
            let known = rows.known(next);
            let timer = columns.due;
            let stored =
                StoredInstance { status: Some(status), acceptance, history, in_flight, timer };
            return Ok(Some((stored, known)));
        }
        Err(self.restless(&key, instance))
    }

    /// What there is of an id whose run was purged.
    async fn beside_purged(&self, rows: &InstanceRows) -> Result<Seen, StoreError> {
        if rows.columns.as_ref().is_none_or(StatusColumns::is_hidden) {
            return Ok(Seen::Nothing);
        }
        let Some((row, _)) = &rows.start else { return Ok(Seen::Change) };
        let Some(acceptance) = self.acceptance(row).await? else { return Ok(Seen::Change) };
        Ok(Seen::Start(Box::new(StoredInstance {
            status: None,
            acceptance: Some(acceptance),
            history: Vec::new(),
            in_flight: None,
            timer: None,
        })))
    }

    fn restless(&self, partition: &str, instance: &InstanceId) -> StoreError {
        let what = "what it refers to is missing, or replaced all the time";
        damaged(partition, &keys::status(instance), what)
    }

    /// The history of an execution; `None` where it is being removed.
    async fn history_rows(
        &self,
        partition: &str,
        columns: &StatusColumns,
    ) -> Result<Option<(Vec<HistoryRow>, EventSeq)>, StoreError> {
        let prefix = keys::execution(&columns.instance, columns.run, columns.execution);
        let rows = self.range(partition, &prefix, &[]).await?;
        let next = rows.last().map_or(Ok(EventSeq(0)), next_of)?;
        let read = rows.into_iter().map(|row| async move {
            let first = EventSeq(read_number(&row, FIRST)?);
            let body = body::read(&self.container, &row).await?;
            Ok::<_, StoreError>(body.map(|body| HistoryRow { first, body }))
        });
        let read: Vec<_> =
            futures::stream::iter(read).buffered(BODIES_AT_ONCE).try_collect().await?;
        let first = read.first().and_then(Option::as_ref).map(|row| row.first);
        if first.is_some_and(|first| first != EventSeq(0)) {
            return Ok(None);
        }
        Ok(read.into_iter().collect::<Option<Vec<_>>>().map(|history| (history, next)))
    }

    /// The history of the current execution, also of an instance that has ended.
    pub(super) async fn history(
        &self,
        instance: &InstanceId,
    ) -> Result<Option<Vec<HistoryRow>>, StoreError> {
        let key = keys::partition(instance.partition(self.hub.partitions));
        for _ in 0..READS_MAX {
            let Some(row) = self.row(&key, &keys::status(instance)).await? else {
                return Ok(None);
            };
            let columns = StatusColumns::read(&row)?;
            if columns.purged {
                return Ok(None);
            }
            if let Some((history, _)) = self.history_rows(&key, &columns).await? {
                return Ok(Some(history));
            }
        }
        Err(self.restless(&key, instance))
    }

    /// One page of it.
    pub(super) async fn history_page(
        &self,
        instance: &InstanceId,
        after: Option<HistoryToken>,
        limit: usize,
    ) -> Result<Option<HistoryPage>, StoreError> {
        let key = keys::partition(instance.partition(self.hub.partitions));
        for _ in 0..READS_MAX {
            let Some(row) = self.row(&key, &keys::status(instance)).await? else {
                return Ok(None);
            };
            let StatusColumns { run, execution, purged, .. } = StatusColumns::read(&row)?;
            if purged {
                return Ok(None);
            }
            let prefix = keys::execution(instance, run, execution);
            let from = after.map_or_else(
                || prefix.clone(),
                |after| {
                    keys::history(instance, run, execution, EventSeq(after.0.saturating_add(1)))
                },
            );
            let most = limit.saturating_add(1);
            let query = Query {
                partition: Some(key.clone()),
                from: Some(from),
                to: Some(keys::behind(&prefix)),
                top: Some(u32::try_from(most).unwrap_or(PAGE).min(PAGE)),
                ..Query::default()
            };
            let (mut rows, mut next) = (Vec::new(), None);
            loop {
                let page = self.table.query(&query, next).await.map_err(not_applied)?;
                rows.extend(page.rows);
                next = page.next;
                if next.is_none() || rows.len() >= most {
                    break;
                }
            }
            let more = rows.len() > limit;
            rows.truncate(limit);
            let read = rows.into_iter().map(|row| async move {
                let first = EventSeq(read_number(&row, FIRST)?);
                let body = body::read(&self.container, &row).await?;
                Ok::<_, StoreError>(body.map(|body| HistoryRow { first, body }))
            });
            let read: Vec<_> =
                futures::stream::iter(read).buffered(BODIES_AT_ONCE).try_collect().await?;
            // A body that is gone was replaced with its run since the status was read.
            let Some(rows) = read.into_iter().collect::<Option<Vec<_>>>() else { continue };
            let next = rows.last().filter(|_| more).map(|row| HistoryToken(row.first.0));
            return Ok(Some(HistoryPage { run, execution, rows, next }));
        }
        Err(self.restless(&key, instance))
    }

    /// The status as anybody may see it. One read, and a second where a start waits to replace the run.
    pub(super) async fn status(
        &self,
        instance: &InstanceId,
    ) -> Result<Option<StatusRow>, StoreError> {
        let key = keys::partition(instance.partition(self.hub.partitions));
        for _ in 0..READS_MAX {
            let Some(row) = self.row(&key, &keys::status(instance)).await? else {
                return Ok(None);
            };
            let columns = StatusColumns::read(&row)?;
            if columns.is_hidden() {
                return Ok(None);
            }
            if columns.waiting.is_some_and(|run| run > columns.run) {
                if let Some(start) = self.row(&key, &keys::acceptance(instance)).await?
                    && let Some(acceptance) = self.acceptance(&start).await?
                    && acceptance.run > columns.run
                {
                    return Ok(Some(StatusRow::pending(&acceptance)));
                }
                continue;
            }
            let Some(bytes) = body::read(&self.container, &row).await? else { continue };
            return self.decoded(&row, &bytes).await.map(Some);
        }
        Err(self.restless(&key, instance))
    }

    /// Due times of a partition behind `after`.
    pub(super) async fn timers(
        &self,
        partition: PartitionId,
        after: Option<(Timestamp, InstanceId)>,
        limit: usize,
    ) -> Result<TimerPage, StoreError> {
        let from = match &after {
            // No key behind it is lower: an escape begins with it.
            Some((due, instance)) => format!("{}!", keys::timer(*due, instance)),
            None => "t|".to_owned(),
        };
        let query = Query {
            partition: Some(keys::partition(partition)),
            from: Some(from),
            to: Some(keys::behind("t|")),
            select: vec![ID],
            top: Some(u32::try_from(limit.saturating_add(1)).unwrap_or(PAGE).min(PAGE)),
            ..Query::default()
        };
        let (mut page, mut next) = (TimerPage::default(), None);
        loop {
            let rows = self.table.query(&query, next).await.map_err(not_applied)?;
            for row in rows.rows {
                if page.timers.len() == limit {
                    page.more = true;
                    return Ok(page);
                }
                let due = row.key.split('|').nth(1).and_then(keys::read_time);
                match (due, instance_id(&row)) {
                    (Some(due), Ok(instance)) => page.timers.push((due, instance)),
                    _ => tracing::error!(key = row.key, "an unreadable timer is passed over"),
                }
            }
            next = rows.next;
            if next.is_none() {
                return Ok(page);
            }
        }
    }

    /// The acceptance rows of a partition, oldest first. Those that cannot be read are passed over.
    pub(super) async fn acceptances(&self, partition: &str) -> Result<Vec<Acceptance>, StoreError> {
        let mut found = Vec::new();
        for row in self.range(partition, "s|", &[]).await? {
            let read = async {
                let columns = AcceptanceColumns::read(&row)?;
                Ok::<_, StoreError>((columns.created, self.acceptance(&row).await?))
            };
            match read.await {
                Ok((created, Some(acceptance))) => found.push((created, acceptance)),
                Ok((_, None)) => {}
                Err(error @ StoreError::Corrupt { .. }) => {
                    tracing::error!(%error, "an accepted start is passed over");
                }
                Err(error) => return Err(error),
            }
        }
        found.sort_by_key(|(created, _)| *created);
        Ok(found.into_iter().map(|(_, acceptance)| acceptance).collect())
    }
}

fn next_of(row: &Row) -> Result<EventSeq, StoreError> {
    Ok(EventSeq(read_number(row, FIRST)? + read_number(row, COUNT)?))
}
