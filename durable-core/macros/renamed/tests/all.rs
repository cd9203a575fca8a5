//! The other way to say it: once, at the root of the crate. And that all of it runs.

extern crate flow as durable_core;

use durable_core_renamed::{all_of_them, double, registry, shadowed, with_a_look_at_the_clock};
use flow::prelude::*;

mod inner {
    use flow::prelude::*;

    #[orchestrator]
    pub(crate) async fn twice(
        ctx: OrchestrationContext,
        number: u32,
    ) -> Result<u32, OrchestrationError> {
        let once = ctx.call(super::double, &number).await?;
        Ok(ctx.call(super::double, &once).await?)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_of_a_crate_that_calls_it_flow_run() {
    assert_eq!(double.run(2).await.expect("it fits"), 4);
    let mut registry = registry();
    registry.register(inner::twice);
    let builder = Worker::builder(MemoryStore::new()).registry(registry);
    let worker = builder.start().await.expect("started");
    let client = worker.client();
    let all = client.start(all_of_them, 3).await.expect("accepted");
    assert_eq!(all.output().await.expect("completed"), (6, "hoho".to_owned()));
    let twice = client.start(inner::twice, 3).await.expect("accepted");
    assert_eq!(twice.output().await.expect("completed"), 12);
    let run = client.start(shadowed::run, 7).await.expect("accepted");
    assert_eq!(run.output().await.expect("completed"), 7);
    let look = client.start(with_a_look_at_the_clock, ()).await.expect("accepted");
    look.output().await.expect("completed");
    worker.shutdown().await.expect("a clean end");
}
