//! What only a socket shows: slow bodies, chunked ones, and a conversation from start to end.

use std::net::SocketAddr;

use durable_core::MemoryStore;
use durable_core::http::{ManagementApi, ManagementApiBuilder};
use durable_core::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::functions::registry;
use super::server::BASE;

/// A server on a port of its own. The worker is kept with it.
async fn serve(
    set: impl FnOnce(ManagementApiBuilder) -> ManagementApiBuilder,
) -> (Worker, SocketAddr) {
    let worker =
        Worker::builder(MemoryStore::new()).registry(registry()).start().await.expect("it starts");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let api = set(ManagementApi::builder(worker.client()).listen(address))
        .build()
        .expect("it makes sense");
    let app = api.app(address).expect("it is safe");
    tokio::spawn(async move { axum::serve(listener, app).await });
    (worker, address)
}

/// Sends this, and reads until the server has nothing more to say.
async fn talk(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream.write_all(request.as_bytes()).await.expect("it is sent");
    let mut answer = Vec::new();
    // A server that refuses a body may close before it has taken all of it.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).expect("a text")
}

fn code(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

fn head(verb: &str, path: &str, address: SocketAddr, more: &str) -> String {
    format!("{verb} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{more}\r\n")
}

#[tokio::test]
async fn a_conversation_from_start_to_end() {
    let (_worker, address) = serve(|api| api).await;
    let path = format!("{BASE}/orchestrators/WaitForApproval/order%207");
    let started = talk(address, &head("POST", &path, address, "Content-Length: 0\r\n")).await;
    assert_eq!(code(&started), "202", "{started}");
    let link = format!("http://{address}{BASE}/instances/order%207?taskHub=default");
    assert!(started.contains(&link), "{started}");
    let path = format!("{BASE}/instances/order%207/raiseEvent/approval");
    let json = "Content-Type: application/json\r\nContent-Length: 5\r\n";
    let raised = talk(address, &(head("POST", &path, address, json) + "\"yes\"")).await;
    assert_eq!(code(&raised), "202", "{raised}");
    loop {
        let path = format!("{BASE}/instances/order%207");
        let status = talk(address, &head("GET", &path, address, "")).await;
        if code(&status) == "200" {
            assert!(status.contains("\"output\":\"yes\""), "{status}");
            break;
        }
        assert_eq!(code(&status), "202", "{status}");
    }
}

#[tokio::test]
async fn health_is_told_to_head_without_a_body() {
    let (_worker, address) = serve(|api| api).await;
    for path in ["/healthz", "/readyz", "/metrics"] {
        let answer = talk(address, &head("HEAD", path, address, "")).await;
        assert!(code(&answer) == "200" && answer.ends_with("\r\n\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn a_chunked_body_over_the_limit_is_cut_off() {
    let (_worker, address) = serve(|api| api.limits(|limits| limits.body_bytes = 10)).await;
    let path = format!("{BASE}/orchestrators/Echo/a");
    let chunked = head("POST", &path, address, "Transfer-Encoding: chunked\r\n");
    let fits = format!("{chunked}5\r\n\"1234\r\n5\r\n5678\"\r\n0\r\n\r\n");
    assert_eq!(code(&talk(address, &fits).await), "202");
    let over = format!("{chunked}5\r\n\"1234\r\n6\r\n56789\"\r\n0\r\n\r\n");
    assert_eq!(code(&talk(address, &over).await), "413");
    let told = head("POST", &path, address, "Content-Length: 11\r\n");
    assert_eq!(code(&talk(address, &told).await), "413", "before it has come");
}

#[tokio::test]
async fn a_slow_body_is_given_up() {
    let (_worker, address) = serve(|api| api.limits(|limits| limits.body_time = millis(50))).await;
    let path = format!("{BASE}/orchestrators/Echo/a");
    let half = head("POST", &path, address, "Content-Length: 10\r\n") + "\"1234";
    assert_eq!(code(&talk(address, &half).await), "408");
    let status = talk(address, &head("GET", &format!("{BASE}/instances/a"), address, "")).await;
    assert_eq!(code(&status), "404", "nothing was started");
}

#[tokio::test]
async fn who_goes_away_gives_the_place_to_wait_to_the_next() {
    let (worker, address) = serve(|api| api.limits(|limits| limits.waiting = 1)).await;
    let waits = "timeout=3600&pollingInterval=1";
    let first = format!("{BASE}/orchestrators/WaitForApproval/first?{waits}");
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = head("POST", &first, address, "Content-Length: 0\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let client = worker.client();
    while client.status("first").await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    let second = format!("{BASE}/orchestrators/Echo?{waits}");
    let ask =
        || async { talk(address, &head("POST", &second, address, "Content-Length: 0\r\n")).await };
    assert_eq!(code(&ask().await), "503");
    drop(stream);
    // What it started goes on, and the place is free as soon as the server has seen it leave.
    let mut answer = ask().await;
    while code(&answer) == "503" {
        answer = ask().await;
    }
    assert_eq!(code(&answer), "200", "{answer}");
    assert!(!client.status("first").await.unwrap().unwrap().has_ended());
}

#[tokio::test]
async fn what_is_ambiguous_is_read_in_one_way() {
    let (_worker, address) = serve(|api| api).await;
    let path = format!("{BASE}/orchestrators/Echo/a");
    for (more, body, expected) in [
        ("Content-Length: 1\r\nContent-Length: 2\r\n", "1", "400"),
        // The chunks count: this is an empty body.
        ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n", "202"),
        ("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n", "400"),
        ("X-A: b\rc: d\r\nContent-Length: 1\r\n", "1", "400"),
        ("Host: evil.example\r\nContent-Length: 1\r\n", "1", "403"),
    ] {
        let answer = talk(address, &(head("POST", &path, address, more) + body)).await;
        assert_eq!(code(&answer), expected, "{more}: {answer}");
    }
    // No line of a header comes out of what came in.
    let path = format!("{BASE}/orchestrators/WaitForApproval/a%0D%0AX-Evil:%20yes");
    let answer = talk(address, &head("POST", &path, address, "Content-Length: 0\r\n")).await;
    assert!(code(&answer) == "400" && !answer.contains("\r\nX-Evil"), "{answer}");
}
