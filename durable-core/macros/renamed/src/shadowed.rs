//! Names of the prelude that mean something else here.

#![allow(missing_docs, non_camel_case_types, dead_code)]

/// The names that generated code might use by mistake.
mod names {
    pub(super) struct Result;
    pub(super) struct Option;
    pub(super) struct String;
    pub(super) struct Box;
    pub(super) struct Vec;
    pub(super) struct str;
    pub(super) trait Clone {}
    pub(super) trait Copy {}
    pub(super) trait Debug {}
    pub(super) trait Send {}
    pub(super) trait Sync {}
    pub(super) trait Fn {}
    pub(super) trait From {}
    pub(super) trait Into {}
    pub(super) trait Iterator {}
    pub(super) trait Future {}
    pub(super) trait Default {}
    pub(super) trait Drop {}
    pub(super) trait Register {}
    pub(super) trait Orchestrator {}
    pub(super) trait Activity {}
    pub(super) struct Registry;
    pub(super) mod core {}
    pub(super) mod std {}
    pub(super) mod flow {}
    #[allow(non_snake_case, clippy::unnecessary_wraps)]
    pub(super) fn Ok() {}
    #[allow(non_snake_case)]
    pub(super) fn Err() {}
    #[allow(non_snake_case)]
    pub(super) fn Some() {}
}

#[allow(clippy::wildcard_imports, unused_imports)]
use self::names::*;

type Done<T, E> = ::std::result::Result<T, E>;

/// An error with nothing in it.
#[derive(::std::fmt::Debug)]
pub struct Failed;

impl ::std::fmt::Display for Failed {
    fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
        f.write_str("failed")
    }
}

impl ::std::error::Error for Failed {}

#[::flow::activity(crate = "::flow")]
pub async fn work(
    ::flow::prelude::State(said): ::flow::prelude::State<&'static ::std::primitive::str>,
    number: u8,
) -> Done<u8, Failed> {
    if said.is_empty() { Done::Err(Failed) } else { Done::Ok(number) }
}

#[::flow::orchestrator(crate = "::flow")]
pub async fn run(
    ctx: ::flow::prelude::OrchestrationContext,
    number: u8,
) -> Done<u8, ::flow::prelude::OrchestrationError> {
    Done::Ok(ctx.call(work, &number).await?)
}
