//! Members.

use rusqlite::{Connection, OptionalExtension as _};

use durable_machine::codec::encode_row;
use durable_machine::model::WorkerId;

use super::super::Member;
use super::failure::Failure;
use super::rows::{Body, bytes, decode};
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
