//! Taking activities that were offered, and running them for their owners.

use std::sync::Arc;
use std::time::{Duration, Instant};

use durable_machine::model::{EnvelopeId, Failure, Payload};
use durable_machine::store::WorkResult;
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use super::Fleet;
use crate::activity::{ActivityContext, CancelHandle};
use crate::store::{Renewal, StoreError, TakenWork};
use crate::telemetry;
use crate::worker::executor::{Job, Progress, Report};
use crate::worker::shared::Shared;

/// How often offers are looked for, after some came and after none came for long.
const FIRST: Duration = Duration::from_millis(100);
const LAST: Duration = Duration::from_secs(5);

/// The same without company: what the dead had taken was shown again long before, on the way there.
const ALONE: Duration = Duration::from_secs(300);

/// How many are taken in one go: what does not fit after all stays hidden from others for a moment.
const PORTION: usize = 32;

/// How long storage has to take a result before it is asked again.
const FINISH_MAX: Duration = Duration::from_secs(30);

/// What an attempt came to; `None` where its result is no longer this worker's to give.
type Outcome = Option<Result<Payload, Box<Failure>>>;

/// Takes offers while there is room. One that is alone does so, too, if seldom: what a worker that is dead
/// by now had offered, or had taken, is for whoever is left.
pub(super) async fn run(shared: Arc<Shared>) {
    let Some(fleet) = &shared.fleet else { return };
    let mut company = fleet.company();
    let mut pause = FIRST;
    while shared.is_serving() {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            changed = company.changed() => if changed.is_ok() { pause = FIRST },
        }
        let longest = if *company.borrow() { LAST } else { ALONE };
        let room = shared.executor.room().min(PORTION);
        if room == 0 || !fleet.lease.holds() || !shared.is_serving() {
            pause = FIRST;
        } else if take(&shared, fleet, room).await {
            pause = Duration::ZERO;
        } else {
            pause = (pause * 2).clamp(FIRST, longest);
        }
    }
}

/// Takes and begins what is offered, if anything is.
async fn take(shared: &Arc<Shared>, fleet: &Fleet, room: usize) -> bool {
    let visibility = fleet.sharing.visibility;
    let since = Instant::now();
    let took = shared.store.take(shared.worker, room, visibility);
    let taken = match tokio::time::timeout(fleet.sharing.lease, took).await {
        Ok(Ok(taken)) => taken,
        Ok(Err(error)) => {
            tracing::warn!(%error, "offered activities could not be taken");
            return false;
        }
        Err(_) => {
            tracing::warn!("offered activities could not be taken in time");
            return false;
        }
    };
    let mut began = false;
    let (mut no_room, mut unknown) = (Vec::new(), Vec::new());
    for work in taken {
        match shared.executor.has_room_for(&work.item.name) {
            None => {
                let name = &work.item.name;
                tracing::debug!(activity = %name, "not registered here: left to other workers");
                unknown.push(work);
            }
            Some(true) if shared.serving_begins() => {
                metrics::counter!(telemetry::ACTIVITIES_TAKEN).increment(1);
                tokio::spawn(run_taken(Serving(shared.clone()), work, since));
                began = true;
            }
            Some(_) => no_room.push(work),
        }
    }
    // Others may have a lane of its kind. What is not registered here comes again: not so soon.
    for (given, pause) in [(no_room, Duration::ZERO), (unknown, visibility)] {
        give_back(shared, given, pause, visibility).await;
    }
    began
}

/// Leaves offers to other workers. Where that fails they see them when the visibility is over.
async fn give_back(shared: &Shared, given: Vec<TakenWork>, pause: Duration, limit: Duration) {
    if given.is_empty() {
        return;
    }
    let given = shared.store.give_back(given, pause);
    match tokio::time::timeout(limit, given).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "offers could not be given back"),
        Err(_) => tracing::debug!("offers could not be given back in time"),
    }
}

/// An activity whose end the worker waits for.
struct Serving(Arc<Shared>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.serving_ended();
    }
}

/// Runs one attempt and sends its result on its way.
async fn run_taken(serving: Serving, mut work: TakenWork, since: Instant) {
    let shared = &serving.0;
    let Some(fleet) = &shared.fleet else { return };
    let (context, cancel) = ActivityContext::new(&work.item, None);
    let (news, progress) = mpsc::unbounded_channel();
    let start = Box::new(work.item.clone());
    let job = Job { start, context: context.clone(), report: Report::Taker(news) };
    shared.executor.run(job);
    let mut stopping = shared.stopping();
    let outcome = tokio::select! {
        outcome = follow(shared, fleet, &mut work, &context, progress, since, &cancel) => outcome,
        () = time_is_up(&mut stopping) => None,
    };
    match outcome {
        // What has ended does not mind.
        None => cancel.cancel(),
        Some(result) => {
            cancel_unless_ended(&cancel, &result);
            work.item.heartbeat_details = context.heartbeats().details();
            tokio::select! {
                () = finish(shared, fleet, &work, result) => {}
                () = time_is_up(&mut stopping) => {}
            }
        }
    }
}

/// An attempt that ran out of time may still run.
fn cancel_unless_ended(cancel: &CancelHandle, result: &Result<Payload, Box<Failure>>) {
    if result.is_err() {
        cancel.cancel();
    }
}

/// Follows an attempt to its end, and keeps it hidden from others until then.
async fn follow(
    shared: &Shared,
    fleet: &Fleet,
    work: &mut TakenWork,
    context: &ActivityContext,
    mut progress: mpsc::UnboundedReceiver<Progress>,
    since: Instant,
    cancel: &CancelHandle,
) -> Outcome {
    let visibility = fleet.sharing.visibility;
    let mut renew_at = since + visibility / 2;
    let (mut deadline, mut silent_at) = (None, None);
    loop {
        tokio::select! {
            biased;
            news = progress.recv() => match news {
                Some(Progress::Started) => {
                    let now = Instant::now();
                    // A limit that no clock reaches is none.
                    let after = |limit: Duration| now.checked_add(limit);
                    deadline = work.item.start_to_finish.and_then(after);
                    silent_at = work.item.heartbeat_timeout.and_then(after);
                }
                Some(Progress::Ended(result)) => return Some(result),
                // It was not begun: the worker stops.
                None => return None,
            },
            () = reached(deadline) => return Some(Err(Box::new(work.item.timed_out()))),
            () = reached(silent_at) => {
                let limit = work.item.heartbeat_timeout.unwrap_or_default();
                let spoke_at = context.heartbeats().last_at().and_then(|at| at.checked_add(limit));
                match spoke_at.filter(|at| *at > Instant::now()) {
                    None => return Some(Err(Box::new(work.item.fell_silent()))),
                    later => silent_at = later,
                }
            }
            () = reached(Some(renew_at)) => {
                let sent = Instant::now();
                // Whoever takes it next, should this worker die, is told.
                work.item.heartbeat_details = context.heartbeats().details();
                let renewal = shared.store.renew(work, visibility);
                match tokio::time::timeout(visibility / 4, renewal).await {
                    Ok(Ok(Renewal::Renewed)) => renew_at = sent + visibility / 2,
                    Ok(Ok(Renewal::Lost)) => return None,
                    // Its owner may wait until it has really ended.
                    Ok(Ok(Renewal::Withdrawn)) => {
                        cancel.cancel();
                        (deadline, silent_at) = (None, None);
                        renew_at = sent + visibility / 2;
                    }
                    Ok(Err(error)) => {
                        tracing::warn!(%error, "an activity that was taken stays hidden no longer");
                        renew_at = sent + visibility / 8;
                    }
                    Err(_) => renew_at = sent + visibility / 4,
                }
            }
        }
    }
}

async fn reached(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

/// Returns when a worker that stops waits no longer.
async fn time_is_up(stopping: &mut watch::Receiver<Option<Instant>>) {
    loop {
        let stop_at = *stopping.borrow_and_update();
        tokio::select! {
            () = reached(stop_at) => return,
            changed = stopping.changed() => if changed.is_err() { return },
        }
    }
}

/// Sends the result, again and again while storage cannot take it. Once the offer can be seen again, others
/// run the attempt, too.
async fn finish(
    shared: &Shared,
    fleet: &Fleet,
    work: &TakenWork,
    result: Result<Payload, Box<Failure>>,
) {
    let result = WorkResult {
        id: EnvelopeId(Uuid::new_v4().simple().to_string().into()),
        attempt: work.item.attempt.clone(),
        heartbeat_details: work.item.heartbeat_details.clone().filter(|_| result.is_err()),
        result,
    };
    let mut pause = FIRST;
    loop {
        let finished = shared.store.finish(work, result.clone());
        let again = match tokio::time::timeout(FINISH_MAX, finished).await {
            Ok(Ok(true)) => return,
            Ok(Ok(false)) => {
                tracing::debug!("another worker runs the attempt, too: the first result counts");
                return;
            }
            Ok(Err(StoreError::Busy { retry_after, .. })) => retry_after,
            Ok(Err(StoreError::Unknown(_))) | Err(_) => pause,
            Ok(Err(error)) => {
                tracing::warn!(%error, "a result could not be sent: its attempt runs once more");
                return;
            }
        };
        tracing::debug!(?again, "a result could not be sent yet");
        tokio::time::sleep(again).await;
        pause = (pause * 2).min(fleet.sharing.visibility.max(FIRST));
    }
}
