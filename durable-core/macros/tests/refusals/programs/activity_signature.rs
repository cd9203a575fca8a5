//! Signatures that are no activity's.

use durable_core::prelude::*;

#[activity]
fn not_async() -> Result<(), ActivityError> {
    Ok(())
}

#[activity(blocking)]
async fn blocking_and_async() -> Result<(), ActivityError> {
    Ok(())
}

#[activity]
async fn generic<T: std::fmt::Display, const N: usize>(input: [T; N]) -> Result<String, ActivityError> {
    Ok(input[0].to_string())
}

#[activity]
async fn with_a_lifetime<'a>(input: std::borrow::Cow<'a, str>) -> Result<String, ActivityError> {
    Ok(input.into_owned())
}

#[activity]
async fn where_nothing(input: u8) -> Result<u8, ActivityError>
where
    u8: Copy,
{
    Ok(input)
}

#[activity]
async fn borrowed(input: Vec<&str>) -> Result<String, ActivityError> {
    Ok(input.concat())
}

#[activity]
async fn any_type(input: impl std::fmt::Display) -> Result<String, ActivityError> {
    Ok(input.to_string())
}

#[activity]
async fn of_the_other_kind(_ctx: OrchestrationContext) -> Result<(), ActivityError> {
    Ok(())
}

#[activity]
async fn by_reference(_ctx: &ActivityContext) -> Result<(), ActivityError> {
    Ok(())
}

#[activity]
async fn context_last(_input: u8, _ctx: ActivityContext) -> Result<(), ActivityError> {
    Ok(())
}

#[activity]
async fn two_inputs(_a: u8, _b: u8) -> Result<(), ActivityError> {
    Ok(())
}

#[activity]
async fn without_result(_input: u8) {}

#[activity]
async fn some_type() -> impl std::fmt::Display {
    "which one?"
}

#[activity]
async fn some_type_within() -> Result<impl std::fmt::Display, ActivityError> {
    Ok("which one?")
}

#[activity]
async fn borrows_its_result() -> Result<&'static str, ActivityError> {
    Ok("whose?")
}

struct Shop;

impl Shop {
    #[activity]
    async fn method(&self) -> Result<(), ActivityError> {
        Ok(())
    }
}

fn main() {}
