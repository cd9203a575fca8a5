//! Raising an event.

use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;

use durable_machine::model::{
    Command, Envelope, EnvelopeId, InstanceId, Payload, RunNumber, limits,
};
use serde::Serialize;
use uuid::Uuid;

use super::{Client, ClientError, Handle};

impl<T> Handle<T> {
    /// Raises an external event: kept until the instance waits for its name.
    ///
    /// Awaiting the returned value sends it; [`RaiseEvent::id`] makes repeating it harmless.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[orchestrator]
    /// # async fn place_order(ctx: OrchestrationContext) -> Result<bool, OrchestrationError> {
    /// #     Ok(ctx.wait_event("approved").await?)
    /// # }
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let worker = Worker::builder(MemoryStore::new()).register(place_order).start().await?;
    /// # let client = worker.client();
    /// let order = client.start(place_order, ()).await?;
    /// order.raise_event("approved", &true).await?;
    /// assert!(order.output().await?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn raise_event<E: Serialize + ?Sized>(
        &self,
        name: impl Into<Arc<str>>,
        payload: &E,
    ) -> RaiseEvent {
        RaiseEvent {
            client: self.client.clone(),
            instance: self.instance.clone(),
            run: self.run(),
            name: name.into(),
            payload: super::payload(payload, "event's payload"),
            id: None,
        }
    }
}

/// An event that is being put together; `.await` raises it.
///
/// ```
/// # use durable_core::prelude::*;
/// # #[orchestrator]
/// # async fn count(ctx: OrchestrationContext) -> Result<u32, OrchestrationError> {
/// #     let (mut clicks, mut end) = (0, ctx.wait_event::<()>("end"));
/// #     while let Either::Left(click) = ctx.race(ctx.wait_event::<u32>("click"), &mut end).await { clicks += click?; }
/// #     Ok(clicks)
/// # }
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let worker = Worker::builder(MemoryStore::new()).register(count).start().await?;
/// # let client = worker.client();
/// let counter = client.start(count, ()).await?;
/// counter.raise_event("click", &1).id("click-1").await?;
/// counter.raise_event("click", &1).id("click-1").await?; // the answer was lost, say: this is one click
/// counter.raise_event("end", &()).await?;
/// assert_eq!(counter.output().await?, 1);
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is sent before it is awaited"]
pub struct RaiseEvent {
    client: Client,
    instance: InstanceId,
    run: Option<RunNumber>,
    name: Arc<str>,
    payload: Result<Payload, ClientError>,
    id: Option<Arc<str>>,
}

impl RaiseEvent {
    /// Gives the event an id of the caller's own: within an hour, a second event of the same id changes
    /// nothing.
    pub fn id(mut self, id: impl Into<Arc<str>>) -> Self {
        self.id = Some(id.into());
        self
    }

    async fn send(self) -> Result<(), ClientError> {
        check_event_name(&self.name)?;
        let remember = self.id.is_some();
        let envelope = Envelope {
            id: event_id(&self.instance, self.id),
            instance: self.instance,
            run: self.run,
            command: Command::Raise { name: self.name, input: self.payload? },
        };
        self.client.command(envelope, remember).await
    }
}

pub(super) fn check_event_name(name: &str) -> Result<(), ClientError> {
    if name.len() > limits::NAME_BYTES_MAX {
        let most = limits::NAME_BYTES_MAX;
        return Err(ClientError::Payload(format!("an event's name has at most {most} bytes")));
    }
    Ok(())
}

/// Of the caller's own id, if there is one. It is of the caller's namespace and the instance's: two instances
/// may get one each.
pub(super) fn event_id(instance: &InstanceId, own: Option<Arc<str>>) -> EnvelopeId {
    EnvelopeId(match own {
        Some(id) => format!("{instance}/{id}").into(),
        None => Uuid::new_v4().simple().to_string().into(),
    })
}

impl IntoFuture for RaiseEvent {
    type Output = Result<(), ClientError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}
