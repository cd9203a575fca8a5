//! Files, sockets, environment, processes, output.

use std::fs::File;

use durable_core::prelude::*;

#[orchestrator]
async fn touch(ctx: OrchestrationContext) -> Result<(), OrchestrationError> {
    println!("{} begins", ctx.instance_id());
    File::open("orders.txt")?;
    std::fs::read("orders.txt")?;
    std::net::TcpStream::connect("localhost:80")?;
    let region = std::env::var("REGION")?;
    if region.is_empty() {
        std::process::exit(1);
    }
    Ok(())
}

fn main() {}
