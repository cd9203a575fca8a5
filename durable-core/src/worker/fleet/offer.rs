//! Offering activities that wait for a lane to whoever has one free.

use std::sync::Arc;
use std::time::Duration;

use durable_machine::partition::AttemptKey;

use super::Fleet;
use crate::telemetry;
use crate::worker::executor::Report;
use crate::worker::lanes::Waiting;
use crate::worker::mailbox::{Mail, Mailbox};
use crate::worker::shared::Shared;

/// How long an activity waits for a lane here before it is offered.
const WAITED: Duration = Duration::from_millis(200);

/// How often the lanes are looked at.
const EVERY: Duration = Duration::from_millis(50);

/// How many are offered in one go.
const PORTION: usize = 256;

/// Offers while another worker lives.
pub(super) async fn run(shared: Arc<Shared>) {
    let Some(fleet) = &shared.fleet else { return };
    let mut company = fleet.company();
    while company.wait_for(|company| *company).await.is_ok() && shared.is_serving() {
        let overdue =
            if fleet.lease.holds() { shared.executor.overdue(WAITED, PORTION) } else { Vec::new() };
        let pause = if overdue.is_empty() {
            EVERY
        } else if offer(&shared, fleet, overdue).await {
            continue;
        } else {
            fleet.step()
        };
        tokio::time::sleep(pause).await;
    }
}

/// Offers jobs that were taken out of the lanes. Where that fails they wait on as before.
async fn offer(shared: &Arc<Shared>, fleet: &Fleet, jobs: Vec<Waiting>) -> bool {
    let (cancelled, jobs): (Vec<_>, Vec<_>) =
        jobs.into_iter().partition(|waiting| waiting.job.context.is_cancelled());
    for waiting in cancelled {
        waiting.job.cancelled();
    }
    if jobs.is_empty() {
        return true;
    }
    let starts = jobs.iter().map(|waiting| (*waiting.job.start).clone()).collect();
    let offered = tokio::time::timeout(fleet.sharing.lease, shared.store.offer(starts)).await;
    match offered {
        Ok(Ok(())) => {
            tracing::debug!(activities = jobs.len(), "offered to other workers");
            metrics::counter!(telemetry::ACTIVITIES_OFFERED).increment(jobs.len() as u64);
            tell_loops(jobs);
            true
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, "activities that wait for room could not be offered");
            shared.executor.put_back(jobs);
            false
        }
        Err(_) => {
            tracing::warn!("activities that wait for room could not be offered in time");
            shared.executor.put_back(jobs);
            false
        }
    }
}

/// Tells each loop which of its attempts are in the store's hands now.
fn tell_loops(jobs: Vec<Waiting>) {
    let mut loops: Vec<(Arc<Mailbox>, Vec<AttemptKey>)> = Vec::new();
    for Waiting { job, .. } in jobs {
        let Report::Loop(mailbox) = job.report else { continue };
        let attempt = job.start.attempt;
        match loops.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &mailbox)) {
            Some((_, attempts)) => attempts.push(attempt),
            None => loops.push((mailbox, vec![attempt])),
        }
    }
    for (mailbox, attempts) in loops {
        mailbox.send(Mail::Offered(attempts));
    }
}
