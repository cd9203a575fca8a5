//! Starting an instance.

use std::future::IntoFuture;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;

use durable_machine::model::{
    Acceptance, InstanceId, InvalidName, Payload, ReusePolicy, RunNumber, StartNonce,
};
use durable_machine::partition::{Answer, Input};
use durable_machine::store::AcceptOutcome;
use uuid::Uuid;

use super::{Client, ClientError, Handle, retry_busy};
use crate::ids::IntoInstanceId;
use crate::worker::Mail;

/// A start that is being put together; `.await` starts it.
///
/// Without [`id`](Self::id) the instance gets a fresh one: 32 lower-case hexadecimal digits.
#[must_use = "nothing is started before it is awaited"]
pub struct Start<T> {
    client: Client,
    name: Arc<str>,
    input: Result<Payload, ClientError>,
    id: Option<Result<InstanceId, InvalidName>>,
    reuse: ReusePolicy,
    output: PhantomData<fn() -> T>,
}

impl<T> Start<T> {
    pub(super) fn new(client: Client, name: Arc<str>, input: Result<Payload, ClientError>) -> Self {
        Self { client, name, input, id: None, reuse: ReusePolicy::default(), output: PhantomData }
    }

    /// Chooses the instance's id. An active instance of that id refuses the start, one that has ended is
    /// replaced, unless another method says otherwise.
    pub fn id(mut self, id: impl IntoInstanceId) -> Self {
        self.id = Some(id.into_instance_id());
        self
    }

    /// An active instance of the id is what the caller gets, as if it had been started now.
    pub fn use_existing(mut self) -> Self {
        self.reuse = ReusePolicy::UseActive;
        self
    }

    /// An active instance of the id is terminated, and replaced.
    pub fn replace_existing(mut self) -> Self {
        self.reuse = ReusePolicy::ReplaceActive;
        self
    }

    async fn run(self) -> Result<Handle<T>, ClientError> {
        let Self { client, name, input, id, reuse, output: _ } = self;
        let input = input?;
        let chosen = id.transpose()?;
        client.check_name(&name).await?;
        let generated = chosen.is_none();
        let instance = match chosen {
            Some(id) => id,
            None => InstanceId::new(Uuid::new_v4().simple().to_string())?,
        };
        let now = client.store().now();
        let acceptance = Acceptance {
            instance: instance.clone(),
            run: RunNumber(u64::try_from(now.as_micros()).unwrap_or(1)),
            nonce: StartNonce(Uuid::new_v4()),
            name,
            input,
            accepted_at: now,
            reuse,
            scheduled_for: None,
            parent: None,
            version: None,
            tags: Vec::new(),
            trace: None,
        };
        // Watching begins before the start, so that no change can be missed and none has to be read.
        let mut watcher = client.watcher(&instance);
        let mut acceptance = Box::new(acceptance);
        if generated && let Some(worker) = client.worker_of(&instance) {
            let told = worker.ask(&instance, |ticket| Mail::Start { acceptance, ticket });
            acceptance = match told.await.map_err(|_| ClientError::Unanswered)? {
                Ok(Answer::Started(run)) => {
                    return Ok(Handle::new(client, instance, Some(run), watcher));
                }
                Ok(answer) => return Err(super::refusal(&instance, answer)),
                Err(Mail::Start { acceptance, .. }) if worker.shares_the_hub() => acceptance,
                Err(_) => return Err(ClientError::Unanswered),
            };
        }
        let run = match retry_busy(|| client.store().accept(&acceptance)).await? {
            AcceptOutcome::Accepted { run, fresh } => {
                if let Some(worker) = client.worker() {
                    acceptance.run = run;
                    let input = Input::Accepted { acceptance, fresh };
                    // Whoever owns the partition elsewhere hears of it from the store.
                    let _ = worker.send_to_instance(&instance, Mail::Input(input));
                }
                run
            }
            AcceptOutcome::Active(row) if reuse == ReusePolicy::UseActive => {
                // It has a status that was not published to this watcher.
                watcher = None;
                row.run
            }
            AcceptOutcome::Active(row) => {
                return Err(ClientError::Active { instance, status: row.status });
            }
        };
        Ok(Handle::new(client, instance, Some(run), watcher))
    }
}

impl<T: Send + 'static> IntoFuture for Start<T> {
    type Output = Result<Handle<T>, ClientError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
