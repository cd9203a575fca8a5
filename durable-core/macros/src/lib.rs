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

mod args;
mod function;

use proc_macro::TokenStream;

/// Makes an `async fn` an orchestrator.
///
/// - The first parameter is the `OrchestrationContext`; at most one more is the input, an owned type that
///   serde reads and writes. Without it the input is `()`.
/// - The function returns `Result<T, OrchestrationError>`, or a result whose error converts into one.
/// - The function's name becomes a value and a type: a `let` in the same module cannot have that name.
///
/// | argument | meaning |
/// | --- | --- |
/// | `name = "Echo"` | the name to register; otherwise the function's |
/// | `crate = "path"` | where `durable_core` is found, if it was renamed |
#[proc_macro_attribute]
pub fn orchestrator(args: TokenStream, item: TokenStream) -> TokenStream {
    function::expand(function::Kind::Orchestrator, args.into(), item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// Makes a function an activity: the work of an orchestration, run at least once.
///
/// - Parameters: an `ActivityContext` first, or none; any number of `State<T>`; at most one input, an
///   owned type that serde reads and writes. Without it the input is `()`. The context and states are
///   recognised by the names `ActivityContext` and `State`.
/// - The function returns `Result<T, ActivityError>`, or a result whose error converts into one; every
///   error type does.
/// - The function's name becomes a value and a type: a `let` in the same module cannot have that name.
///
/// | argument | meaning |
/// | --- | --- |
/// | `blocking` | the function is not `async` and runs on a thread for blocking work |
/// | `name = "Echo"` | the name to register; otherwise the function's |
/// | `crate = "path"` | where `durable_core` is found, if it was renamed |
#[proc_macro_attribute]
pub fn activity(args: TokenStream, item: TokenStream) -> TokenStream {
    function::expand(function::Kind::Activity, args.into(), item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
