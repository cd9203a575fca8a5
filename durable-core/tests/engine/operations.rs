//! Every operation on an instance in every state, as a table.

use durable_core::prelude::*;

use super::hub::{Hub, PATIENCE, until_is, until_status};
use super::on_every_store;

on_every_store! {
    every_operation_in_every_state_says_what_the_table_says,
    an_operation_on_a_pending_instance_is_accepted,
    what_arrives_while_suspended_takes_effect_in_order_after_the_resume,
    an_ended_instance_is_left_as_it_is,
    a_handle_means_its_own_run_and_no_other,
}

/// Fails on the event "fail", ends on "end".
#[orchestrator]
async fn stay(ctx: OrchestrationContext) -> Result<String, OrchestrationError> {
    match ctx.race(ctx.wait_event::<()>("end"), ctx.wait_event::<()>("fail")).await {
        Either::Left(_) => Ok("ended".into()),
        Either::Right(_) => Err(OrchestrationError::new("Told", "to fail")),
    }
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.register(stay);
    registry
}

#[derive(Debug, Clone, Copy)]
enum Operation {
    Raise,
    Terminate,
    Suspend,
    Resume,
    Start,
}
use Operation::{Raise, Resume, Start, Suspend, Terminate};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    Accepted,
    NotFound,
    Ended(RuntimeStatus),
    Active(RuntimeStatus),
}
use Says::{Accepted, Active, Ended, NotFound};

async fn say(client: &Client, id: &str, operation: Operation) -> Says {
    let handle = client.instance(id).expect("valid");
    let said = match operation {
        Raise => handle.raise_event("noise", &1).await,
        Terminate => handle.terminate("told to").await,
        Suspend => handle.suspend("told to").await,
        Resume => handle.resume("told to").await,
        Start => client.start(stay, ()).id(id).await.map(|_| ()),
    };
    match said {
        Ok(()) => Accepted,
        Err(ClientError::NotFound(_)) => NotFound,
        Err(ClientError::Ended { status, .. }) => Ended(status),
        Err(ClientError::Active { status, .. }) => Active(status),
        Err(error) => panic!("{operation:?} of {id}: {error}"),
    }
}

/// Brings an instance into a state.
async fn bring(client: &Client, id: &str, state: RuntimeStatus) {
    let handle = client.start(stay, ()).id(id).await.expect("started");
    if state == RuntimeStatus::Pending {
        return;
    }
    until_is(client, id, RuntimeStatus::Running).await;
    match state {
        RuntimeStatus::Suspended => handle.suspend("").await.expect("accepted"),
        RuntimeStatus::Completed => handle.raise_event("end", &()).await.expect("accepted"),
        RuntimeStatus::Failed => handle.raise_event("fail", &()).await.expect("accepted"),
        RuntimeStatus::Terminated => handle.terminate("").await.expect("accepted"),
        _ => {}
    }
    until_is(client, id, state).await;
}

async fn every_operation_in_every_state_says_what_the_table_says(hub: Hub) {
    use RuntimeStatus::{Completed, Failed, Running, Suspended, Terminated};
    let worker = hub.worker(registry()).await;
    for (place, client) in [("inside", worker.client()), ("outside", hub.outside().await)] {
        for operation in [Raise, Terminate, Suspend, Resume] {
            assert_eq!(say(&client, "nobody", operation).await, NotFound, "{place} {operation:?}");
        }
        for state in [Running, Suspended, Completed, Failed, Terminated] {
            for operation in [Raise, Terminate, Suspend, Resume, Start] {
                let id = format!("{place}-{state}-{operation:?}");
                bring(&client, &id, state).await;
                let expected = match (state.is_terminal(), operation) {
                    (true, Start) => Accepted,
                    (true, _) => Ended(state),
                    (false, Start) => Active(state),
                    (false, _) => Accepted,
                };
                assert_eq!(say(&client, &id, operation).await, expected, "{id}");
                let after = match (state, operation) {
                    (Completed | Failed | Terminated, Start) => Running,
                    (Running | Suspended, Terminate) => Terminated,
                    (Running | Suspended, Suspend) => Suspended,
                    (Running | Suspended, Resume) => Running,
                    (unchanged, _) => unchanged,
                };
                until_is(&client, &id, after).await;
            }
        }
    }
}

async fn an_operation_on_a_pending_instance_is_accepted(hub: Hub) {
    let client = hub.outside().await;
    let mut expected = Vec::new();
    for (operation, says, then) in [
        (Raise, Accepted, RuntimeStatus::Running),
        (Terminate, Accepted, RuntimeStatus::Terminated),
        (Suspend, Accepted, RuntimeStatus::Suspended),
        (Resume, Accepted, RuntimeStatus::Running),
        (Start, Active(RuntimeStatus::Pending), RuntimeStatus::Running),
    ] {
        let id = format!("pending-{operation:?}");
        bring(&client, &id, RuntimeStatus::Pending).await;
        assert_eq!(say(&client, &id, operation).await, says, "{id}");
        until_is(&client, &id, RuntimeStatus::Pending).await;
        expected.push((id, then));
    }
    let worker = hub.worker(registry()).await;
    for (id, then) in expected {
        until_is(&worker.client(), &id, then).await;
    }
}

async fn what_arrives_while_suspended_takes_effect_in_order_after_the_resume(hub: Hub) {
    let mut registry = Registry::new();
    registry.register_orchestrator_fn("collect", |ctx, (): ()| async move {
        let timer = ctx.sleep(millis(10));
        let mut got = vec![ctx.wait_event::<u32>("n").await?];
        timer.await;
        got.push(ctx.wait_event::<u32>("n").await?);
        Ok(got)
    });
    let worker = hub.worker(registry).await;
    for (id, client) in [("inside", worker.client()), ("outside", hub.outside().await)] {
        let handle = client.start_by_name("collect", &()).id(id).await.expect("started");
        until_is(&client, id, RuntimeStatus::Running).await;
        handle.suspend("wait").await.expect("accepted");
        until_is(&client, id, RuntimeStatus::Suspended).await;
        handle.suspend("once more changes nothing").await.expect("accepted");
        for n in [1, 2] {
            handle.raise_event("n", &n).await.expect("accepted");
        }
        // The worker has taken both, and shows no change.
        let three = |status: &durable_core::InstanceStatus| !status.has_ended();
        until_status(&client, id, three).await;
        let taken = || async {
            let history = handle.history().await.expect("read");
            let raised = |e: &&durable_core::Event| {
                matches!(e.is, durable_core::EventKind::EventRaised { .. })
            };
            history.events().iter().filter(raised).count() == 2
        };
        super::hub::until("both events are in the history", taken).await;
        let status = handle.status().await.expect("there");
        assert_eq!(status.runtime_status(), RuntimeStatus::Suspended);
        handle.resume("go on").await.expect("accepted");
        let got: Vec<u32> =
            handle.output_within(PATIENCE).await.expect("completed").to().expect("numbers");
        assert_eq!(got, [1, 2]);
    }
}

async fn an_ended_instance_is_left_as_it_is(hub: Hub) {
    let worker = hub.worker(registry()).await;
    let client = worker.client();
    bring(&client, "done", RuntimeStatus::Completed).await;
    let handle = client.instance("done").expect("valid");
    let before = (handle.status().await.expect("there"), handle.history().await.expect("read"));
    for operation in [Raise, Terminate, Suspend, Resume] {
        for client in [worker.client(), hub.outside().await] {
            let said = say(&client, "done", operation).await;
            assert_eq!(said, Ended(RuntimeStatus::Completed));
        }
    }
    let after = (handle.status().await.expect("there"), handle.history().await.expect("read"));
    assert_eq!(before, after);
}

async fn a_handle_means_its_own_run_and_no_other(hub: Hub) {
    let worker = hub.worker(registry()).await;
    for (id, client) in [("inside", worker.client()), ("outside", hub.outside().await)] {
        let old = client.start(stay, ()).id(id).await.expect("started");
        until_is(&client, id, RuntimeStatus::Running).await;
        old.raise_event("end", &()).await.expect("accepted");
        old.output_within(PATIENCE).await.expect("completed");
        let new = client.start(stay, ()).id(id).await.expect("started");
        until_is(&client, id, RuntimeStatus::Running).await;
        assert!(old.terminate("not this one").await.is_err(), "{id}: its run is gone");
        assert!(old.raise_event("end", &()).await.is_err(), "{id}: its run is gone");
        assert!(matches!(old.wait().await, Err(ClientError::Replaced(_))));
        new.raise_event("end", &()).await.expect("accepted");
        assert_eq!(new.output_within(PATIENCE).await.expect("completed"), "ended");
    }
}
