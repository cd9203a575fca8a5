//! Rows to values and back.

use std::sync::Arc;

use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{OptionalExtension as _, Row};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use durable_machine::codec::{decode_row, encode_row};
use durable_machine::model::{
    Acceptance, DeadLetter, Deadline, ExecutionNumber, Failure as Fault, Hold, HoldReason,
    InstanceId, ParentLink, Payload, RunNumber, RuntimeStatus, StatusRow, Timestamp,
    UnconsumedEvent,
};

use super::failure::{Failure, corrupt, damaged};

/// Bytes from which on the body of a status row stands in a table of its own: half a page, so that two
/// rows of `instances` always fit one.
pub(super) const LARGE_BODY_BYTES: usize = 2048;

/// A body: text where it is text, which the codec's JSON always is.
pub(super) struct Body<'a>(pub(super) &'a [u8]);

impl ToSql for Body<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match std::str::from_utf8(self.0) {
            Ok(_) => ValueRef::Text(self.0),
            Err(_) => ValueRef::Blob(self.0),
        }))
    }
}

/// The bytes of a body, whatever type they have now.
pub(super) fn bytes<'a>(row: &'a Row<'_>, column: usize) -> rusqlite::Result<&'a [u8]> {
    Ok(match row.get_ref(column)? {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes,
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => &[],
    })
}

/// SQLite's integers have a sign; numbers of ours keep their 64 bits.
pub(super) fn int(number: u64) -> i64 {
    number.cast_signed()
}

pub(super) fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)?.cast_unsigned())
}

pub(super) fn limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

pub(super) fn decode<T: DeserializeOwned>(
    body: &[u8],
    key: impl FnOnce() -> String,
) -> Result<T, Failure> {
    decode_row(body).map_err(|source| corrupt(key(), source).into())
}

pub(super) fn instance_id(text: &str) -> Result<InstanceId, Failure> {
    InstanceId::new(text)
        .map_err(|error| damaged(format!("instance id {text:?}"), error.to_string()).into())
}

pub(super) fn status_code(code: i64, id: &str) -> Result<RuntimeStatus, Failure> {
    u8::try_from(code).ok().and_then(RuntimeStatus::from_code).ok_or_else(|| {
        damaged(format!("status row of {id:?}"), format!("{code} is not a status")).into()
    })
}

/// The part of a status row that has no column.
#[derive(Serialize)]
struct RestRef<'a> {
    input: &'a Payload,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: &'a Option<Payload>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: &'a Option<Fault>,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom_status: &'a Option<Payload>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hold: &'a Option<Hold>,
    #[serde(skip_serializing_if = "slice_is_empty")]
    unconsumed: &'a [UnconsumedEvent],
    #[serde(skip_serializing_if = "slice_is_empty")]
    dead_letters: &'a [DeadLetter],
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: &'a Option<ParentLink>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: &'a Option<Arc<str>>,
    #[serde(skip_serializing_if = "slice_is_empty")]
    tags: &'a [(Arc<str>, Arc<str>)],
    #[serde(skip_serializing_if = "Option::is_none")]
    scheduled_for: &'a Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: &'a Option<Deadline>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: &'a Option<Timestamp>,
}

#[derive(Deserialize)]
struct Rest {
    input: Payload,
    #[serde(default, deserialize_with = "present")]
    output: Option<Payload>,
    #[serde(default)]
    failure: Option<Fault>,
    #[serde(default, deserialize_with = "present")]
    custom_status: Option<Payload>,
    #[serde(default)]
    hold: Option<Hold>,
    #[serde(default)]
    unconsumed: Vec<UnconsumedEvent>,
    #[serde(default)]
    dead_letters: Vec<DeadLetter>,
    #[serde(default)]
    parent: Option<ParentLink>,
    #[serde(default)]
    version: Option<Arc<str>>,
    #[serde(default)]
    tags: Vec<(Arc<str>, Arc<str>)>,
    #[serde(default)]
    scheduled_for: Option<Timestamp>,
    #[serde(default)]
    deadline: Option<Deadline>,
    #[serde(default)]
    expires_at: Option<Timestamp>,
}

/// A field that is there has a value, also where that is `null`.
fn present<'de, D: serde::Deserializer<'de>>(field: D) -> Result<Option<Payload>, D::Error> {
    Payload::deserialize(field).map(Some)
}

fn slice_is_empty<T>(slice: &&[T]) -> bool {
    slice.is_empty()
}

pub(super) fn status_body(status: &StatusRow) -> Vec<u8> {
    // Every field named, so that a new one stops the build here.
    let StatusRow {
        instance: _,
        run: _,
        execution: _,
        name: _,
        status: _,
        created_at: _,
        updated_at: _,
        input,
        output,
        failure,
        custom_status,
        hold,
        unconsumed,
        dead_letters,
        parent,
        version,
        tags,
        scheduled_for,
        deadline,
        expires_at,
    } = status;
    encode_row(&RestRef {
        input,
        output,
        failure,
        custom_status,
        hold,
        unconsumed,
        dead_letters,
        parent,
        version,
        tags,
        scheduled_for,
        deadline,
        expires_at,
    })
}

/// Columns of a status row, in the order that [`status_row`] reads them, from `instances i`.
macro_rules! status_columns {
    () => {
        "i.id, i.run, i.execution, i.status, i.created_at, i.updated_at, i.name, \
         coalesce(i.body, (SELECT l.body FROM large_bodies l WHERE l.key = i.key))"
    };
}
pub(super) use status_columns;
/// How many they are.
pub(super) const STATUS_COLUMNS: usize = 8;

pub(super) fn status_row(row: &Row<'_>) -> Result<StatusRow, Failure> {
    let (mut status, id) = status_head(row)?;
    let rest: Rest = decode(bytes(row, 7)?, || format!("status row of {id:?}"))?;
    fill(&mut status, rest);
    Ok(status)
}

/// The same, for lists: a row whose body cannot be read is shown with its columns, held, so that it
/// hides no other.
pub(super) fn status_row_or_held(row: &Row<'_>) -> Result<StatusRow, Failure> {
    let (mut status, _) = status_head(row)?;
    match decode_row::<Rest>(bytes(row, 7)?) {
        Ok(rest) => fill(&mut status, rest),
        Err(error) => {
            status.hold =
                Some(Hold { reason: HoldReason::Undecodable, message: error.to_string() });
        }
    }
    Ok(status)
}

fn status_head(row: &Row<'_>) -> Result<(StatusRow, String), Failure> {
    let id: String = row.get(0)?;
    let name: String = row.get(6)?;
    let status = StatusRow {
        instance: instance_id(&id)?,
        run: RunNumber(number(row, 1)?),
        execution: ExecutionNumber(row.get(2)?),
        name: name.into(),
        status: status_code(row.get(3)?, &id)?,
        created_at: Timestamp::from_micros(row.get(4)?),
        updated_at: Timestamp::from_micros(row.get(5)?),
        input: Payload::null(),
        output: None,
        failure: None,
        custom_status: None,
        hold: None,
        unconsumed: Vec::new(),
        dead_letters: Vec::new(),
        parent: None,
        version: None,
        tags: Vec::new(),
        scheduled_for: None,
        deadline: None,
        expires_at: None,
    };
    Ok((status, id))
}

fn fill(status: &mut StatusRow, rest: Rest) {
    let Rest {
        input,
        output,
        failure,
        custom_status,
        hold,
        unconsumed,
        dead_letters,
        parent,
        version,
        tags,
        scheduled_for,
        deadline,
        expires_at,
    } = rest;
    status.input = input;
    status.output = output;
    status.failure = failure;
    status.custom_status = custom_status;
    status.hold = hold;
    status.unconsumed = unconsumed;
    status.dead_letters = dead_letters;
    status.parent = parent;
    status.version = version;
    status.tags = tags;
    status.scheduled_for = scheduled_for;
    status.deadline = deadline;
    status.expires_at = expires_at;
}

/// The acceptance of an id, if there is one.
pub(super) fn acceptance(
    conn: &rusqlite::Connection,
    id: &InstanceId,
) -> Result<Option<Acceptance>, Failure> {
    let mut statement = conn.prepare_cached("SELECT body FROM acceptances WHERE id = ?1")?;
    let body = statement.query_row([id.as_str()], |row| Ok(bytes(row, 0)?.to_vec())).optional()?;
    body.map(|body| decode(&body, || format!("acceptance of {:?}", id.as_str()))).transpose()
}

/// The status of an instance as anybody may see it: a start that was accepted shows as pending.
pub(super) fn visible_status(
    conn: &rusqlite::Connection,
    id: &InstanceId,
) -> Result<Option<StatusRow>, Failure> {
    let mut statement = conn.prepare_cached(concat!(
        "SELECT ",
        status_columns!(),
        ", a.run FROM instances i LEFT JOIN acceptances a ON a.id = i.id WHERE i.id = ?1"
    ))?;
    let mut rows = statement.query([id.as_str()])?;
    let Some(row) = rows.next()? else {
        drop(rows);
        return Ok(acceptance(conn, id)?.as_ref().map(StatusRow::pending));
    };
    let accepted = row.get::<_, Option<i64>>(STATUS_COLUMNS)?.map(i64::cast_unsigned);
    if accepted.is_some_and(|accepted| number(row, 1).is_ok_and(|run| accepted > run)) {
        return Ok(acceptance(conn, id)?.as_ref().map(StatusRow::pending));
    }
    status_row(row).map(Some)
}
