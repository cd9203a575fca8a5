//! A history as a file: for the eyes of people, and to be replayed against changed code.

use std::path::Path;

use durable_machine::model::{Event, EventKind, ExecutionKey};
use serde::{Deserialize, Serialize};

use super::{Client, ClientError, Handle};
use crate::ids::IntoInstanceId;
use crate::store::StoreError;

/// The newest form of the file that this build reads, and the one it writes.
const FORMAT: u32 = 1;

/// Reads of status and history until both are of one execution.
const LOOKS_MAX: usize = 10;

/// The history of one execution with what names it.
///
/// Its JSON form is stable: files of this version are read by all later ones. It holds inputs, outputs and events in
/// full; treat it as you treat those.
///
/// ```
/// use durable_core::HistoryFile;
/// use durable_core::prelude::*;
///
/// # #[orchestrator]
/// # async fn hello(ctx: OrchestrationContext, name: String) -> Result<String, OrchestrationError> {
/// #     Ok(format!("Hello, {name}!"))
/// # }
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let worker = Worker::builder(MemoryStore::new()).register(hello).start().await?;
/// # let client = worker.client();
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("hello-1.json");
/// client.start(hello, "Ada".into()).id("hello-1").await?.wait().await?;
/// let history = client.export_history("hello-1").await?.expect("it was started");
/// history.write(&path)?;
///
/// let read = HistoryFile::read(&path)?;
/// assert_eq!(read, history);
/// assert_eq!(read.orchestrator(), Some("hello"));
/// assert_eq!(read.execution().instance.as_str(), "hello-1");
/// assert_eq!(read.events().len(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryFile {
    format: u32,
    execution: ExecutionKey,
    events: Vec<Event>,
}

impl HistoryFile {
    /// The history of an execution.
    #[must_use]
    pub fn new(execution: ExecutionKey, events: Vec<Event>) -> Self {
        Self { format: FORMAT, execution, events }
    }

    /// Which instance, run and execution it is of.
    #[must_use]
    pub fn execution(&self) -> &ExecutionKey {
        &self.execution
    }

    /// The events, in order.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The orchestrator's name; `None` where the history is empty.
    #[must_use]
    pub fn orchestrator(&self) -> Option<&str> {
        match &self.events.first()?.is {
            EventKind::ExecutionStarted(started) => Some(&started.name),
            _ => None,
        }
    }

    /// Writes it, as JSON with line breaks.
    ///
    /// # Errors
    ///
    /// The file system's.
    pub fn write(&self, path: impl AsRef<Path>) -> std::io::Result<()> {
        let mut text = serde_json::to_vec_pretty(self).map_err(std::io::Error::other)?;
        text.push(b'\n');
        std::fs::write(path, text)
    }

    /// Reads one that was written.
    ///
    /// # Errors
    ///
    /// The file system's; or kind `InvalidData` where the file holds something else, or a newer form.
    pub fn read(path: impl AsRef<Path>) -> std::io::Result<Self> {
        #[derive(Deserialize)]
        struct Versioned {
            format: u32,
        }
        let invalid = |what: String| std::io::Error::new(std::io::ErrorKind::InvalidData, what);
        let text = std::fs::read(path)?;
        let versioned: Versioned = serde_json::from_slice(&text)
            .map_err(|error| invalid(format!("this is no exported history: {error}")))?;
        if versioned.format > FORMAT {
            return Err(invalid(format!(
                "the history has format {}, this build reads up to {FORMAT}",
                versioned.format
            )));
        }
        serde_json::from_slice(&text)
            .map_err(|error| invalid(format!("the history cannot be read: {error}")))
    }
}

impl Client {
    /// The history of an instance's current execution in a form that can be written to a file; `None` where no
    /// instance has the id.
    ///
    /// # Errors
    ///
    /// As [`history`](Self::history); [`StoreError::Busy`] where executions follow each other too fast.
    pub async fn export_history(
        &self,
        id: impl IntoInstanceId,
    ) -> Result<Option<HistoryFile>, ClientError> {
        let id = id.into_instance_id()?;
        let Some(mut before) = self.status(&id).await? else { return Ok(None) };
        for _ in 0..LOOKS_MAX {
            let Some(history) = self.history(&id).await? else { return Ok(None) };
            let Some(after) = self.status(&id).await? else { return Ok(None) };
            let key = after.row().key();
            if before.row().key() == key {
                return Ok(Some(HistoryFile::new(key, history.events)));
            }
            before = after;
        }
        Err(ClientError::Store(StoreError::Busy {
            retry_after: std::time::Duration::from_secs(1),
            reason: format!("executions of {id} follow each other too fast"),
        }))
    }
}

impl<T> Handle<T> {
    /// The history of its current execution in a form that can be written to a file.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[orchestrator]
    /// # async fn hello(ctx: OrchestrationContext, name: String) -> Result<String, OrchestrationError> {
    /// #     Ok(format!("Hello, {name}!"))
    /// # }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # let worker = Worker::builder(MemoryStore::new()).register(hello).start().await.unwrap();
    /// let handle = worker.client().start(hello, "Ada".into()).await?;
    /// handle.output().await?;
    /// let history = handle.export_history().await?;
    /// let folder = std::env::temp_dir();
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let folder = folder.path();
    /// history.write(folder.join("hello.json"))?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// As [`history`](Self::history).
    pub async fn export_history(&self) -> Result<HistoryFile, ClientError> {
        self.client
            .export_history(&self.instance)
            .await?
            .ok_or_else(|| ClientError::NotFound(self.instance.clone()))
    }
}
