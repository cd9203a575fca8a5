use std::time::Instant;

use super::server::{Answer, Server};
use super::*;
use crate::connection::Endpoints;

const LONG: Duration = Duration::from_secs(15);
const SHORT: Duration = Duration::from_millis(300);

fn put() -> Vec<Op> {
    vec![Op::Put { key: "a".into(), columns: Columns::new() }]
}

async fn write(server: &Server, timeout: Duration) -> Fault {
    server.service(timeout).table("t").transact("p", &put()).await.unwrap_err()
}

fn transaction(parts: &str) -> Answer {
    let body = format!("--batchresponse_1\r\n\r\n{parts}--batchresponse_1--\r\n");
    Answer::status("202 Accepted", "", &body)
}

fn part(status: &str, headers: &str, body: &str) -> String {
    format!(
        "--changesetresponse_2\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 {status}\r\n{headers}\r\n{body}\r\n"
    )
}

#[tokio::test]
async fn a_server_that_hangs_leaves_a_write_unknown() {
    for answer in [
        Answer::Hang(String::new()),
        Answer::Hang("HTTP/1.1 202 Accepted\r\nContent-Length: 10\r\n\r\nhalf".to_owned()),
        Answer::Hang("HTTP/1.1 202 Acc".to_owned()),
    ] {
        let server = Server::start(vec![answer]).await;
        let began = Instant::now();
        let fault = write(&server, SHORT).await;
        assert!(matches!(fault, Fault::Unknown { .. }), "{fault:?}");
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_lost_answer_leaves_a_write_unknown() {
    for answer in [
        Answer::Close,
        Answer::Bytes("HTTP/1.1 202 Accepted\r\nContent-Length: 100\r\n\r\nhalf".to_owned()),
        Answer::status("500 Internal Server Error", "", ""),
        Answer::status("500 x", "x-ms-error-code: OperationTimedOut\r\n", ""),
        Answer::status("502 Bad Gateway", "", "<html>"),
        Answer::status("504 Gateway Timeout", "", ""),
        Answer::status("202 Accepted", "", ""),
        transaction(&part(
            "500 x",
            "",
            r#"{"odata.error":{"code":"OperationTimedOut","message":{"value":"0:x"}}}"#,
        )),
    ] {
        let server = Server::start(vec![answer.clone()]).await;
        let fault = write(&server, LONG).await;
        assert!(matches!(fault, Fault::Unknown { .. }), "{answer:?}: {fault:?}");
        assert_eq!(server.requests().len(), 1, "{answer:?}");
    }
}

#[tokio::test]
async fn a_busy_server_is_not_asked_twice_for_a_write() {
    let busy = r#"{"odata.error":{"code":"ServerBusy","message":{"value":"0:x"}}}"#;
    for (answer, wait) in [
        (Answer::status("503 x", "x-ms-error-code: ServerBusy\r\nRetry-After: 7\r\n", ""), 7000),
        (Answer::status("503 x", "Retry-After: 2\r\n", ""), 2000),
        (Answer::status("429 x", "", ""), 500),
        (transaction(&part("503 x", "", busy)), 500),
    ] {
        let server = Server::start(vec![answer]).await;
        let service = server.service(LONG);
        let fault = service.table("t").transact("p", &put()).await.unwrap_err();
        let Fault::Throttled { retry_after, .. } = fault else { panic!("{fault:?}") };
        assert_eq!(retry_after, Duration::from_millis(wait));
        assert_eq!(service.transactions().of("table_transaction"), 1);
    }
}

#[tokio::test]
async fn a_read_is_tried_again_when_the_server_says() {
    let row = r#"{"odata.metadata":"m","PartitionKey":"p","RowKey":"a","v":5}"#;
    let found = Answer::status(
        "200 OK",
        "Server: s\r\nETag: W/\"1\"\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: application/json\r\nx-ms-request-id: 7a8b1c1e-0000-0000-0000-000000000000\r\nx-ms-version: 1\r\n",
        row,
    );
    let busy = Answer::status("503 x", "Retry-After: 1\r\n", "");
    let server = Server::start(vec![busy, Answer::Close, found]).await;
    let service = server.service(LONG);
    let began = Instant::now();
    let row = service.table("t").get("p", "a").await.unwrap().unwrap();
    assert_eq!(row.int("v"), Some(5));
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(service.transactions().of("table_get"), 3);
    // 1994-11-06T08:49:37Z
    let apart = service.clock().now().as_micros() - 784_111_777_000_000;
    assert!((0..5_000_000).contains(&apart), "{apart}");
}

#[tokio::test]
async fn a_read_gives_up_in_time() {
    let server = Server::start(vec![Answer::status("500 x", "", "")]).await;
    let service = server.service(LONG);
    let fault = service.table("t").get("p", "a").await.unwrap_err();
    assert!(matches!(fault, Fault::Unknown { .. }), "{fault:?}");
    assert_eq!(service.transactions().of("table_get"), 4);

    let server = Server::start(vec![Answer::status("503 x", "Retry-After: 60\r\n", "")]).await;
    let began = Instant::now();
    let fault = server.service(LONG).table("t").get("p", "a").await.unwrap_err();
    assert!(matches!(fault, Fault::Throttled { .. }), "{fault:?}");
    assert!(began.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn what_was_never_sent_is_unreachable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let endpoint = format!("http://{address}/devstoreaccount1");
    let endpoints = Endpoints { blob: endpoint.clone(), queue: endpoint.clone(), table: endpoint };
    let connection = Connection::emulator().with_endpoints(endpoints).unwrap();
    let service = Service::connect(&connection, &names(), &ServiceOptions::default()).unwrap();
    for fault in [
        service.table("t").transact("p", &put()).await.unwrap_err(),
        service.table("t").get("p", "a").await.unwrap_err(),
        service.queue("q").put("a").await.unwrap_err(),
        service.container().put_new("a", vec![]).await.unwrap_err(),
    ] {
        assert!(matches!(fault, Fault::Unreachable { .. }), "{fault:?}");
    }
    assert_eq!(service.transactions().total(), 0);
}

#[tokio::test]
async fn a_connection_that_does_not_come_about_is_unreachable_in_time() {
    // Neither server speaks TLS; the first does not even answer.
    for answer in [Answer::Hang(String::new()), Answer::status("400 x", "", "")] {
        let server = Server::start(vec![answer]).await;
        let https = server.endpoints().table.replace("http:", "https:");
        let at = Endpoints { blob: https.clone(), queue: https.clone(), table: https };
        let connection = Connection::emulator().with_endpoints(at).unwrap();
        let options = ServiceOptions { connect_timeout: SHORT, ..ServiceOptions::default() };
        let service = Service::connect(&connection, &names(), &options).unwrap();
        let began = Instant::now();
        let fault = service.table("t").transact("p", &put()).await.unwrap_err();
        assert!(matches!(fault, Fault::Unreachable { .. }), "{fault:?}");
        assert!(began.elapsed() < Duration::from_secs(3));
        assert_eq!(service.transactions().total(), 0);
    }
}

#[tokio::test]
async fn a_call_that_is_given_up_still_counts() {
    let server = Server::start(vec![Answer::Hang(String::new())]).await;
    let service = server.service(LONG);
    let table = service.table("t");
    let ops = put();
    let call = tokio::time::timeout(SHORT, table.transact("p", &ops));
    assert!(call.await.is_err());
    assert_eq!(service.transactions().of("table_transaction"), 1);
}

#[tokio::test]
async fn a_definite_no_is_not_tried_again() {
    for (answer, denied) in [
        (Answer::status("403 x", "x-ms-error-code: AuthenticationFailed\r\n", ""), true),
        (Answer::status("401 x", "", ""), true),
        (Answer::status("400 x", "x-ms-error-code: InvalidInput\r\n", ""), false),
        (Answer::status("404 x", "x-ms-error-code: TableNotFound\r\n", ""), false),
    ] {
        let server = Server::start(vec![answer]).await;
        let fault = server.service(LONG).table("t").get("p", "a").await.unwrap_err();
        assert_eq!(matches!(fault, Fault::Denied { .. }), denied, "{fault:?}");
        assert_eq!(matches!(fault, Fault::Refused { .. }), !denied, "{fault:?}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_redirection_is_not_followed() {
    let other = Server::start(vec![Answer::Close]).await;
    let location = format!("Location: {}/t\r\n", other.endpoints().table);
    let server = Server::start(vec![Answer::status("307 x", &location, "")]).await;
    let fault = server.service(LONG).table("t").get("p", "a").await.unwrap_err();
    assert!(matches!(fault, Fault::Malformed { .. }), "{fault:?}");
    assert!(other.requests().is_empty());
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_malformed() {
    for body in ["", "{}", "[1]", r#"{"odata.metadata":"m","PartitionKey":"p"}"#] {
        let server = Server::start(vec![Answer::status("200 OK", "ETag: 1\r\n", body)]).await;
        let fault = server.service(LONG).table("t").get("p", "a").await.unwrap_err();
        assert!(matches!(fault, Fault::Malformed { .. }), "{fault:?}");
    }
}

#[tokio::test]
async fn the_failing_operation_is_found_wherever_the_service_puts_it() {
    let body = |message: &str| {
        format!(
            r#"{{"odata.error":{{"code":"C","message":{{"lang":"en-US","value":"{message}"}}}}}}"#
        )
    };
    for (message, index) in [
        ("0:The entity\\nRequestId:1", Some(0)),
        ("1:x", Some(1)),
        // Not an index of this transaction.
        ("2:x", None),
        ("x", None),
        ("a:x", None),
    ] {
        let answer = transaction(&part("409 Conflict", "", &body(message)));
        let server = Server::start(vec![answer]).await;
        let mut ops = put();
        ops.push(Op::Delete { key: "b".into(), etag: None });
        let fault = server.service(LONG).table("t").transact("p", &ops).await.unwrap_err();
        assert_eq!(refused(&fault), (409, "C", index));
    }
}
