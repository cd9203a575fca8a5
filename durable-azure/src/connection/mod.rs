//! Which storage account, where it is, and how requests to it are signed.

#[cfg(feature = "entra")]
mod entra;
mod parse;

use std::fmt;
use std::sync::Arc;

use azure_core::auth::Secret;
use azure_core::{Url, base64};
use azure_storage::{EMULATOR_ACCOUNT, EMULATOR_ACCOUNT_KEY, StorageCredentials};

pub use azure_core::auth::TokenCredential;

/// Names of public Azure end in this.
const PUBLIC_SUFFIX: &str = "core.windows.net";

/// A storage account: its endpoints and a credential.
///
/// Shows neither keys nor signatures nor tokens, also not in `Debug`.
///
/// ```
/// use durable_azure::Connection;
///
/// let connection = Connection::parse(
///     "DefaultEndpointsProtocol=https;AccountName=orders;AccountKey=c2VjcmV0;EndpointSuffix=core.windows.net",
/// )?;
/// assert_eq!(connection.account(), "orders");
/// assert_eq!(connection.endpoints().table, "https://orders.table.core.windows.net");
/// assert!(!format!("{connection:?}").contains("c2VjcmV0"));
///
/// assert_eq!(Connection::parse("UseDevelopmentStorage=true")?.account(), "devstoreaccount1");
/// # Ok::<(), durable_azure::ConnectError>(())
/// ```
#[derive(Clone)]
pub struct Connection {
    account: String,
    credential: Credential,
    endpoints: Endpoints,
}

/// Where the three services of an account answer.
///
/// ```
/// use durable_azure::{Connection, Endpoints};
///
/// // Another cloud.
/// let endpoints = Endpoints {
///     blob: "https://orders.blob.core.chinacloudapi.cn".into(),
///     queue: "https://orders.queue.core.chinacloudapi.cn".into(),
///     table: "https://orders.table.core.chinacloudapi.cn".into(),
/// };
/// let connection = Connection::account_key("orders", "c2VjcmV0")?.with_endpoints(endpoints.clone())?;
/// assert_eq!(connection.endpoints(), &endpoints);
/// # Ok::<(), durable_azure::ConnectError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    /// For example `https://account.blob.core.windows.net`.
    pub blob: String,
    /// For example `https://account.queue.core.windows.net`.
    pub queue: String,
    /// For example `https://account.table.core.windows.net`.
    pub table: String,
}

/// How requests are signed.
#[derive(Clone)]
enum Credential {
    Key(Secret),
    Sas(Secret),
    Token(Arc<dyn TokenCredential>),
}

/// Why a [`Connection`] cannot be used. Names keys of connection strings, never their values.
///
/// ```
/// use durable_azure::{ConnectError, Connection};
///
/// let error = Connection::parse("AccountName=orders").unwrap_err();
/// assert!(matches!(error, ConnectError::Missing { key: "AccountKey" }), "{error}");
///
/// let error = Connection::account_key("orders", "not base64!").unwrap_err();
/// assert!(matches!(error, ConnectError::Invalid { .. }));
/// assert!(!error.to_string().contains("base64!"), "values are not shown");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// A part that is needed is not there.
    #[error("the connection has no {key}")]
    Missing {
        /// The key, as a connection string spells it.
        key: &'static str,
    },
    /// A part cannot be used.
    #[error("{key} of the connection {problem}")]
    Invalid {
        /// The key, as a connection string spells it.
        key: String,
        /// What is wrong with its value.
        problem: &'static str,
    },
    /// The HTTP client cannot be set up.
    #[error("the HTTP client cannot be set up: {0}")]
    Client(String),
}

impl ConnectError {
    fn invalid(key: &str, problem: &'static str) -> Self {
        Self::Invalid { key: key.to_owned(), problem }
    }
}

impl Connection {
    /// Reads a connection string as the Azure portal shows it, or `UseDevelopmentStorage=true`.
    ///
    /// Keys may be in any letter case, and keys that say nothing about tables, queues and blobs are ignored.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] names the key that is missing or cannot be used.
    pub fn parse(text: &str) -> Result<Self, ConnectError> {
        parse::connection(text)
    }

    /// The emulator on this machine at its usual ports.
    #[must_use]
    pub fn emulator() -> Self {
        Self {
            account: EMULATOR_ACCOUNT.to_owned(),
            credential: Credential::Key(Secret::new(EMULATOR_ACCOUNT_KEY)),
            endpoints: Endpoints::emulator("http://127.0.0.1"),
        }
    }

    /// An account of public Azure, with one of its two keys.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Invalid`] where the account's name or the key cannot be one.
    pub fn account_key(account: &str, key: &str) -> Result<Self, ConnectError> {
        let credential = Credential::key(key)?;
        Ok(Self { account: checked_account(account)?, credential, endpoints: public(account) })
    }

    /// Endpoints with a shared access signature of the account. It has to allow blobs, queues and tables;
    /// services, containers and objects; and to read, write, delete, list, add, create, update and process.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Invalid`] where an endpoint or the signature cannot be one.
    pub fn sas(endpoints: Endpoints, token: &str) -> Result<Self, ConnectError> {
        let credential = Credential::sas(token)?;
        let endpoints = endpoints.checked()?;
        let account = endpoints.account();
        Ok(Self { account, credential, endpoints })
    }

    /// An account of public Azure, with tokens of any source.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Invalid`] where the account's name cannot be one.
    pub fn with_credential(
        account: &str,
        credential: Arc<dyn TokenCredential>,
    ) -> Result<Self, ConnectError> {
        Ok(Self {
            account: checked_account(account)?,
            credential: Credential::Token(credential),
            endpoints: public(account),
        })
    }

    /// The same account and credential at other endpoints: another cloud, a private link, an emulator.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Invalid`] where an endpoint cannot be one.
    pub fn with_endpoints(self, endpoints: Endpoints) -> Result<Self, ConnectError> {
        let endpoints = endpoints.checked()?;
        if matches!(self.credential, Credential::Token(_)) && !endpoints.keep_tokens_private() {
            return Err(ConnectError::invalid(
                "DefaultEndpointsProtocol",
                "has to be https: tokens are not sent in clear",
            ));
        }
        Ok(Self { endpoints, ..self })
    }

    /// The account's name.
    #[must_use]
    pub fn account(&self) -> &str {
        &self.account
    }

    /// Where its services answer.
    #[must_use]
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// Whether all of it is on this machine, as an emulator is.
    pub(crate) fn is_local(&self) -> bool {
        self.endpoints.named().iter().all(|(_, endpoint)| is_loopback(endpoint))
    }

    /// The credential as the service crates take it.
    pub(crate) fn credentials(&self) -> Result<StorageCredentials, ConnectError> {
        match &self.credential {
            Credential::Key(key) => {
                Ok(StorageCredentials::access_key(self.account.clone(), key.clone()))
            }
            // The crate's own error shows the token.
            Credential::Sas(token) => StorageCredentials::sas_token(token.secret())
                .map_err(|_| ConnectError::invalid(parse::SAS, "is not a list of parameters")),
            Credential::Token(credential) => {
                Ok(StorageCredentials::token_credential(Arc::clone(credential)))
            }
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("account", &self.account)
            .field("credential", &self.credential)
            .field("endpoints", &self.endpoints)
            .finish()
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key(_) => "account key",
            Self::Sas(_) => "shared access signature",
            Self::Token(_) => "token credential",
        })
    }
}

impl Credential {
    fn key(key: &str) -> Result<Self, ConnectError> {
        match base64::decode(key) {
            Ok(bytes) if !bytes.is_empty() => Ok(Self::Key(Secret::new(key.to_owned()))),
            Ok(_) | Err(_) => {
                Err(ConnectError::invalid(parse::ACCOUNT_KEY, "is not base64 as keys are"))
            }
        }
    }

    fn sas(token: &str) -> Result<Self, ConnectError> {
        let token = token.trim_start_matches('?');
        let has_signature = token.split('&').any(|pair| pair.starts_with("sig="));
        if !has_signature {
            return Err(ConnectError::invalid(parse::SAS, "has no signature in it"));
        }
        Ok(Self::Sas(Secret::new(token.to_owned())))
    }
}

impl Endpoints {
    /// The usual ports of the emulator at `scheme://host`.
    fn emulator(base: &str) -> Self {
        let at = |port: u16| format!("{base}:{port}/{EMULATOR_ACCOUNT}");
        Self { blob: at(10000), queue: at(10001), table: at(10002) }
    }

    fn named(&self) -> [(&'static str, &str); 3] {
        [
            (parse::BLOB_ENDPOINT, &self.blob),
            (parse::QUEUE_ENDPOINT, &self.queue),
            (parse::TABLE_ENDPOINT, &self.table),
        ]
    }

    /// Without trailing slashes, each a URL that paths can be appended to.
    fn checked(self) -> Result<Self, ConnectError> {
        for (key, endpoint) in self.named() {
            let url = Url::parse(endpoint)
                .map_err(|_| ConnectError::invalid(key, "is not a URL with scheme and host"))?;
            if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
                return Err(ConnectError::invalid(key, "is not an http or https URL"));
            }
            let plain = url.query().is_none()
                && url.fragment().is_none()
                && url.username().is_empty()
                && url.password().is_none();
            if !plain {
                return Err(ConnectError::invalid(key, "has more than scheme, host and path"));
            }
        }
        let trimmed = |endpoint: String| endpoint.trim_end_matches('/').to_owned();
        Ok(Self {
            blob: trimmed(self.blob),
            queue: trimmed(self.queue),
            table: trimmed(self.table),
        })
    }

    /// The account as the table endpoint spells it: in the path on an emulator, first in the host elsewhere.
    fn account(&self) -> String {
        let Ok(url) = Url::parse(&self.table) else { return String::new() };
        let in_path = url.path_segments().and_then(|mut parts| parts.next()).unwrap_or_default();
        if in_path.is_empty() {
            let host = url.host_str().unwrap_or_default();
            host.split('.').next().unwrap_or_default().to_owned()
        } else {
            in_path.to_owned()
        }
    }

    fn keep_tokens_private(&self) -> bool {
        self.named()
            .iter()
            .all(|(_, endpoint)| endpoint.starts_with("https:") || is_loopback(endpoint))
    }
}

fn public(account: &str) -> Endpoints {
    at_suffix("https", account, PUBLIC_SUFFIX)
}

fn at_suffix(protocol: &str, account: &str, suffix: &str) -> Endpoints {
    let of = |service: &str| format!("{protocol}://{account}.{service}.{suffix}");
    Endpoints { blob: of("blob"), queue: of("queue"), table: of("table") }
}

fn checked_account(account: &str) -> Result<String, ConnectError> {
    let fits = (3..=24).contains(&account.len())
        && account.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if fits {
        Ok(account.to_owned())
    } else {
        Err(ConnectError::invalid(
            parse::ACCOUNT_NAME,
            "is not 3 to 24 lower-case letters and digits",
        ))
    }
}

fn is_loopback(endpoint: &str) -> bool {
    let Ok(url) = Url::parse(endpoint) else { return false };
    let Some(host) = url.host_str() else { return false };
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests;
