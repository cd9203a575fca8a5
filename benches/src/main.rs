//! Measures durable-core under the workloads of `docs/benchmarks.md`, one JSON line or one readable line
//! per workload.
//!
//! Build in release mode; durable settings are always on. Figures of a shared machine are noisy: compare
//! within one run, quote ratios and medians.

mod azure;
mod floor;
mod measure;
mod workloads;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use measure::Report;
use workloads::Setup;

/// Measures durable-core.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// What to measure; `all` runs every workload.
    #[arg(long, value_enum, default_value = "all")]
    workload: Workload,

    /// Where instances are kept.
    #[arg(long, value_enum, default_value = "sqlite")]
    store: StoreKind,

    /// One JSON object per line instead of a readable line.
    #[arg(long)]
    json: bool,

    /// Instances, where the workload is not to have its usual number.
    #[arg(long)]
    instances: Option<usize>,

    /// Instances in flight at once, where it is not to be the usual number.
    #[arg(long)]
    concurrency: Option<usize>,

    /// Finished instances that the file holds before the measurement begins.
    #[arg(long, default_value_t = 0)]
    finished: usize,

    /// Partitions of the hub; by default 1, and 4 in Azure Storage.
    #[arg(long)]
    partitions: Option<u16>,

    /// Connection string of the storage account for `--store azure`; without it the emulator is started.
    #[arg(long, value_name = "CONNECTION")]
    connection: Option<String>,

    /// How often each workload is run; each run prints its own line.
    #[arg(long, default_value_t = 1)]
    runs: usize,

    /// Folder for the files, which are removed afterwards. The disk under it is what is measured.
    #[arg(long)]
    dir: Option<PathBuf>,

    /// Opens the hub of a `sleepers` run in this folder and measures that.
    #[arg(long, hide = true)]
    reopen: Option<PathBuf>,
}

impl Arguments {
    fn setup(&self) -> Setup {
        Setup {
            store: self.store,
            connection: self.connection.clone(),
            instances: self.instances,
            concurrency: self.concurrency,
            finished: self.finished,
            partitions: self.partitions.unwrap_or(match self.store {
                StoreKind::Sqlite | StoreKind::Memory => 1,
                StoreKind::Azure => 4,
            }),
            dir: self.dir.clone(),
        }
    }
}

/// Where instances are kept.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StoreKind {
    /// A file, with durable settings.
    Sqlite,
    /// Nowhere: the engine without a disk.
    Memory,
    /// Azure Storage, by default the emulator.
    Azure,
}

/// A workload, by the name it has in the design.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
#[value(rename_all = "snake_case")]
enum Workload {
    /// All of them, the disk's floor first.
    All,
    /// The disk's own floor: appends, one-row and 500-row SQLite commits.
    Fsync,
    /// 2 000 instances of 5 trivial activities in sequence, 200 in flight.
    Chain5,
    /// 200 such instances, one at a time.
    Chain5Seq,
    /// 50 instances of 100 parallel activities, 5 in flight.
    Fanout100,
    /// 5 000 instances that each sleep for a second.
    Timers,
    /// 2 000 instances that each wait for one event.
    Events,
    /// One instance of 2 000 activities in sequence.
    LongHistory,
    /// A hub with 100 000 sleeping instances, closed and opened again.
    Sleepers,
}

impl Workload {
    /// Those that say something about Azure Storage.
    const ON_AZURE: [Self; 3] = [Self::Chain5, Self::Chain5Seq, Self::Fanout100];

    const EACH: [Self; 8] = [
        Self::Fsync,
        Self::Chain5,
        Self::Chain5Seq,
        Self::Fanout100,
        Self::Timers,
        Self::Events,
        Self::LongHistory,
        Self::Sleepers,
    ];
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error),
    };
    match runtime.block_on(run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&*error),
    }
}

async fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    if let Some(folder) = &arguments.reopen {
        let report = workloads::reopen(arguments.setup(), folder).await?;
        return Ok(print(&report, arguments.json)?);
    }
    let chosen: &[Workload] = match &arguments.workload {
        Workload::All if arguments.store == StoreKind::Azure => &Workload::ON_AZURE,
        Workload::All => &Workload::EACH,
        one => std::slice::from_ref(one),
    };
    for workload in chosen {
        for _ in 0..arguments.runs {
            let setup = arguments.setup();
            let reports = match workload {
                Workload::All => Vec::new(),
                Workload::Fsync => floor::measure(setup.dir.as_deref())?,
                Workload::Chain5 => vec![workloads::chain5(setup, false).await?],
                Workload::Chain5Seq => vec![workloads::chain5(setup, true).await?],
                Workload::Fanout100 => vec![workloads::fanout100(setup).await?],
                Workload::Timers => vec![workloads::timers(setup).await?],
                Workload::Events => vec![workloads::events(setup).await?],
                Workload::LongHistory => vec![workloads::long_history(setup).await?],
                Workload::Sleepers => {
                    // Its second half runs, and reports, in a process of its own.
                    workloads::sleepers(setup, arguments.json).await?;
                    Vec::new()
                }
            };
            for report in &reports {
                print(report, arguments.json)?;
            }
        }
    }
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the report is what this program is for")]
fn print(report: &Report, json: bool) -> Result<(), serde_json::Error> {
    if json {
        println!("{}", serde_json::to_string(report)?);
    } else {
        println!("{report}");
    }
    Ok(())
}

#[allow(clippy::print_stderr, reason = "a program's error goes to its user")]
fn complain(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("durable-benches: {error}");
    ExitCode::FAILURE
}
