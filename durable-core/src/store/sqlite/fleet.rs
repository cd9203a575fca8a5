//! Members and work on offer.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, params};
use uuid::Uuid;

use durable_machine::codec::{decode_row, encode_row};
use durable_machine::model::WorkerId;

use super::super::memory::host_clock;
use super::super::{Member, TakenWork, WorkItem};
use super::failure::Failure;
use super::rows::{Body, bytes, decode, limit};
use super::writer::Tx;

pub(super) fn heartbeat(tx: &mut Tx<'_>, member: &Member) -> Result<(), Failure> {
    tx.conn
        .prepare_cached("INSERT OR REPLACE INTO members (worker, body) VALUES (?1, ?2)")?
        .execute((member.worker.to_string(), Body(&encode_row(member))))?;
    Ok(())
}

/// Removes the rows of all others: they did not hold the lock when it was taken, so they are dead.
pub(super) fn remove_others(tx: &mut Tx<'_>, worker: WorkerId) -> Result<(), Failure> {
    tx.conn.execute("DELETE FROM members WHERE worker <> ?1", [worker.to_string()])?;
    Ok(())
}

pub(super) fn remove(tx: &mut Tx<'_>, worker: WorkerId) -> Result<(), Failure> {
    tx.conn.execute("DELETE FROM members WHERE worker = ?1", [worker.to_string()])?;
    Ok(())
}

pub(super) fn member(conn: &Connection, worker: WorkerId) -> Result<Option<Member>, Failure> {
    conn.prepare_cached("SELECT body FROM members WHERE worker = ?1")?
        .query_row([worker.to_string()], |row| Ok(bytes(row, 0)?.to_vec()))
        .optional()?
        .map(|body| decode(&body, || format!("member row of {worker}")))
        .transpose()
}

pub(super) fn offer(tx: &mut Tx<'_>, work: &[WorkItem]) -> Result<(), Failure> {
    for item in work {
        tx.conn
            .prepare_cached("INSERT INTO work (hidden_until, body) VALUES (?1, ?2)")?
            .execute((i64::MIN, Body(&encode_row(item))))?;
    }
    Ok(())
}

/// Whether anything is to be taken, without writing.
pub(super) fn on_offer(conn: &Connection) -> Result<bool, Failure> {
    let mut statement = conn.prepare_cached("SELECT 1 FROM work WHERE hidden_until <= ?1")?;
    Ok(statement.exists([host_clock().as_micros()])?)
}

pub(super) fn take(
    tx: &mut Tx<'_>,
    most: usize,
    visibility: Duration,
) -> Result<Vec<TakenWork>, Failure> {
    let now = host_clock();
    let mut taken = Vec::new();
    let mut unreadable = Vec::new();
    {
        let mut statement = tx.conn.prepare_cached(
            "SELECT number, body FROM work WHERE hidden_until <= ?1 ORDER BY number LIMIT ?2",
        )?;
        let mut rows = statement.query((now.as_micros(), limit(most)))?;
        while let Some(row) = rows.next()? {
            let number: i64 = row.get(0)?;
            match decode_row::<WorkItem>(bytes(row, 1)?) {
                Ok(item) => {
                    let receipt = format!("{number}-{}", Uuid::new_v4());
                    taken.push((number, TakenWork { item, receipt }));
                }
                Err(error) => unreadable.push((number, error)),
            }
        }
    }
    for (number, work) in &taken {
        tx.conn
            .prepare_cached("UPDATE work SET hidden_until = ?2, receipt = ?3 WHERE number = ?1")?
            .execute((number, now.after(visibility).as_micros(), &work.receipt))?;
    }
    for (number, error) in unreadable {
        tx.conn.execute(
            "INSERT INTO dead_letters (came_from, at, reason, body)
             SELECT format('work %d', number), ?2, ?3, body FROM work WHERE number = ?1",
            params![number, now.as_micros(), error.to_string()],
        )?;
        tx.conn.execute("DELETE FROM work WHERE number = ?1", [number])?;
        tracing::error!(number, %error, "an unreadable offer is a dead letter now");
    }
    Ok(taken.into_iter().map(|(_, work)| work).collect())
}

pub(super) fn renew(tx: &mut Tx<'_>, receipt: &str, visibility: Duration) -> Result<bool, Failure> {
    let until = host_clock().after(visibility).as_micros();
    let changed = tx
        .conn
        .prepare_cached("UPDATE work SET hidden_until = ?3 WHERE number = ?1 AND receipt = ?2")?
        .execute((offer_number(receipt), receipt, until))?;
    Ok(changed > 0)
}

pub(super) fn finish(tx: &mut Tx<'_>, receipt: &str) -> Result<bool, Failure> {
    let removed = tx
        .conn
        .prepare_cached("DELETE FROM work WHERE number = ?1 AND receipt = ?2")?
        .execute((offer_number(receipt), receipt))?;
    Ok(removed > 0)
}

/// The row that a receipt is for; a receipt of another store finds none.
fn offer_number(receipt: &str) -> i64 {
    receipt.split_once('-').and_then(|(number, _)| number.parse().ok()).unwrap_or(-1)
}
