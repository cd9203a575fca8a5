//! A copy of the hub while it is in use.

use std::fs::{self, OpenOptions};
use std::path::Path;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::super::StoreError;
use super::failure::{Failure, Trouble};
use super::{SqliteOptions, file};

/// Copies the database to a file that must not exist. All pages are read in one step, so that the copy is
/// one state of the hub; writers go on meanwhile. What an interruption leaves is no hub: the copy is one
/// transaction of its own.
pub(super) fn copy(from: &Path, options: &SqliteOptions, to: &Path) -> Result<(), StoreError> {
    OpenOptions::new().write(true).create_new(true).open(to).map_err(|error| {
        StoreError::Unusable(format!("the backup {} cannot be made: {error}", to.display()))
    })?;
    let copied = pages(from, options, to);
    if copied.is_err()
        && let Err(error) = fs::remove_file(to)
    {
        tracing::warn!(path = %to.display(), %error, "an incomplete backup could not be removed");
    }
    copied
}

fn pages(from: &Path, options: &SqliteOptions, to: &Path) -> Result<(), StoreError> {
    let source = file::reader(from, options).map_err(Failure::Sql)?;
    let mut target = Connection::open(to).map_err(Failure::Sql)?;
    let step = Backup::new(&source, &mut target)
        .and_then(|backup| backup.step(-1))
        .map_err(Failure::Sql)?;
    match step {
        StepResult::Done => {}
        StepResult::More | StepResult::Busy | StepResult::Locked => {
            return Err(Trouble::Busy {
                retry_after: options.busy_timeout,
                reason: "the database is locked, the backup was not made".into(),
            }
            .into());
        }
        other => {
            return Err(StoreError::Unusable(format!("the backup ended with {other:?}")));
        }
    }
    target.close().map_err(|(_, error)| Failure::Sql(error))?;
    Ok(())
}
