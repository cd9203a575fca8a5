//! The document that describes the routes.

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::value::RawValue;

use super::host::Named;
use super::refusal::Refusal;
use super::{ManagementApi, answer as wire_answer};

/// With `{base}` and `{version}` to be replaced.
const DOCUMENT: &str = include_str!("openapi.json");

/// The document for routes below this URL.
fn document(base: &str) -> String {
    let text = |of: &str| serde_json::Value::from(of).to_string();
    DOCUMENT.replacen("\"{version}\"", &text(env!("CARGO_PKG_VERSION")), 1).replacen(
        "\"{base}\"",
        &text(base),
        1,
    )
}

pub(super) fn answer(base: &str) -> Result<Response, Refusal> {
    let document = RawValue::from_string(document(base)).map_err(|_| Refusal::Internal)?;
    Ok(wire_answer::json(StatusCode::OK, &document))
}

impl ManagementApi {
    /// The OpenAPI 3.1 document of the routes, for the [public URL](super::ManagementApiBuilder::public_url) or the
    /// [listen](super::ManagementApiBuilder::listen) address, to be published as one likes. The routes themselves
    /// answer it under `openapi.json`, to those who have the key.
    ///
    /// ```
    /// use durable_core::http::ManagementApi;
    /// use durable_core::prelude::*;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let api = ManagementApi::new(Client::new(MemoryStore::new()));
    /// let document: serde_json::Value = serde_json::from_str(&api.openapi())?;
    /// assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    /// assert!(document["paths"].as_object().unwrap().len() > 5);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn openapi(&self) -> String {
        document(&self.settings.hosts.base(&Named::Nothing, &self.settings.path))
    }
}

#[cfg(test)]
mod tests;
