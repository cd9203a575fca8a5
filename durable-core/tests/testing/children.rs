//! Children in a plain unit test: real ones and mocked ones.

use durable_core::prelude::*;
use durable_core::testing::TestHub;

use super::said;

#[activity]
async fn pick(item: String) -> Result<u32, ActivityError> {
    Ok(u32::try_from(item.len()).unwrap_or(0))
}

/// Picks an item, waits for the truck, and says how many parts it has.
#[orchestrator]
async fn ship(ctx: OrchestrationContext, item: String) -> Result<u32, OrchestrationError> {
    let parts = ctx.call(pick, &item).await?;
    ctx.sleep(hours(5)).await;
    Ok(parts)
}

#[orchestrator]
async fn order(ctx: OrchestrationContext, items: Vec<String>) -> Result<u32, OrchestrationError> {
    let shipped = items.iter().map(|item| {
        let policy = RetryPolicy::fixed(hours(1)).attempts(3);
        ctx.child(ship, item).retry(policy)
    });
    Ok(ctx.try_join_all(shipped).await?.iter().sum())
}

#[orchestrator]
async fn watched(ctx: OrchestrationContext, item: String) -> Result<(), OrchestrationError> {
    let free = ctx.child(ship, &item).id("free").detach()?;
    ctx.set_custom_status(&free)?;
    ctx.wait_event::<()>("stop").await?;
    Ok(())
}

fn items(names: [&str; 3]) -> Vec<String> {
    names.map(str::to_owned).into()
}

#[test]
fn registered_children_run_at_the_same_time() {
    let hub = TestHub::new().register(order).register(ship).register(pick);
    let placed = hub.start(order, items(["lamp", "desk", "bed"]));
    assert_eq!(placed.output().unwrap(), 11);
    assert_eq!(hub.elapsed(), hours(5));
    let children = hub.children(ship);
    assert_eq!(children.len(), 3);
    for child in &children {
        assert_eq!(child.status().parent(), Some(placed.id()));
        assert!(child.output().unwrap() > 2);
    }
    assert_eq!(hub.calls(pick).len(), 3);
}

#[test]
fn a_mock_takes_the_place_of_a_child_and_of_all_that_it_would_do() {
    let hub = TestHub::new().register(order).mock_child(ship, |child, item| {
        child.takes(days(1));
        match (&*item, child.number()) {
            ("desk", ..=3) => Err(OrchestrationError::new("NoTruck", "it broke down")),
            _ => Ok(1),
        }
    });
    let placed = hub.start(order, items(["lamp", "desk", "bed"]));
    assert_eq!(placed.output().unwrap(), 3);
    // A day, an hour's delay, and another day for the second try.
    assert_eq!(hub.elapsed(), days(2) + hours(1));
    let children = hub.children(ship);
    let desk =
        |of: &str| children.iter().filter(|c| c.status().input::<String>().unwrap() == of).count();
    assert_eq!((children.len(), desk("desk"), desk("bed")), (4, 2, 1));
    assert!(children[1].output().unwrap_err().is("NoTruck"));
}

#[test]
fn a_mocked_child_that_fails_for_good_fails_its_parent() {
    let hub = TestHub::new().register(order).mock_child_by_name("ship", |child, item| {
        assert!(child.instance_id().as_str().starts_with("test-1:"), "{}", child.instance_id());
        Err(OrchestrationError::new("Forbidden", item.json()).permanent())
    });
    let error = hub.start(order, items(["lamp", "desk", "bed"])).output().unwrap_err();
    assert!(error.is("Forbidden"), "{error}");
    assert_eq!(hub.elapsed(), secs(0));
}

#[test]
fn a_child_survives_its_worker_and_goes_on_by_itself_unless_all_are_terminated() {
    for tree in [false, true] {
        let hub = TestHub::new().register(watched).register(ship).register(pick);
        let parent = hub.start(watched, "lamp".into());
        hub.restart_worker();
        assert_eq!(parent.custom_status::<String>().as_deref(), Some("free"));
        if tree {
            parent.terminate_tree("enough");
        } else {
            parent.terminate("enough");
        }
        let child = &hub.children(ship)[0];
        assert_eq!(child.id().as_str(), "free");
        match child.output() {
            Ok(parts) => assert!(!tree && parts == 4),
            Err(error) => assert!(tree && error.is("Terminated"), "{error}"),
        }
    }
}

#[test]
fn a_missing_child_is_told_with_what_to_do() {
    let text = said(|| drop(TestHub::new().register(order).start(order, items(["a", "b", "c"]))));
    assert!(text.contains(".register(ship) or .mock_child(ship, …)"), "{text}");
    assert!(text.contains("the story of \"test-1\""), "{text}");
}
