//! Connection strings.

use azure_core::auth::Secret;
use azure_storage::{EMULATOR_ACCOUNT, EMULATOR_ACCOUNT_KEY};

use super::{ConnectError, Connection, Credential, Endpoints, PUBLIC_SUFFIX, at_suffix};

pub(super) const ACCOUNT_NAME: &str = "AccountName";
pub(super) const ACCOUNT_KEY: &str = "AccountKey";
pub(super) const SAS: &str = "SharedAccessSignature";
pub(super) const BLOB_ENDPOINT: &str = "BlobEndpoint";
pub(super) const QUEUE_ENDPOINT: &str = "QueueEndpoint";
pub(super) const TABLE_ENDPOINT: &str = "TableEndpoint";
const SUFFIX: &str = "EndpointSuffix";
const PROTOCOL: &str = "DefaultEndpointsProtocol";
const DEVELOPMENT: &str = "UseDevelopmentStorage";
const DEVELOPMENT_HOST: &str = "DevelopmentStorageProxyUri";

const KNOWN: [&str; 10] = [
    ACCOUNT_NAME,
    ACCOUNT_KEY,
    SAS,
    BLOB_ENDPOINT,
    QUEUE_ENDPOINT,
    TABLE_ENDPOINT,
    SUFFIX,
    PROTOCOL,
    DEVELOPMENT,
    DEVELOPMENT_HOST,
];

/// The known keys of a connection string with their values.
struct Parts<'a>(Vec<(&'static str, &'a str)>);

impl<'a> Parts<'a> {
    fn read(text: &'a str) -> Result<Self, ConnectError> {
        let mut parts: Vec<(&'static str, &str)> = Vec::new();
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            // What has no "=" may be a bare key of the account: it is not shown.
            let Some((key, value)) = part.split_once('=') else {
                return Err(ConnectError::invalid("a part", "is not of the form key=value"));
            };
            let Some(key) = KNOWN.into_iter().find(|known| known.eq_ignore_ascii_case(key.trim()))
            else {
                continue;
            };
            if parts.iter().any(|(known, _)| *known == key) {
                return Err(ConnectError::invalid(key, "is given twice"));
            }
            // An empty value means the same as no such key.
            if !value.trim().is_empty() {
                parts.push((key, value.trim()));
            }
        }
        Ok(Self(parts))
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.0.iter().find(|(known, _)| *known == key).map(|(_, value)| *value)
    }
}

/// Reads a connection string.
pub(super) fn connection(text: &str) -> Result<Connection, ConnectError> {
    let parts = Parts::read(text)?;
    match parts.get(DEVELOPMENT) {
        Some(value) if value.eq_ignore_ascii_case("true") => return development(&parts),
        Some(value) if value.eq_ignore_ascii_case("false") => {}
        Some(_) => return Err(ConnectError::invalid(DEVELOPMENT, "is neither true nor false")),
        None => {}
    }
    let credential = match (parts.get(ACCOUNT_KEY), parts.get(SAS)) {
        (Some(_), Some(_)) => {
            return Err(ConnectError::invalid(SAS, "stands beside AccountKey: give one of them"));
        }
        (Some(key), None) => Credential::key(key)?,
        (None, Some(token)) => Credential::sas(token)?,
        (None, None) => return Err(ConnectError::Missing { key: ACCOUNT_KEY }),
    };
    let endpoints = endpoints(&parts)?.checked()?;
    let account = match (parts.get(ACCOUNT_NAME), &credential) {
        (Some(account), _) => account.to_owned(),
        // It is part of what a key signs, and must not be guessed.
        (None, Credential::Key(_)) => return Err(ConnectError::Missing { key: ACCOUNT_NAME }),
        (None, Credential::Sas(_) | Credential::Token(_)) => endpoints.account(),
    };
    Ok(Connection { account, credential, endpoints })
}

/// The emulator, on this machine or at the host that the string names.
fn development(parts: &Parts<'_>) -> Result<Connection, ConnectError> {
    let base = parts.get(DEVELOPMENT_HOST).unwrap_or("http://127.0.0.1").trim_end_matches('/');
    let endpoints = Endpoints::emulator(base).checked().map_err(|_| {
        ConnectError::invalid(DEVELOPMENT_HOST, "is not of the form http://host, without a port")
    })?;
    Ok(Connection {
        account: EMULATOR_ACCOUNT.to_owned(),
        credential: Credential::Key(Secret::new(EMULATOR_ACCOUNT_KEY)),
        endpoints,
    })
}

/// Those that are named, and for the rest the account's own under the suffix.
fn endpoints(parts: &Parts<'_>) -> Result<Endpoints, ConnectError> {
    let protocol = match parts.get(PROTOCOL) {
        None => "https",
        Some(value) if value.eq_ignore_ascii_case("https") => "https",
        Some(value) if value.eq_ignore_ascii_case("http") => "http",
        Some(_) => return Err(ConnectError::invalid(PROTOCOL, "is neither http nor https")),
    };
    let suffix = parts.get(SUFFIX).unwrap_or(PUBLIC_SUFFIX);
    let usual = parts
        .get(ACCOUNT_NAME)
        .map(|account| at_suffix(protocol, account, suffix.trim_matches(['.', '/'])));
    let one = |key: &'static str, usual: Option<&String>| match (parts.get(key), usual) {
        (Some(endpoint), _) => Ok(endpoint.to_owned()),
        (None, Some(usual)) => Ok(usual.clone()),
        (None, None) => Err(ConnectError::Missing { key }),
    };
    Ok(Endpoints {
        blob: one(BLOB_ENDPOINT, usual.as_ref().map(|usual| &usual.blob))?,
        queue: one(QUEUE_ENDPOINT, usual.as_ref().map(|usual| &usual.queue))?,
        table: one(TABLE_ENDPOINT, usual.as_ref().map(|usual| &usual.table))?,
    })
}
