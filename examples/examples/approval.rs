//! An approval by a person: an event against timers. Reminds, escalates to a manager, and gives up.
//!
//! ```text
//! cargo run --example approval                                   # asks, and waits
//! cargo run --example approval -- decide approve --by ada        # in another terminal
//! ```
//!
//! Days are seconds here, so that there is something to see (`--day`). Stop it with Ctrl-C or kill it while it waits: a
//! decision that is made meanwhile is there when it runs again.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this program talks to its user")]

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use durable_core::prelude::*;
use durable_examples::{Error, Place, follow};
use serde::{Deserialize, Serialize};

/// The event by which people decide.
const DECISION: EventName<Decision> = EventName::new("decision");

/// What is to be approved, by whom, and how patiently.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Request {
    what: String,
    approver: String,
    manager: String,
    day: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ValueEnum)]
enum Verdict {
    Approve,
    Reject,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Decision {
    by: String,
    verdict: Verdict,
}

/// One after the other: a reminder after a day, a second one, the manager after three days, the end after five.
#[orchestrator]
async fn approval(
    ctx: OrchestrationContext,
    request: Request,
) -> Result<Option<Decision>, OrchestrationError> {
    let Request { what, approver, manager, day } = &request;
    let waits = [
        (approver, format!("please decide: {what}"), *day),
        (approver, format!("reminder: {what}"), *day),
        (approver, format!("second reminder: {what}"), *day),
        (manager, format!("{approver} has not decided for three days: {what}"), *day * 2),
    ];
    for (to, text, patience) in waits {
        ctx.call(notify, &(to.clone(), text.clone()))
            .retry(RetryPolicy::exponential(secs(1)))
            .await?;
        ctx.set_custom_status(&format!("waits for {to}"))?;
        if let Some(decision) = ctx.wait_event(DECISION).timeout(patience).await? {
            let text = format!("{what}: {:?} by {}", decision.verdict, decision.by);
            ctx.call(notify, &(approver.clone(), text))
                .retry(RetryPolicy::exponential(secs(1)))
                .await?;
            return Ok(Some(decision));
        }
    }
    Ok(None)
}

/// Would send a mail.
#[activity]
async fn notify((to, text): (String, String)) -> Result<(), ActivityError> {
    println!("  mail to {to}: {text}");
    Ok(())
}

/// Asks for an approval, reminds, escalates, and gives up.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    place: Place,

    /// Which request.
    #[arg(long, value_name = "ID", default_value = "request-1", global = true)]
    request: String,

    /// What is to be approved.
    #[arg(long, default_value = "a new teapot for the kitchen")]
    what: String,

    /// Seconds that a day takes.
    #[arg(long, value_name = "SECONDS", default_value_t = 4.0)]
    day: f64,

    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// Decides, while the program waits in another terminal or is not running at all.
    Decide {
        verdict: Verdict,

        /// Who decides.
        #[arg(long, default_value = "ada")]
        by: String,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("approval: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<ExitCode, Error> {
    let id = InstanceId::new(arguments.request.as_str())?;
    let store = arguments.place.open("approval").await?;
    if let Some(Action::Decide { verdict, by }) = &arguments.action {
        let decision = Decision { by: by.clone(), verdict: *verdict };
        Client::new(store).instance(&id)?.raise_event(DECISION.as_str(), &decision).await?;
        println!("{id}: {verdict:?} by {by}");
        return Ok(ExitCode::SUCCESS);
    }
    let day = Duration::try_from_secs_f64(arguments.day)?;
    let worker = Worker::builder(store).register(approval).register(notify).start().await?;
    let request = Request {
        what: arguments.what.clone(),
        approver: "ada".to_owned(),
        manager: "grace".to_owned(),
        day,
    };
    let handle = match worker.client().status(&id).await? {
        Some(status) => {
            println!("{id} {}", if status.has_ended() { "was decided before" } else { "goes on" });
            worker.client().instance_of(approval, &id)?
        }
        None => worker.client().start(approval, request).id(&id).await?,
    };
    let ended = follow(&handle).await?;
    match &ended {
        Some(Some(decision)) => println!("{id}: {:?} by {}", decision.verdict, decision.by),
        Some(None) => println!("{id}: nobody decided; given up"),
        None => {}
    }
    worker.shutdown().await?;
    Ok(if ended.is_some() { ExitCode::SUCCESS } else { ExitCode::from(130) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use durable_core::testing::TestHub;

    fn request() -> Request {
        let (approver, manager) = ("ada".to_owned(), "grace".to_owned());
        Request { what: "a teapot".to_owned(), approver, manager, day: days(1) }
    }

    fn hub() -> TestHub {
        TestHub::new().register(approval).mock(notify, |_, _| Ok::<_, ActivityError>(()))
    }

    fn mails(hub: &TestHub) -> Vec<(String, Duration)> {
        hub.calls(notify).into_iter().map(|call| (call.input.0, call.began)).collect()
    }

    #[test]
    fn the_manager_decides_after_two_reminders() {
        let hub = hub();
        let asked = hub.start(approval, request());
        let decision = Decision { by: "grace".to_owned(), verdict: Verdict::Approve };
        asked.raise_event_after(days(4), DECISION.as_str(), &decision);
        assert_eq!(asked.output().unwrap().unwrap().verdict, Verdict::Approve);
        let to: Vec<_> = mails(&hub)
            .into_iter()
            .map(|(to, at)| format!("{to} {}", at.as_secs() / 86_400))
            .collect();
        assert_eq!(to, ["ada 0", "ada 1", "ada 2", "grace 3", "ada 4"]);
    }

    #[test]
    fn it_gives_up_after_five_days() {
        let hub = hub();
        assert!(hub.start(approval, request()).output().unwrap().is_none());
        assert_eq!(hub.elapsed(), days(5));
    }
}
