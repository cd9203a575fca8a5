//! Connections for reading, which do not wait for the writer.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use rusqlite::Connection;

use super::super::StoreError;
use super::failure::Failure;
use super::writer::run;
use super::{SqliteOptions, file};

/// Connections that are kept; more are opened when more read at once, and closed after.
const KEPT: usize = 8;

pub(super) struct Readers {
    path: PathBuf,
    options: SqliteOptions,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn new(path: PathBuf, options: SqliteOptions) -> Self {
        Self { path, options, idle: Mutex::default() }
    }

    /// Reads with all statements seeing one state of the file: the newest at the first of them, and so
    /// every commit that has returned.
    pub(super) fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let conn = match idle {
            Some(conn) => conn,
            None => file::reader(&self.path, &self.options).map_err(Failure::Sql)?,
        };
        run(&conn, "BEGIN").map_err(Failure::Sql)?;
        let result = work(&conn);
        let healthy = run(&conn, "COMMIT").is_ok() && !matches!(result, Err(Failure::Sql(_)));
        if healthy {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < KEPT {
                idle.push(conn);
            }
        }
        Ok(result?)
    }
}
