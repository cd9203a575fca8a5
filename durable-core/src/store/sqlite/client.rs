//! What clients write and read.

use std::collections::BTreeMap;

use rusqlite::types::ToSql;
use rusqlite::{Connection, OptionalExtension as _, params};

use durable_machine::codec::encode_row;
use durable_machine::model::{
    Acceptance, Envelope, InstanceId, PartitionId, ReusePolicy, RunNumber, RuntimeStatus, StatusRow,
};
use durable_machine::store::{AcceptOutcome, ListPage, ListQuery, ListToken, Remains, SendOutcome};

use super::commit::{count, insert};
use super::failure::Failure;
use super::rows::{
    Body, STATUS_COLUMNS, acceptance, int, limit, number, status_code, status_columns,
    status_row_or_held, visible_status,
};
use super::writer::Tx;

/// Makes a start durable. Writes only once nothing can refuse it any more.
pub(super) fn accept(
    tx: &mut Tx<'_>,
    partitions: u16,
    start: &Acceptance,
) -> Result<AcceptOutcome, Failure> {
    let id = &start.instance;
    if let Some(earlier) = acceptance(tx.conn, id)? {
        return Ok(if earlier.nonce == start.nonce {
            AcceptOutcome::Accepted { run: earlier.run, fresh: false }
        } else {
            AcceptOutcome::Active(Box::new(StatusRow::pending(&earlier)))
        });
    }
    let nonce = start.nonce.0.as_bytes();
    let mut start = start.clone();
    let there = tx.entry(id)?;
    if let Some(entry) = &there {
        let began: Option<i64> = tx
            .conn
            .prepare_cached("SELECT nonce_run FROM instances WHERE key = ?1 AND nonce = ?2")?
            .query_row((entry.key, nonce), |row| row.get(0))
            .optional()?;
        if let Some(run) = began {
            return Ok(AcceptOutcome::Accepted {
                run: RunNumber(run.cast_unsigned()),
                fresh: false,
            });
        }
        if !entry.status.is_terminal()
            && start.reuse != ReusePolicy::ReplaceActive
            && let Some(status) = visible_status(tx.conn, id)?
        {
            return Ok(AcceptOutcome::Active(Box::new(status)));
        }
        start.run = start.run.max(entry.run.next());
    }
    let partition = id.partition(partitions);
    if let Some(purged) = purged(tx.conn, partition)? {
        start.run = start.run.max(purged.next());
    }
    // A row that is there is its owner's alone, also that of a run which has ended.
    if there.is_none() {
        let entry = insert(tx, &StatusRow::pending(&start), None, None)?;
        tx.state.keys.set(id, entry);
        count(tx, RuntimeStatus::Pending, 1)?;
    }
    tx.conn
        .prepare_cached(
            "INSERT INTO acceptances (partition, id, run, nonce, body) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            partition.0,
            id.as_str(),
            int(start.run.0),
            nonce,
            Body(&encode_row(&start))
        ])?;
    Ok(AcceptOutcome::Accepted { run: start.run, fresh: false })
}

/// The highest run that was purged in a partition.
fn purged(conn: &Connection, partition: PartitionId) -> Result<Option<RunNumber>, Failure> {
    let found: Option<Option<i64>> = conn
        .prepare_cached(
            "SELECT iif(json_valid(head), json_extract(head, '$.row.purged'), NULL)
             FROM partitions WHERE partition = ?1",
        )?
        .query_row([partition.0], |row| row.get(0))
        .optional()?;
    Ok(found.flatten().map(|run| RunNumber(run.cast_unsigned())))
}

/// Makes a command durable.
pub(super) fn send(
    tx: &mut Tx<'_>,
    partitions: u16,
    envelope: &Envelope,
) -> Result<SendOutcome, Failure> {
    let active = tx.entry(&envelope.instance)?.is_some_and(|entry| !entry.status.is_terminal());
    if !active {
        match visible_status(tx.conn, &envelope.instance)? {
            None => return Ok(SendOutcome::NotFound),
            Some(status) if !envelope.command.is_for(status.status) => {
                return Ok(SendOutcome::Ended(Box::new(status)));
            }
            // It has ended, and a start that replaces it was accepted; or the command is for what has ended.
            Some(_) => {}
        }
    }
    let partition = envelope.instance.partition(partitions);
    let consumed = tx
        .conn
        .prepare_cached("SELECT 1 FROM consumed WHERE partition = ?1 AND envelope = ?2")?
        .exists((partition.0, &*envelope.id.0))?;
    if !consumed {
        tx.conn
            .prepare_cached(
                "INSERT INTO inbox (partition, envelope, body) VALUES (?1, ?2, ?3)
                 ON CONFLICT (envelope) DO NOTHING",
            )?
            .execute((partition.0, &*envelope.id.0, Body(&encode_row(envelope))))?;
    }
    Ok(SendOutcome::Sent)
}

/// The states that people look for, of which there are few: an index knows them.
const TROUBLED: [RuntimeStatus; 3] =
    [RuntimeStatus::Failed, RuntimeStatus::Terminated, RuntimeStatus::Suspended];

/// The condition of that index: SQLite uses it only where a query says the same.
macro_rules! troubled {
    () => {
        "i.status IN (3, 5, 7)"
    };
}

fn is_troubled(query: &ListQuery) -> bool {
    !query.statuses.is_empty() && query.statuses.iter().all(|status| TROUBLED.contains(status))
}

/// Instances, newest start first.
pub(super) fn list(
    conn: &Connection,
    query: &ListQuery,
    after: Option<ListToken>,
    most: usize,
) -> Result<ListPage, Failure> {
    let mut sql = String::from(concat!("SELECT ", status_columns!(), ", i.key FROM instances i"));
    if is_troubled(query) {
        sql += concat!(" INDEXED BY instances_troubled WHERE ", troubled!(), " AND i.key < ?");
    } else {
        sql += " WHERE i.key < ?";
    }
    let mut values: Vec<Box<dyn ToSql>> = vec![Box::new(after.map_or(i64::MAX, |t| int(t.0)))];
    if !query.statuses.is_empty() {
        let codes: Vec<_> = query.statuses.iter().map(|status| status.code().to_string()).collect();
        sql += &format!(" AND i.status IN ({})", codes.join(","));
    }
    if let Some(from) = query.created_from {
        sql += " AND i.created_at >= ?";
        values.push(Box::new(from.as_micros()));
    }
    if let Some(to) = query.created_to {
        sql += " AND i.created_at <= ?";
        values.push(Box::new(to.as_micros()));
    }
    if let Some(prefix) = &query.id_prefix {
        // By bytes, so that case matters and no character is special.
        sql += " AND substr(CAST(i.id AS BLOB), 1, ?) = ?";
        values.push(Box::new(limit(prefix.len())));
        values.push(Box::new(prefix.clone().into_bytes()));
    }
    if let Some(name) = &query.name {
        sql += " AND i.name = ?";
        values.push(Box::new(name.clone()));
    }
    for (key, value) in &query.tags {
        // Whether the text stands anywhere in the body: which rows have to be decoded.
        sql += " AND instr(coalesce(i.body, (SELECT l.body FROM large_bodies l WHERE l.key = i.key)), ?) > 0";
        values.push(Box::new(serde_json::to_string(&(key, value)).unwrap_or_default()));
    }
    // Rows are read one by one, and no more than make the page full.
    sql += " ORDER BY i.key DESC";
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query(rusqlite::params_from_iter(values.iter()))?;
    let mut page = ListPage::default();
    let mut last = None;
    while let Some(row) = rows.next()? {
        let shown = status_row_or_held(row)?;
        if !query.tags.is_empty() && !query.holds(&shown) {
            continue;
        }
        if page.rows.len() == most {
            page.next = last.map(ListToken);
            break;
        }
        page.rows.push(shown);
        last = Some(number(row, STATUS_COLUMNS)?);
    }
    Ok(page)
}

/// How far these runs are gone.
pub(super) fn remains(
    conn: &Connection,
    runs: &[(InstanceId, RunNumber)],
) -> Result<Vec<Remains>, Failure> {
    let mut there = conn.prepare_cached("SELECT run FROM instances WHERE id = ?1")?;
    let mut rest = conn.prepare_cached("SELECT 1 FROM garbage WHERE id = ?1")?;
    let mut remains = Vec::with_capacity(runs.len());
    for (id, run) in runs {
        let found = there.query_row([id.as_str()], |row| number(row, 0)).optional()?;
        remains.push(match found {
            Some(found) if found == run.0 => Remains::There,
            Some(_) => Remains::Replaced,
            None if rest.exists([id.as_str()])? => Remains::Rest,
            None => Remains::Nothing,
        });
    }
    Ok(remains)
}

pub(super) fn counts(conn: &Connection) -> Result<BTreeMap<RuntimeStatus, u64>, Failure> {
    let mut statement = conn.prepare_cached("SELECT status, n FROM counts WHERE n > 0")?;
    let mut rows = statement.query([])?;
    let mut counts = BTreeMap::new();
    while let Some(row) = rows.next()? {
        counts.insert(status_code(row.get(0)?, "the counts")?, number(row, 1)?);
    }
    Ok(counts)
}
