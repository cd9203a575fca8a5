//! Where an example keeps its workflows: the options that all of them have.

use std::path::PathBuf;
use std::sync::Arc;

use durable_azure::{AzureOptions, AzureStore, Connection};
use durable_core::HubName;
use durable_core::prelude::*;
use durable_core::store::Store;

use crate::{CrashStore, Side};

/// What may go wrong in an example; displayed to its user.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Where workflows are kept, and where the process ends on purpose.
#[derive(Debug, Clone, clap::Args)]
pub struct Place {
    /// Folder for the workflows' file and all else that the program writes; made if it is missing.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// Keeps the workflows in Azure Storage instead of a file; `UseDevelopmentStorage=true` is the emulator.
    #[arg(long, value_name = "CONNECTION")]
    azure: Option<String>,

    /// Name of the task hub there; the example's own name, where none is given.
    #[arg(long, value_name = "NAME", requires = "azure")]
    hub: Option<String>,

    /// Ends the process right before its N-th write to the store takes effect.
    #[arg(long, value_name = "N", conflicts_with = "crash_after_write")]
    crash_before_write: Option<u64>,

    /// Ends the process when its N-th write to the store is durable, before anybody learns of it.
    #[arg(long, value_name = "N")]
    crash_after_write: Option<u64>,
}

impl Place {
    /// The folder for what the program `name` writes. Made where it is missing.
    ///
    /// # Errors
    ///
    /// A sentence with the folder's name.
    pub fn folder(&self, name: &str) -> Result<PathBuf, Error> {
        let folder = self.data.clone().unwrap_or_else(|| format!("{name}-data").into());
        std::fs::create_dir_all(&folder)
            .map_err(|error| format!("the folder {} cannot be made: {error}", folder.display()))?;
        Ok(folder)
    }

    /// Opens the store of the program `name`, and says where it is.
    ///
    /// # Errors
    ///
    /// What is wrong with the connection, or the store's error.
    #[allow(clippy::print_stdout, reason = "the program talks to its user")]
    pub async fn open(&self, name: &str) -> Result<CrashStore, Error> {
        let store: Arc<dyn Store> = if let Some(connection) = &self.azure {
            let connection = Connection::parse(connection)?;
            let hub = self.hub.clone().unwrap_or_else(|| name.replace('_', ""));
            let hub = HubName::new(hub)?;
            println!("workflows: hub {hub} in Azure Storage");
            let options = AzureOptions { hub, ..AzureOptions::default() };
            Arc::new(AzureStore::open(&connection, options).await?)
        } else {
            let file = self.folder(name)?.join(format!("{name}.sqlite"));
            println!("workflows: {}", file.display());
            Arc::new(SqliteStore::open(file)?)
        };
        let before = self.crash_before_write.map(|write| (write, Side::Before));
        let crash = before.or(self.crash_after_write.map(|write| (write, Side::After)));
        Ok(CrashStore::new(store, crash))
    }
}

/// Waits for the end of an instance, and shows its custom status whenever that changes. One that the engine holds,
/// because processes died while they loaded it, is resumed: whoever runs the program again wants that. `None` where
/// Ctrl-C came first.
///
/// # Errors
///
/// The client's, and the instance's own.
#[allow(clippy::print_stdout, reason = "the program talks to its user")]
pub async fn follow<T: serde::de::DeserializeOwned + Send + 'static>(
    handle: &Handle<T>,
) -> Result<Option<T>, Error> {
    use futures::StreamExt;
    let ended = async {
        let (mut changes, mut shown) = (Box::pin(handle.watch()), None);
        while let Some(status) = changes.next().await {
            let status = status?;
            if let Some(hold) = status.hold() {
                println!("the engine holds {}: {}; resuming it", handle.id(), hold.message);
                handle.resume("the program was run again").await?;
            }
            let custom: Option<String> = status.custom_status().ok().flatten();
            if custom.is_some() && custom != shown {
                println!("{}: {}", handle.id(), custom.as_deref().unwrap_or_default());
                shown = custom;
            }
        }
        Ok::<_, Error>(Some(handle.output().await?))
    };
    tokio::select! {
        output = ended => output,
        pressed = tokio::signal::ctrl_c() => {
            pressed?;
            println!("stopping; run the same command again to go on");
            Ok(None)
        }
    }
}
