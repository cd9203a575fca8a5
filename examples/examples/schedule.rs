//! A clean-up by a cron expression, for ever: one instance, each turn of it an execution of its own.
//!
//! ```text
//! cargo run --example schedule                                   # every two seconds
//! cargo run --example schedule -- --cron '30 2 * * *' --zone Europe/Berlin
//! ```
//!
//! - **One of it**: the instance's id is the schedule's name, so a second program joins in instead of starting another.
//! - **Misfires**: turns that came due while nothing ran are run once (`--misfire once`), all (`all`) or not at all
//!   (`skip`).
//! - **Daylight saving**: the expression is about the clock on the wall of its zone. A fixed time that does not exist
//!   in spring is run at the first moment after the gap, one that comes twice in autumn is run once; what is due every
//!   so many minutes goes on by the clock.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this program talks to its user")]

use std::path::PathBuf;
use std::process::ExitCode;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use clap::{Parser, ValueEnum};
use croner::Cron;
use croner::parser::{CronParser, Seconds};
use durable_core::prelude::*;
use durable_examples::{Error, Place, follow};
use serde::{Deserialize, Serialize};

/// What is run, when, and since when.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Schedule {
    cron: String,
    zone: String,
    misfire: Misfire,
    /// Turns that are left; `None` for ever.
    turns: Option<u32>,
    folder: PathBuf,
    /// The turn that was served last; where there is none, the first one is the next after the start.
    served: Option<DateTime<Utc>>,
}

/// What becomes of turns that came due while nothing ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
enum Misfire {
    /// One run stands for all of them.
    Once,
    /// Each is run, one after the other.
    All,
    /// None is run; it goes on with the next.
    Skip,
}

/// How late a turn may begin, before it counts as missed.
const GRACE: Duration = secs(60);

#[orchestrator]
async fn on_schedule(
    ctx: OrchestrationContext,
    schedule: Schedule,
) -> Result<u32, OrchestrationError> {
    let zone: Tz = schedule.zone.parse().map_err(|error| bad(&schedule.zone, error))?;
    let cron = parse(&schedule.cron).map_err(|error| bad(&schedule.cron, error))?;
    let after = schedule.served.unwrap_or_else(|| ctx.started_at());
    let next = |after: DateTime<Utc>| {
        let local = cron.find_next_occurrence(&after.with_timezone(&zone), false);
        local.map(|local| local.to_utc()).map_err(|error| bad(&schedule.cron, error))
    };
    let due = next(after)?;
    ctx.set_custom_status(&format!("next: {}", due.with_timezone(&zone)))?;
    ctx.sleep_until(due).await;

    let late = (ctx.now() - due).to_std().unwrap_or_default() > GRACE;
    let mut served = due;
    if late && schedule.misfire != Misfire::All {
        // The last turn that is over stands for all before it.
        while let Some(later) = Some(next(served)?).filter(|later| *later <= ctx.now()) {
            served = later;
        }
    }
    if !late || schedule.misfire != Misfire::Skip {
        let retry = RetryPolicy::exponential(secs(1)).attempts(5);
        ctx.call(clean_up, &(schedule.folder.clone(), served)).retry(retry).await?;
    }
    match schedule.turns {
        Some(turns) if turns <= 1 => Ok(ctx.execution().0 + 1),
        turns => ctx.continue_as_new(&Schedule {
            served: Some(served),
            turns: turns.map(|turns| turns - 1),
            ..schedule
        }),
    }
}

/// Seconds in front are allowed, and not needed.
fn parse(cron: &str) -> Result<Cron, croner::errors::CronError> {
    CronParser::builder().seconds(Seconds::Optional).build().parse(cron)
}

fn bad(what: &str, error: impl std::fmt::Display) -> OrchestrationError {
    OrchestrationError::new("BadSchedule", format!("{what:?}: {error}"))
}

/// Removes files that end in `.tmp`.
#[activity(blocking)]
fn clean_up((folder, turn): (PathBuf, DateTime<Utc>)) -> Result<u32, ActivityError> {
    let mut removed = 0;
    for entry in std::fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "tmp") {
            std::fs::remove_file(path)?;
            removed += 1;
        }
    }
    println!("  turn of {turn}: {removed} files removed");
    Ok(removed)
}

/// Cleans up by a cron expression, for ever.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    place: Place,

    /// When: minute, hour, day, month, weekday, with seconds in front if you like.
    #[arg(long, default_value = "*/2 * * * * *", value_parser = |text: &str| parse(text).map(|_| text.to_owned()))]
    cron: String,

    /// The zone of its clock.
    #[arg(long, default_value = "UTC", value_parser = |text: &str| text.parse::<Tz>().map(|_| text.to_owned()))]
    zone: String,

    /// What becomes of turns that came due while nothing ran.
    #[arg(long, value_enum, default_value_t = Misfire::Once)]
    misfire: Misfire,

    /// Ends after so many turns.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    turns: Option<u32>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("schedule: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    let folder = arguments.place.folder("schedule")?.canonicalize()?;
    let store = arguments.place.open("schedule").await?;
    println!("files:     {}", folder.join("*.tmp").display());
    let worker = Worker::builder(store).register(on_schedule).register(clean_up).start().await?;
    let Arguments { cron, zone, misfire, turns, .. } = arguments;
    let input = Schedule { cron, zone, misfire, turns, folder, served: None };
    let handle = worker.client().start(on_schedule, input).id("clean-up").use_existing().await?;
    let ended = follow(&handle).await?;
    worker.shutdown().await?;
    Ok(match ended {
        Some(turns) => {
            println!("{turns} turns are done");
            ExitCode::SUCCESS
        }
        None => ExitCode::from(130),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use durable_core::testing::TestHub;

    /// The turns that are served, by the clock of UTC.
    fn turns(
        cron: &str,
        misfire: Misfire,
        begin: &str,
        turns: u32,
        asleep: Duration,
    ) -> Vec<String> {
        let hub = TestHub::new()
            .starting_at(begin.parse().expect("a time"))
            .register(on_schedule)
            .mock(clean_up, |_, _| Ok::<u32, ActivityError>(0));
        let input = Schedule {
            cron: cron.to_owned(),
            zone: "Europe/Berlin".to_owned(),
            misfire,
            turns: Some(turns),
            folder: PathBuf::new(),
            served: None,
        };
        let instance = hub.start(on_schedule, input);
        if !asleep.is_zero() {
            // As if nothing had run: timers fire and wait for the resume.
            instance.suspend();
            hub.advance(asleep);
            instance.resume();
        }
        instance.output().expect("it ends");
        let served = hub.calls(clean_up).into_iter().map(|call| call.input.1);
        served.map(|at| at.format("%m-%d %H:%M").to_string()).collect()
    }

    #[test]
    fn a_time_that_does_not_exist_in_spring_is_the_first_moment_after_the_gap() {
        let served = turns("30 2 * * *", Misfire::Once, "2025-03-29T00:00:00Z", 3, Duration::ZERO);
        assert_eq!(served, ["03-29 01:30", "03-30 01:00", "03-31 00:30"]);
    }

    #[test]
    fn a_time_that_comes_twice_in_autumn_is_one_turn() {
        let served = turns("30 2 * * *", Misfire::Once, "2025-10-25T01:00:00Z", 3, Duration::ZERO);
        assert_eq!(served, ["10-26 00:30", "10-27 01:30", "10-28 01:30"]);
    }

    #[test]
    fn an_interval_goes_on_through_both_hours() {
        let served = turns("0 * * * *", Misfire::Once, "2025-10-25T23:30:00Z", 4, Duration::ZERO);
        assert_eq!(served, ["10-26 00:00", "10-26 01:00", "10-26 02:00", "10-26 03:00"]);
    }

    #[test]
    fn turns_that_were_missed_are_run_once_all_or_not_at_all() {
        let missed =
            |misfire, count| turns("0 * * * *", misfire, "2025-06-01T00:30:00Z", count, hours(3));
        assert_eq!(missed(Misfire::Once, 2), ["06-01 03:00", "06-01 04:00"]);
        assert_eq!(
            missed(Misfire::All, 4),
            ["06-01 01:00", "06-01 02:00", "06-01 03:00", "06-01 04:00"]
        );
        assert_eq!(missed(Misfire::Skip, 3), ["06-01 04:00", "06-01 05:00"]);
    }

    #[test]
    fn what_is_no_schedule_is_said() {
        for (cron, zone, says) in [("every day", "UTC", "every day"), ("0 0 * * *", "Mars", "Mars")]
        {
            let input = Schedule {
                cron: cron.to_owned(),
                zone: zone.to_owned(),
                misfire: Misfire::Once,
                turns: None,
                folder: PathBuf::new(),
                served: None,
            };
            let error = TestHub::new()
                .register(on_schedule)
                .start(on_schedule, input)
                .output()
                .unwrap_err();
            assert!(error.is("BadSchedule") && error.message().contains(says), "{error}");
        }
    }
}
