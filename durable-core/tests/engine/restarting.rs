//! Running an instance again, under its own id or another one.

use durable_core::prelude::*;

use super::hub::{Hub, PATIENCE, until_is};
use super::on_every_store;

on_every_store! {
    an_instance_is_restarted_under_a_new_id_whatever_its_state,
    an_instance_that_has_ended_is_restarted_in_its_place,
    an_active_instance_is_not_restarted_in_its_place,
    a_restart_says_what_it_does_not_find,
}

#[orchestrator]
async fn greet(ctx: OrchestrationContext, name: String) -> Result<String, OrchestrationError> {
    let greeting: String = ctx.wait_event("greeting").await?;
    Ok(format!("{greeting}, {name}!"))
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.register(greet);
    registry
}

async fn greeted(handle: &Handle<String>, greeting: &str) -> String {
    handle.raise_event("greeting", greeting).await.expect("taken");
    handle.output_within(PATIENCE).await.expect("completed")
}

async fn an_instance_is_restarted_under_a_new_id_whatever_its_state(hub: Hub) {
    let worker = hub.worker(registry()).await;
    for (id, client) in [("inside", worker.client()), ("outside", hub.outside().await)] {
        let start = client.start(greet, "Ada".into()).id(id).version("2").tag("team", "blue");
        let first = start.await.expect("started");
        until_is(&client, id, RuntimeStatus::Running).await;

        let copy = first.restart().await.expect("started");
        assert_ne!(copy.id(), first.id());
        let status = copy.status().await.expect("it is visible at once");
        assert_eq!(
            (status.name(), status.input::<String>().expect("a text")),
            ("greet", "Ada".into())
        );
        assert_eq!((status.version(), status.tags().count()), (None, 0), "they are the start's");
        assert_eq!(greeted(&copy, "Hello").await, "Hello, Ada!");

        let status = first.status().await.expect("there");
        assert_eq!(status.runtime_status(), RuntimeStatus::Running, "it is left alone");
        assert_eq!(greeted(&first, "Bye").await, "Bye, Ada!");
        let named = first.restart().id(format!("{id}-again")).await.expect("started");
        assert_eq!(named.id().as_str(), format!("{id}-again"));
        assert_eq!(greeted(&named, "Hi").await, "Hi, Ada!");
        assert_eq!(first.output_within(PATIENCE).await.expect("kept"), "Bye, Ada!");
    }
}

async fn an_instance_that_has_ended_is_restarted_in_its_place(hub: Hub) {
    let worker = hub.worker(registry()).await;
    for (id, client) in [("inside", worker.client()), ("outside", hub.outside().await)] {
        let first = client.start(greet, "Ada".into()).id(id).await.expect("started");
        assert_eq!(greeted(&first, "Hello").await, "Hello, Ada!");
        let before = first.status().await.expect("there");

        let second = first.restart().same_id().await.expect("started");
        assert_eq!(second.id(), first.id());
        assert!(second.run() > first.run());
        let status = second.status().await.expect("there");
        assert!(!status.has_ended() && status.created_at() > before.created_at());
        assert_eq!(status.output::<String>().expect("none"), None);
        assert_eq!(greeted(&second, "Again").await, "Again, Ada!");
        assert!(matches!(first.wait().await, Err(ClientError::Replaced(_))));

        second
            .restart()
            .same_id()
            .await
            .expect("started")
            .terminate("enough")
            .await
            .expect("taken");
        until_is(&client, id, RuntimeStatus::Terminated).await;
        let handle = client.instance_of(greet, id).expect("an id");
        let last = handle.restart().same_id().await.expect("a terminated one, too");
        assert_eq!(greeted(&last, "Last").await, "Last, Ada!");
    }
}

async fn an_active_instance_is_not_restarted_in_its_place(hub: Hub) {
    let worker = hub.worker(registry()).await;
    for (id, client) in [("inside", worker.client()), ("outside", hub.outside().await)] {
        let handle = client.start(greet, "Ada".into()).id(id).await.expect("started");
        match handle.restart().same_id().await {
            Err(ClientError::Active { instance, .. }) => assert_eq!(instance.as_str(), id),
            other => panic!("it is active: {other:?}"),
        }
        assert_eq!(greeted(&handle, "Hello").await, "Hello, Ada!");
    }
}

async fn a_restart_says_what_it_does_not_find(hub: Hub) {
    let worker = hub.worker(registry()).await;
    for (id, client) in [("inside", worker.client()), ("outside", hub.outside().await)] {
        let nobody = client.instance("nobody").expect("an id");
        assert!(matches!(nobody.restart().await, Err(ClientError::NotFound(_))));
        assert!(matches!(nobody.restart().same_id().await, Err(ClientError::NotFound(_))));

        let first = client.start(greet, "Ada".into()).id(id).await.expect("started");
        greeted(&first, "Hello").await;
        let second = client.start(greet, "Bob".into()).id(id).await.expect("started");
        assert!(matches!(first.restart().await, Err(ClientError::Replaced(_))));
        assert!(matches!(second.restart().id("a/b").await, Err(ClientError::InvalidId(_))));
    }
}
