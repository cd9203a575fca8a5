//! A monitor of a stock price: a first look, then one after the other until it has moved by so much, or the time is
//! over. Each look is an execution of its own (continue-as-new), so its history stays short for years.
//!
//! ```text
//! cargo run --example monitor                       # a price that falls by 12 % on the eighth look
//! cargo run --example monitor -- --looks 5          # not patient enough
//! ```
//!
//! The prices are scripted. Kill it between two looks, and run it again: it goes on with the next one.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this program talks to its user")]

use std::process::ExitCode;

use clap::Parser;
use durable_core::prelude::*;
use durable_examples::{Error, Place, follow};
use serde::{Deserialize, Serialize};

/// What to look for, and what was seen so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Watch {
    symbol: String,
    /// Percent up or down that count as a move.
    percent: u32,
    /// Looks that are left, this one included.
    looks: u32,
    every: Duration,
    /// Cents at the first look.
    first: Option<u32>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Seen {
    Moved { from: u32, to: u32 },
    Quiet { from: u32, last: u32 },
}

#[orchestrator]
async fn monitor(ctx: OrchestrationContext, watch: Watch) -> Result<Seen, OrchestrationError> {
    let retry = RetryPolicy::exponential(secs(1)).attempts(5);
    let price = ctx.call(quote, &watch.symbol).retry(retry).await?;
    let first = watch.first.unwrap_or(price);
    let look = u64::from(ctx.execution().0) + 1;
    ctx.set_custom_status(&format!("look {look}: {price} cents, {first} at first"))?;
    if price.abs_diff(first) * 100 >= first * watch.percent {
        return Ok(Seen::Moved { from: first, to: price });
    }
    if watch.looks <= 1 {
        return Ok(Seen::Quiet { from: first, last: price });
    }
    ctx.sleep(watch.every).await;
    ctx.continue_as_new(&Watch { first: Some(first), looks: watch.looks - 1, ..watch })
}

/// The price in cents: scripted, and by the execution, so that a look which is repeated sees the same.
#[activity]
async fn quote(ctx: ActivityContext, symbol: String) -> Result<u32, ActivityError> {
    const PRICES: [u32; 8] = [4_200, 4_210, 4_190, 4_215, 4_230, 4_180, 4_150, 3_690];
    let look = ctx.execution().0 as usize;
    let price = PRICES[look.min(PRICES.len() - 1)];
    println!("  {symbol} is at {price}");
    Ok(price)
}

/// Watches a stock price until it moves, or the patience ends.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    place: Place,

    /// The stock.
    #[arg(long, default_value = "ACME")]
    symbol: String,

    /// Percent up or down that count as a move.
    #[arg(long, default_value_t = 10)]
    percent: u32,

    /// How often it looks, at most.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    looks: u32,

    /// Milliseconds between two looks.
    #[arg(long, value_name = "MS", default_value_t = 500)]
    every: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("monitor: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    let store = arguments.place.open("monitor").await?;
    let worker = Worker::builder(store).register(monitor).register(quote).start().await?;
    let Arguments { symbol, percent, looks, every, .. } = arguments;
    let id = format!("monitor of {symbol}");
    let watch = Watch { symbol, percent, looks, every: Duration::from_millis(every), first: None };
    let handle = worker.client().start(monitor, watch).id(id).use_existing().await?;
    let ended = follow(&handle).await?;
    worker.shutdown().await?;
    Ok(match ended {
        Some(Seen::Moved { from, to }) => {
            println!("it moved from {from} to {to}");
            ExitCode::SUCCESS
        }
        Some(Seen::Quiet { from, last }) => {
            println!("it stayed quiet: {from} at first, {last} at last");
            ExitCode::SUCCESS
        }
        None => ExitCode::from(130),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use durable_core::testing::TestHub;

    fn watch(looks: u32) -> Watch {
        Watch { symbol: "ACME".to_owned(), percent: 10, looks, every: hours(1), first: None }
    }

    #[test]
    fn a_month_of_looks_ends_with_the_move() {
        let hub = TestHub::new().register(monitor).mock(quote, |call, _| {
            Ok::<_, ActivityError>(if call.number() < 720 { 1_000 } else { 1_100 })
        });
        let seen = hub.start(monitor, watch(10_000));
        assert_eq!(seen.output().unwrap(), Seen::Moved { from: 1_000, to: 1_100 });
        assert_eq!(hub.elapsed(), days(30) - hours(1));
        assert_eq!(seen.status().row().execution.0, 719);
    }

    #[test]
    fn a_quiet_stock_is_looked_at_as_often_as_was_asked() {
        let hub =
            TestHub::new().register(monitor).mock(quote, |_, _| Ok::<_, ActivityError>(1_000));
        let seen = hub.start(monitor, watch(5));
        assert_eq!(seen.output().unwrap(), Seen::Quiet { from: 1_000, last: 1_000 });
        assert_eq!(hub.calls(quote).len(), 5);
    }
}
