//! The management API of Durable Functions, with an orchestrator of each kind behind it.
//!
//! ```text
//! cargo run --example http_api -- --listen 127.0.0.1:7071 --data api-data
//! curl -i -d '"hello"' http://127.0.0.1:7071/runtime/webhooks/durabletask/orchestrators/Echo
//! ```
//!
//! The guide (`docs/guide/http.md`) holds a whole conversation with it.
//!
//! | file | holds |
//! | --- | --- |
//! | `orchestrators.rs` | what can be started |
//! | `main.rs` | the store, the worker, the two listeners, and the command line |

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this program talks to its user")]

mod orchestrators;

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use durable_azure::{AzureOptions, AzureStore, Connection};
use durable_core::http::{ClientBinding, HttpLimits, ManagementApi, RpcListener, serve};
use durable_core::prelude::*;
use durable_core::{HubName, SqliteOptions, WorkerBuilder};
use durable_examples::Error;
use futures::FutureExt;
use tokio::net::TcpListener;

/// Where the API is, below the address.
const BASE: &str = "/runtime/webhooks/durabletask";

/// Serves the management API of Durable Functions until Ctrl-C.
#[derive(Parser)]
struct Arguments {
    /// Where it listens. Beyond this machine only with a key.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7071", value_parser = address)]
    listen: SocketAddr,

    /// Folder for the workflows' file and the document for client libraries; made if it is missing.
    #[arg(long, value_name = "DIR", default_value = "http-api-data")]
    data: PathBuf,

    /// Name of the task hub.
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = hub_name)]
    task_hub: HubName,

    /// Key that callers have to show, as `code` in the query or in the header `x-functions-key`. Once or, while keys
    /// are changed, twice.
    #[arg(long, value_name = "KEY")]
    key: Vec<String>,

    /// Keeps the workflows in Azure Storage instead of a file; `UseDevelopmentStorage=true` is the emulator.
    #[arg(long, value_name = "CONNECTION")]
    azure: Option<String>,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let mut found = text.to_socket_addrs().map_err(|error| format!("no HOST:PORT: {error}"))?;
    found.next().ok_or_else(|| "nothing is known of that host".to_owned())
}

fn hub_name(text: &str) -> Result<HubName, String> {
    HubName::new(text).map_err(|error| error.to_string())
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("http_api: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<(), Error> {
    let listen = arguments.listen;
    // `ManagementApi::app` says so, too, but only when there are a hub and a worker.
    if !listen.ip().is_loopback() && arguments.key.is_empty() {
        return Err(format!(
            "other machines reach {listen}: set --key KEY, or listen on 127.0.0.1"
        )
        .into());
    }
    std::fs::create_dir_all(&arguments.data).map_err(|error| {
        format!("the folder {} cannot be made: {error}", arguments.data.display())
    })?;
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|error| format!("cannot listen on {listen}: {error}"))?;
    let address = listener.local_addr()?;
    let rpc = RpcListener::bind()
        .await
        .map_err(|error| format!("there is no port for client libraries: {error}"))?;

    let worker = worker(arguments).await?.registry(orchestrators::registry()).start().await?;
    let mut api = ManagementApi::builder(worker.client()).path(BASE).listen(address).rpc_port(&rpc);
    for key in &arguments.key {
        api = api.key(key);
    }
    let api = api.build()?;
    let app = api.app(address)?;
    let binding = arguments.data.join("client-binding.json");
    write_binding(&binding, &api.client_binding())
        .map_err(|error| format!("{} cannot be written: {error}", binding.display()))?;

    let top = format!("http://{address}");
    println!("management API:   {top}{BASE}");
    println!("client libraries: {}", rpc.base_url());
    println!("their document:   {}", binding.display());
    println!("health:           {top}/healthz {top}/readyz {top}/metrics");
    for (name, about) in orchestrators::ABOUT {
        println!("  {name}: {about}");
    }
    println!("serving; Ctrl-C stops");

    let stop = stop().shared();
    let limits = HttpLimits::default();
    tokio::join!(serve(listener, app, &limits, stop.clone()), rpc.serve(&api, stop));
    println!("stopping; what has not ended goes on when it runs again");
    worker.shutdown().await?;
    Ok(())
}

/// A worker for the hub, once there is one.
async fn worker(arguments: &Arguments) -> Result<WorkerBuilder, Error> {
    let hub = arguments.task_hub.clone();
    Ok(if let Some(connection) = &arguments.azure {
        let connection = Connection::parse(connection)?;
        println!("workflows:        hub {hub} in Azure Storage");
        let options = AzureOptions { hub, ..AzureOptions::default() };
        Worker::builder(AzureStore::open(&connection, options).await?)
    } else {
        let file = arguments.data.join("http_api.sqlite");
        println!("workflows:        hub {hub} in {}", file.display());
        let options = SqliteOptions { hub, ..SqliteOptions::default() };
        Worker::builder(SqliteStore::open_with(file, options)?)
    })
}

/// Writes what client libraries are given. The key is in it, so it is for the user alone who runs this.
fn write_binding(file: &Path, binding: &ClientBinding) -> Result<(), Error> {
    use std::io::Write as _;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // One of an earlier run may have been opened to others.
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        Ok(()) | Err(_) => {}
    }
    options.open(file)?.write_all(&serde_json::to_vec_pretty(binding)?)?;
    Ok(())
}

/// Ctrl-C, or the signal by which service managers stop a program.
async fn stop() {
    let pressed = async { _ = tokio::signal::ctrl_c().await };
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut told) = signal(SignalKind::terminate()) {
            tokio::select! {
                () = pressed => {}
                _ = told.recv() => {}
            }
            return;
        }
    }
    pressed.await;
}
