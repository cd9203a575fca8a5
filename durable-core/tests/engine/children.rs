//! Child orchestrations, end to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use durable_core::machine::model::{CallNumber, ExecutionKey};
use durable_core::prelude::*;
use durable_core::{EventKind, Worker};
use futures::future::{Either, select};

use super::hub::{Hub, until_is, until_status};
use super::on_every_store;

on_every_store! {
    a_child_returns_its_result_and_both_know_of_each_other,
    children_run_at_once_over_all_partitions,
    a_childs_failure_keeps_its_kind_and_details,
    a_child_that_fails_is_tried_again_with_durable_delays,
    an_id_in_use_is_refused_and_an_ended_one_is_taken_again,
    an_id_that_was_made_for_a_child_and_that_somebody_used_is_in_use,
    terminating_a_parent_leaves_no_descendant,
    a_terminate_of_the_tree_spares_nobody,
    a_terminate_of_the_tree_goes_on_when_workers_die,
    a_detached_child_outlives_its_parent,
    each_execution_has_children_of_its_own,
    a_child_survives_the_worker_that_began_it,
    a_child_waits_for_a_worker_that_has_its_code,
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.register_orchestrator_fn("double", |ctx, n: u32| async move {
        ctx.set_custom_status(&ctx.parent().map(|parent| parent.to_string()))?;
        Ok(2 * n)
    });
    registry.register_orchestrator_fn("parent", |ctx, n: u32| async move {
        Ok(ctx.child_by_name::<u32>("double", &n).id("child").await?)
    });
    registry.register_orchestrator_fn("many", |ctx, n: u32| async move {
        let children = (0..n).map(|n| ctx.child_by_name::<u32>("double", &n));
        Ok(ctx.try_join_all(children).await?.iter().sum::<u32>())
    });
    registry.register_orchestrator_fn("wait", |ctx, (): ()| async move {
        Ok(ctx.wait_event::<u32>("go").await?)
    });
    registry.register_orchestrator_fn("parent_of_wait", |ctx, id: String| async move {
        Ok(ctx.child_by_name::<u32>("wait", &()).id(id).await?)
    });
    registry.register_orchestrator_fn("tree", |ctx, depth: u32| async move {
        if depth == 0 {
            return Ok(ctx.wait_event::<u32>("go").await?);
        }
        let id = format!("depth-{depth}");
        Ok(ctx.child_by_name::<u32>("tree", &(depth - 1)).id(id).await?)
    });
    registry
}

async fn output<T: serde::de::DeserializeOwned>(handle: &Handle<Payload>) -> T {
    handle.output().await.expect("it completes").to().expect("of this shape")
}

async fn a_child_returns_its_result_and_both_know_of_each_other(hub: Hub) {
    let worker = hub.worker(registry()).await;
    let client = worker.client();
    let handle = client.start_by_name("parent", &4).id("parent").await.expect("started");
    assert_eq!(output::<u32>(&handle).await, 8);
    let child = until_is(&client, "child", RuntimeStatus::Completed).await;
    assert_eq!(child.parent().map(InstanceId::as_str), Some("parent"));
    assert_eq!(child.custom_status::<String>().expect("a text"), Some("parent".into()));
    let history = handle.history().await.expect("it is there");
    let created = history.events().iter().any(|event| {
        matches!(&event.is, EventKind::ChildCreated(child) if child.instance.as_str() == "child")
    });
    assert!(created, "{history:?}");
    worker.shutdown().await.expect("it ends well");
}

async fn children_run_at_once_over_all_partitions(hub: Hub) {
    let hub = hub.with_partitions(4);
    let worker = hub.worker(registry()).await;
    let client = worker.client();
    let handle = client.start_by_name("many", &40).id("parent").await.expect("started");
    assert_eq!(output::<u32>(&handle).await, 40 * 39);
    let children = client.counts().await.expect("counts");
    assert_eq!(children.get(&RuntimeStatus::Completed), Some(&41));
    worker.shutdown().await.expect("it ends well");
}

async fn a_childs_failure_keeps_its_kind_and_details(hub: Hub) {
    let mut registry = registry();
    registry.register_orchestrator_fn("decline", |_, cents: u32| async move {
        let error = OrchestrationError::new("CardDeclined", "over the limit").details(&cents);
        Err::<(), _>(error)
    });
    registry.register_orchestrator_fn("pay", |ctx, cents: u32| async move {
        let error = ctx.child_by_name::<()>("decline", &cents).await.expect_err("declined");
        Ok((error.kind().to_owned(), error.child().map(str::to_owned), error.details::<u32>()))
    });
    let worker = hub.worker(registry).await;
    let handle = worker.client().start_by_name("pay", &700).await.expect("started");
    let told: (String, Option<String>, Option<u32>) = output(&handle).await;
    assert_eq!(told, ("CardDeclined".into(), Some("decline".into()), Some(700)));
    worker.shutdown().await.expect("it ends well");
}

async fn a_child_that_fails_is_tried_again_with_durable_delays(hub: Hub) {
    let tries = Arc::new(AtomicU32::new(0));
    let mut registry = registry();
    let counted = tries.clone();
    registry.register_activity_fn("try", move |_, (): ()| {
        let counted = counted.clone();
        async move {
            match counted.fetch_add(1, Ordering::SeqCst) {
                0 | 1 => Err(ActivityError::new("Busy", "not yet")),
                n => Ok(n),
            }
        }
    });
    registry.register_orchestrator_fn("flaky", |ctx, (): ()| async move {
        Ok(ctx.call_by_name::<u32>("try", &()).await?)
    });
    registry.register_orchestrator_fn("patient", |ctx, id: Option<String>| async move {
        let child = ctx.child_by_name::<u32>("flaky", &());
        let child = child.retry(RetryPolicy::fixed(millis(20)).attempts(3));
        Ok(match id {
            Some(id) => child.id(id).await?,
            None => child.await?,
        })
    });
    let worker = hub.worker(registry).await;
    let client = worker.client();
    for id in [Some("flaky"), None] {
        tries.store(0, Ordering::SeqCst);
        let handle = client.start_by_name("patient", &id).await.expect("started");
        assert_eq!(output::<u32>(&handle).await, 2);
        let history = handle.history().await.expect("it is there");
        let count = |wanted: fn(&EventKind) -> bool| {
            history.events().iter().filter(|event| wanted(&event.is)).count()
        };
        assert_eq!(count(|event| matches!(event, EventKind::ChildCreated(_))), 3);
        assert_eq!(count(|event| matches!(event, EventKind::TimerFired { .. })), 2);
    }
    worker.shutdown().await.expect("it ends well");
}

async fn an_id_in_use_is_refused_and_an_ended_one_is_taken_again(hub: Hub) {
    let hub = hub.with_partitions(2);
    let mut registry = registry();
    registry.register_orchestrator_fn("patient", |ctx, id: String| async move {
        let child = ctx.child_by_name::<u32>("wait", &()).id(id);
        Ok(child.retry(RetryPolicy::fixed(millis(10))).await?)
    });
    let worker = hub.worker(registry).await;
    let client = worker.client();
    let taken = client.start_by_name("wait", &()).id("taken").await.expect("started");
    let refused = client.start_by_name("parent_of_wait", "taken").await.expect("started");
    let error = refused.output().await.expect_err("the id is in use");
    assert!(error.to_string().contains("InstanceInUse"), "{error}");
    taken.raise_event("go", &1).await.expect("raised");
    assert_eq!(output::<u32>(&taken).await, 1);

    let parent = client.start_by_name("parent_of_wait", "taken").id("p").await.expect("started");
    until_is(&client, "taken", RuntimeStatus::Running).await;
    let again = client.instance("taken").expect("a valid id");
    again.raise_event("go", &2).await.expect("raised");
    assert_eq!(output::<u32>(&parent).await, 2);
    let counts = client.counts().await.expect("counts");
    assert_eq!(counts.get(&RuntimeStatus::Completed), Some(&2));
    assert_eq!(counts.get(&RuntimeStatus::Failed), Some(&1));

    // Who tries again gets the id when it is free.
    let taken = client.start_by_name("wait", &()).id("taken").await.expect("started");
    let patient = client.start_by_name("patient", "taken").id("patient").await.expect("started");
    until_refused(&patient).await;
    taken.raise_event("go", &3).await.expect("raised");
    until_status(&client, "taken", |status| status.parent() == Some(patient.id())).await;
    again.raise_event("go", &4).await.expect("raised");
    assert_eq!(output::<u32>(&patient).await, 4);
    worker.shutdown().await.expect("it ends well");
}

/// Waits until a child of it could not begin.
async fn until_refused(parent: &Handle<Payload>) {
    loop {
        let history = parent.history().await.expect("it is there");
        let refused = |event: &EventKind| matches!(event, EventKind::ChildFailed { failure, .. } if failure.kind == "InstanceInUse");
        if history.events().iter().any(|event| refused(&event.is)) {
            return;
        }
        tokio::time::sleep(millis(5)).await;
    }
}

async fn an_id_that_was_made_for_a_child_and_that_somebody_used_is_in_use(hub: Hub) {
    let mut registry = registry();
    registry.register_orchestrator_fn("later", |ctx, (): ()| async move {
        ctx.wait_event::<()>("go").await?;
        Ok(ctx.child_by_name::<u32>("double", &4).await?)
    });
    let worker = hub.worker(registry).await;
    let client = worker.client();
    let handle = client.start_by_name("later", &()).id("parent").await.expect("started");
    let status = until_is(&client, "parent", RuntimeStatus::Running).await;
    let key = ExecutionKey {
        instance: handle.id().clone(),
        run: status.run(),
        execution: status.execution(),
    };
    let id = key.child_id(CallNumber(0));
    client.start_by_name("wait", &()).id(id.clone()).await.expect("started");
    until_is(&client, id.as_str(), RuntimeStatus::Running).await;
    handle.raise_event("go", &()).await.expect("raised");
    let error = handle.output().await.expect_err("the id is in use");
    assert!(error.to_string().contains("InstanceInUse"), "{error}");
    client.instance(id.as_str()).expect("valid").raise_event("go", &9).await.expect("raised");
    until_is(&client, id.as_str(), RuntimeStatus::Completed).await;
    worker.shutdown().await.expect("it ends well");
}

async fn terminating_a_parent_leaves_no_descendant(hub: Hub) {
    let hub = hub.with_partitions(3);
    let worker = hub.worker(registry()).await;
    let client = worker.client();
    let root = client.start_by_name("tree", &4).id("root").await.expect("started");
    until_is(&client, "depth-1", RuntimeStatus::Running).await;
    root.terminate("enough").await.expect("terminated");
    for depth in 1..=4 {
        let id = format!("depth-{depth}");
        let status = until_is(&client, &id, RuntimeStatus::Terminated).await;
        let reason = status.output::<String>().expect("a text").unwrap_or_default();
        assert!(reason.ends_with("has ended"), "{reason}");
    }
    worker.shutdown().await.expect("it ends well");
}

/// Three generations of two children each, one of them detached.
fn grove() -> Registry {
    let mut registry = registry();
    registry.register_orchestrator_fn("grove", |ctx, generations: u32| async move {
        if generations == 0 {
            return Ok(ctx.wait_event::<u32>("go").await?);
        }
        let me = ctx.instance_id().clone();
        let child = |name| {
            let child = ctx.child_by_name::<u32>("grove", &(generations - 1));
            child.id(format!("{me}-{name}"))
        };
        child("free").detach()?;
        Ok(child("kept").parent_close(ParentClose::Abandon).await?)
    });
    registry
}

/// All of it, by id.
fn trees(root: &str, generations: u32) -> Vec<String> {
    let mut all = vec![root.to_owned()];
    if generations > 0 {
        for name in ["free", "kept"] {
            all.extend(trees(&format!("{root}-{name}"), generations - 1));
        }
    }
    all
}

async fn a_terminate_of_the_tree_spares_nobody(hub: Hub) {
    let hub = hub.with_partitions(3);
    let worker = hub.worker(grove()).await;
    let client = worker.client();
    let all = trees("oak", 3);
    assert_eq!(all.len(), 15);
    let oak = client.start_by_name("grove", &3).id("oak").await.expect("started");
    for id in &all {
        until_is(&client, id, RuntimeStatus::Running).await;
    }
    let kept = client.instance("oak-kept").expect("valid");
    kept.terminate("this one only").await.expect("terminated");
    until_is(&client, "oak-kept", RuntimeStatus::Terminated).await;
    until_is(&client, "oak", RuntimeStatus::Failed).await;
    until_is(&client, "oak-free", RuntimeStatus::Running).await;
    until_is(&client, "oak-kept-kept", RuntimeStatus::Running).await;

    let error = oak.terminate_tree("too late").await.expect_err("it has failed");
    assert!(matches!(error, ClientError::Ended { .. }), "{error}");
    for root in ["oak-free", "oak-kept-free", "oak-kept-kept"] {
        let root = client.instance(root).expect("valid");
        root.terminate_tree("cut down").await.expect("terminated");
    }
    for id in all.iter().skip(1) {
        until_is(&client, id, RuntimeStatus::Terminated).await;
    }
    worker.shutdown().await.expect("it ends well");
}

async fn a_terminate_of_the_tree_goes_on_when_workers_die(hub: Hub) {
    let hub = hub.with_partitions(4);
    let mut worker = hub.worker(grove()).await;
    let all = trees("elm", 3);
    let elm = worker.client().start_by_name("grove", &3).id("elm").await.expect("started");
    for id in &all {
        until_is(&worker.client(), id, RuntimeStatus::Running).await;
    }
    elm.terminate_tree("cut down").await.expect("terminated");
    // Each may get a little further.
    for _ in 0..4 {
        worker.shutdown().await.expect("it ends well");
        worker = hub.worker(grove()).await;
    }
    for id in &all {
        until_is(&worker.client(), id, RuntimeStatus::Terminated).await;
    }
    worker.shutdown().await.expect("it ends well");
}

async fn a_detached_child_outlives_its_parent(hub: Hub) {
    let mut registry = registry();
    registry.register_orchestrator_fn("forget", |ctx, close: Option<ParentCloses>| async move {
        let child = ctx.child_by_name::<u32>("wait", &());
        let child = match close {
            Some(ParentCloses::WithIt) => child.parent_close(ParentClose::Terminate),
            None => child,
        };
        Ok(child.detach()?.to_string())
    });
    let worker = hub.worker(registry).await;
    let client = worker.client();
    let handle = client.start_by_name("forget", &None::<ParentCloses>).await.expect("started");
    let id: String = output(&handle).await;
    assert!(id.starts_with(handle.id().as_str()), "{id}");
    until_is(&client, &id, RuntimeStatus::Running).await;
    client.instance(&id).expect("valid").raise_event("go", &3).await.expect("raised");
    until_is(&client, &id, RuntimeStatus::Completed).await;

    let start = client.start_by_name("forget", &Some(ParentCloses::WithIt));
    let id: String = output(&start.await.expect("started")).await;
    until_is(&client, &id, RuntimeStatus::Terminated).await;
    worker.shutdown().await.expect("it ends well");
}

async fn each_execution_has_children_of_its_own(hub: Hub) {
    let code = || {
        let mut registry = registry();
        registry.register_orchestrator_fn("rounds", |ctx, round: u32| async move {
            let kept = ctx.child_by_name::<u32>("wait", &()).id(format!("kept-{round}"));
            let kept = kept.detach()?;
            let child = ctx.child_by_name::<u32>("wait", &()).id("of-this-round");
            match select(child, ctx.wait_event::<()>("next")).await {
                Either::Left((result, _)) => Ok((kept.to_string(), result?)),
                // The child is still there when the execution ends.
                Either::Right((_, _child)) => ctx.continue_as_new(&(round + 1)),
            }
        });
        registry
    };
    let hub = hub.with_partitions(3);
    let mut worker = hub.worker(code()).await;
    let handle = worker.client().start_by_name("rounds", &0).id("rounds").await.expect("started");
    let id = handle.id().clone();
    let mut runs = Vec::new();
    for round in 0..3 {
        let client = worker.client();
        until_is(&client, &format!("kept-{round}"), RuntimeStatus::Running).await;
        let child = until_status(&client, "of-this-round", |status| {
            status.runtime_status() == RuntimeStatus::Running && !runs.contains(&status.run())
        });
        runs.push(child.await.run());
        client.instance(&id).expect("valid").raise_event("next", &()).await.expect("raised");
        // Sometimes between the end of an execution and that of its child.
        worker.shutdown().await.expect("it ends well");
        worker = hub.worker(code()).await;
    }
    let client = worker.client();
    until_status(&client, "of-this-round", |status| {
        status.runtime_status() == RuntimeStatus::Running && !runs.contains(&status.run())
    })
    .await;
    client.instance("of-this-round").expect("valid").raise_event("go", &7).await.expect("raised");
    let parent = until_is(&client, "rounds", RuntimeStatus::Completed).await;
    let told = parent.output::<(String, u32)>().expect("of this shape");
    assert_eq!(told, Some(("kept-3".into(), 7)));
    for round in 0..4 {
        until_is(&client, &format!("kept-{round}"), RuntimeStatus::Running).await;
    }
    worker.shutdown().await.expect("it ends well");
}

#[derive(serde::Serialize, serde::Deserialize)]
enum ParentCloses {
    WithIt,
}

async fn a_child_survives_the_worker_that_began_it(hub: Hub) {
    let hub = hub.with_partitions(4);
    let mut worker: Worker = hub.worker(registry()).await;
    let ids: Vec<_> = (0..8).map(|n| format!("waits-{n}")).collect();
    for id in &ids {
        let client = worker.client();
        client
            .start_by_name("parent_of_wait", id)
            .id(format!("parent-of-{id}"))
            .await
            .expect("started");
        // Sometimes before the child has begun.
        worker.shutdown().await.expect("it ends well");
        worker = hub.worker(registry()).await;
    }
    let client = worker.client();
    for id in &ids {
        until_is(&client, id, RuntimeStatus::Running).await;
        client.instance(id).expect("valid").raise_event("go", &7).await.expect("raised");
        worker.shutdown().await.expect("it ends well");
        worker = hub.worker(registry()).await;
    }
    let client = worker.client();
    for id in &ids {
        let parent = until_is(&client, &format!("parent-of-{id}"), RuntimeStatus::Completed).await;
        assert_eq!(parent.output::<u32>().expect("a number"), Some(7));
    }
    worker.shutdown().await.expect("it ends well");
}

async fn a_child_waits_for_a_worker_that_has_its_code(hub: Hub) {
    let parent = |registry: &mut Registry| {
        registry.register_orchestrator_fn("ask", |ctx, (): ()| async move {
            Ok(ctx.child_by_name::<u32>("answer", &()).id("answer").await?)
        });
    };
    let mut lacking = Registry::new();
    parent(&mut lacking);
    let worker = hub.worker(lacking).await;
    worker.client().start_by_name("ask", &()).id("ask").await.expect("started");
    let held = until_is(&worker.client(), "answer", RuntimeStatus::Suspended).await;
    assert!(held.hold().is_some(), "{held:?}");
    worker.shutdown().await.expect("it ends well");

    let mut complete = Registry::new();
    parent(&mut complete);
    complete.register_orchestrator_fn("answer", |_, (): ()| async { Ok(42) });
    let worker = hub.worker(complete).await;
    let client = worker.client();
    let parent = until_is(&client, "ask", RuntimeStatus::Completed).await;
    assert_eq!(parent.output::<u32>().expect("a number"), Some(42));
    worker.shutdown().await.expect("it ends well");
}
