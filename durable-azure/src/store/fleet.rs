//! Workers of a hub, and what they know of each other.

use std::time::{Duration, Instant};

use durable_core::machine::codec::encode_row;
use durable_core::machine::model::{Timestamp, WorkerId};
use durable_core::store::{Member, StoreError};
use uuid::Uuid;

use super::failure::{maybe_applied, not_applied};
use super::rows::{AT, calendar, columns_of, number, text};
use super::{Inner, body, garbage, keys};
use crate::service::{Columns, Etag, Fault, Op, Row, Value};

/// Times that a row is written again because another worker writes it, too.
const TRIES_MAX: usize = 10;
/// Member rows whose worker has not beaten for this long, by the service's clock, are removed by the next that joins.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 3600);
const POKE: &str = "poke";

/// The worker of this process, as a member.
#[derive(Debug, Default)]
pub(super) struct Membership {
    worker: Option<WorkerId>,
    /// Its row as it wrote it last.
    etag: Option<Etag>,
}

fn key(worker: WorkerId) -> String {
    format!("m|{worker}")
}

fn columns(member: &Member, now: Timestamp) -> Columns {
    let mut columns = Columns::from([
        ("worker".into(), text(member.worker.to_string())),
        ("beat".into(), number(member.beat)),
        ("host".into(), text(&*member.host)),
        ("pid".into(), number(member.pid.into())),
        ("at_time".into(), calendar(now)),
        (AT.into(), Value::Int(now.as_micros())),
    ]);
    body::set_inline(&mut columns, &encode_row(member));
    columns
}

/// Joins, or says again that a worker lives. Whether another has come or gone since.
///
/// Who comes or goes writes into the rows of the others. So an idle worker notices without reading: its row is not
/// as it left it.
pub(super) async fn heartbeat(inner: &Inner, member: &Member) -> Result<bool, StoreError> {
    let mut membership = inner.membership.lock().await;
    let key = key(member.worker);
    let columns = || columns(member, inner.now());
    let known = membership.etag.take().filter(|_| membership.worker == Some(member.worker));
    membership.worker = Some(member.worker);
    let joins = known.is_none();
    let mut op = match known {
        Some(etag) => Op::Replace { key: key.clone(), columns: columns(), etag },
        None => Op::Put { key: key.clone(), columns: columns() },
    };
    let mut moved = joins;
    for _ in 0..TRIES_MAX {
        match inner.table.transact(keys::FLEET, std::slice::from_ref(&op)).await {
            Ok(etags) => {
                membership.etag = etags.into_iter().next().flatten();
                if membership.etag.is_none() {
                    let row = inner.row(keys::FLEET, &key).await?;
                    membership.etag = row.map(|row| row.etag);
                }
                inner.beat(Instant::now());
                if joins {
                    poke(inner, member.worker).await?;
                }
                return Ok(moved);
            }
            Err(Fault::Refused { status: 404 | 412, .. }) => {
                moved = true;
                let row = inner.row(keys::FLEET, &key).await?;
                let columns = columns();
                op = match row {
                    Some(row) => Op::Replace { key: key.clone(), columns, etag: row.etag },
                    None => Op::Put { key: key.clone(), columns },
                };
            }
            // The next beat finds out: at worst it looks at the members once too often.
            Err(fault) => return Err(maybe_applied(fault)),
        }
    }
    Err(StoreError::Busy {
        retry_after: Duration::from_millis(100),
        reason: "the members change all the time".into(),
    })
}

/// Lets the other workers see that one has come or gone.
async fn poke(inner: &Inner, from: WorkerId) -> Result<(), StoreError> {
    let own = key(from);
    let now = inner.now();
    for row in inner.range(keys::FLEET, "m|", &[]).await? {
        if row.key == own {
            continue;
        }
        let at = Timestamp::from_micros(row.int(AT).unwrap_or_default());
        if now.since(at) > FORGOTTEN_AFTER {
            garbage::remove_row(inner, keys::FLEET, &row.key).await?;
        } else {
            poke_one(inner, row).await?;
        }
    }
    Ok(())
}

async fn poke_one(inner: &Inner, row: Row) -> Result<(), StoreError> {
    let key = row.key.clone();
    let mut row = Some(row);
    for _ in 0..TRIES_MAX {
        let Some(found) = row else { return Ok(()) };
        let etag = found.etag.clone();
        let mut columns = columns_of(found);
        columns.insert(POKE.into(), text(Uuid::new_v4().simple().to_string()));
        let op = Op::Replace { key: key.clone(), columns, etag };
        match inner.table.transact(keys::FLEET, &[op]).await {
            Ok(_) => return Ok(()),
            Err(Fault::Refused { status: 404, .. }) => return Ok(()),
            Err(Fault::Refused { status: 412, .. } | Fault::Unknown { .. }) => {
                row = inner.row(keys::FLEET, &key).await?;
            }
            Err(fault) => return Err(not_applied(fault)),
        }
    }
    Ok(())
}

/// The workers that may be alive. A row that cannot be read hides no other.
pub(super) async fn members(inner: &Inner) -> Result<Vec<Member>, StoreError> {
    let mut members = Vec::new();
    for row in inner.range(keys::FLEET, "m|", &[]).await? {
        let bytes = body::read_fixed(&inner.container, &row).await?;
        match body::decode::<Member>(&bytes) {
            Ok(member) => members.push(member),
            Err(error) => tracing::error!(key = row.key, %error, "a worker cannot be read"),
        }
    }
    Ok(members)
}

/// Leaves.
pub(super) async fn leave(inner: &Inner, worker: WorkerId) -> Result<(), StoreError> {
    {
        let mut membership = inner.membership.lock().await;
        if membership.worker == Some(worker) {
            *membership = Membership::default();
            inner.no_beat();
        }
    }
    garbage::remove_row(inner, keys::FLEET, &key(worker)).await?;
    poke(inner, worker).await
}
