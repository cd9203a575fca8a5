//! Workers of several versions on one hub: a partition goes to whoever has the orchestrators that it needs.

use std::sync::Mutex;

use durable_core::HoldReason;
use durable_core::prelude::*;

use super::hub::{Hub, PATIENCE, tell, until, until_is, until_status};
use super::several::{One, PARTITIONS, SHARING, balanced, hub, ids_of, until_balanced};

/// A build of the program: it has these orchestrators, which wait for one event each.
fn build(names: &[&'static str]) -> Registry {
    let mut registry = Registry::new();
    for name in names {
        registry.register_orchestrator_fn(*name, |ctx, (): ()| async move {
            ctx.wait_event::<()>("go").await?;
            Ok(())
        });
    }
    registry
}

async fn start(client: &Client, name: &str, id: &str) {
    client.start_by_name(name, &()).id(id).await.expect("accepted");
}

async fn ends(client: &Client, id: &str) {
    let handle = client.instance(id).expect("valid");
    handle.raise_event("go", &()).await.expect("taken");
    handle.output_within(PATIENCE).await.expect("completed");
}

/// It is held because its orchestrator is missing.
async fn until_missing(client: &Client, id: &str) {
    let status = until_status(client, id, |status| status.hold().is_some()).await;
    let hold = status.hold().expect("held");
    assert_eq!(hold.reason, HoldReason::UnknownOrchestrator, "{hold:?}");
}

#[test]
fn a_start_reaches_the_worker_of_the_version_that_has_its_orchestrator() {
    tell(hub(), |hub: Hub| async move {
        let old = One::start(&hub, build(&["order"])).await;
        let new = One::start(&hub, build(&["order", "refund"])).await;
        until_balanced(&[&old, &new]).await;
        let id = &ids_of(&old, "x", 1)[0];
        start(&old.client(), "refund", id).await;
        // Nobody resumes it.
        until_is(&new.client(), id, RuntimeStatus::Running).await;
        ends(&old.client(), id).await;
        // Another partition went the other way.
        until_balanced(&[&old, &new]).await;
    });
}

#[test]
fn under_an_id_that_is_made_for_it_too() {
    tell(hub(), |hub: Hub| async move {
        let old = One::start(&hub, build(&["order"])).await;
        let new = One::start(&hub, build(&["order", "refund"])).await;
        until_balanced(&[&old, &new]).await;
        for _ in 0..10 {
            let started = old.client().start_by_name("refund", &()).await.expect("accepted");
            let id = started.id().as_str().to_owned();
            ends(&new.client(), &id).await;
        }
    });
}

#[test]
fn what_waits_for_a_new_version_runs_when_its_first_worker_comes() {
    tell(hub(), |hub: Hub| async move {
        let outside = hub.outside().await;
        let ids: Vec<_> = (0..12).map(|n| format!("x-{n}")).collect();
        for id in &ids {
            start(&outside, "refund", id).await;
        }
        let old = One::start(&hub, build(&["order"])).await;
        for id in &ids {
            until_missing(&outside, id).await;
        }
        assert!(balanced(&[&old]));
        let new = One::start(&hub, build(&["order", "refund"])).await;
        for id in &ids {
            ends(&outside, id).await;
        }
        // All of them need it, and one at a time they went there.
        until("the old one has nothing", || async { old.owned().is_empty() }).await;
        assert!(balanced(&[&new]));
        // And back: what has ended holds nobody up.
        start(&old.client(), "order", "y").await;
        new.worker.shutdown().await.expect("a clean end");
        until_balanced(&[&old]).await;
        ends(&old.client(), "y").await;
    });
}

#[test]
fn several_new_workers_share_what_the_old_ones_cannot_serve() {
    tell(hub(), |hub: Hub| async move {
        let outside = hub.outside().await;
        let ids: Vec<_> = (0..30).map(|n| format!("x-{n}")).collect();
        for id in &ids {
            start(&outside, "refund", id).await;
        }
        let old = One::start(&hub, build(&["order"])).await;
        let a = One::start(&hub, build(&["order", "refund"])).await;
        let b = One::start(&hub, build(&["order", "refund"])).await;
        for id in &ids {
            until_is(&outside, id, RuntimeStatus::Running).await;
        }
        until("they have the same", || async { a.owned().len() == 3 && b.owned().len() == 3 })
            .await;
        assert!(old.owned().is_empty());
        for id in &ids {
            ends(&outside, id).await;
        }
    });
}

#[test]
fn a_held_instance_is_not_moved_while_nobody_has_its_orchestrator() {
    tell(hub(), |hub: Hub| async move {
        start(&hub.outside().await, "refund", "x").await;
        let old = One::start(&hub, build(&["order"])).await;
        until_missing(&old.client(), "x").await;
        let also_old = One::start(&hub, build(&["order"])).await;
        until_balanced(&[&old, &also_old]).await;
        let before = (old.owned(), also_old.owned());
        // It is looked at again by whoever is asked to, and stays held.
        let handle = also_old.client().instance("x").expect("valid");
        handle.resume("try again").await.expect("taken");
        until_missing(&old.client(), "x").await;
        assert_eq!(before, (old.owned(), also_old.owned()));
    });
}

/// Each has what the other lacks: whoever runs the one stops the other.
#[test]
fn two_versions_that_each_lack_something_do_not_pass_a_partition_to_and_fro() {
    tell(Hub::shared(1, SHARING), |hub: Hub| async move {
        let one = One::start(&hub, build(&["order"])).await;
        start(&one.client(), "order", "x").await;
        until_is(&one.client(), "x", RuntimeStatus::Running).await;
        let other = One::start(&hub, build(&["refund"])).await;
        start(&other.client(), "refund", "y").await;
        until_missing(&other.client(), "y").await;
        assert_eq!(one.owned().len(), 1, "what runs goes on");
        ends(&other.client(), "x").await;
        until_missing(&other.client(), "y").await;
        assert!(other.owned().is_empty());
        one.worker.shutdown().await.expect("a clean end");
        ends(&other.client(), "y").await;
    });
}

#[test]
fn a_receiver_that_dies_leaves_the_partition_to_those_that_live() {
    tell(hub(), |hub: Hub| async move {
        let old = One::start(&hub, build(&["order"])).await;
        let new = One::start(&hub, build(&["order", "refund"])).await;
        until_balanced(&[&old, &new]).await;
        let ids = ids_of(&old, "x", 6);
        let kept = &ids_of(&old, "kept", 1)[0];
        start(&old.client(), "order", kept).await;
        new.link.stick();
        for id in &ids {
            start(&old.client(), "refund", id).await;
        }
        until("one is on its way", || async { old.owned().len() < usize::from(PARTITIONS) / 2 })
            .await;
        new.kill();
        until_balanced(&[&old]).await;
        ends(&old.client(), kept).await;
        for id in &ids {
            until_missing(&old.client(), id).await;
        }
        let next = One::start(&hub, build(&["order", "refund"])).await;
        for id in &ids {
            ends(&next.client(), id).await;
        }
    });
}

#[test]
fn a_rolling_upgrade_and_the_way_back_lose_nothing() {
    tell(hub(), |hub: Hub| async move {
        let (old, new) = (["order"], ["order", "refund"]);
        let outside = hub.outside().await;
        let started = Mutex::new(Vec::new());
        let start_some = async |name: &'static str| {
            for _ in 0..6 {
                let id = format!("{name}-{}", started.lock().expect("no panic here").len());
                start(&outside, name, &id).await;
                started.lock().expect("no panic here").push(id);
            }
        };
        let of = |name: &str| -> Vec<String> {
            let started = started.lock().expect("no panic here");
            started.iter().filter(|id| id.starts_with(name)).cloned().collect()
        };
        let mut first = One::start(&hub, build(&old)).await;
        let mut second = One::start(&hub, build(&old)).await;
        start_some("order").await;
        for version in [&new[..], &old[..]] {
            let next = One::start(&hub, build(version)).await;
            start_some("order").await;
            start_some("refund").await;
            first.worker.shutdown().await.expect("a clean end");
            first = next;
            let next = One::start(&hub, build(version)).await;
            start_some("order").await;
            second.worker.shutdown().await.expect("a clean end");
            second = next;
        }
        until_balanced(&[&first, &second]).await;
        // Back at the old version: what is of the new one is held once it has something to do.
        for id in &of("order") {
            ends(&outside, id).await;
        }
        for id in &of("refund") {
            let handle = outside.instance(id).expect("valid");
            handle.raise_event("go", &()).await.expect("taken");
            until_missing(&outside, id).await;
        }
        let newest = One::start(&hub, build(&new)).await;
        for id in &of("refund") {
            let handle = newest.client().instance(id).expect("valid");
            handle.output_within(PATIENCE).await.expect("completed");
        }
    });
}
