//! The import of a CSV file: cut into chunks, a bounded number of them at a time, totals at the end, bad rows
//! reported and not fatal.
//!
//! ```text
//! cargo run --example fan_out                          # makes a file of 20 000 rows, and imports it
//! cargo run --example fan_out -- --file mine.csv       # columns: id,customer,cents
//! ```
//!
//! Kill it whenever you like and run it again: it goes on with the chunks that were not done, and no row is imported
//! twice. What was imported lies in `fan_out-data/imported`, a file for each chunk.
//!
//! | file | holds |
//! | --- | --- |
//! | `workflow.rs` | the orchestrator and its activities: what a program of your own would have |
//! | `rows.rs` | the CSV file: made, cut, read |
//! | `main.rs` | the command line |

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this program talks to its user")]

mod rows;
mod workflow;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use durable_core::prelude::*;
use durable_examples::{Error, Place, follow};

use workflow::{Import, Pace, import_chunk, import_file, plan};

/// Bad rows that are shown one by one.
const SHOWN: usize = 10;

/// Imports a CSV file in chunks, several at a time.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    place: Place,

    /// The file; one is made where none is named.
    #[arg(long)]
    file: Option<PathBuf>,

    /// Rows of a file that is made. Every thousandth is bad.
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    rows: u32,

    /// Rows of a chunk.
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    chunk: u32,

    /// Chunks that are imported at a time.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    parallel: u32,

    /// How long a chunk takes at least, in milliseconds: time to kill the program.
    #[arg(long, value_name = "MS", default_value_t = 100)]
    pace: u64,

    /// Name of the import. One that exists goes on; one that is finished shows its result.
    #[arg(long, value_name = "ID", default_value = "import-1")]
    import: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("fan_out: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<ExitCode, Error> {
    let folder = arguments.place.folder("fan_out")?;
    let file = match &arguments.file {
        Some(file) => file.clone(),
        None => rows::sample(&folder, arguments.rows)?,
    };
    let store = arguments.place.open("fan_out").await?;
    let worker = Worker::builder(store)
        .register(import_file)
        .register(plan)
        .register(import_chunk)
        .state(Pace(Duration::from_millis(arguments.pace)))
        .start()
        .await?;
    let import = Import {
        file: file.canonicalize().map_err(|error| format!("{}: {error}", file.display()))?,
        target: folder.canonicalize()?.join("imported").join(&arguments.import),
        chunk: arguments.chunk,
        parallel: arguments.parallel,
    };
    let start = worker.client().start(import_file, import).id(arguments.import.as_str());
    let handle = match start.await {
        Ok(handle) => handle,
        Err(ClientError::Active { instance, .. }) => {
            println!("{instance} goes on");
            worker.client().instance_of(import_file, &instance)?
        }
        Err(error) => return Err(error.into()),
    };
    let done = follow(&handle).await?;
    if let Some(totals) = &done {
        println!("{} rows imported, {} cents", totals.rows, totals.cents);
        println!("{} bad rows", totals.bad.len());
        for bad in totals.bad.iter().take(SHOWN) {
            println!("  line {}: {}", bad.line, bad.why);
        }
        if totals.bad.len() > SHOWN {
            println!("  … and {} more", totals.bad.len() - SHOWN);
        }
    }
    worker.shutdown().await?;
    Ok(if done.is_some() { ExitCode::SUCCESS } else { ExitCode::from(130) })
}
