//! Opening, releasing and the reads of an owner.

use rusqlite::{Connection, OptionalExtension as _, params};

use durable_machine::codec::{DecodeError, decode_row, encode_row};
use durable_machine::model::{
    Acceptance, Envelope, EnvelopeId, ExecutionNumber, Fence, InstanceId, Message, PartitionId,
    RunNumber, Timestamp,
};
use durable_machine::store::{
    AcceptedStart, ArrivalPosition, Arrivals, Head, HistoryPage, HistoryRow, HistoryToken,
    Snapshot, StoredInstance, TimerPage,
};

use super::super::memory::host_clock;
use super::chores::CONSUMED_KEPT_MICROS;
use super::failure::Failure;
use super::rows::{
    Body, STATUS_COLUMNS, acceptance, bytes, decode, instance_id, int, limit, number,
    status_columns, status_row,
};
use super::writer::{Tx, owned};

/// Takes a partition over.
pub(super) fn open(
    tx: &mut Tx<'_>,
    partition: PartitionId,
    partitions: u16,
) -> Result<Snapshot, Failure> {
    let (fence, mut head) = head(tx.conn, partition)?;
    // Commits write the head row only where more than the time changed; the history has the time.
    let last: Option<i64> = tx
        .conn
        .query_row("SELECT at FROM history ORDER BY row DESC LIMIT 1", [], |row| row.get(0))
        .optional()?;
    head.time = head.time.max(last.map_or(Timestamp::MIN, Timestamp::from_micros));
    head.unclean_opens += 1;
    let fence = fence.next();
    tx.conn.execute(
        "INSERT INTO partitions (partition, fence, last_commit, head) VALUES (?1, ?2, 0, ?3)
         ON CONFLICT (partition) DO UPDATE SET fence = ?2, last_commit = 0, head = ?3",
        params![partition.0, int(fence.0), Body(&encode_row(&head))],
    )?;
    let oldest = head.time.as_micros().saturating_sub(CONSUMED_KEPT_MICROS);
    tx.conn
        .execute("DELETE FROM consumed WHERE partition = ?1 AND at < ?2", (partition.0, oldest))?;
    tx.state.chores = true;
    Ok(Snapshot {
        fence,
        in_flight: in_flight(tx.conn, partition, partitions)?,
        outbox: outbox(tx, partition)?,
        consumed: consumed(tx.conn, partition)?,
        head,
    })
}

/// Gives a partition up in good order.
pub(super) fn release(
    tx: &mut Tx<'_>,
    partition: PartitionId,
    fence: Fence,
) -> Result<(), Failure> {
    owned(tx.conn, partition, fence)?;
    let (_, mut head) = head(tx.conn, partition)?;
    head.unclean_opens = 0;
    head.probing = None;
    tx.conn.execute(
        "UPDATE partitions SET head = ?2 WHERE partition = ?1",
        (partition.0, Body(&encode_row(&head))),
    )?;
    Ok(())
}

fn head(conn: &Connection, partition: PartitionId) -> Result<(Fence, Head), Failure> {
    let found = conn
        .prepare_cached("SELECT fence, head FROM partitions WHERE partition = ?1")?
        .query_row([partition.0], |row| Ok((Fence(number(row, 0)?), bytes(row, 1)?.to_vec())))
        .optional()?;
    let Some((fence, body)) = found else { return Ok((Fence(0), Head::default())) };
    Ok((fence, decode(&body, || format!("head of partition {partition}"))?))
}

fn in_flight(
    conn: &Connection,
    partition: PartitionId,
    partitions: u16,
) -> Result<Vec<InstanceId>, Failure> {
    let mut statement = conn
        .prepare("SELECT i.id FROM in_flight f JOIN instances i ON i.key = f.key ORDER BY i.id")?;
    let mut rows = statement.query([])?;
    let mut ids = Vec::new();
    while let Some(row) = rows.next()? {
        match instance_id(&row.get::<_, String>(0)?) {
            Ok(id) if id.partition(partitions) == partition => ids.push(id),
            Ok(_) => {}
            Err(error) => {
                tracing::error!(?error, "work in flight of an unreadable id is passed over")
            }
        }
    }
    Ok(ids)
}

fn outbox(tx: &mut Tx<'_>, partition: PartitionId) -> Result<Vec<Message>, Failure> {
    let mut statement = tx.conn.prepare(
        "SELECT receiver, number, body FROM outbox WHERE sender = ?1 ORDER BY receiver, number",
    )?;
    let mut rows = statement.query([partition.0])?;
    let mut messages = Vec::new();
    let mut unreadable = Vec::new();
    while let Some(row) = rows.next()? {
        match decode_row::<Message>(bytes(row, 2)?) {
            Ok(message) => messages.push(message),
            Err(error) => {
                unreadable.push((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, error));
            }
        }
    }
    drop(rows);
    for (receiver, number, error) in unreadable {
        tx.conn.execute(
            "INSERT INTO dead_letters (came_from, at, reason, body)
             SELECT format('outbox %d -> %d, number %d', sender, receiver, number), ?4, ?5, body
             FROM outbox WHERE sender = ?1 AND receiver = ?2 AND number = ?3",
            params![partition.0, receiver, number, host_clock().as_micros(), error.to_string()],
        )?;
        tx.conn.execute(
            "DELETE FROM outbox WHERE sender = ?1 AND receiver = ?2 AND number = ?3",
            (partition.0, receiver, number),
        )?;
        tracing::error!(%error, receiver, number, "an unreadable message is a dead letter now");
    }
    Ok(messages)
}

fn consumed(
    conn: &Connection,
    partition: PartitionId,
) -> Result<Vec<(EnvelopeId, Timestamp)>, Failure> {
    let mut statement =
        conn.prepare("SELECT envelope, at FROM consumed WHERE partition = ?1 ORDER BY envelope")?;
    let rows = statement.query_map([partition.0], |row| {
        Ok((EnvelopeId(row.get::<_, String>(0)?.into()), Timestamp::from_micros(row.get(1)?)))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// One instance with everything needed to run it on.
pub(super) fn load(conn: &Connection, id: &InstanceId) -> Result<Option<StoredInstance>, Failure> {
    let acceptance = acceptance(conn, id)?;
    let mut statement = conn.prepare_cached(concat!(
        "SELECT ",
        status_columns!(),
        ", i.log, i.due, f.body FROM instances i LEFT JOIN in_flight f ON f.key = i.key WHERE i.id = ?1"
    ))?;
    let mut rows = statement.query([id.as_str()])?;
    let Some(row) = rows.next()? else {
        return Ok(acceptance.map(|acceptance| StoredInstance {
            status: None,
            acceptance: Some(acceptance),
            history: Vec::new(),
            in_flight: None,
            timer: None,
        }));
    };
    let status = status_row(row)?;
    let history = if status.status.is_terminal() {
        Vec::new()
    } else {
        history(conn, row.get(STATUS_COLUMNS)?)?
    };
    let in_flight = row.get_ref(STATUS_COLUMNS + 2)?;
    let in_flight = (in_flight != rusqlite::types::ValueRef::Null)
        .then(|| bytes(row, STATUS_COLUMNS + 2).map(<[u8]>::to_vec))
        .transpose()?;
    Ok(Some(StoredInstance {
        status: Some(status),
        acceptance,
        history,
        in_flight,
        timer: row.get::<_, Option<i64>>(STATUS_COLUMNS + 1)?.map(Timestamp::from_micros),
    }))
}

pub(super) fn history(conn: &Connection, log: i64) -> Result<Vec<HistoryRow>, Failure> {
    let mut statement =
        conn.prepare_cached("SELECT first, body FROM history WHERE log = ?1 ORDER BY row")?;
    let mut rows = statement.query([log])?;
    let mut history = Vec::new();
    while let Some(row) = rows.next()? {
        history.push(HistoryRow {
            first: durable_machine::model::EventSeq(number(row, 0)?),
            body: bytes(row, 1)?.to_vec(),
        });
    }
    Ok(history)
}

/// One page of it, by the row numbers: within a log their order is that of events.
pub(super) fn history_page(
    conn: &Connection,
    id: &InstanceId,
    after: Option<HistoryToken>,
    most: usize,
) -> Result<Option<HistoryPage>, Failure> {
    let mut statement =
        conn.prepare_cached("SELECT run, execution, log FROM instances WHERE id = ?1")?;
    let found = statement
        .query_row([id.as_str()], |row| Ok((number(row, 0)?, row.get(1)?, row.get::<_, i64>(2)?)))
        .optional()?;
    let Some((run, execution, log)) = found else { return Ok(None) };
    let (run, execution) = (RunNumber(run), ExecutionNumber(execution));
    let mut page = HistoryPage { run, execution, rows: Vec::new(), next: None };
    let mut statement = conn.prepare_cached(
        "SELECT first, body, row FROM history WHERE log = ?1 AND row > ?2 ORDER BY row LIMIT ?3",
    )?;
    let behind = after.map_or(0, |after| int(after.0));
    let mut rows = statement.query((log, behind, limit(most.saturating_add(1))))?;
    let mut last = None;
    while let Some(row) = rows.next()? {
        if page.rows.len() == most {
            page.next = last.map(HistoryToken);
            break;
        }
        let first = durable_machine::model::EventSeq(number(row, 0)?);
        page.rows.push(HistoryRow { first, body: bytes(row, 1)?.to_vec() });
        last = Some(number(row, 2)?);
    }
    Ok(Some(page))
}

/// Due times behind `after`.
pub(super) fn timers(
    conn: &Connection,
    partition: PartitionId,
    after: Option<&(Timestamp, InstanceId)>,
    most: usize,
) -> Result<TimerPage, Failure> {
    let mut statement = conn.prepare_cached(
        "SELECT due, id FROM timers WHERE partition = ?1 AND (due, id) > (?2, ?3)
         ORDER BY due, id LIMIT ?4",
    )?;
    // No id is empty: this is in front of all.
    let (due, id) = after.map_or((i64::MIN, ""), |(due, id)| (due.as_micros(), id.as_str()));
    let mut rows = statement.query(params![partition.0, due, id, limit(most.saturating_add(1))])?;
    let mut page = TimerPage::default();
    let mut seen = 0;
    while let Some(row) = rows.next()? {
        seen += 1;
        if seen > most {
            page.more = true;
            break;
        }
        match instance_id(row.get_ref(1)?.as_str().unwrap_or_default()) {
            Ok(id) => page.timers.push((Timestamp::from_micros(row.get(0)?), id)),
            Err(error) => tracing::error!(?error, "a timer of an unreadable id is passed over"),
        }
    }
    Ok(page)
}

/// What arrived, and the sequence numbers of commands that nobody can read.
pub(super) fn arrivals(
    conn: &Connection,
    partition: PartitionId,
    after: ArrivalPosition,
    most: usize,
) -> Result<(Arrivals, Vec<(i64, DecodeError)>), Failure> {
    let mut more = false;
    let mut read = |sql, from: u64, take: &mut dyn FnMut(u64, &[u8])| {
        let mut last = from;
        let mut statement = conn.prepare_cached(sql)?;
        let mut rows = statement.query((int(from), partition.0, limit(most.saturating_add(1))))?;
        let mut seen = 0;
        while let Some(row) = rows.next()? {
            seen += 1;
            if seen > most {
                more = true;
                break;
            }
            last = number(row, 0)?;
            take(last, bytes(row, 1)?);
        }
        Ok::<_, Failure>(last)
    };
    let mut acceptances = Vec::new();
    let last_acceptance = read(
        "SELECT seq, body FROM acceptances WHERE seq > ?1 AND partition = ?2 ORDER BY seq LIMIT ?3",
        after.acceptances,
        &mut |seq, body| match decode_row::<Acceptance>(body) {
            Ok(acceptance) => acceptances.push(AcceptedStart { acceptance, fresh: false }),
            // A start is never thrown away. It stays pending, and its load says why.
            Err(error) => tracing::error!(seq, %error, "an accepted start cannot be read"),
        },
    )?;
    let (mut envelopes, mut dead) = (Vec::new(), Vec::new());
    let last_envelope = read(
        "SELECT seq, body FROM inbox WHERE seq > ?1 AND partition = ?2 ORDER BY seq LIMIT ?3",
        after.envelopes,
        &mut |seq, body| match decode_row::<Envelope>(body) {
            Ok(envelope) => envelopes.push(envelope),
            // A newer build wrote it and a newer build will read it.
            Err(error @ DecodeError::Newer { .. }) => {
                tracing::error!(seq, %error, "a command waits for a newer build");
            }
            Err(error @ (DecodeError::Damaged(_) | DecodeError::Unknown(_))) => {
                dead.push((int(seq), error));
            }
        },
    )?;
    let position =
        ArrivalPosition { acceptances: last_acceptance, envelopes: last_envelope, results: 0 };
    let arrivals = Arrivals { acceptances, envelopes, position, more, ..Arrivals::default() };
    Ok((arrivals, dead))
}

/// Moves commands that cannot be read out of the way.
pub(super) fn bury(tx: &mut Tx<'_>, dead: &[(i64, DecodeError)]) -> Result<(), Failure> {
    for (seq, error) in dead {
        tx.conn.execute(
            "INSERT INTO dead_letters (came_from, at, reason, body)
             SELECT format('inbox %d, envelope %s', seq, envelope), ?2, ?3, body
             FROM inbox WHERE seq = ?1",
            params![seq, host_clock().as_micros(), error.to_string()],
        )?;
        tx.conn.execute("DELETE FROM inbox WHERE seq = ?1", [seq])?;
        tracing::error!(seq, %error, "an unreadable command is a dead letter now");
    }
    Ok(())
}

/// The row of an instance whose log is asked for.
pub(super) fn log_of(conn: &Connection, id: &InstanceId) -> Result<Option<i64>, Failure> {
    let mut statement = conn.prepare_cached("SELECT log FROM instances WHERE id = ?1")?;
    Ok(statement.query_row([id.as_str()], |row| row.get(0)).optional()?)
}
