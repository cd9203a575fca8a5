//! Waiting without guessing.

use std::future::Future;

use durable_core::InstanceStatus;
use durable_core::prelude::*;

use super::hub::{LOOK, PATIENCE};

/// Waits until `what` holds, and says what it was when it never does.
pub(crate) async fn until<Fut: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> Fut) {
    let end = tokio::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < end, "in vain: {what}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until the status of an instance is as wanted.
pub(crate) async fn until_status(
    client: &Client,
    id: &str,
    wanted: impl Fn(&InstanceStatus) -> bool,
) -> InstanceStatus {
    let id = InstanceId::new(id).expect("a valid id");
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        let status = client.status(&id).await.expect("the status can be read");
        if let Some(status) = &status
            && wanted(status)
        {
            return status.clone();
        }
        assert!(tokio::time::Instant::now() < end, "in vain: {id} is {status:?}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until an instance has this status.
pub(crate) async fn until_is(client: &Client, id: &str, wanted: RuntimeStatus) -> InstanceStatus {
    until_status(client, id, |status| status.runtime_status() == wanted).await
}
