//! Against a real storage account: `DURABLE_AZURE_CONNECTION` is its connection string.
//!
//! ```text
//! DURABLE_AZURE_CONNECTION='DefaultEndpointsProtocol=https;AccountName=…' \
//!     cargo test -p durable-azure --test all smoke -- --ignored --nocapture
//! ```
//!
//! Everything goes into a hub with a random name, which is deleted at the end.

use durable_azure::{AzureOptions, AzureStore, Connection};
use durable_core::machine::model::HubName;
use durable_core::prelude::*;

const VARIABLE: &str = "DURABLE_AZURE_CONNECTION";

/// More than a row holds inline, so that it becomes a blob.
const LARGE: usize = 60 * 1024;

const PATIENCE: Duration = secs(120);

#[activity]
async fn add((a, b): (u64, u64)) -> Result<u64, ActivityError> {
    Ok(a + b)
}

#[activity]
async fn double(text: String) -> Result<String, ActivityError> {
    Ok(text.repeat(2))
}

#[orchestrator]
async fn chain(ctx: OrchestrationContext, length: u64) -> Result<u64, OrchestrationError> {
    let mut sum = 0;
    for _ in 0..length {
        sum = ctx.call(add, &(sum, 1)).await?;
    }
    Ok(sum)
}

#[orchestrator]
async fn ask(ctx: OrchestrationContext, _: ()) -> Result<String, OrchestrationError> {
    Ok(ctx.wait_event::<String>("answer").await?)
}

#[orchestrator]
async fn large(ctx: OrchestrationContext, text: String) -> Result<String, OrchestrationError> {
    Ok(ctx.call(double, &text).await?)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a storage account"]
async fn smoke_a_chain_an_event_and_a_large_payload_on_a_real_account() {
    let Ok(text) = std::env::var(VARIABLE) else {
        panic!("set {VARIABLE} to the connection string of a storage account to use for this test");
    };
    let connection = Connection::parse(&text).expect("a connection string");
    let name = format!("smoke{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
    println!("hub {name} on {}", connection.account());
    let hub = HubName::new(name.as_str()).expect("letters and digits");
    let options = AzureOptions { hub, ..AzureOptions::default() };
    let store = AzureStore::open(&connection, options).await.expect("the hub opens");

    let ran = tokio::spawn(run(store.clone())).await;
    store.delete_hub().await.expect("the hub is deleted");
    ran.expect("everything ends as it should");
}

async fn run(store: AzureStore) {
    let worker = Worker::builder(store.clone());
    let worker =
        worker.register(chain).register(ask).register(large).register(add).register(double);
    let worker = worker.start().await.expect("the worker starts");
    // Not that of the worker: what it asks for goes through storage.
    let client = Client::new(store);

    let summed = client.start(chain, 5).id("chain").await.expect("accepted");
    let asked = client.start(ask, ()).id("ask").await.expect("accepted");
    asked.raise_event("answer", "42").id("once").await.expect("accepted");
    let text = "€".repeat(LARGE / "€".len());
    let doubled = client.start(large, text.clone()).id("large").await.expect("accepted");

    assert_eq!(summed.output_within(PATIENCE).await.expect("completed"), 5);
    assert_eq!(asked.output_within(PATIENCE).await.expect("completed"), "42");
    let output = doubled.output_within(PATIENCE).await.expect("completed");
    assert_eq!(output, text.repeat(2));
    let input = doubled.status().await.expect("there").input::<String>().expect("a text");
    assert_eq!(input, text);

    let raised = asked
        .history()
        .await
        .expect("there")
        .events()
        .iter()
        .filter(|e| e.is.summary().contains("raised"))
        .count();
    assert_eq!(raised, 1);
    let counts = client.counts().await.expect("read");
    assert_eq!(counts, [(RuntimeStatus::Completed, 3)].into());
    worker.shutdown().await.expect("it leaves");
}
