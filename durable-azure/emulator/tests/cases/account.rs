//! A client of the storage account that signs its requests and knows nothing of retries.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use durable_emulator::{ACCOUNT_KEY, ACCOUNT_NAME, Endpoints, Service};
use reqwest::{Client, Method, Response};
use sha2::{Digest, Sha256};

/// The signature holds a date, which the emulator only reads.
const DATE: &str = "Sat, 03 Jan 2026 10:00:00 GMT";

pub(crate) struct Account {
    client: Client,
    endpoints: Endpoints,
}

impl Account {
    /// Gives up on a request after two seconds.
    pub(crate) fn at(endpoints: &Endpoints) -> Self {
        let client = Client::builder().timeout(Duration::from_secs(2)).build().unwrap();
        Self { client, endpoints: endpoints.clone() }
    }

    pub(crate) async fn send(
        &self,
        service: Service,
        method: &str,
        path: &str,
        content_type: &str,
        body: String,
    ) -> reqwest::Result<Response> {
        let url = format!("{}{path}", self.endpoints.of(service));
        let signature = signature(service, method, path, content_type, body.len());
        self.client
            .request(Method::from_bytes(method.as_bytes()).unwrap(), url)
            .header("x-ms-date", DATE)
            .header("x-ms-version", "2019-02-02")
            .header("Accept", "application/json;odata=nometadata")
            .header("Content-Type", content_type)
            .header("Content-Length", body.len())
            .header("Authorization", format!("SharedKey {ACCOUNT_NAME}:{signature}"))
            .body(body)
            .send()
            .await
    }

    pub(crate) async fn create_queue(&self, name: &str) {
        let created =
            self.send(Service::Queue, "PUT", &format!("/{name}"), "", String::new()).await;
        assert_eq!(created.unwrap().status(), 201);
    }

    pub(crate) async fn put_message(&self, queue: &str) -> reqwest::Result<Response> {
        let body = "<QueueMessage><MessageText>bWVzc2FnZQ==</MessageText></QueueMessage>";
        let path = format!("/{queue}/messages");
        self.send(Service::Queue, "POST", &path, "application/xml", body.to_owned()).await
    }

    pub(crate) async fn messages(&self, queue: &str) -> usize {
        let path = format!("/{queue}/messages?peekonly=true&numofmessages=32");
        let answer = self.send(Service::Queue, "GET", &path, "", String::new()).await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.text().await.unwrap().matches("<MessageText>").count()
    }

    pub(crate) async fn create_table(&self, name: &str) {
        let body = format!(r#"{{"TableName":"{name}"}}"#);
        let created = self.send(Service::Table, "POST", "/Tables", "application/json", body).await;
        assert_eq!(created.unwrap().status(), 201);
    }

    /// A transaction that inserts one row.
    pub(crate) async fn insert(&self, table: &str, row: &str) -> reqwest::Result<Response> {
        let url = format!("{}/{table}", self.endpoints.table);
        let row = format!(r#"{{"PartitionKey":"p","RowKey":"{row}"}}"#);
        let body = [
            "--batch_b",
            "Content-Type: multipart/mixed; boundary=changeset_c",
            "",
            "--changeset_c",
            "Content-Type: application/http",
            "Content-Transfer-Encoding: binary",
            "",
            &format!("POST {url} HTTP/1.1"),
            "Accept: application/json;odata=minimalmetadata",
            "Content-Type: application/json",
            "Prefer: return-no-content",
            "DataServiceVersion: 3.0;",
            "",
            &row,
            "--changeset_c--",
            "--batch_b",
            "",
        ];
        let content_type = "multipart/mixed; boundary=batch_b";
        self.send(Service::Table, "POST", "/$batch", content_type, body.join("\r\n")).await
    }

    pub(crate) async fn rows(&self, table: &str) -> usize {
        let path = format!("/{table}()");
        let answer = self.send(Service::Table, "GET", &path, "", String::new()).await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.text().await.unwrap().matches("RowKey").count()
    }
}

fn signature(
    service: Service,
    method: &str,
    path: &str,
    content_type: &str,
    length: usize,
) -> String {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    // The account twice: its own name, and the path, which begins with it here.
    let mut resource = format!("/{ACCOUNT_NAME}/{ACCOUNT_NAME}{path}");
    let signed = if service == Service::Table {
        format!("{method}\n\n{content_type}\n{DATE}\n{resource}")
    } else {
        let mut parameters: Vec<&str> = query.split('&').filter(|one| !one.is_empty()).collect();
        parameters.sort_unstable();
        for parameter in parameters {
            resource.push('\n');
            resource.push_str(&parameter.replace('=', ":"));
        }
        let length = if length == 0 { String::new() } else { length.to_string() };
        format!(
            "{method}\n\n\n{length}\n\n{content_type}\n\n\n\n\n\n\n\
             x-ms-date:{DATE}\nx-ms-version:2019-02-02\n{resource}"
        )
    };
    BASE64_STANDARD.encode(hmac(&BASE64_STANDARD.decode(ACCOUNT_KEY).unwrap(), signed.as_bytes()))
}

/// HMAC-SHA256 (RFC 2104) with a key of at most one block.
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let padded = |pad: u8| {
        let mut block = [pad; 64];
        for (byte, key) in block.iter_mut().zip(key) {
            *byte ^= key;
        }
        Sha256::new().chain_update(block)
    };
    let inner = padded(0x36).chain_update(message).finalize();
    padded(0x5c).chain_update(inner).finalize().into()
}
