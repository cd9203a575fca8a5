//! A circuit breaker that many workflows share, and that survives them all: after three failures in a row nobody calls
//! the service any more, until a timer lets a single call through to probe it.
//!
//! ```text
//! cargo run --example circuit_breaker                      # the service is down for the first five seconds
//! cargo run --example circuit_breaker -- --down 0          # it is well
//! ```
//!
//! The breaker is an instance of its own, `breaker`. Others ask it by an event, and are answered by one. Kill the
//! program while the breaker is open, and run it again: it is open still.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this program talks to its user")]

use std::path::PathBuf;
use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::Parser;
use durable_core::prelude::*;
use durable_examples::{Error, Place};
use serde::{Deserialize, Serialize};

/// Failures in a row that open it.
const FAILURES_MAX: u32 = 3;
/// Messages after which the breaker begins a new execution, so that its history stays short.
const MESSAGES_MAX: u32 = 100;
/// The breaker's instance.
const BREAKER: &str = "breaker";

/// What is sent to the breaker.
const MESSAGES: EventName<Message> = EventName::new("message");
/// What it answers.
const ANSWERS: EventName<Answer> = EventName::new("answer");

#[derive(Debug, Serialize, Deserialize)]
enum Message {
    /// May this instance call the service?
    Ask(InstanceId),
    /// It did, and this is what came of it.
    Called { well: bool },
}

#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Go,
    AskAgain { after: Duration },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Breaker {
    /// How long it stays open.
    open_for: Duration,
    state: Circuit,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Circuit {
    /// Calls go through.
    Closed { failures: u32 },
    /// None does.
    Open { until: DateTime<Utc> },
    /// One does, to probe it. Where it is under way, it counts as lost after a while.
    HalfOpen { probe_until: Option<DateTime<Utc>> },
}

#[orchestrator]
async fn circuit_breaker(
    ctx: OrchestrationContext,
    mut breaker: Breaker,
) -> Result<(), OrchestrationError> {
    let opened = |ctx: &OrchestrationContext, breaker: &Breaker| Circuit::Open {
        until: ctx.now() + breaker.open_for,
    };
    for _ in 0..MESSAGES_MAX {
        ctx.set_custom_status(&format!("{:?}", breaker.state))?;
        let message = match breaker.state {
            Circuit::Open { until } | Circuit::HalfOpen { probe_until: Some(until) } => {
                match ctx.race(ctx.wait_event(MESSAGES), ctx.sleep_until(until)).await {
                    Either::Left(message) => message?,
                    Either::Right(()) => {
                        breaker.state = Circuit::HalfOpen { probe_until: None };
                        continue;
                    }
                }
            }
            Circuit::Closed { .. } | Circuit::HalfOpen { probe_until: None } => {
                ctx.wait_event(MESSAGES).await?
            }
        };
        match (message, breaker.state) {
            (Message::Ask(who), Circuit::Closed { .. }) => {
                ctx.raise_event(who, ANSWERS.as_str(), &Answer::Go)?;
            }
            (Message::Ask(who), Circuit::HalfOpen { probe_until: None }) => {
                let until = ctx.now() + breaker.open_for;
                breaker.state = Circuit::HalfOpen { probe_until: Some(until) };
                ctx.raise_event(who, ANSWERS.as_str(), &Answer::Go)?;
            }
            (Message::Ask(who), Circuit::Open { .. } | Circuit::HalfOpen { .. }) => {
                let answer = Answer::AskAgain { after: breaker.open_for };
                ctx.raise_event(who, ANSWERS.as_str(), &answer)?;
            }
            (Message::Called { well: true }, _) => breaker.state = Circuit::Closed { failures: 0 },
            (Message::Called { well: false }, Circuit::Closed { failures }) => {
                breaker.state = match failures + 1 {
                    FAILURES_MAX.. => opened(&ctx, &breaker),
                    failures => Circuit::Closed { failures },
                };
            }
            // A call from before it opened says nothing new; a probe does.
            (Message::Called { well: false }, Circuit::Open { .. }) => {}
            (Message::Called { well: false }, Circuit::HalfOpen { .. }) => {
                breaker.state = opened(&ctx, &breaker);
            }
        }
    }
    // Messages that came meanwhile are the first that the next execution gets.
    ctx.continue_as_new(&breaker)
}

/// Asks the breaker before each call of the service, until one has succeeded.
#[orchestrator]
async fn place_order(ctx: OrchestrationContext, number: u32) -> Result<String, OrchestrationError> {
    loop {
        ctx.raise_event(BREAKER, MESSAGES.as_str(), &Message::Ask(ctx.instance_id().clone()))?;
        match ctx.wait_event(ANSWERS).await? {
            Answer::Go => {
                let called = ctx.call(pay, &number).await;
                let report = Message::Called { well: called.is_ok() };
                ctx.raise_event(BREAKER, MESSAGES.as_str(), &report)?;
                match called {
                    Ok(receipt) => return Ok(receipt),
                    Err(_) => ctx.sleep(millis(200)).await,
                }
            }
            Answer::AskAgain { after } => ctx.sleep(after).await,
        }
    }
}

/// The service is well from this moment on: the content of a file.
#[derive(Clone)]
struct Service(PathBuf);

/// Pays at a service that is down at first.
#[activity]
async fn pay(State(service): State<Service>, number: u32) -> Result<String, ActivityError> {
    let up: DateTime<Utc> = std::fs::read_to_string(&service.0)?.parse()?;
    if Utc::now() < up {
        println!("  order {number}: the service is down");
        return Err(ActivityError::new("Down", "the service is down"));
    }
    println!("  order {number}: paid");
    Ok(format!("receipt {number}"))
}

/// Orders that share a circuit breaker, and a service that is down for a while.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    place: Place,

    /// Seconds that the service is down, from the first run on.
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    down: u64,

    /// Milliseconds that the breaker stays open.
    #[arg(long, value_name = "MS", default_value_t = 1_000)]
    open: u64,

    /// Orders at a time.
    #[arg(long, value_name = "N", default_value_t = 6)]
    orders: u32,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("circuit_breaker: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    let service = arguments.place.folder("circuit_breaker")?.join("service-up-at.txt");
    if !service.exists() {
        let up = Utc::now() + Duration::from_secs(arguments.down);
        std::fs::write(&service, up.to_rfc3339())?;
    }
    let store = arguments.place.open("circuit_breaker").await?;
    let worker = Worker::builder(store)
        .register(circuit_breaker)
        .register(place_order)
        .register(pay)
        .state(Service(service))
        .start()
        .await?;
    let client = worker.client();
    let open_for = Duration::from_millis(arguments.open);
    let closed = Breaker { open_for, state: Circuit::Closed { failures: 0 } };
    client.start(circuit_breaker, closed).id(BREAKER).use_existing().await?;
    let mut orders = Vec::new();
    for number in 1..=arguments.orders {
        let id = format!("order-{number}");
        orders.push(client.start(place_order, number).id(id).use_existing().await?);
    }
    let paid = async {
        for order in &orders {
            println!("{}: {}", order.id(), order.output().await?);
        }
        Ok::<_, Error>(())
    };
    let done = tokio::select! {
        paid = paid => paid.map(|()| true),
        _ = tokio::signal::ctrl_c() => Ok(false),
    };
    worker.shutdown().await?;
    Ok(if done? { ExitCode::SUCCESS } else { ExitCode::from(130) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use durable_core::testing::{TestHub, TestInstance};

    /// Five orders in a hub whose service is down for half an hour, and how often it was called.
    fn half_an_hour_down() -> (TestHub, TestInstance<()>) {
        let hub = TestHub::new().register(circuit_breaker).register(place_order).mock(
            pay,
            |call, number| {
                let up: DateTime<Utc> = "2025-01-01T00:30:00Z".parse()?;
                match call.now() < up {
                    true => Err(ActivityError::new("Down", "the service is down")),
                    false => Ok(format!("receipt {number}")),
                }
            },
        );
        let closed = Breaker { open_for: minutes(5), state: Circuit::Closed { failures: 0 } };
        let breaker = hub.start_as(BREAKER, circuit_breaker, closed);
        let orders: Vec<_> =
            (1..=5).map(|n| hub.start_as(format!("order-{n}"), place_order, n)).collect();
        for (n, order) in orders.iter().enumerate() {
            assert_eq!(order.output().unwrap(), format!("receipt {}", n + 1));
        }
        (hub, breaker)
    }

    #[test]
    fn a_service_that_is_down_is_hardly_called_and_all_orders_are_paid_when_it_is_up() {
        let (hub, breaker) = half_an_hour_down();
        let failed = hub.calls(pay).iter().filter(|call| call.error.is_some()).count();
        // Those that open it, with as many as are under way then, and a probe every five minutes.
        assert!((FAILURES_MAX as usize..=5 + 6).contains(&failed), "{failed} calls in vain");
        let state: String = breaker.custom_status().unwrap();
        assert_eq!(state, "Closed { failures: 0 }");
        assert!(hub.elapsed() <= minutes(45), "{:?}", hub.elapsed());
    }

    #[test]
    fn while_it_is_half_open_a_single_call_probes() {
        let (hub, _) = half_an_hour_down();
        let probes: Vec<_> =
            hub.calls(pay).into_iter().filter(|call| call.began > minutes(4)).collect();
        let in_vain = probes.iter().filter(|call| call.error.is_some());
        let times: Vec<_> = in_vain.map(|call| call.began.as_secs() / 60).collect();
        let mut once = times.clone();
        once.dedup();
        assert_eq!(times, once, "two calls in one minute while it was half open");
        assert!(times.len() >= 4, "{times:?}");
    }
}
