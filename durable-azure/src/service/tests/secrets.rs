//! Nothing that is logged or said carries a key, a signature or a token, also with every log line on.

use std::io;
use std::sync::{Arc, Mutex};

use azure_core::auth::{AccessToken, TokenCredential};
use futures::future::join_all;
use tracing_subscriber::filter::LevelFilter;

use super::server::{Answer, Server};
use super::*;
use crate::connection::Endpoints;

const SECRET: &str = "c2VjcmV0LWtleS1vZi10aGUtYWNjb3VudA==";
const SIGNATURE: &str = "VerySecretSignature";
const TOKEN: &str = "very-secret-token";

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Takes what this thread logs at the finest level from here on, also through the `log` facade.
    fn start() -> (Self, tracing::subscriber::DefaultGuard) {
        // Fails where another test has done it already.
        let _ = tracing_log::LogTracer::init();
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(LevelFilter::TRACE)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

#[derive(Debug)]
struct Token(Result<(), &'static str>);

#[async_trait::async_trait]
impl TokenCredential for Token {
    async fn get_token(&self, _: &[&str]) -> azure_core::Result<AccessToken> {
        match self.0 {
            Ok(()) => {
                let expires = azure_core::date::parse_rfc3339("2099-01-01T00:00:00Z")?;
                Ok(AccessToken::new(TOKEN, expires))
            }
            Err(why) => {
                Err(azure_core::Error::message(azure_core::error::ErrorKind::Credential, why))
            }
        }
    }

    async fn clear_cache(&self) -> azure_core::Result<()> {
        Ok(())
    }
}

fn connections(at: &Endpoints) -> [Connection; 3] {
    let key = Connection::account_key("acct1", SECRET).unwrap();
    let token = Connection::with_credential("acct1", Arc::new(Token(Ok(())))).unwrap();
    [
        key.with_endpoints(at.clone()).unwrap(),
        Connection::sas(at.clone(), &format!("sv=1&sig={SIGNATURE}%2B")).unwrap(),
        token.with_endpoints(at.clone()).unwrap(),
    ]
}

/// One call of each service; the words of their faults.
async fn calls(connection: Connection) -> String {
    let options =
        ServiceOptions { request_timeout: Duration::from_millis(500), ..ServiceOptions::default() };
    let service = Service::connect(&connection, &names(), &options).unwrap();
    let put = [Op::Put { key: "a".into(), columns: Columns::new() }];
    let table = service.table("t");
    format!(
        "{service:?} {table:?} {:?} {:?} {:?} {:?} {:?} {:?}",
        table.transact("p", &put).await,
        table.get("p", "a").await,
        service.queue("q").put("a").await,
        service.queue("q").remove("a", "b").await,
        service.container().put_new("a", vec![1]).await,
        service.container().list("", None).await,
    )
}

/// What a request was signed with, as the server saw it.
fn signatures(requests: &[String]) -> Vec<String> {
    let of = |line: &str| {
        let (name, value) = line.split_once(':')?;
        let value = value.trim().rsplit([' ', ':']).next()?;
        name.eq_ignore_ascii_case("authorization").then(|| value.to_owned())
    };
    requests.iter().flat_map(|request| request.lines().filter_map(of)).collect()
}

#[tokio::test]
async fn whatever_the_answer_nothing_secret_is_logged_or_said() {
    let (log, _guard) = Log::start();
    let checks = [
        Answer::status("200 OK", "", "<html>"),
        Answer::status("403 x", "x-ms-error-code: AuthenticationFailed\r\n", ""),
        Answer::status("404 x", "", ""),
        Answer::status("500 x", "", ""),
        Answer::Close,
        Answer::Hang(String::new()),
    ]
    .map(|answer| async {
        let server = Server::start(vec![answer]).await;
        let said = join_all(connections(&server.endpoints()).map(calls)).await.concat();
        let requests = server.requests();
        let sent = |what: &str| requests.iter().any(|request| request.contains(what));
        assert!(sent("SharedKey acct1:") && sent(SIGNATURE) && sent(TOKEN));
        (said, signatures(&requests))
    });
    let results = join_all(checks).await;
    let log = log.text();
    // The test sees something: the crates do log at this level.
    for target in ["AuthorizationPolicy", "reqwest", "hyper_util"] {
        assert!(log.contains(target), "{target}");
    }
    for (said, mut secrets) in results {
        assert!(secrets.len() > 3, "{secrets:?}");
        secrets.extend([SECRET, SIGNATURE, TOKEN].map(str::to_owned));
        for secret in secrets {
            assert!(!said.contains(&secret), "{secret} is said: {said}");
            assert!(!log.contains(&secret), "{secret} is logged");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_reached_is_said_without_its_signature() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}/acct1", listener.local_addr().unwrap());
    drop(listener);
    let at = Endpoints { blob: endpoint.clone(), queue: endpoint.clone(), table: endpoint };
    let (log, _guard) = Log::start();
    let said = join_all(connections(&at).map(calls)).await.concat();
    let log = log.text();
    assert!(said.contains("Unreachable"), "{said}");
    for secret in [SECRET, SIGNATURE, TOKEN] {
        assert!(!log.contains(secret) && !said.contains(secret), "{log}{said}");
    }
}

#[tokio::test]
async fn without_a_token_nothing_is_sent() {
    let server = Server::start(vec![Answer::Close]).await;
    let token = Token(Err("run `az login`"));
    let connection = Connection::with_credential("acct1", Arc::new(token)).unwrap();
    let connection = connection.with_endpoints(server.endpoints()).unwrap();
    let service = Service::connect(&connection, &names(), &ServiceOptions::default()).unwrap();
    let fault = service.queue("q").put("a").await.unwrap_err();
    let Fault::Denied { reason } = fault else { panic!("{fault:?}") };
    assert!(reason.contains("run `az login`"), "{reason}");
    assert!(server.requests().is_empty());
    assert_eq!(service.transactions().total(), 0);
}

#[tokio::test]
async fn a_wrong_key_is_denied() {
    let names = names();
    let connection = Connection::account_key("devstoreaccount1", SECRET).unwrap();
    let connection = connection.with_endpoints(super::connection().endpoints().clone()).unwrap();
    let service = Service::connect(&connection, &names, &ServiceOptions::default()).unwrap();
    for fault in [
        service.table(&names.table).create().await.unwrap_err(),
        service.queue(&names.queue_prefix).put("a").await.unwrap_err(),
        service.container().get("a").await.unwrap_err(),
    ] {
        assert!(matches!(fault, Fault::Denied { .. }), "{fault:?}");
        assert!(!fault.to_string().contains(SECRET), "{fault}");
    }
}
