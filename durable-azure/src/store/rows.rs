//! Rows of instances, as columns and back.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat};
use durable_core::machine::codec::{DecodeError, encode_row};
use durable_core::machine::model::{
    Acceptance, ExecutionNumber, Hold, HoldReason, InstanceId, Payload, RunNumber, RuntimeStatus,
    StartNonce, StatusRow, Timestamp,
};
use durable_core::store::StoreError;
use uuid::Uuid;

use super::failure::{corrupt, damaged};
use crate::service::{Columns, Row, Value};

pub(super) const ID: &str = "id";
pub(super) const RUN: &str = "run";
pub(super) const EXECUTION: &str = "execution";
pub(super) const NAME: &str = "name";
pub(super) const STATUS: &str = "status";
pub(super) const CREATED: &str = "created";
pub(super) const CREATED_AT: &str = "created_at";
const UPDATED_AT: &str = "updated_at";
const CREATED_TIME: &str = "created_time";
const UPDATED_TIME: &str = "updated_time";
/// When its timer is due, in microseconds; empty without one.
const DUE: &str = "due";
/// The run of the acceptance row that is there; 0 without one.
const WAITING: &str = "waiting";
/// Whether it still has to be added to the sums of the head row: clients cannot write them.
const UNCOUNTED: &str = "uncounted";
/// The run has been purged: nobody sees the row any more, and the id is taken until the rest of the run is gone.
const PURGED: &str = "purged";
const NONCE: &str = "nonce";
/// The run that the start with that nonce began.
const NONCE_RUN: &str = "nonce_run";
/// First event of a history row, how many it has, and when the last of them was recorded.
pub(super) const FIRST: &str = "first";
pub(super) const COUNT: &str = "count";
pub(super) const AT: &str = "at";

pub(super) fn text(value: impl Into<String>) -> Value {
    Value::Text(value.into())
}

/// Numbers of ours keep their 64 bits.
pub(super) fn number(value: u64) -> Value {
    Value::Int(value.cast_signed())
}

pub(super) fn read_number(row: &Row, column: &str) -> Result<u64, StoreError> {
    row.int(column)
        .map(i64::cast_unsigned)
        .ok_or_else(|| damaged(&row.partition, &row.key, format!("it has no number {column:?}")))
}

/// A time for people.
pub(super) fn calendar(time: Timestamp) -> Value {
    let time = DateTime::from_timestamp_micros(time.as_micros());
    text(time.map(|time| time.to_rfc3339_opts(SecondsFormat::Micros, true)).unwrap_or_default())
}

/// The id that a row is about.
pub(super) fn instance_id(row: &Row) -> Result<InstanceId, StoreError> {
    let id = row.text(ID).unwrap_or_default();
    InstanceId::new(id).map_err(|error| damaged(&row.partition, &row.key, error.to_string()))
}

/// The columns of a status row but its body.
pub(super) fn status_columns(status: &StatusRow) -> Columns {
    Columns::from([
        (ID.into(), text(status.instance.as_str())),
        (RUN.into(), number(status.run.0)),
        (EXECUTION.into(), number(status.execution.0.into())),
        (NAME.into(), text(&*status.name)),
        (STATUS.into(), text(status.status.name())),
        (CREATED_AT.into(), Value::Int(status.created_at.as_micros())),
        (UPDATED_AT.into(), Value::Int(status.updated_at.as_micros())),
        (CREATED_TIME.into(), calendar(status.created_at)),
        (UPDATED_TIME.into(), calendar(status.updated_at)),
    ])
}

pub(super) fn set_created(columns: &mut Columns, created: u64) {
    columns.insert(CREATED.into(), number(created));
}

pub(super) fn set_due(columns: &mut Columns, due: Option<Timestamp>) {
    let due = due.map(|due| due.as_micros().to_string()).unwrap_or_default();
    columns.insert(DUE.into(), text(due));
}

pub(super) fn set_uncounted(columns: &mut Columns, uncounted: bool) {
    columns.insert(UNCOUNTED.into(), Value::Bool(uncounted));
}

pub(super) fn set_purged(columns: &mut Columns, purged: bool) {
    columns.insert(PURGED.into(), Value::Bool(purged));
}

/// Which acceptance row is there.
pub(super) fn set_waiting(columns: &mut Columns, run: Option<RunNumber>) {
    columns.insert(WAITING.into(), number(run.map_or(0, |run| run.0)));
}

/// The start by which a later try of it is recognised.
pub(super) fn set_nonce(columns: &mut Columns, nonce: StartNonce, run: RunNumber) {
    columns.insert(NONCE.into(), text(nonce.0.to_string()));
    columns.insert(NONCE_RUN.into(), number(run.0));
}

/// What the columns of a status row say.
#[derive(Debug, Clone)]
pub(super) struct StatusColumns {
    pub(super) instance: InstanceId,
    pub(super) run: RunNumber,
    pub(super) execution: ExecutionNumber,
    pub(super) status: RuntimeStatus,
    pub(super) created: u64,
    pub(super) due: Option<Timestamp>,
    pub(super) waiting: Option<RunNumber>,
    pub(super) uncounted: bool,
    pub(super) purged: bool,
    pub(super) nonce: Option<(StartNonce, RunNumber)>,
}

impl StatusColumns {
    /// Nobody sees it: its run was purged, and no start waits in its place.
    pub(super) fn is_hidden(&self) -> bool {
        self.purged && self.waiting.is_none()
    }

    /// Its own acceptance row is still there.
    pub(super) fn has_not_begun(&self) -> bool {
        self.waiting == Some(self.run)
    }

    pub(super) fn read(row: &Row) -> Result<Self, StoreError> {
        let bad = |what: &str| damaged(&row.partition, &row.key, what);
        let due = match row.text(DUE).unwrap_or_default() {
            "" => None,
            micros => Some(Timestamp::from_micros(
                micros.parse().map_err(|_| bad("its due time is not a number"))?,
            )),
        };
        let execution = u32::try_from(read_number(row, EXECUTION)?)
            .map_err(|_| bad("its execution is too large"))?;
        let nonce = row.text(NONCE).and_then(|nonce| Uuid::parse_str(nonce).ok());
        let nonce_run = row.int(NONCE_RUN).map(i64::cast_unsigned);
        Ok(Self {
            instance: instance_id(row)?,
            run: RunNumber(read_number(row, RUN)?),
            execution: ExecutionNumber(execution),
            status: row
                .text(STATUS)
                .and_then(|status| status.parse().ok())
                .ok_or_else(|| bad("its status is unknown"))?,
            created: read_number(row, CREATED)?,
            due,
            waiting: row.int(WAITING).filter(|run| *run != 0).map(|r| RunNumber(r.cast_unsigned())),
            uncounted: row.bool(UNCOUNTED).unwrap_or_default(),
            purged: row.bool(PURGED).unwrap_or_default(),
            nonce: nonce.zip(nonce_run).map(|(nonce, run)| (StartNonce(nonce), RunNumber(run))),
        })
    }
}

/// A status row of which only the columns can be read: shown as held, so that it hides no other.
pub(super) fn held(row: &Row, error: &DecodeError) -> Result<StatusRow, StoreError> {
    let columns = StatusColumns::read(row)?;
    let time = |column| Timestamp::from_micros(row.int(column).unwrap_or_default());
    Ok(StatusRow {
        instance: columns.instance,
        run: columns.run,
        execution: columns.execution,
        name: row.text(NAME).unwrap_or_default().into(),
        status: columns.status,
        created_at: time(CREATED_AT),
        updated_at: time(UPDATED_AT),
        input: Payload::null(),
        output: None,
        failure: None,
        custom_status: None,
        hold: Some(Hold { reason: HoldReason::Undecodable, message: error.to_string() }),
        unconsumed: Vec::new(),
        dead_letters: Vec::new(),
        parent: None,
        version: None,
        tags: Vec::new(),
        scheduled_for: None,
        deadline: None,
        expires_at: None,
    })
}

/// Its status row was inserted with it. It counts as pending beside the sums of the head row.
pub(super) const NEW: &str = "new";

/// The columns of an acceptance row but its body.
pub(super) fn acceptance_columns(acceptance: &Acceptance, created: u64, new: bool) -> Columns {
    Columns::from([
        (ID.into(), text(acceptance.instance.as_str())),
        (RUN.into(), number(acceptance.run.0)),
        (NONCE.into(), text(acceptance.nonce.0.to_string())),
        (NAME.into(), text(&*acceptance.name)),
        (CREATED.into(), number(created)),
        (NEW.into(), Value::Bool(new)),
        (CREATED_TIME.into(), calendar(acceptance.accepted_at)),
    ])
}

/// An acceptance row, as far as a commit has to know it.
#[derive(Debug, Clone, Copy)]
pub(super) struct AcceptanceColumns {
    pub(super) run: RunNumber,
    pub(super) nonce: StartNonce,
    pub(super) created: u64,
}

impl AcceptanceColumns {
    pub(super) fn read(row: &Row) -> Result<Self, StoreError> {
        let nonce = row.text(NONCE).and_then(|nonce| Uuid::parse_str(nonce).ok());
        Ok(Self {
            run: RunNumber(read_number(row, RUN)?),
            nonce: StartNonce(
                nonce.ok_or_else(|| damaged(&row.partition, &row.key, "it has no nonce"))?,
            ),
            created: read_number(row, CREATED)?,
        })
    }
}

/// Columns of a history row but its body.
pub(super) fn history_columns(
    instance: &InstanceId,
    append: &durable_core::machine::store::HistoryAppend,
) -> Columns {
    Columns::from([
        (ID.into(), text(instance.as_str())),
        (FIRST.into(), number(append.first.0)),
        (COUNT.into(), number(append.count.into())),
        (AT.into(), calendar(append.at)),
    ])
}

pub(super) fn id_columns(instance: &InstanceId) -> Columns {
    Columns::from([(ID.into(), text(instance.as_str()))])
}

/// The columns of a row, to write it again.
pub(super) fn columns_of(row: Row) -> Columns {
    row.columns.into_iter().map(|(name, value)| (name.into(), value)).collect()
}

/// Sums by status, as stored.
pub(super) type Counts = BTreeMap<RuntimeStatus, i64>;

pub(super) fn encode_counts(counts: &Counts) -> Value {
    let named: BTreeMap<&str, i64> =
        counts.iter().map(|(status, count)| (status.name(), *count)).collect();
    text(serde_json::to_string(&named).unwrap_or_default())
}

pub(super) fn decode_counts(row: &Row, column: &str) -> Result<Counts, StoreError> {
    let named: BTreeMap<String, i64> = json(row, column)?;
    named
        .into_iter()
        .map(|(status, count)| Ok((status.parse::<RuntimeStatus>()?, count)))
        .collect::<Result<_, durable_core::machine::model::UnknownStatus>>()
        .map_err(|error| damaged(&row.partition, &row.key, error.to_string()))
}

/// A column that holds JSON; the default where it is missing.
pub(super) fn json<T: serde::de::DeserializeOwned + Default>(
    row: &Row,
    column: &str,
) -> Result<T, StoreError> {
    let Some(text) = row.text(column) else { return Ok(T::default()) };
    serde_json::from_str(text).map_err(|error| {
        corrupt(&row.partition, &row.key, DecodeError::Damaged(format!("{column}: {error}")))
    })
}

/// The body of a status row.
pub(super) fn status_body(status: &StatusRow) -> Vec<u8> {
    encode_row(status)
}
