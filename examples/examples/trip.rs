//! A trip: hotel, flight and car within an hour, or nothing of it.
//!
//! `cargo run --example trip` books one; `--sold-out` has no car left, and `--slow` takes too long: both take back
//! what was booked, last one first.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this program talks to its user")]

use std::process::ExitCode;

use clap::Parser;
use durable_core::prelude::*;
use durable_examples::{Error, Place, follow};
use serde::{Deserialize, Serialize};

/// What is booked at the three places.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Trip {
    to: String,
    sold_out: bool,
    slow: bool,
    deadline: Duration,
}

type Booking = (String, Trip);

#[orchestrator]
async fn book_trip(
    ctx: OrchestrationContext,
    trip: Trip,
) -> Result<Vec<String>, OrchestrationError> {
    let mut saga = ctx.saga();
    let steps = async {
        let mut receipts = Vec::new();
        for what in ["hotel", "flight", "car"] {
            let booking = (what.to_owned(), trip.clone());
            saga.undo_with(cancel, &booking)?;
            let retry = RetryPolicy::exponential(secs(1)).attempts(5);
            receipts.push(ctx.call(book, &booking).retry(retry).await?);
            ctx.set_custom_status(&format!("{what} is booked"))?;
        }
        Ok::<_, OrchestrationError>(receipts)
    };
    let booked = ctx.within(trip.deadline, steps).await;
    let late = || Err(OrchestrationError::new("TooLate", "not everything was booked in time"));
    saga.settle(booked.unwrap_or_else(late)).await
}

#[activity]
async fn book(ctx: ActivityContext, (what, trip): Booking) -> Result<String, ActivityError> {
    if trip.sold_out && what == "car" {
        return Err(
            ActivityError::new("SoldOut", format!("no {what} is left in {}", trip.to)).permanent()
        );
    }
    if trip.slow && what == "flight" {
        ctx.cancelled().await;
        ctx.check_cancelled()?;
    }
    println!("  {what} in {} booked", trip.to);
    Ok(format!("{what}-{}", &ctx.idempotency_key()[..8]))
}

/// Does nothing where nothing was booked.
#[activity]
async fn cancel((what, trip): Booking) -> Result<(), ActivityError> {
    println!("  {what} in {} cancelled", trip.to);
    Ok(())
}

/// Books hotel, flight and car, or nothing.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    place: Place,

    /// Where to.
    #[arg(long, default_value = "Rome")]
    to: String,

    /// There is no car left.
    #[arg(long)]
    sold_out: bool,

    /// The airline does not answer within the deadline of three seconds.
    #[arg(long)]
    slow: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("trip: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    let store = arguments.place.open("trip").await?;
    let worker =
        Worker::builder(store).register(book_trip).register(book).register(cancel).start().await?;
    let Arguments { to, sold_out, slow, .. } = arguments;
    let id = format!("trip to {to}");
    let trip = Trip { to, sold_out, slow, deadline: secs(if slow { 3 } else { 3600 }) };
    let handle = worker.client().start(book_trip, trip).id(id).use_existing().await?;
    let ended = follow(&handle).await;
    worker.shutdown().await?;
    Ok(match ended? {
        Some(receipts) => {
            println!("booked: {}", receipts.join(", "));
            ExitCode::SUCCESS
        }
        None => ExitCode::from(130),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use durable_core::testing::TestHub;

    fn trip(sold_out: bool) -> Trip {
        Trip { to: "Rome".to_owned(), sold_out, slow: false, deadline: hours(1) }
    }

    fn hub() -> TestHub {
        TestHub::new().register(book_trip).register(book).register(cancel)
    }

    fn cancelled(hub: &TestHub) -> Vec<String> {
        hub.calls(cancel).into_iter().map(|call| call.input.0).collect()
    }

    #[test]
    fn all_three_are_booked() {
        let hub = hub();
        assert_eq!(hub.start(book_trip, trip(false)).output().unwrap().len(), 3);
        assert!(cancelled(&hub).is_empty());
    }

    #[test]
    fn without_a_car_the_rest_is_taken_back_last_one_first() {
        let hub = hub();
        assert!(hub.start(book_trip, trip(true)).output().unwrap_err().is("SoldOut"));
        assert_eq!(cancelled(&hub), ["car", "flight", "hotel"]);
    }

    #[test]
    fn what_is_not_booked_within_the_hour_is_taken_back() {
        let hub = hub().mock(book, |call, (what, _)| {
            call.takes(minutes(25));
            Ok::<_, ActivityError>(what)
        });
        assert!(hub.start(book_trip, trip(false)).output().unwrap_err().is("TooLate"));
        assert_eq!((hub.elapsed(), cancelled(&hub).len()), (hours(1), 3));
    }

    #[test]
    fn what_cannot_be_taken_back_is_tried_until_it_is() {
        let hub = hub().mock(cancel, |call, _| match call.number() {
            1..=3 => Err(ActivityError::new("Busy", "try again")),
            _ => Ok(()),
        });
        assert!(hub.start(book_trip, trip(true)).output().unwrap_err().is("SoldOut"));
        assert_eq!(cancelled(&hub), ["car", "car", "car", "car", "flight", "hotel"]);
    }
}
