//! What client libraries of other languages have to be given.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ManagementApi;
use super::app::RPC_PATH;
use super::host::Named;
use super::key::Key;
use super::links::{CheckStatusPayload, Links, Opener};
use super::path::encoded;
use super::rpc::base_url;

/// Stands in links for the id that a library puts there.
const PLACEHOLDER: &str = "INSTANCEID";

/// The document that the client libraries of Durable Functions are given in place of a host's: in Python the text
/// of `DurableOrchestrationClient(…)`, in JavaScript the object behind `durableClient`.
///
/// It holds the key, so [`Debug`] prints the hub only.
///
/// ```
/// use durable_core::http::ManagementApi;
/// use durable_core::prelude::*;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let api = ManagementApi::builder(Client::new(MemoryStore::new()));
/// let api = api.listen("127.0.0.1:7071".parse()?).key("secret").build()?;
/// let binding = api.client_binding();
/// assert_eq!(binding.task_hub_name, "default");
/// assert_eq!(binding.base_url, "http://127.0.0.1:7071/runtime/webhooks/durabletask");
/// assert_eq!(binding.required_query_string_parameters, "code=secret");
/// assert_eq!(binding.rpc_base_url, "http://127.0.0.1:7071/durabletask/");
///
/// let wire = serde_json::to_value(&binding)?; // for the library
/// assert_eq!(wire["managementUrls"]["id"], "INSTANCEID");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientBinding {
    /// The hub.
    pub task_hub_name: String,
    /// How instances are started.
    pub creation_urls: CreationUrls,
    /// The links of an instance, with `INSTANCEID` in the place of its id.
    pub management_urls: CheckStatusPayload,
    /// Where the API is, without a slash at the end.
    pub base_url: String,
    /// What every query has to have: the key, or nothing.
    pub required_query_string_parameters: String,
    /// Where libraries on this machine find it, with a slash at the end.
    pub rpc_base_url: String,
}

/// How instances are started: URLs with `{functionName}` and `[/{instanceId}]` to be replaced.
///
/// ```
/// use durable_core::http::ManagementApi;
/// use durable_core::prelude::*;
///
/// let api = ManagementApi::new(Client::new(MemoryStore::new()));
/// let urls = api.client_binding().creation_urls;
/// assert!(urls.create_new_instance_post_uri.contains("/orchestrators/{functionName}[/{instanceId}]"));
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreationUrls {
    /// POST: starts.
    pub create_new_instance_post_uri: String,
    /// POST: starts, and waits for the end; `{timeoutInSeconds}` and `{intervalInSeconds}` are to be replaced.
    pub create_and_wait_on_new_instance_post_uri: String,
}

impl fmt::Debug for ClientBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBinding").field("hub", &self.task_hub_name).finish_non_exhaustive()
    }
}

impl fmt::Debug for CreationUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CreationUrls(…)")
    }
}

impl ManagementApi {
    /// What client libraries of other languages have to be given, for the [public
    /// URL](super::ManagementApiBuilder::public_url) or the [listen](super::ManagementApiBuilder::listen) address.
    ///
    /// Libraries are led to their [own port](super::ManagementApiBuilder::rpc_port) if they have one and else, on a
    /// loopback address, to `/durabletask/`, where [`app`](Self::app) serves them without a key.
    #[must_use]
    pub fn client_binding(&self) -> ClientBinding {
        let settings = &self.settings;
        let base = settings.hosts.base(&Named::Nothing, &settings.path);
        let key = settings.keys.first();
        let required =
            key.map(Key::text).map_or_else(String::new, |key| format!("code={}", encoded(key)));
        let start = format!("{base}/orchestrators/{{functionName}}[/{{instanceId}}]?");
        let wait = "timeout={timeoutInSeconds}&pollingInterval={intervalInSeconds}";
        let and = if required.is_empty() { "" } else { "&" };
        let hub = self.hub();
        let local = settings.hosts.listen.is_none_or(|listen| listen.ip().is_loopback());
        let rpc_base_url = match settings.rpc {
            Some(rpc) => base_url(rpc),
            None if local => settings.hosts.here(&Named::Nothing, RPC_PATH) + "/",
            None => format!("{base}/"),
        };
        ClientBinding {
            creation_urls: CreationUrls {
                create_new_instance_post_uri: format!("{start}{required}"),
                create_and_wait_on_new_instance_post_uri: format!("{start}{wait}{and}{required}"),
            },
            management_urls: Links::new(base.clone(), &hub, Opener::of(key)).of(PLACEHOLDER),
            task_hub_name: hub,
            base_url: base,
            required_query_string_parameters: required,
            rpc_base_url,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Client, MemoryStore};
    use serde_json::json;

    #[test]
    fn the_document_leads_to_both_ways_in() {
        let api = ManagementApi::builder(Client::new(MemoryStore::new()));
        let api = api.key("k y").listen("127.0.0.1:7071".parse().unwrap()).build().unwrap();
        let binding = api.client_binding();
        let base = "http://127.0.0.1:7071/runtime/webhooks/durabletask";
        let wire = serde_json::to_value(&binding).unwrap();
        assert_eq!(
            wire["creationUrls"],
            json!({
                "createNewInstancePostUri":
                    format!("{base}/orchestrators/{{functionName}}[/{{instanceId}}]?code=k%20y"),
                "createAndWaitOnNewInstancePostUri": format!(
                    "{base}/orchestrators/{{functionName}}[/{{instanceId}}]?timeout={{timeoutInSeconds}}\
                     &pollingInterval={{intervalInSeconds}}&code=k%20y"
                ),
            })
        );
        assert_eq!(wire["managementUrls"]["id"], "INSTANCEID");
        assert_eq!(wire["managementUrls"].as_object().unwrap().len(), 9);
        assert_eq!((&wire["taskHubName"], &wire["baseUrl"]), (&json!("default"), &json!(base)));
        assert_eq!(wire["requiredQueryStringParameters"], "code=k%20y");
        assert_eq!(wire["rpcBaseUrl"], "http://127.0.0.1:7071/durabletask/");
        assert!(!format!("{binding:?}{:?}", binding.creation_urls).contains("code"));
    }

    #[test]
    fn without_a_key_there_is_none_and_elsewhere_there_is_one_way_in() {
        let api = ManagementApi::builder(Client::new(MemoryStore::new()));
        let api = api.public_url("https://example.org/durable").listen(([10, 0, 0, 1], 80).into());
        let binding = api.build().unwrap().client_binding();
        assert_eq!(binding.required_query_string_parameters, "");
        let start = binding.creation_urls.create_new_instance_post_uri;
        let expected = "https://example.org/durable/orchestrators/{functionName}[/{instanceId}]?";
        assert_eq!(start, expected);
        assert_eq!(binding.rpc_base_url, "https://example.org/durable/");
    }
}
