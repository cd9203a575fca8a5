//! Running an instance again.

use std::future::IntoFuture;
use std::pin::Pin;

use durable_machine::model::{InstanceId, InvalidName, RunNumber};

use super::{Client, ClientError, Handle, Start};
use crate::ids::IntoInstanceId;

/// A restart that is being put together; `.await` starts the new run. See [`Handle::restart`].
///
/// ```
/// # use durable_core::prelude::*;
/// # #[orchestrator]
/// # async fn double(_: OrchestrationContext, number: u32) -> Result<u32, OrchestrationError> { Ok(2 * number) }
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let worker = Worker::builder(MemoryStore::new()).register(double).start().await?;
/// # let client = worker.client();
/// let first = client.start(double, 21).id("d-1").await?;
/// first.wait().await?;
/// let copy = first.restart().id("d-2").await?;
/// assert_eq!((copy.id().as_str(), copy.output().await?), ("d-2", 42));
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is started before it is awaited"]
pub struct Restart<T> {
    client: Client,
    instance: InstanceId,
    /// The run whose name and input are meant; `None` means the present one.
    run: Option<RunNumber>,
    target: Target,
    output: std::marker::PhantomData<fn() -> T>,
}

/// The id of the new run.
enum Target {
    Generated,
    Same,
    Other(Result<InstanceId, InvalidName>),
}

impl<T> Restart<T> {
    /// Under the same id: the instance has to have ended, and is replaced as by a start of that id.
    pub fn same_id(mut self) -> Self {
        self.target = Target::Same;
        self
    }

    /// Under this id. An active instance of that id refuses it, one that has ended is replaced.
    pub fn id(mut self, id: impl IntoInstanceId) -> Self {
        self.target = Target::Other(id.into_instance_id());
        self
    }

    async fn run(self) -> Result<Handle<T>, ClientError>
    where
        T: Send + 'static,
    {
        let Self { client, instance, run, target, .. } = self;
        let found = client.status(&instance).await?;
        let row = found.ok_or_else(|| ClientError::NotFound(instance.clone()))?.row().clone();
        if run.is_some_and(|run| row.run > run) {
            return Err(ClientError::Replaced(instance));
        }
        let mut start = Start::new(client, row.name.clone(), Ok(row.input));
        if let Some(deadline) = row.deadline {
            start = start.time_limit(deadline.limit);
        }
        match target {
            Target::Generated => start.await,
            Target::Same => start.id(instance).await,
            Target::Other(id) => start.id(id?).await,
        }
    }
}

impl<T> Handle<T> {
    /// Runs it again: an instance of the same orchestrator with the same input, and new in everything else:
    /// creation, history, output. Version and tags are not carried over. The instance itself stays as it
    /// is, whatever its state, unless [`same_id`](Restart::same_id) says otherwise.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[orchestrator]
    /// # async fn double(_: OrchestrationContext, number: u32) -> Result<u32, OrchestrationError> { Ok(2 * number) }
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let worker = Worker::builder(MemoryStore::new()).register(double).start().await?;
    /// # let client = worker.client();
    /// let first = client.start(double, 21).id("d-1").await?;
    /// first.wait().await?;
    ///
    /// let copy = first.restart().await?; // under a new id
    /// assert_ne!(copy.id(), first.id());
    /// let again = first.restart().same_id().await?; // in its place, because it has ended
    /// assert_eq!(again.output().await?, 42);
    /// assert!(again.run() > first.run());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Of the awaited value: [`ClientError::NotFound`]; [`ClientError::Replaced`] where the handle means a run that
    /// has given way to another; [`ClientError::Active`] where an active instance has the id of the new run;
    /// as for a start otherwise.
    pub fn restart(&self) -> Restart<T> {
        Restart {
            client: self.client.clone(),
            instance: self.instance.clone(),
            run: self.run(),
            target: Target::Generated,
            output: std::marker::PhantomData,
        }
    }
}

impl<T: Send + 'static> IntoFuture for Restart<T> {
    type Output = Result<Handle<T>, ClientError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
