//! The SQLite store: the contract, and what only a file can do.

mod contract;
mod damage;
mod file;
mod load;
mod measure;
mod power;
mod process;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use durable_core::store::{SqliteStore, Store};
use futures::executor::block_on;
use tempfile::TempDir;

/// A folder with the file of a hub in it, which need not exist.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("hub.db")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn open(&self) -> Arc<dyn Store> {
        Arc::new(SqliteStore::open(self.path()).expect("the hub opens"))
    }

    fn sql(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.path()).expect("the file opens")
    }

    fn bytes(&self, name: &str) -> u64 {
        std::fs::metadata(self.file(name)).map_or(0, |file| file.len())
    }
}

/// Waits until it holds, or fails after a while.
fn soon(what: &str, mut holds: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !holds() {
        assert!(began.elapsed() < std::time::Duration::from_secs(20), "not yet: {what}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

fn number(conn: &rusqlite::Connection, sql: &str) -> i64 {
    conn.query_row(sql, [], |row| row.get(0)).expect("a number")
}

fn copy(from: &Path, to: &Path) {
    std::fs::copy(from, to).expect("a copy");
}

fn now<T>(future: impl Future<Output = T>) -> T {
    block_on(future)
}
