//! From SQLite's errors to what the caller can do about them.

use std::time::Duration;

use durable_machine::codec::DecodeError;
use rusqlite::ErrorCode;

use super::super::StoreError;

/// Why a piece of work on a connection stopped.
#[derive(Debug)]
pub(super) enum Failure {
    /// A rule of the store refuses it, or a row cannot be read. Says nothing about other work.
    Refused(StoreError),
    /// SQLite failed.
    Sql(rusqlite::Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(error) => error,
            Failure::Sql(error) => Trouble::of(&error).into(),
        }
    }
}

/// What an error of SQLite means. Unlike a [`StoreError`] it can be given to many callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nothing was written; it passes by itself.
    Busy { retry_after: Duration, reason: String },
    /// The file system failed. Before COMMIT nothing was written; at COMMIT nobody knows.
    Io(String),
    /// The outcome of a write could not be found out.
    Unknown(String),
    /// The file or a row is damaged.
    Damaged(String),
    /// Anything else: a retry is no use.
    Unusable(String),
}

const LOCKED_RETRY: Duration = Duration::from_millis(20);
const FULL_RETRY: Duration = Duration::from_secs(1);
const IO_RETRY: Duration = Duration::from_millis(200);

impl Trouble {
    pub(super) fn of(error: &rusqlite::Error) -> Self {
        let text = error.to_string();
        let code = match error {
            rusqlite::Error::SqliteFailure(error, _) => Some(error.code),
            rusqlite::Error::SqlInputError { error, .. } => Some(error.code),
            _ => None,
        };
        match code {
            Some(
                ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::SchemaChanged,
            ) => Self::Busy {
                retry_after: LOCKED_RETRY,
                reason: format!("another process holds the database ({text})"),
            },
            Some(ErrorCode::DiskFull) => Self::Busy {
                retry_after: FULL_RETRY,
                reason: format!(
                    "disk full: writing goes on by itself once there is room, reading goes on now ({text})"
                ),
            },
            Some(ErrorCode::SystemIoFailure) => Self::Io(format!("I/O error ({text})")),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(text),
            Some(_) => Self::Unusable(format!("SQLite refused: {text}")),
            // Everything that is not an error of SQLite is a value of another type than was stored.
            None => Self::Damaged(text),
        }
    }
}

impl From<Trouble> for StoreError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Busy { retry_after, reason } => Self::Busy { retry_after, reason },
            Trouble::Io(reason) => Self::Busy { retry_after: IO_RETRY, reason },
            Trouble::Unknown(what) => Self::Unknown(what.into()),
            Trouble::Damaged(what) => {
                Self::Corrupt { key: "the database".into(), source: DecodeError::Damaged(what) }
            }
            Trouble::Unusable(what) => Self::Unusable(what),
        }
    }
}

pub(super) fn corrupt(key: impl Into<String>, source: DecodeError) -> StoreError {
    StoreError::Corrupt { key: key.into(), source }
}

pub(super) fn damaged(key: impl Into<String>, what: impl Into<String>) -> StoreError {
    corrupt(key, DecodeError::Damaged(what.into()))
}
