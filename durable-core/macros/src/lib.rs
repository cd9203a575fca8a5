//! The attributes `#[orchestrator]` and `#[activity]`. Use them through `durable-core`, which describes
//! what the functions are for.
//!
//! Both turn a function into a unit value of the same name, with a type of the same name:
//!
//! | generated | for |
//! | --- | --- |
//! | `struct name;` | naming the function: `ctx.call(name, &input)`, `.register(name)` |
//! | `impl Orchestrator` or `impl Activity` | its registered name, its input and its output |
//! | `impl Register` | putting it into a registry |
//! | `fn run(self, …)` | the function itself, with the parameters it was written with |
//!
//! The generated code names `::durable_core`. Where a manifest gives that crate another name, say so once, at
//! the root of the crate: `extern crate flow as durable_core;`, or with each attribute: `crate = "flow"`.

mod args;
mod function;
mod generate;
mod guard;
mod problems;
mod signature;

use proc_macro::TokenStream;

/// Makes an `async fn` an orchestrator.
///
/// - The first parameter is the `OrchestrationContext`; at most one more is the input, an owned type that
///   serde reads and writes. Without it the input is `()`.
/// - The function returns `Result<T, OrchestrationError>`, or a result whose error converts into one.
/// - The function's name becomes a value and a type: a `let` in the same module cannot have that name.
/// - The body is refused where it reads a clock, draws random numbers, or does something else that a replay
///   would do differently. `docs/guide/determinism.md` says what this sees and what it cannot see.
///
/// | argument | meaning |
/// | --- | --- |
/// | `name = "Echo"` | the name to register; otherwise the function's |
/// | `crate = "path"` | where `durable_core` is found, if it was renamed |
/// | `allow(clock, reason = "…")` | takes what would be refused; the keys are those of the next table |
///
/// | key | what is refused | what to use |
/// | --- | --- | --- |
/// | `clock` | `Instant::now`, `SystemTime::now`, `Utc::now`, … | `ctx.now()` |
/// | `random` | `rand::random`, `thread_rng`, `Uuid::new_v4`, `fastrand`, … | `ctx.random()`, `ctx.new_uuid()` |
/// | `sleep` | `sleep`, `timeout` and `interval` of Tokio, `thread::sleep`, … | `ctx.sleep(…)`, `.timeout(…)` |
/// | `spawn` | `tokio::spawn`, `thread::spawn`, `spawn_blocking`, `rayon`, `block_on`, … | `ctx.join_all(…)`, an activity |
/// | `io` | `std::fs`, `tokio::fs`, `File::open`, `std::net`, `tokio::net`, `reqwest`, … | an activity |
/// | `print` | `println!`, `eprintln!`, `dbg!`, … | `tracing::info!`, silent in a replay |
/// | `env` | `std::env::var`, `args`, `current_dir`, … | the input, or an activity |
/// | `process` | `std::process::exit`, `Command`, … | an activity |
/// | `select` | `tokio::select!` without `biased;`, `futures::select!` | `ctx.race`, `futures::select_biased!` |
/// | `hash_order` | going through a `HashMap` or `HashSet` | `BTreeMap`, `BTreeSet`, or sorting |
/// | `global` | `static mut`, statics that change, `thread_local!` | a variable |
#[proc_macro_attribute]
pub fn orchestrator(args: TokenStream, item: TokenStream) -> TokenStream {
    function::expand(function::Kind::Orchestrator, args.into(), item.into()).into()
}

/// Makes a function an activity: the work of an orchestration, run at least once.
///
/// - Parameters: an `ActivityContext` first, or none; any number of `State<T>`; at most one input, an
///   owned type that serde reads and writes. Without it the input is `()`. The context and states are
///   recognised by the names `ActivityContext` and `State`.
/// - The function returns `Result<T, ActivityError>`, or a result whose error converts into one; every
///   `std::error::Error` does.
/// - The function's name becomes a value and a type: a `let` in the same module cannot have that name.
///
/// | argument | meaning |
/// | --- | --- |
/// | `blocking` | the function is not `async` and runs on a thread for blocking work |
/// | `name = "Echo"` | the name to register; otherwise the function's |
/// | `crate = "path"` | where `durable_core` is found, if it was renamed |
#[proc_macro_attribute]
pub fn activity(args: TokenStream, item: TokenStream) -> TokenStream {
    function::expand(function::Kind::Activity, args.into(), item.into()).into()
}
