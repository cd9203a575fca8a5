//! Compares a hub with what was promised. It knows the public contract alone.

use std::collections::{BTreeMap, BTreeSet};

use durable_core::prelude::*;
use durable_core::{EventKind, History, InstanceStatus, ListQuery};

use super::workload::{Expected, Told};

/// How much was compared.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) instances: usize,
    pub(super) events: usize,
}

pub(super) async fn print_active(client: &Client) {
    for status in all(client).await.into_iter().filter(|status| !status.has_ended()) {
        let history = client.history(status.id()).await;
        println!("{status:?}\n{history:#?}");
    }
}

async fn all(client: &Client) -> Vec<InstanceStatus> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let page = client.list(&ListQuery::default(), after, 100).await.expect("read");
        all.extend(page.instances);
        after = page.next;
        if after.is_none() {
            return all;
        }
    }
}

/// Panics where a promise was broken.
pub(super) async fn check(
    client: &Client,
    told: &[Told],
    bodies: &[(String, String, String)],
) -> Found {
    let bodies: BTreeSet<_> = bodies.iter().cloned().collect();
    let listed = all(client).await;
    let ids: BTreeSet<_> = listed.iter().map(|status| status.id().clone()).collect();
    let promised: BTreeSet<_> = told.iter().map(|told| told.id.clone()).collect();
    assert_eq!(ids.len(), listed.len(), "an instance is listed once");
    assert_eq!(ids, promised, "there is what was accepted, and nothing else");
    let counts = client.counts().await.expect("read");
    assert_eq!(counts, BTreeMap::from([(RuntimeStatus::Completed, listed.len() as u64)]));

    let mut runs = BTreeSet::new();
    let mut found = Found { instances: told.len(), events: 0 };
    for told in told {
        let Told { id, run, expected, .. } = told;
        assert!(runs.insert((id.clone(), *run)), "{id}: each start has a run of its own");
        found.events += told.events.len();
        if told.replaced {
            continue;
        }
        let status = client.status(id).await.expect("read").expect("listed");
        assert_eq!(Some(status.run()), *run, "{id}: the run that was promised is the last one");
        let history = client.history(id).await.expect("read").expect("there");
        check_history(&status, &history, &bodies);
        match expected {
            Expected::Sum(sum) => {
                let output = status.output::<u64>().expect("a number");
                assert_eq!(output, Some(*sum), "{id}");
            }
            Expected::Events(count) => check_events(told, *count, &status),
        }
    }
    found
}

/// Gap-free, one terminal event that agrees with the status, one result for each call, each of whose bodies
/// ran.
fn check_history(
    status: &InstanceStatus,
    history: &History,
    bodies: &BTreeSet<(String, String, String)>,
) {
    let (id, events) = (status.id(), history.events());
    assert!(matches!(events[0].is, EventKind::ExecutionStarted(_)), "{id}: {events:?}");
    assert!(events.is_sorted_by_key(|event| event.at), "{id}: times run backwards: {events:?}");
    let ends = events.iter().filter(|event| event.is.is_terminal()).count();
    assert_eq!(ends, 1, "{id}: {events:?}");
    match &events.last().expect("not empty").is {
        EventKind::ExecutionCompleted { output } => {
            assert_eq!(status.row().output.as_ref(), Some(output), "{id}");
        }
        other => panic!("{id} ends with {other:?}"),
    }
    let mut open = BTreeSet::new();
    for event in events {
        match &event.is {
            EventKind::ActivityScheduled(scheduled) => {
                assert!(open.insert(scheduled.call), "{id}: {} is scheduled twice", scheduled.call);
            }
            EventKind::ActivityCompleted { call, .. } | EventKind::ActivityFailed { call, .. } => {
                assert!(open.remove(call), "{id}: a second result of {call}, or one of no call");
                let body = (id.to_string(), status.run().to_string(), call.to_string());
                assert!(bodies.contains(&body), "{id}: {call} has a result and no body ran");
            }
            EventKind::TimerCreated { call, .. } => assert!(open.insert(*call), "{id}"),
            EventKind::TimerFired { call } => {
                assert!(open.remove(call), "{id}: timer {call} fires twice");
            }
            _ => {}
        }
    }
    assert!(open.is_empty(), "{id}: {open:?} without a result: {events:?}");
}

/// Each accepted event was consumed once, in order, or is listed as left over.
fn check_events(told: &Told, count: usize, status: &InstanceStatus) {
    let id = &told.id;
    let consumed = status.output::<Vec<u64>>().expect("numbers").expect("completed");
    assert_eq!(consumed.len(), count, "{id}");
    let left = status.unconsumed().iter().map(|event| event.input.to::<u64>().expect("a number"));
    let mut all: Vec<u64> = consumed.into_iter().chain(left).collect();
    // What completed it at the end, where too few were accepted before.
    all.retain(|value| *value != 0);
    assert_eq!(all, told.events, "{id}: what was accepted is consumed once or listed");
}
