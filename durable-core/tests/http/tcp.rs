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
    let read = tokio::time::timeout(secs(60), stream.read_to_end(&mut answer)).await;
    assert!(
        read.is_ok(),
        "the server leaves it open: {request:.200}: {}",
        String::from_utf8_lossy(&answer)
    );
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

/// A server where one instance waits.
async fn serve_one() -> (Worker, SocketAddr) {
    let (worker, address) = serve(|api| api).await;
    worker.client().start_by_name("WaitForApproval", &1).id("there").await.expect("it starts");
    (worker, address)
}

#[tokio::test]
async fn what_is_ambiguous_is_read_in_one_way() {
    let (worker, address) = serve_one().await;
    let path = format!("{BASE}/orchestrators/Echo/a");
    for (more, body, expected) in [
        ("Content-Length: 1\r\nContent-Length: 2\r\n", "1", "400"),
        ("Content-Length: 1, 2\r\n", "1", "400"),
        ("Content-Length: +1\r\n", "1", "400"),
        ("Content-Length: -1\r\n", "1", "400"),
        ("Content-Length: 0x1\r\n", "1", "400"),
        ("Content-Length: 1 1\r\n", "1", "400"),
        ("Content-Length: 99999999999999999999\r\n", "1", "400"),
        ("Content-Length:\r\n", "1", "400"),
        ("Content-Length : 1\r\n", "1", "400"),
        ("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n", "400"),
        ("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n", "400"),
        ("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n", "400"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n", "400"),
        ("Transfer-Encoding: chunked\r\n", "x\r\n1\r\n0\r\n\r\n", "400"),
        ("Transfer-Encoding: chunked\r\n", "1\r\n12\r\n0\r\n\r\n", "400"),
        ("Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\n1\r\n0\r\n\r\n", "400"),
        ("Transfer-Encoding: chunked\r\n", "-1\r\n1\r\n0\r\n\r\n", "400"),
        ("X-A: b\rc: d\r\nContent-Length: 1\r\n", "1", "400"),
        ("X-A: b\r\n c: d\r\nContent-Length: 1\r\n", "1", "400"),
        ("X-A: b\r\n\tc\r\nContent-Length: 1\r\n", "1", "400"),
        (" X-A: b\r\nContent-Length: 1\r\n", "1", "400"),
        ("X-A\r\nContent-Length: 1\r\n", "1", "400"),
        ("X-A: \0\r\nContent-Length: 1\r\n", "1", "400"),
        ("X A: b\r\nContent-Length: 1\r\n", "1", "400"),
        (": b\r\nContent-Length: 1\r\n", "1", "400"),
        ("Host: evil.example\r\nContent-Length: 1\r\n", "1", "403"),
        ("Host: 127.0.0.1\r\nContent-Length: 1\r\n", "1", "403"),
    ] {
        let answer = talk(address, &(head("POST", &path, address, more) + body)).await;
        assert_eq!(code(&answer), expected, "{more:?} {body:?}: {answer}");
    }
    assert!(worker.client().status("a").await.unwrap().is_none(), "nothing was started");
    // No line of a header comes out of what came in.
    let path = format!("{BASE}/orchestrators/WaitForApproval/a%0D%0AX-Evil:%20yes");
    let answer = talk(address, &head("POST", &path, address, "Content-Length: 0\r\n")).await;
    assert!(code(&answer) == "400" && !answer.contains("\r\nX-Evil"), "{answer}");
}

#[tokio::test]
async fn a_request_within_a_request_is_not_carried_out() {
    let (worker, address) = serve_one().await;
    let inner = format!(
        "POST {BASE}/instances/there/terminate HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\n\r\n"
    );
    let start = format!("POST {BASE}/orchestrators/Echo HTTP/1.1\r\nHost: {address}\r\n");
    let all = inner.len() + 5;
    for (more, body, expected) in [
        // Who stands in front may have counted the length, and taken what follows for the body.
        (format!("Content-Length: {all}\r\nTransfer-Encoding: chunked\r\n"), "0\r\n\r\n", "202"),
        (format!("Transfer-Encoding: chunked\r\nContent-Length: {all}\r\n"), "0\r\n\r\n", "202"),
        (format!("Content-Length: 0\r\nContent-Length: {}\r\n", inner.len()), "", "400"),
        (format!("Transfer-Encoding: xchunked\r\nContent-Length: {all}\r\n"), "0\r\n\r\n", "400"),
        (format!("Content-Length : {}\r\n", inner.len()), "", "400"),
        (format!("Content-Length: {}\r\nConnection: close\r\n", inner.len()), "", "400"),
    ] {
        let answer = talk(address, &format!("{start}{more}\r\n{body}{inner}")).await;
        assert_eq!(code(&answer), expected, "{more:?}: {answer}");
        let answers = answer.matches("HTTP/1.1 ").count();
        assert_eq!(answers, 1, "{more:?}: {answer}");
    }
    let there = worker.client().status("there").await.unwrap().unwrap();
    assert!(!there.has_ended(), "{there:?}");
}

#[tokio::test]
async fn what_is_no_request_is_answered_all_the_same() {
    let (worker, address) = serve_one().await;
    let there = format!("{BASE}/instances/there");
    let of = |line: &str| format!("{line}\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let get = |path: &str| of(&format!("GET {path} HTTP/1.1"));
    let mut wrong = Vec::new();
    for (request, expected) in [
        (get(&there), "202"),
        (get(&format!("http://{address}{there}")), "202"),
        // The URL names another host than the header.
        (get(&format!("http://evil.example{there}")), "403"),
        (of(&format!("GET {there} HTTP/1.0")), "202"),
        (format!("GET {there} HTTP/1.1\r\nConnection: close\r\n\r\n"), "202"),
        (of(&format!("GET {there} HTTP/3.0")), "400"),
        (of(&format!("GET  {there} HTTP/1.1")), "400"),
        (of(&format!("GET {there}\tHTTP/1.1")), "400"),
        (of(&format!("GET {there}")), "400"),
        (of("GET"), "400"),
        (of("\0\0\0\0 / HTTP/1.1"), "400"),
        (of("\u{16}\u{3}\u{1}\u{2}"), "400"),
        (get("instances"), "404"),
        (get(&format!("{there}/a b")), "400"),
        (get(&format!("{there}\\..\\x")), "404"),
        (get(&format!("{there}\0")), "400"),
        (get(&format!("{there}#fragment")), "202"),
        (get("*"), "404"),
        (of("OPTIONS * HTTP/1.1"), "404"),
        (of(&format!("CONNECT {address} HTTP/1.1")), "404"),
        (get(&format!("{BASE}/../../../etc/passwd")), "404"),
        (get(&format!("{BASE}/%2e%2e/%2e%2e/instances")), "404"),
        (get(&format!("/x/..{there}")), "404"),
        (get(&format!("{BASE}//instances/there")), "404"),
        (get(&format!("/{there}")), "404"),
        (get(&format!("{BASE};x/instances/there")), "404"),
        (get(&format!("{BASE}%2Finstances%2Fthere")), "404"),
        (get(&format!("{there}/{}", "x".repeat(20_000))), "414"),
        (get(&format!("{there}/{}", "x".repeat(70_000))), "414"),
        (of(&format!("GET {there} HTTP/1.1\r\nX: {}", "x".repeat(40_000))), "431"),
        (of(&format!("GET {there} HTTP/1.1{}", "\r\nX: 1".repeat(200))), "431"),
    ] {
        let answer = talk(address, &request).await;
        let shown = request.chars().take(100).collect::<String>();
        if code(&answer) != expected {
            wrong.push(format!("{shown:?} is not {expected} but {answer}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(!worker.client().status("there").await.unwrap().unwrap().has_ended());
}
