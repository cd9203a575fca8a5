//! The smallest durable program: one orchestrator, one activity, one SQLite file.
//!
//! `cargo run --example hello` greets Ada, Grace and Linus one after the other, and shows the history that
//! was written meanwhile. It stays in the file `hello.sqlite`, in the folder where the program was started.

#![allow(clippy::print_stdout, reason = "this program talks to its user")]

use durable_core::prelude::*;

#[activity]
async fn greet(name: String) -> Result<String, ActivityError> {
    println!("  greeting {name}");
    Ok(format!("Hello, {name}!"))
}

#[orchestrator]
async fn hello(
    ctx: OrchestrationContext,
    names: Vec<String>,
) -> Result<Vec<String>, OrchestrationError> {
    let mut greetings = Vec::new();
    for name in &names {
        greetings.push(ctx.call(greet, name).await?);
    }
    Ok(greetings)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = SqliteStore::open("hello.sqlite")?;
    let worker = Worker::builder(store).register(hello).register(greet).start().await?;

    let names = vec!["Ada".to_owned(), "Grace".to_owned(), "Linus".to_owned()];
    let instance = worker.client().start(hello, names).await?;
    println!("started {}", instance.id());
    for greeting in instance.output().await? {
        println!("{greeting}");
    }
    println!("its history:");
    for (seq, event) in instance.history().await?.events().iter().enumerate() {
        println!("  {seq}: {}", event.is.summary());
    }
    worker.shutdown().await?;
    Ok(())
}
