//! One damaged instance is held with a reason; the others run.

use durable_core::HoldReason;
use durable_core::prelude::*;

use super::hub::{Hub, PATIENCE, tell, until_is, until_status};

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.register_activity_fn("three", |_, (): ()| async { Ok(3_u32) });
    registry.register_orchestrator_fn("waits", |ctx, (): ()| async move {
        let three = ctx.call_by_name::<u32>("three", &()).await?;
        Ok(ctx.wait_event::<u32>("n").await? + three)
    });
    registry
}

async fn started(hub: &Hub, ids: &[&str]) {
    let worker: Worker = hub.worker(registry()).await;
    for id in ids {
        let start = worker.client().start_by_name("waits", &()).id(*id);
        let handle = start.await.expect("started");
        super::hub::until("it waits for its event", || async {
            handle.history().await.expect("read").events().len() == 3
        })
        .await;
    }
    worker.shutdown().await.expect("a clean end");
}

fn edit(hub: &Hub, sql: &str) {
    let path = hub.file().expect("it is in a file");
    let database = rusqlite::Connection::open(path).expect("the file opens");
    assert!(database.execute(sql, []).expect("the statement runs") > 0, "{sql}");
}

async fn finishes(client: &Client, id: &str) {
    let handle = client.instance(id).expect("valid");
    handle.raise_event("n", &4).await.expect("accepted");
    let output = handle.output_within(PATIENCE).await.expect("completed");
    assert_eq!(output.to::<u32>().expect("a number"), 7);
}

/// What is done to the row of "bad", and how it was before.
const DAMAGES: [(&str, &str); 4] = [
    ("a flipped byte in its history", "UPDATE history SET body = replace(body, 'three', 'thrEe')"),
    ("a truncated history row", "UPDATE history SET body = substr(body, 1, 10)"),
    ("a history row that is missing", "DELETE FROM history"),
    ("an event of a newer format", "UPDATE history SET body = '{\"v\":99}'"),
];

#[test]
fn an_instance_with_a_damaged_history_is_held_and_the_others_run() {
    for (damage, sql) in DAMAGES {
        tell(Hub::in_a_file(), |hub: Hub| async move {
            started(&hub, &["good", "bad", "also-good"]).await;
            let bad = "log = (SELECT log FROM instances WHERE id = 'bad')";
            let one = "row = (SELECT min(row) FROM history WHERE log = \
                       (SELECT log FROM instances WHERE id = 'bad'))";
            let rows = if sql.starts_with("DELETE") { one } else { bad };
            edit(&hub, &format!("{sql} WHERE {rows}"));
            let worker = hub.worker(registry()).await;
            let client = worker.client();
            let handle = client.instance("bad").expect("valid");
            handle.raise_event("n", &4).await.expect("accepted and kept");
            let status = until_is(&client, "bad", RuntimeStatus::Suspended).await;
            let hold = status.hold().unwrap_or_else(|| panic!("{damage}: {status:?}"));
            assert!(
                matches!(hold.reason, HoldReason::Undecodable | HoldReason::Diverged),
                "{damage}: {hold:?}"
            );
            for id in ["good", "also-good"] {
                finishes(&client, id).await;
            }
            // Another try says the same, and the list shows all of them.
            handle.resume("perhaps").await.expect("accepted");
            until_status(&client, "bad", |status| status.hold().is_some()).await;
            let page = client.list(&Default::default(), None, 10).await.expect("read");
            assert_eq!(page.instances.len(), 3, "{damage}");
        });
    }
}

#[test]
fn an_instance_whose_history_is_repaired_runs_on() {
    tell(Hub::in_a_file(), |hub: Hub| async move {
        started(&hub, &["bad"]).await;
        edit(&hub, "UPDATE history SET body = 'x' || body");
        let worker = hub.worker(registry()).await;
        let handle = worker.client().instance("bad").expect("valid");
        handle.raise_event("n", &4).await.expect("accepted and kept");
        until_is(&worker.client(), "bad", RuntimeStatus::Suspended).await;
        worker.shutdown().await.expect("a clean end");
        edit(&hub, "UPDATE history SET body = substr(body, 2)");
        let worker = hub.worker(registry()).await;
        let handle = worker.client().instance("bad").expect("valid");
        let output = handle.output_within(PATIENCE).await.expect("completed");
        assert_eq!(output.to::<u32>().expect("a number"), 7, "the event was kept");
    });
}

#[test]
fn an_instance_with_a_damaged_status_row_hides_nobody() {
    tell(Hub::in_a_file(), |hub: Hub| async move {
        started(&hub, &["good", "bad"]).await;
        edit(&hub, "UPDATE instances SET body = 'nonsense' WHERE id = 'bad'");
        let worker = hub.worker(registry()).await;
        let client = worker.client();
        finishes(&client, "good").await;
        let page = client.list(&Default::default(), None, 10).await.expect("the list is read");
        assert_eq!(page.instances.len(), 2);
        let handle = client.instance("bad").expect("valid");
        let said = tokio::time::timeout(PATIENCE, handle.raise_event("n", &4)).await;
        said.expect("the caller is told").expect_err("what cannot be read takes nothing");
        let fresh = client.start_by_name("waits", &()).id("fresh").await;
        fresh.expect("started");
        finishes(&client, "fresh").await;
    });
}
