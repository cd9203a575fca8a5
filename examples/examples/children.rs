//! A tree of workflows: an order whose parcels come from several warehouses, each parcel a child with a saga of its
//! own. Where one cannot be sent, it takes itself back, and its parent takes back the others.
//!
//! ```text
//! cargo run --example children                    # three parcels are on their way
//! cargo run --example children -- --lost south    # what south has packed is lost: nothing is sent
//! ```
//!
//! Kill the program at any time and run it again with the same options: each workflow of the tree goes on where it
//! was.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this program talks to its user")]

use std::process::ExitCode;

use clap::Parser;
use durable_core::prelude::*;
use durable_examples::{Error, Place, follow};
use serde::{Deserialize, Serialize};

/// What is done for a parcel. Each step can be undone.
const STEPS: [&str; 3] = ["reserve", "pack", "load"];

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Order {
    warehouses: Vec<String>,
    /// What this one packs is lost.
    lost: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Parcel {
    warehouse: String,
    lost: bool,
}

type Step = (String, Parcel);

/// Sends all parcels or none.
#[orchestrator]
async fn place_order(
    ctx: OrchestrationContext,
    order: Order,
) -> Result<Vec<String>, OrchestrationError> {
    let parcels: Vec<_> = order
        .warehouses
        .into_iter()
        .map(|warehouse| Parcel { lost: order.lost.as_ref() == Some(&warehouse), warehouse })
        .collect();
    ctx.set_custom_status(&format!("{} parcels are made ready", parcels.len()))?;
    let me = ctx.instance_id();
    let children = parcels
        .iter()
        .map(|parcel| ctx.child(send_parcel, parcel).id(format!("{me}-{}", parcel.warehouse)));
    // Not `try_join_all`, which ends the others when one fails: a child that is ended from outside takes nothing
    // back. So each comes to an end of its own.
    let (mut receipts, mut sent, mut failed) = (Vec::new(), Vec::new(), None);
    for (result, parcel) in ctx.join_all(children).await.into_iter().zip(&parcels) {
        match result {
            Ok(receipt) => {
                receipts.push(receipt);
                sent.push(parcel);
            }
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    let Some(error) = failed else { return Ok(receipts) };
    ctx.set_custom_status(&format!("{} parcels are taken back", sent.len()))?;
    let back = sent.into_iter().map(|parcel| ctx.child(take_back, parcel));
    ctx.try_join_all(back).await?;
    Err(error.into())
}

/// One parcel, from the shelf to the truck. Where a step fails, what was done so far is undone, last step first.
#[orchestrator]
async fn send_parcel(
    ctx: OrchestrationContext,
    parcel: Parcel,
) -> Result<String, OrchestrationError> {
    let mut saga = ctx.saga();
    let sent = async {
        for step in STEPS {
            let step = (step.to_owned(), parcel.clone());
            saga.undo_with(undo, &step)?;
            ctx.call(work, &step).await?;
        }
        Ok::<_, OrchestrationError>(format!("parcel from {}", parcel.warehouse))
    };
    let sent = sent.await;
    saga.settle(sent).await
}

/// The way back of a parcel that was on its truck already.
#[orchestrator]
async fn take_back(ctx: OrchestrationContext, parcel: Parcel) -> Result<(), OrchestrationError> {
    for step in STEPS.iter().rev() {
        let step = ((*step).to_owned(), parcel.clone());
        ctx.call(undo, &step).retry(RetryPolicy::exponential(secs(1))).await?;
    }
    Ok(())
}

#[activity]
async fn work((step, parcel): Step) -> Result<(), ActivityError> {
    if parcel.lost && step == "load" {
        let sentence = format!("{} cannot find what it packed", parcel.warehouse);
        return Err(ActivityError::new("Lost", sentence).permanent());
    }
    println!("  {}: {step}", parcel.warehouse);
    Ok(())
}

/// Does nothing where nothing was done.
#[activity]
async fn undo((step, parcel): Step) -> Result<(), ActivityError> {
    println!("  {}: undo {step}", parcel.warehouse);
    Ok(())
}

/// Sends an order from three warehouses.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    place: Place,

    /// What this warehouse packs is lost.
    #[arg(long, value_name = "WAREHOUSE")]
    lost: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("children: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(Arguments { place, lost }: Arguments) -> Result<ExitCode, Error> {
    let store = place.open("children").await?;
    let worker = Worker::builder(store)
        .register(place_order)
        .register(send_parcel)
        .register(take_back)
        .register(work)
        .register(undo)
        .start()
        .await?;
    let warehouses = ["north", "south", "east"].map(str::to_owned).into();
    let order = Order { warehouses, lost };
    let handle = worker.client().start(place_order, order).id("order-1").use_existing().await?;
    let ended = follow(&handle).await;
    worker.shutdown().await?;
    Ok(match ended? {
        Some(receipts) => {
            println!("on their way: {}", receipts.join(", "));
            ExitCode::SUCCESS
        }
        None => ExitCode::from(130),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use durable_core::testing::TestHub;

    fn order(lost: Option<&str>) -> Order {
        let warehouses = ["north", "south", "east"].map(str::to_owned).into();
        Order { warehouses, lost: lost.map(str::to_owned) }
    }

    fn hub() -> TestHub {
        let hub = TestHub::new().register(place_order).register(send_parcel).register(take_back);
        hub.register(work).register(undo)
    }

    /// What was undone for a warehouse, in that order.
    fn undone(hub: &TestHub, warehouse: &str) -> Vec<String> {
        let undone = hub.calls(undo).into_iter();
        undone.filter(|c| c.input.1.warehouse == warehouse).map(|c| c.input.0).collect()
    }

    #[test]
    fn all_parcels_are_sent_at_the_same_time() {
        let hub = hub().mock(work, |call, _| {
            call.takes(hours(1));
            Ok::<_, ActivityError>(())
        });
        assert_eq!(hub.start_as("order-7", place_order, order(None)).output().unwrap().len(), 3);
        assert_eq!(hub.elapsed(), hours(3));
        let children = hub.children(send_parcel);
        let ids: Vec<_> = children.iter().map(|child| child.id().as_str()).collect();
        assert_eq!(ids, ["order-7-north", "order-7-south", "order-7-east"]);
        assert!(hub.calls(undo).is_empty());
    }

    #[test]
    fn where_one_is_lost_it_takes_itself_back_and_its_parent_the_others() {
        let hub = hub();
        assert!(hub.start(place_order, order(Some("south"))).output().unwrap_err().is("Lost"));
        for warehouse in ["north", "south", "east"] {
            assert_eq!(undone(&hub, warehouse), ["load", "pack", "reserve"], "{warehouse}");
        }
        assert_eq!(hub.children(take_back).len(), 2);
    }

    /// The parent alone: its children are played.
    #[test]
    fn only_what_was_sent_is_taken_back() {
        let hub = TestHub::new()
            .register(place_order)
            .mock_child(send_parcel, |_, parcel| match &*parcel.warehouse {
                "north" => Ok("sent".to_owned()),
                other => Err(OrchestrationError::new("Strike", other)),
            })
            .mock_child(take_back, |_, parcel| {
                assert_eq!(parcel.warehouse, "north");
                Ok::<_, OrchestrationError>(())
            });
        let placed = hub.start(place_order, order(None));
        assert!(placed.output().unwrap_err().is("Strike"));
        assert_eq!(placed.custom_status::<String>().as_deref(), Some("1 parcels are taken back"));
        assert_eq!(hub.children(take_back).len(), 1);
    }
}
