//! The orchestrator and its activities.

use std::path::PathBuf;
use std::time::Duration;

use durable_core::prelude::*;
use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};

use crate::rows::{self, BadRow, Chunk};

/// How long a chunk takes at least.
#[derive(Clone)]
pub(crate) struct Pace(pub(crate) Duration);

/// What to import.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Import {
    pub(crate) file: PathBuf,
    /// Folder for what was imported.
    pub(crate) target: PathBuf,
    /// Rows of a chunk.
    pub(crate) chunk: u32,
    /// Chunks at a time.
    pub(crate) parallel: u32,
}

/// What came of a chunk, and of all of them.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Totals {
    pub(crate) rows: u64,
    pub(crate) cents: u64,
    pub(crate) bad: Vec<BadRow>,
}

#[orchestrator]
pub(crate) async fn import_file(
    ctx: OrchestrationContext,
    import: Import,
) -> Result<Totals, OrchestrationError> {
    let chunks = ctx.call(plan, &import).await?;
    let retry = RetryPolicy::exponential(millis(500)).attempts(5);
    let count = chunks.len();
    let mut results = stream::iter(chunks)
        .map(|chunk| ctx.call(import_chunk, &(import.target.clone(), chunk)).retry(retry.clone()))
        .buffer_unordered(import.parallel as usize);
    let (mut totals, mut done) = (Totals::default(), 0);
    while let Some(result) = results.next().await {
        let Totals { rows, cents, bad } = result?;
        totals.rows += rows;
        totals.cents += cents;
        totals.bad.extend(bad);
        done += 1;
        if done * 10 / count > (done - 1) * 10 / count {
            ctx.set_custom_status(&format!("{done} of {count} chunks"))?;
        }
    }
    totals.bad.sort_by_key(|bad| bad.line);
    Ok(totals)
}

/// Where the file is cut.
#[activity(blocking)]
pub(crate) fn plan(import: Import) -> Result<Vec<Chunk>, ActivityError> {
    std::fs::create_dir_all(&import.target)?;
    Ok(rows::cut(&import.file, import.chunk)?)
}

/// Imports one chunk. A second time writes the same file once more: that is what keeps rows from being there twice.
#[activity(blocking)]
pub(crate) fn import_chunk(
    State(pace): State<Pace>,
    (target, chunk): (PathBuf, Chunk),
) -> Result<Totals, ActivityError> {
    std::thread::sleep(pace.0);
    let mut totals = Totals::default();
    let mut imported = String::new();
    for (line, row) in rows::read(&chunk)? {
        match row {
            Ok(row) => {
                totals.rows += 1;
                totals.cents += u64::from(row.cents);
                imported.push_str(&format!("{},{},{}\n", row.id, row.customer, row.cents));
            }
            Err(why) => totals.bad.push(BadRow { line, why }),
        }
    }
    let file = target.join(format!("{:06}.csv", chunk.number));
    let unfinished = file.with_extension("unfinished");
    std::fs::write(&unfinished, imported)?;
    std::fs::rename(&unfinished, &file)?;
    Ok(totals)
}
