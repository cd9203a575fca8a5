//! Failed instances are rewound: what failed is done again, what succeeded is not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use durable_core::machine::model::ExecutionNumber;
use durable_core::prelude::*;

use super::hub::{Hub, until_is};
use super::on_every_store;

on_every_store! {
    only_what_failed_runs_again,
    children_are_rewound_with_their_parents,
    a_rewind_waits_in_the_store_for_a_worker,
    what_has_not_failed_is_not_rewound,
    what_was_rewound_goes_on_with_the_next_worker,
}

/// What the activities did, and which of them fail at the moment.
#[derive(Clone, Default)]
struct Warehouse(Arc<Mutex<Shelves>>);

#[derive(Default)]
struct Shelves {
    closed: bool,
    packed: BTreeMap<String, u32>,
}

impl Warehouse {
    fn close(&self, closed: bool) {
        self.0.lock().expect("not poisoned").closed = closed;
    }

    fn times(&self, item: &str) -> u32 {
        self.0.lock().expect("not poisoned").packed.get(item).copied().unwrap_or_default()
    }
}

/// Packs an item; glass only while the warehouse is open.
#[activity]
async fn pack(State(warehouse): State<Warehouse>, item: String) -> Result<String, ActivityError> {
    let mut shelves = warehouse.0.lock().expect("not poisoned");
    *shelves.packed.entry(item.clone()).or_default() += 1;
    if shelves.closed && item.starts_with("glass") {
        return Err(ActivityError::new("Closed", "come back tomorrow"));
    }
    Ok(format!("{item}, packed"))
}

#[orchestrator]
async fn pack_order(
    ctx: OrchestrationContext,
    items: Vec<String>,
) -> Result<String, OrchestrationError> {
    let parcel = ctx.new_uuid();
    let mut packed = Vec::new();
    for item in &items {
        packed.push(ctx.call(pack, item).await?);
    }
    let label = ctx.call(pack, &format!("label {parcel}")).await?;
    packed.push(if label.contains(&parcel.to_string()) { "label".into() } else { label });
    Ok(packed.join("; "))
}

#[orchestrator]
async fn pack_orders(
    ctx: OrchestrationContext,
    orders: Vec<Vec<String>>,
) -> Result<Vec<String>, OrchestrationError> {
    let children = orders
        .iter()
        .enumerate()
        .map(|(n, items)| ctx.child(pack_order, items).id(format!("{}-{n}", ctx.instance_id())));
    Ok(ctx.join_all(children).await.into_iter().collect::<Result<_, _>>()?)
}

fn registry(warehouse: &Warehouse) -> Registry {
    let mut registry = Registry::new();
    registry.state(warehouse.clone());
    registry.register(pack_order).register(pack_orders).register(pack);
    registry
}

async fn only_what_failed_runs_again(hub: Hub) {
    let warehouse = Warehouse::default();
    warehouse.close(true);
    let worker = hub.worker(registry(&warehouse)).await;
    let client = worker.client();
    let items = vec!["book".to_owned(), "glass".to_owned(), "pen".to_owned()];
    let order = client.start(pack_order, items).id("order-7").await.expect("started");
    let status = order.wait().await.expect("it ends");
    assert_eq!(status.runtime_status(), RuntimeStatus::Failed);

    order.rewind("try again").await.expect("taken");
    let status = order.wait().await.expect("it ends");
    assert_eq!(status.runtime_status(), RuntimeStatus::Failed);
    assert_eq!((warehouse.times("book"), warehouse.times("glass")), (1, 2));

    warehouse.close(false);
    order.rewind("it is open").await.expect("taken");
    let output = order.output().await.expect("it completes");
    assert_eq!(output, "book, packed; glass, packed; pen, packed; label");
    assert_eq!((warehouse.times("book"), warehouse.times("glass")), (1, 3));
    let status = order.status().await.expect("read");
    assert_eq!(status.execution(), ExecutionNumber(2));
    worker.shutdown().await.expect("it ends well");
}

async fn children_are_rewound_with_their_parents(hub: Hub) {
    let warehouse = Warehouse::default();
    warehouse.close(true);
    let worker = hub.with_partitions(4).worker(registry(&warehouse)).await;
    let client = worker.client();
    let orders_of = |items: [&str; 2]| items.map(str::to_owned).to_vec();
    let input = vec![orders_of(["book", "glass"]), orders_of(["pen", "paper"])];
    let all = client.start(pack_orders, input).id("all").await.expect("started");
    let status = all.wait().await.expect("it ends");
    assert_eq!(status.runtime_status(), RuntimeStatus::Failed);

    warehouse.close(false);
    all.rewind("it is open").await.expect("taken");
    let output = all.output().await.expect("it completes");
    assert_eq!(output, ["book, packed; glass, packed; label", "pen, packed; paper, packed; label"]);
    let packed = ["book", "glass", "pen", "paper"].map(|item| warehouse.times(item));
    assert_eq!(packed, [1, 2, 1, 1]);
    until_is(&client, "all-0", RuntimeStatus::Completed).await;
    worker.shutdown().await.expect("it ends well");
}

async fn a_rewind_waits_in_the_store_for_a_worker(hub: Hub) {
    let warehouse = Warehouse::default();
    warehouse.close(true);
    let worker = hub.worker(registry(&warehouse)).await;
    let client = worker.client();
    let order =
        client.start(pack_order, vec!["glass".to_owned()]).id("order-7").await.expect("started");
    order.wait().await.expect("it ends");
    worker.shutdown().await.expect("it ends well");

    warehouse.close(false);
    let order = client.instance("order-7").expect("an id");
    let rewind = tokio::spawn(async move { order.rewind("it is open").await });
    tokio::task::yield_now().await;
    let worker = hub.worker(registry(&warehouse)).await;
    rewind.await.expect("no panic").expect("taken");
    let status = until_is(&worker.client(), "order-7", RuntimeStatus::Completed).await;
    assert_eq!(status.execution(), ExecutionNumber(1));
    worker.shutdown().await.expect("it ends well");
}

async fn what_has_not_failed_is_not_rewound(hub: Hub) {
    let worker = hub.worker(registry(&Warehouse::default())).await;
    let client = worker.client();
    let order = client.start(pack_order, vec![]).id("order-7").await.expect("started");
    order.wait().await.expect("it ends");
    let refused = order.rewind("why not").await;
    let completed = RuntimeStatus::Completed;
    assert!(
        matches!(&refused, Err(ClientError::NotFailed { status, .. }) if *status == completed),
        "{refused:?}"
    );
    let nobody = client.instance("nobody").expect("an id").rewind("why not").await;
    assert!(matches!(nobody, Err(ClientError::NotFound(_))), "{nobody:?}");
    worker.shutdown().await.expect("it ends well");
}

async fn what_was_rewound_goes_on_with_the_next_worker(hub: Hub) {
    let warehouse = Warehouse::default();
    warehouse.close(true);
    let worker = hub.worker(registry(&warehouse)).await;
    let items = vec!["book".to_owned(), "glass".to_owned()];
    let order = worker.client().start(pack_order, items).id("order-7").await.expect("started");
    order.wait().await.expect("it ends");
    order.rewind("try again").await.expect("taken");
    worker.shutdown().await.expect("it ends well");

    warehouse.close(false);
    let worker = hub.worker(registry(&warehouse)).await;
    let client = worker.client();
    let order = client.instance("order-7").expect("an id");
    // It may have failed once more before its worker ended.
    if order.wait().await.expect("it ends").runtime_status() == RuntimeStatus::Failed {
        order.rewind("it is open").await.expect("taken");
    }
    until_is(&client, "order-7", RuntimeStatus::Completed).await;
    assert_eq!(warehouse.times("book"), 1);
    worker.shutdown().await.expect("it ends well");
}
