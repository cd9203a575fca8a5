//! A listener with bounds, and the port of the client libraries.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Instant;

use axum::Router;
use durable_core::MemoryStore;
use durable_core::http::{HttpLimits, ManagementApi, RpcListener, serve};
use durable_core::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::functions::registry;
use super::server::BASE;

/// A server that is told when to end. The worker is kept with it.
struct Served {
    worker: Worker,
    address: SocketAddr,
    end: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

async fn worker() -> Worker {
    Worker::builder(MemoryStore::new()).registry(registry()).start().await.expect("it starts")
}

async fn served(set: impl FnOnce(&mut HttpLimits)) -> Served {
    let worker = worker().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let api = ManagementApi::builder(worker.client()).listen(address).build().expect("an API");
    let app = api.app(address).expect("it is safe");
    let (end, told) = oneshot::channel();
    let mut limits = HttpLimits::default();
    set(&mut limits);
    let ended = tokio::spawn(async move {
        serve(listener, app, &limits, async { _ = told.await }).await;
    });
    Served { worker, address, end, ended }
}

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.expect("it listens")
}

fn get(path: &str, host: impl std::fmt::Display) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

/// Sends this, and reads the head of the answer and what has come with it.
async fn ask(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.expect("it is sent");
    let mut answer = vec![0; 64 * 1024];
    let length = stream.read(&mut answer).await.expect("it is answered");
    String::from_utf8(answer[..length].to_vec()).expect("a text")
}

fn code(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest).await {
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

#[tokio::test]
async fn a_head_that_does_not_come_is_not_waited_for() {
    let server = served(|limits| limits.header_time = secs(1)).await;
    let in_the_middle = async {
        let mut slow = connect(server.address).await;
        slow.write_all(b"GET /healthz HTTP/1.1\r\nHost: ").await.unwrap();
        is_closed(&mut slow).await
    };
    let before = async { is_closed(&mut connect(server.address).await).await };
    let after_an_answer = async {
        let mut idle = connect(server.address).await;
        assert_eq!(code(&ask(&mut idle, &get("/healthz", "localhost")).await), "200");
        is_closed(&mut idle).await
    };
    assert_eq!(tokio::join!(in_the_middle, before, after_an_answer), (true, true, true));
}

#[tokio::test]
async fn a_head_beyond_all_bounds_is_not_kept() {
    let server = served(|limits| (limits.url_bytes, limits.header_bytes) = (4096, 4096)).await;
    let path = format!("/healthz?{}", "x".repeat(256 * 1024));
    let mut stream = connect(server.address).await;
    // It may close before it has been told all of it.
    _ = stream.write_all(get(&path, "localhost").as_bytes()).await;
    let mut answer = [0; 12];
    match stream.read_exact(&mut answer).await {
        Ok(_) => assert_eq!(&answer, b"HTTP/1.1 431"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    let many = "x: y\r\n".repeat(200);
    let request = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{many}\r\n");
    assert_eq!(code(&ask(&mut connect(server.address).await, &request).await), "431");
}

#[tokio::test]
async fn who_does_not_take_the_answer_does_not_get_all_of_it() {
    const BYTES: usize = 64 * 1024 * 1024;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let app = Router::new().route("/", axum::routing::get(async || vec![b'x'; BYTES]));
    let mut limits = HttpLimits::default();
    limits.answer_time = secs(1);
    tokio::spawn(async move { serve(listener, app, &limits, std::future::pending()).await });
    let mut takes = connect(address).await;
    let mut leaves = connect(address).await;
    for stream in [&mut takes, &mut leaves] {
        stream.write_all(get("/", address).as_bytes()).await.unwrap();
    }
    let mut all = vec![0; BYTES];
    takes.read_exact(&mut all).await.expect("it takes what comes");
    tokio::time::sleep(secs(3)).await;
    let mut some = Vec::new();
    _ = leaves.read_to_end(&mut some).await;
    assert!(some.len() < BYTES, "what was under way is all that came: {} bytes", some.len());
}

#[tokio::test]
async fn who_comes_when_all_places_are_taken_waits_for_one() {
    let server = served(|limits| limits.connections = 1).await;
    let mut first = connect(server.address).await;
    assert_eq!(code(&ask(&mut first, &get("/healthz", "localhost")).await), "200");
    // The system takes the connection, and the server leaves it there.
    let mut second = connect(server.address).await;
    let request = get("/healthz", "localhost");
    let mut asking = Box::pin(ask(&mut second, &request));
    assert!(tokio::time::timeout(millis(50), &mut asking).await.is_err());
    assert_eq!(code(&ask(&mut first, &get("/healthz", "localhost")).await), "200");
    drop(first);
    assert_eq!(code(&asking.await), "200");
}

/// A connection on which an instance was started, whose end is waited for.
async fn who_waits(server: &Served, which: &str) -> TcpStream {
    let mut waits = connect(server.address).await;
    let path = format!("{BASE}/orchestrators/WaitForApproval{which}&pollingInterval=1");
    let start = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    waits.write_all(start.as_bytes()).await.expect("it is taken");
    waits
}

/// The id of the one instance, as soon as there is one.
async fn until_begun(client: &Client) -> InstanceId {
    loop {
        let all = client.instances().page(None, 2).await.expect("they are read").instances;
        if let [one] = &all[..] {
            return one.id().clone();
        }
        tokio::time::sleep(millis(1)).await;
    }
}

#[tokio::test]
async fn what_is_under_way_is_answered_before_the_end() {
    let server = served(|limits| limits.closing = secs(60)).await;
    let mut waits = who_waits(&server, "/a?timeout=60").await;
    let client = server.worker.client();
    until_begun(&client).await;
    let mut idle = connect(server.address).await;
    assert_eq!(code(&ask(&mut idle, &get("/healthz", "localhost")).await), "200");
    server.end.send(()).unwrap();
    assert!(is_closed(&mut idle).await, "nothing is under way here");
    client.instance("a").unwrap().raise_event("approval", &"yes").await.unwrap();
    let answer = ask(&mut waits, "").await;
    assert!(code(&answer) == "200" && answer.ends_with("\"yes\""), "{answer}");
    server.ended.await.unwrap();
    let refused = TcpStream::connect(server.address).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn the_end_is_not_put_off_for_ever() {
    let server = served(|limits| limits.closing = millis(50)).await;
    let mut waits = who_waits(&server, "/a?timeout=3600").await;
    let client = server.worker.client();
    until_begun(&client).await;
    let began = Instant::now();
    server.end.send(()).unwrap();
    server.ended.await.unwrap();
    assert!(is_closed(&mut waits).await);
    assert!(began.elapsed() < secs(60));
    assert!(client.status("a").await.unwrap().is_some(), "what was started stays");
}

#[tokio::test]
async fn who_waits_at_the_end_is_told_where_to_look() {
    let server = served(|limits| limits.closing = millis(50)).await;
    let mut waits = who_waits(&server, "?timeout=3600").await;
    let id = until_begun(&server.worker.client()).await;
    server.end.send(()).unwrap();
    server.ended.await.unwrap();
    let mut answer = String::new();
    waits.read_to_string(&mut answer).await.unwrap();
    assert!(code(&answer) == "202" && answer.contains(&format!("{{\"id\":\"{id}\"")), "{answer}");
    assert!(answer.contains(&format!("/instances/{id}?taskHub=default")), "{answer}");
}

/// An API with a key, with a port of its own for client libraries.
async fn with_rpc() -> (Worker, ManagementApi, SocketAddr) {
    let worker = worker().await;
    let rpc = RpcListener::bind().await.expect("a port");
    let listen = ([127, 0, 0, 1], 7071).into();
    let builder = ManagementApi::builder(worker.client()).listen(listen).key("secret");
    let api = builder.rpc_port(&rpc).build().expect("an API");
    let address = rpc.address();
    let serving = api.clone();
    tokio::spawn(async move { rpc.serve(&serving, std::future::pending()).await });
    (worker, api, address)
}

#[tokio::test]
async fn client_libraries_have_a_port_without_a_key() {
    let (_worker, api, address) = with_rpc().await;
    let base = format!("http://{address}/durabletask/");
    assert_eq!(api.client_binding().rpc_base_url, base);
    assert!(address.ip().is_loopback());
    let start = |host: &str| {
        let line = format!("POST /durableTask/orchestrators/Echo/a HTTP/1.1\r\nHost: {host}\r\n");
        line + "Content-Length: 1\r\n\r\n7"
    };
    let mut stream = connect(address).await;
    let started = ask(&mut stream, &start(&address.to_string())).await;
    assert_eq!(code(&started), "202", "{started}");
    let public = "http://127.0.0.1:7071/runtime/webhooks/durabletask/instances/a?";
    assert!(started.contains(public) && started.contains("code=secret"), "{started}");
    for (path, host, expected) in [
        ("/durabletask/instances", "127.0.0.1", "200"),
        ("/durabletask/instances", "localhost:17071", "200"),
        ("/durabletask/instances", "evil.example", "403"),
        ("/durabletask/instances", "10.0.0.1:17071", "403"),
        ("/durabletask/nothing", "localhost", "404"),
        ("/runtime/webhooks/durabletask/instances?code=secret", "localhost", "404"),
        ("/healthz", "localhost", "404"),
        ("/metrics", "localhost", "404"),
    ] {
        let answer = ask(&mut connect(address).await, &get(path, host)).await;
        assert_eq!(code(&answer), expected, "{host} {path}: {answer}");
    }
    let foreign = "POST /durabletask/instances/a/terminate HTTP/1.1\r\nHost: localhost\r\n\
                   Origin: http://localhost:3000\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(code(&ask(&mut connect(address).await, foreign).await), "403");
}

#[tokio::test]
async fn with_a_port_of_their_own_libraries_have_no_way_in_through_the_other() {
    let (_worker, api, _) = with_rpc().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let app = api.app(address).expect("it is safe");
    tokio::spawn(async move {
        serve(listener, app, &HttpLimits::default(), std::future::pending()).await;
    });
    for (path, expected) in [
        ("/durabletask/instances".to_owned(), "404"),
        (format!("{BASE}/instances"), "401"),
        (format!("{BASE}/instances?code=secret"), "200"),
    ] {
        let answer = ask(&mut connect(address).await, &get(&path, address)).await;
        assert_eq!(code(&answer), expected, "{path}: {answer}");
    }
}
