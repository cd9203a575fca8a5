//! An order: reserve stock, charge the payment, ship. Where shipping fails for good, the payment is refunded
//! and the stock released, in this order.
//!
//! ```text
//! cargo run --example order
//! ```
//!
//! Kill it whenever you like, or let it do so itself, and run it again: it goes on where it was, and the
//! payment is made once.
//!
//! ```text
//! cargo run --example order -- --order order-2 --crash-after charge
//! cargo run --example order -- --order order-2
//! ```
//!
//! In Azure Storage another process takes the order over as soon as this one is dead:
//!
//! ```text
//! cargo run -p durable-emulator                      # prints CONNECTION
//! cargo run --example order -- --azure CONNECTION
//! ```
//!
//! | file | holds |
//! | --- | --- |
//! | `workflow.rs` | the orchestrator and its activities: what a program of your own would have |
//! | `world.rs` | the warehouse, payment service and carrier, as lines in a file |
//! | `main.rs` | the command line |

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this program talks to its user")]

mod workflow;
mod world;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use durable_azure::{AzureOptions, AzureStore, Connection};
use durable_core::HubName;
use durable_core::prelude::*;
use durable_core::store::Store;
use durable_examples::{CrashStore, Side};
use futures::StreamExt;

use workflow::{Order, Outcome, place_order};
use world::{CrashAfter, World};

/// Carries out one order, step by step, and takes back what was done where shipping fails.
#[derive(Parser)]
struct Arguments {
    /// Folder for the workflow's file and the ledger of the outside world; made if it is missing.
    #[arg(long, value_name = "DIR", default_value = "order-data")]
    data: PathBuf,

    /// Keeps the workflow in Azure Storage instead of a file; `UseDevelopmentStorage=true` is the emulator.
    #[arg(long, value_name = "CONNECTION")]
    azure: Option<String>,

    /// Name of the task hub there.
    #[arg(long, value_name = "NAME", default_value = "orders", requires = "azure")]
    hub: String,

    /// The order. One that exists goes on; one that is finished shows its result.
    #[arg(long, value_name = "ID", default_value = "order-1")]
    order: String,

    /// The carrier refuses this order for good. Counts when the order is new.
    #[arg(long)]
    fail_shipping: bool,

    /// How long each step takes, in milliseconds: time to kill it.
    #[arg(long, value_name = "MS", default_value_t = 300)]
    pace: u64,

    /// Ends the process right after this step had its effect, or after its result was recorded.
    #[arg(long, value_enum, value_name = "STEP")]
    crash_after: Option<CrashAfter>,

    /// Ends the process right before its N-th write to the store takes effect.
    #[arg(long, value_name = "N", conflicts_with = "crash_after_write")]
    crash_before_write: Option<u64>,

    /// Ends the process when its N-th write to the store is durable, before anybody learns of it.
    #[arg(long, value_name = "N")]
    crash_after_write: Option<u64>,
}

impl Arguments {
    fn crash_at_write(&self) -> Option<(u64, Side)> {
        let before = self.crash_before_write.map(|write| (write, Side::Before));
        before.or(self.crash_after_write.map(|write| (write, Side::After)))
    }
}

type Error = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("order: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<ExitCode, Error> {
    let id = InstanceId::new(arguments.order.as_str())?;
    let (store, world) = open(&arguments.data, arguments).await?;
    let worker = Worker::builder(store)
        .register(place_order)
        .register(workflow::reserve)
        .register(workflow::charge)
        .register(workflow::ship)
        .register(workflow::refund)
        .register(workflow::release)
        .state(world.clone())
        .start()
        .await?;
    let client = worker.client();
    let order = match client.status(&id).await? {
        Some(status) => {
            let how = if status.has_ended() { "was finished before" } else { "goes on" };
            println!("{id} {how}");
            if arguments.fail_shipping {
                println!("  (it exists, so --fail-shipping changes nothing)");
            }
            client.instance_of(place_order, &id)?
        }
        None => {
            println!("{id} is new");
            let order = Order {
                id: id.to_string(),
                item: "teapot".to_owned(),
                cents: 4200,
                deliverable: !arguments.fail_shipping,
            };
            client.start(place_order, order).id(&id).await?
        }
    };
    let finished = tokio::select! {
        outcome = follow(&order) => Some(outcome?),
        _ = tokio::signal::ctrl_c() => None,
    };
    if let Some(outcome) = &finished {
        world.crash_if_recorded();
        match outcome {
            Outcome::Shipped { receipt, parcel } => {
                println!("{id} is shipped: receipt {receipt}, parcel {parcel}");
            }
            Outcome::TakenBack { why } => println!("{id} was taken back: {why}"),
        }
    } else {
        println!("stopping; run the same command again to go on");
    }
    worker.shutdown().await?;
    Ok(if finished.is_some() { ExitCode::SUCCESS } else { ExitCode::from(130) })
}

async fn open(data: &Path, arguments: &Arguments) -> Result<(CrashStore, World), Error> {
    std::fs::create_dir_all(data)
        .map_err(|error| format!("the folder {} cannot be made: {error}", data.display()))?;
    let (workflow, ledger) = (data.join("order.sqlite"), data.join("ledger.jsonl"));
    let store: Arc<dyn Store> = if let Some(connection) = &arguments.azure {
        let connection = Connection::parse(connection)?;
        let hub = HubName::new(arguments.hub.as_str())?;
        println!("workflow: hub {hub} in Azure Storage");
        let options = AzureOptions { hub, ..AzureOptions::default() };
        Arc::new(AzureStore::open(&connection, options).await?)
    } else {
        println!("workflow: {}", workflow.display());
        Arc::new(SqliteStore::open(workflow)?)
    };
    println!("ledger:   {}", ledger.display());
    let store = CrashStore::new(store, arguments.crash_at_write());
    let pace = Duration::from_millis(arguments.pace);
    Ok((store, World::new(ledger, pace, arguments.crash_after)))
}

/// Waits for the end. An order that the engine holds, because processes died while they loaded it, is
/// resumed: whoever runs this program again wants that.
async fn follow(order: &Handle<Outcome>) -> Result<Outcome, Error> {
    let mut changes = Box::pin(order.watch());
    while let Some(status) = changes.next().await {
        if let Some(hold) = status?.hold() {
            println!("the engine holds {}: {}; resuming it", order.id(), hold.message);
            order.resume("the program was run again").await?;
        }
    }
    Ok(order.output().await?)
}
