//! The disk's own floor: what the same number of flushes costs without an engine.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::measure::{Done, Meter, Report};

type Error = Box<dyn std::error::Error>;

/// A WAL file is half as fast until it is used again for the first time: commit this often before.
const WARM_UP: usize = 2_500;

const MEASURED: usize = 2_000;

/// Measures 4 KiB appends with fsync, one-row and 500-row commits.
pub(crate) fn measure(dir: Option<&Path>) -> Result<Vec<Report>, Error> {
    let folder = crate::workloads::folder(dir)?;
    Ok(vec![
        appends(folder.path())?,
        commits(&folder.path().join("one.sqlite"), 1)?,
        commits(&folder.path().join("many.sqlite"), 500)?,
    ])
}

/// Median of a one-row commit on a file of its own: the unit in which budgets are stated.
pub(crate) fn one_row_commit(dir: &Path) -> Result<Duration, Error> {
    let mut latencies = commit_latencies(&dir.join("floor.sqlite"), 1, MEASURED / 2)?;
    latencies.sort_unstable();
    Ok(latencies[latencies.len() / 2])
}

fn appends(dir: &Path) -> Result<Report, Error> {
    let mut file = std::fs::File::create(dir.join("append"))?;
    let block = [0x5a_u8; 4096];
    let meter = Meter::start();
    let mut latencies = Vec::new();
    for _ in 0..MEASURED / 2 {
        let began = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        latencies.push(began.elapsed());
    }
    Ok(meter.report(done("fsync_append", latencies)))
}

fn commits(path: &Path, rows: usize) -> Result<Report, Error> {
    let measured = if rows == 1 { MEASURED } else { MEASURED / 10 };
    let connection = open(path)?;
    warm_up(&connection, rows)?;
    let meter = Meter::start();
    let latencies = timed(&connection, rows, measured)?;
    Ok(meter.report(done(&format!("fsync_rows{rows}"), latencies)))
}

fn commit_latencies(path: &Path, rows: usize, measured: usize) -> Result<Vec<Duration>, Error> {
    let connection = open(path)?;
    warm_up(&connection, rows)?;
    timed(&connection, rows, measured)
}

fn open(path: &Path) -> Result<Connection, Error> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch("CREATE TABLE rows (n INTEGER PRIMARY KEY, body TEXT)")?;
    Ok(connection)
}

fn warm_up(connection: &Connection, rows: usize) -> Result<(), Error> {
    let times = if rows == 1 { WARM_UP } else { WARM_UP / 50 };
    timed(connection, rows, times).map(|_| ())
}

fn timed(connection: &Connection, rows: usize, times: usize) -> Result<Vec<Duration>, Error> {
    let body = "x".repeat(200);
    let mut insert = connection.prepare("INSERT INTO rows (body) VALUES (?1)")?;
    let mut latencies = Vec::with_capacity(times);
    for _ in 0..times {
        let began = Instant::now();
        connection.execute_batch("BEGIN IMMEDIATE")?;
        for _ in 0..rows {
            insert.execute([&body])?;
        }
        connection.execute_batch("COMMIT")?;
        latencies.push(began.elapsed());
    }
    Ok(latencies)
}

fn done(workload: &str, latencies: Vec<Duration>) -> Done {
    Done {
        workload: workload.to_owned(),
        store: "sqlite",
        concurrency: 1,
        activities: 0,
        latencies,
        failed: 0,
        notes: Vec::new(),
    }
}
