//! Workers of two versions on one hub: a partition goes to the one that has the orchestrators it needs.

use durable_core::prelude::*;

use super::hub::{PATIENCE, tell, until};

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

#[test]
fn a_start_reaches_the_worker_of_the_version_that_has_its_orchestrator() {
    tell(|hub| async move {
        let hub = hub.with_partitions(2).with_lease(secs(3));
        let old = hub.worker(build(&["order"])).await;
        let new = hub.worker(build(&["order", "refund"])).await;
        let shared = || async { old.partitions().len() == 1 && new.partitions().len() == 1 };
        until("each has its share", shared).await;
        let client = old.client();
        let mut handles = Vec::new();
        for n in 0..4 {
            let start = client.start_by_name("refund", &()).id(format!("refund-{n}"));
            handles.push(start.await.expect("accepted"));
        }
        for handle in &handles {
            handle.raise_event("go", &()).await.expect("taken");
            handle.output_within(PATIENCE).await.expect("completed");
        }
        assert_eq!(new.partitions().len(), 2, "both need it");
        // The other version goes on with what is of both.
        let order = client.start_by_name("order", &()).id("order").await.expect("accepted");
        new.shutdown().await.expect("a clean end");
        order.raise_event("go", &()).await.expect("taken");
        order.output_within(PATIENCE).await.expect("completed");
    });
}
