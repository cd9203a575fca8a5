//! Tokens of Entra ID. None of these constructors sends anything: a source that has no token says so with
//! the first request.

use std::sync::Arc;
use std::time::Duration;

use azure_core::HttpClient;
use azure_identity::{
    AppServiceManagedIdentityCredential, AzureCliCredential, DefaultAzureCredential,
    TokenCredentialOptions, VirtualMachineManagedIdentityCredential, WorkloadIdentityCredential,
};

use super::{ConnectError, Connection, TokenCredential};

/// For one request to a source of tokens. The crate's own client would wait for ever.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(10);
/// For opening a connection to one.
const TOKEN_CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

impl Connection {
    /// An account of public Azure, with tokens of the first source that has one: service principal or workload
    /// identity of the environment (`AZURE_TENANT_ID` and its like), managed identity, Azure CLI.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] where the account's name cannot be one, or no source can be set up.
    pub fn entra(account: &str) -> Result<Self, ConnectError> {
        let credential = DefaultAzureCredential::create(options()?);
        Self::with_source(account, "a source of tokens", credential)
    }

    /// An account of public Azure, with the managed identity that the system assigned to this machine or app.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] where the account's name cannot be one.
    pub fn managed_identity(account: &str) -> Result<Self, ConnectError> {
        // App Service and its kin name their endpoint in the environment; virtual machines have a fixed one.
        let credential: Arc<dyn TokenCredential> =
            match AppServiceManagedIdentityCredential::create(options()?) {
                Ok(credential) => Arc::new(credential),
                Err(_) => Arc::new(VirtualMachineManagedIdentityCredential::new(options()?)),
            };
        Self::with_credential(account, credential)
    }

    /// An account of public Azure, with the workload identity that Kubernetes names in the environment.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] where the account's name cannot be one, or the environment names no workload identity.
    pub fn workload_identity(account: &str) -> Result<Self, ConnectError> {
        let credential = WorkloadIdentityCredential::create(options()?);
        Self::with_source(account, "AZURE_FEDERATED_TOKEN_FILE", credential)
    }

    /// An account of public Azure, with tokens of `az login`.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] where the account's name cannot be one.
    pub fn azure_cli(account: &str) -> Result<Self, ConnectError> {
        Self::with_source(account, "az", AzureCliCredential::create())
    }

    fn with_source(
        account: &str,
        key: &str,
        source: azure_core::Result<impl TokenCredential + 'static>,
    ) -> Result<Self, ConnectError> {
        let source =
            source.map_err(|_| ConnectError::invalid(key, "is not set up in this environment"))?;
        Self::with_credential(account, Arc::new(source))
    }
}

fn options() -> Result<TokenCredentialOptions, ConnectError> {
    let client = reqwest::Client::builder()
        .timeout(TOKEN_TIMEOUT)
        .connect_timeout(TOKEN_CONNECT_TIMEOUT)
        .build()
        .map_err(|error| ConnectError::Client(error.to_string()))?;
    let client: Arc<dyn HttpClient> = Arc::new(client);
    Ok(TokenCredentialOptions::from(client))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_up_sends_nothing_and_shows_nothing() {
        for connection in [
            Connection::entra("acct1").unwrap(),
            Connection::managed_identity("acct1").unwrap(),
            Connection::azure_cli("acct1").unwrap(),
        ] {
            assert!(format!("{connection:?}").contains("token credential"));
            assert!(connection.endpoints().table.starts_with("https://acct1.table."));
        }
        // Nothing in the environment of a test names one.
        let error = Connection::workload_identity("acct1").unwrap_err();
        assert!(error.to_string().contains("AZURE_FEDERATED_TOKEN_FILE"), "{error}");
        assert!(Connection::entra("Not an account").is_err());
    }
}
