//! Requests that nobody should send, each with its exact answer; and that nothing was started or changed by any.

use durable_core::http::LinkRights;
use durable_core::prelude::*;
use serde_json::{Value, json};

use super::server::{Answer, BASE, Server, request};

const KEY: &str = "correct horse battery staple";
const WITH_KEY: (&str, &str) = ("x-functions-key", KEY);
const JSON: (&str, &str) = ("content-type", "application/json");

/// What comes back: the status, and what the body says.
#[derive(Debug)]
enum Says {
    Nothing,
    /// `Message` of an object.
    Message(&'static str),
    /// `ExceptionMessage` of an object has this in it.
    Exception(&'static str),
}
use Says::{Exception, Message, Nothing};

const NOT_JSON: Says = Message("Invalid JSON content");
const NOT_TYPED: Says = Message("Only application/json request content is supported");
const FOREIGN_HOST: Says =
    Message("The request names a host that is not this server's. Set the public URL, or a key");
const FOREIGN_ORIGIN: Says = Message("A page of another origin must not change anything");
const TOO_LARGE: Says = Message("the body of the request is too large");

struct Bad {
    verb: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

fn bad(verb: &'static str, path: impl Into<String>) -> Bad {
    Bad { verb, path: path.into(), headers: Vec::new(), body: Vec::new() }
}

impl Bad {
    fn with(mut self, header: (&'static str, impl Into<String>)) -> Self {
        self.headers.push((header.0, header.1.into()));
        self
    }

    fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    async fn send(&self, server: &Server) -> Answer {
        let headers: Vec<_> =
            self.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let path = format!("{BASE}{}", self.path);
        server.send(request(self.verb, &path, &headers, self.body.clone())).await
    }
}

fn start(body: impl Into<Vec<u8>>) -> Bad {
    bad("POST", "/orchestrators/Echo/new").body(body)
}

fn start_as(id: &str) -> Bad {
    bad("POST", format!("/orchestrators/Echo/{id}")).body("1")
}

fn raise(body: impl Into<Vec<u8>>) -> Bad {
    bad("POST", "/instances/there/raiseEvent/approval").with(JSON).body(body)
}

/// A server with one instance that waits.
async fn server(key: Option<&str>) -> Server {
    let server = Server::with(|api| match key {
        Some(key) => api.key(key),
        None => api,
    })
    .await;
    server.begin("WaitForApproval", "there", json!(1)).await;
    server.until("there", |now| now.custom_status::<String>().is_ok_and(|s| s.is_some())).await;
    server
}

/// Sends all of them, and looks whether anything has changed.
async fn check(server: &Server, bads: Vec<(Bad, u16, Says)>) {
    let before = server.client.status("there").await.expect("it can be read");
    for (bad, status, says) in bads {
        let case = format!("{} {} {:?}", bad.verb, bad.path, bad.headers);
        let case = case.chars().take(200).collect::<String>();
        let answer = bad.send(server).await;
        assert_eq!(answer.status, status, "{case}: {answer:?}");
        let member = |name: &str| match answer.json() {
            Value::Object(object) => object[name].as_str().unwrap_or_default().to_owned(),
            other => panic!("{case}: {other}"),
        };
        match says {
            Nothing => assert_eq!(answer.body, "", "{case}"),
            Message(message) => assert_eq!(member("Message"), message, "{case}"),
            Exception(part) => {
                assert!(member("ExceptionMessage").contains(part), "{case}: {answer:?}");
            }
        }
    }
    let all = server.client.instances().page(None, 10).await.expect("they can be read").instances;
    assert_eq!((all.len(), all.first()), (1, before.as_ref()), "nothing else came of it");
}

#[tokio::test]
async fn what_is_no_json_starts_and_raises_nothing() {
    let server = server(None).await;
    let deep = |open: &str, close: &str| open.repeat(100_000) + &close.repeat(100_000);
    let mut bads = Vec::new();
    for body in [
        b"{".to_vec(),
        b"}".to_vec(),
        b"[1,]".to_vec(),
        b"{\"a\":1,}".to_vec(),
        b"{a:1}".to_vec(),
        b"'a'".to_vec(),
        b"undefined".to_vec(),
        b"NaN".to_vec(),
        b"-Infinity".to_vec(),
        b"01".to_vec(),
        b"1e999".to_vec(),
        b"1 2".to_vec(),
        b" \t\r\n".to_vec(),
        b"\"\\x41\"".to_vec(),
        b"\"\\ud83e\"".to_vec(),
        b"\"\\udd80\\ud83e\"".to_vec(),
        b"{\"\\ud800\":1}".to_vec(),
        b"\"a\nb\"".to_vec(),
        b"\"\xFF\"".to_vec(),
        b"\"\xED\xA0\x80\"".to_vec(),
        b"\"\xC0\x80\"".to_vec(),
        b"\0".to_vec(),
        b"a=1&b=2".to_vec(),
        b"<input/>".to_vec(),
        deep("[", "]").into_bytes(),
        deep("{\"a\":", "}").into_bytes(),
        vec![b'['; 500_000],
    ] {
        bads.push((start(body.clone()), 400, NOT_JSON));
        bads.push((raise(body), 400, NOT_JSON));
    }
    bads.push((raise(""), 400, NOT_JSON));
    check(&server, bads).await;
}

#[tokio::test]
async fn what_is_said_to_be_something_else_raises_nothing() {
    let server = server(None).await;
    let path = "/instances/there/raiseEvent/approval";
    let bads = [
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json-patch+json",
        "application/jsonapplication/json",
        "text/plain, application/json",
        "",
    ];
    let mut bads: Vec<_> = bads
        .into_iter()
        .map(|said| (bad("POST", path).with(("content-type", said)).body("1"), 400, NOT_TYPED))
        .collect();
    bads.push((bad("POST", path).body("1"), 400, NOT_TYPED));
    check(&server, bads).await;
}

#[tokio::test]
async fn ids_and_names_that_cannot_be_start_nothing() {
    let server = server(None).await;
    let long = "é".repeat(257);
    let bads = vec![
        (start_as("@a"), 400, Exception("'@'")),
        (start_as("%40a"), 400, Exception("'@'")),
        (start_as("a%2Fb"), 400, Exception("'/'")),
        (start_as("..%2F..%2Fetc"), 400, Exception("'/'")),
        (start_as("a%5Cb"), 400, Exception("'\\\\'")),
        (start_as("a%3Fb"), 400, Exception("'?'")),
        (start_as("a%23b"), 400, Exception("'#'")),
        (start_as("a%00b"), 400, Exception("'\\0'")),
        (start_as("a%0Ab"), 400, Exception("'\\n'")),
        (start_as("a%0D%0ASet-Cookie:%20x"), 400, Exception("'\\r'")),
        (start_as("a%7Fb"), 400, Exception("'\\u{7f}'")),
        (start_as("a%C2%85b"), 400, Exception("'\\u{85}'")),
        (start_as("."), 400, Exception("dots")),
        (start_as(".."), 400, Exception("dots")),
        (start_as("%2e%2E"), 400, Exception("dots")),
        (start_as(&path_of(&long)), 400, Exception("256")),
        (start_as("%FF"), 400, Exception("UTF-8")),
        (start_as("%C3%28"), 400, Exception("UTF-8")),
        (start_as("%ED%A0%80"), 400, Exception("UTF-8")),
        (
            start_as("there"),
            409,
            Message("An Orchestration instance with the status Running already exists: there."),
        ),
        (start_as("a/b"), 404, Nothing),
        (start_as("a//"), 404, Nothing),
        (bad("POST", "/orchestrators/%00").body("1"), 400, Exception("doesn't exist")),
        (bad("POST", "/orchestrators/Echo%2Fx").body("1"), 400, Exception("doesn't exist")),
        (bad("POST", "/orchestrators/Step").body("1"), 400, Exception("doesn't exist")),
        (bad("POST", "/orchestrators/echo").body("1"), 400, Exception("doesn't exist")),
        (
            bad("POST", format!("/orchestrators/{}", "x".repeat(5000))).body("1"),
            400,
            Exception("doesn't exist"),
        ),
        (bad("POST", "/orchestrators//x").body("1"), 404, Nothing),
        (bad("POST", "/orchestrators/Echo?taskHub=other").body("1"), 404, Nothing),
        (bad("POST", "/instances/%FF/terminate"), 400, Exception("UTF-8")),
        (
            bad("POST", format!("/instances/there/raiseEvent/{}", "x".repeat(1025)))
                .with(JSON)
                .body("1"),
            400,
            Exception("1024"),
        ),
    ];
    check(&server, bads).await;
}

/// Every byte of it escaped.
fn path_of(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test]
async fn tricks_with_paths_and_verbs_lead_nowhere() {
    let server = server(None).await;
    let mut bads = Vec::new();
    for (verb, path) in [
        ("GET", "/../instances"),
        ("GET", "/./instances"),
        ("GET", "/x/../instances/there"),
        ("POST", "/instances/there/../there/terminate"),
        ("POST", "/instances/x/%2E%2E/there/terminate"),
        ("POST", "/instances/there%2Fterminate"),
        ("POST", "/instances/there;x/terminate"),
        ("POST", "/instances//there/terminate"),
        ("POST", "//instances/there/terminate"),
        ("POST", "/instances/there/terminate//"),
        ("POST", "/instances/there/terminate/x"),
        ("POST", "/instances/there/terminate%00"),
        ("POST", "/instances/there/raiseEvent"),
        ("POST", "/instances/there/raiseEvent/"),
        ("POST", "/instances/there/raiseEvent/a/b"),
        ("POST", "/instances/THERE/terminate"),
        ("POST", "/instances/there%20/terminate"),
        ("POST", "/instances/%2574here/terminate"),
        ("POST", "\\instances\\there\\terminate"),
        ("GET", "/instances/there/terminate"),
        ("PUT", "/instances/there/terminate"),
        ("HEAD", "/instances/there"),
        ("OPTIONS", "/instances/there"),
        ("TRACE", "/instances/there"),
        ("CONNECT", "/instances/there"),
        ("get", "/instances/there"),
        ("PURGE", "/instances/there"),
        ("POST", "/instances/there"),
        ("POST", "/entities/counter/a?op=add"),
        ("GET", "/entities"),
    ] {
        bads.push((bad(verb, path), 404, Nothing));
    }
    bads.push((
        bad("POST", "/instances/there").with(("x-http-method-override", "DELETE")),
        404,
        Nothing,
    ));
    bads.push((bad("GET", "/instances/there?taskHub=defaultx"), 404, Nothing));
    bads.push((bad("GET", "/instances?taskHub=default,default"), 404, Nothing));
    bads.push((bad("POST", "/makeprimary"), 400, Exception("leases")));
    check(&server, bads).await;
}

#[tokio::test]
async fn numbers_and_tokens_that_make_no_sense_are_refused() {
    let server = server(None).await;
    let mut bads = Vec::new();
    for (query, why) in [
        ("timeout=-1&pollingInterval=1", "timeout must not be negative"),
        ("timeout=1&pollingInterval=-1", "pollingInterval must not be negative"),
        ("timeout=1&pollingInterval=1.0001", "longer than timeout"),
        ("timeout=0&pollingInterval=99999999999999999999", "longer than timeout"),
    ] {
        let start = bad("POST", format!("/orchestrators/Echo/new?{query}")).body("1");
        bads.push((start, 400, Exception(why)));
        let restart = bad("POST", format!("/instances/there/restart?{query}"));
        bads.push((restart, 400, Exception(why)));
    }
    let version = bad("POST", format!("/orchestrators/Echo/new?version={}", "9".repeat(129)));
    bads.push((version.body("1"), 400, Exception("128 bytes")));
    bads.push((bad("POST", "/instances/nobody/restart"), 400, Exception("nobody")));
    let token = "x-ms-continuation-token";
    for forged in [
        "0",
        "null",
        "-1",
        "AAAA",
        "0000000000000001",
        "00000000000000010000000000000000",
        "é",
        " ",
    ] {
        let list = bad("GET", "/instances").with((token, forged));
        bads.push((list, 400, Exception("continuation token")));
    }
    check(&server, bads).await;
}

#[tokio::test]
async fn strangers_are_told_nothing() {
    let server = server(Some(KEY)).await;
    let mut bads = Vec::new();
    for wrong in [
        "",
        " ",
        "correct",
        "correct horse battery",
        "correct horse battery stapl",
        "correct horse battery staple ",
        "correct horse battery staplee",
        "Correct Horse Battery Staple",
        "correct%20horse%20battery%20staple",
    ] {
        bads.push((bad("GET", "/instances/there").with(("x-functions-key", wrong)), 401, Nothing));
        bads.push((bad("GET", "/instances/nobody").with(("x-functions-key", wrong)), 401, Nothing));
    }
    let code = path_of(KEY);
    for query in [
        format!("code={code}&code={code}"),
        format!("code=&code={code}"),
        format!("code=%20{code}"),
        format!("code={code}%00"),
        format!("Xcode={code}"),
        format!("systemKey={code}"),
        "code".to_owned(),
    ] {
        bads.push((bad("GET", format!("/instances/there?{query}")), 401, Nothing));
        bads.push((bad("POST", format!("/instances/there/terminate?{query}")), 401, Nothing));
    }
    let twice = bad("GET", "/instances/there").with(WITH_KEY).with(WITH_KEY);
    bads.push((twice, 401, Nothing));
    // A key that does not open is not made good by one elsewhere.
    let both = bad("GET", format!("/instances/there?code={code}")).with(("x-functions-key", "x"));
    bads.push((both, 401, Nothing));
    let bearer = bad("GET", "/instances/there").with(("authorization", format!("Bearer {KEY}")));
    bads.push((bearer, 401, Nothing));
    bads.push((
        bad("GET", "/instances/there").with(("cookie", format!("code={KEY}"))),
        401,
        Nothing,
    ));
    // Whether there is such a route is not told either.
    bads.push((bad("GET", "/nothing"), 401, Nothing));
    bads.push((bad("POST", "/orchestrators/Unknown"), 401, Nothing));
    bads.push((bad("GET", "/instances/%FF"), 401, Nothing));
    check(&server, bads).await;
}

/// Tokens of links are signed with this.
const SECRET: [u8; 32] = [7; 32];

#[tokio::test]
async fn tokens_that_do_not_open_say_nothing() {
    let server = Server::with(|api| api.key(KEY).signing_secret(SECRET)).await;
    server.begin("WaitForApproval", "there", json!(1)).await;
    server.until("there", |now| now.custom_status::<String>().is_ok_and(|s| s.is_some())).await;
    let all = LinkRights::INSPECT | LinkRights::RAISE | LinkRights::MANAGE;
    let good = server.token("there", all, days(1)).await;
    let mut tokens = vec![
        server.token("other", all, days(1)).await,
        server.token("There", all, days(1)).await,
        server.token("there ", all, days(1)).await,
        server.token("there", all, secs(0)).await,
        format!("{good},{good}"),
        good.replacen("riem", "rie", 1),
        good.replacen("1.", "01.", 1),
        good.replacen("1.", "2.", 1),
        good.rsplit_once('.').unwrap().0.to_owned(),
        KEY.replace(' ', "%20"),
        "null".to_owned(),
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ0aGVyZSJ9.".to_owned(),
    ];
    tokens.extend((0..good.len()).map(|at| {
        let mut altered = good.clone().into_bytes();
        altered[at] ^= 1;
        path_of(&String::from_utf8(altered).unwrap())
    }));
    let mut bads = Vec::new();
    for token in tokens {
        for (verb, path) in [
            ("GET", "/instances/there"),
            ("GET", "/instances/nobody"),
            ("POST", "/instances/there/terminate"),
            ("DELETE", "/instances/there"),
        ] {
            bads.push((bad(verb, format!("{path}?token={token}")), 401, Nothing));
        }
    }
    // A good one, for what it is not for.
    for (verb, path) in [
        ("GET", "/instances"),
        ("GET", "/instances?instanceIdPrefix=there"),
        ("DELETE", "/instances?createdTimeFrom=2000-01-01"),
        ("POST", "/orchestrators/Echo"),
        ("POST", "/orchestrators/Echo/there"),
        ("GET", "/instances/nobody"),
        ("GET", "/instances/nobody/../there"),
        ("GET", "/instances/nobody%2F..%2Fthere"),
        ("GET", "/instances/there;/"),
        ("GET", "/instances/there%00"),
        ("PUT", "/instances/there"),
        ("GET", "/openapi.json"),
        ("GET", "/entities/there/there"),
    ] {
        let and = if path.contains('?') { '&' } else { '?' };
        bads.push((bad(verb, format!("{path}{and}token={good}")), 401, Nothing));
    }
    let query = |more: &str| format!("/instances/there?token={good}{more}");
    bads.push((bad("GET", query("&token=x")), 401, Nothing));
    bads.push((bad("GET", query("&code=x")), 401, Nothing));
    bads.push((bad("GET", query("")).with(WITH_KEY), 401, Nothing));
    bads.push((bad("GET", "/instances/there").with(("authorization", &*good)), 401, Nothing));
    bads.push((bad("GET", query("&taskHub=other")), 404, Nothing));
    let elsewhere = bad("POST", format!("/instances/there/restart?token={good}"));
    bads.push((elsewhere, 403, Message("The link that was shown does not allow this")));
    let read = server.token("there", LinkRights::READ, days(1)).await;
    let terminate = bad("POST", format!("/instances/there/terminate?token={read}"));
    bads.push((terminate, 403, Message("The link that was shown does not allow this")));
    check(&server, bads).await;
}

#[tokio::test]
async fn other_sites_change_nothing_and_other_names_reach_nothing() {
    let server = server(None).await;
    let mut bads = Vec::new();
    for origin in [
        "https://evil.example",
        "http://127.0.0.1",
        "http://127.0.0.1:7072",
        "http://127.0.0.1:7071.evil.example",
        "http://evil.example/127.0.0.1:7071",
        "https://127.0.0.1:7071@evil.example",
        "null",
        "",
        "file://",
        "chrome-extension://abcdef",
    ] {
        let form = ("content-type", "application/x-www-form-urlencoded");
        let terminate =
            bad("POST", "/instances/there/terminate").with(("origin", origin)).with(form);
        bads.push((terminate, 403, FOREIGN_ORIGIN));
        bads.push((start("1").with(("origin", origin)), 403, FOREIGN_ORIGIN));
    }
    for site in ["cross-site", "same-site", "nonsense"] {
        let terminate = bad("POST", "/instances/there/terminate").with(("sec-fetch-site", site));
        bads.push((terminate, 403, FOREIGN_ORIGIN));
    }
    for host in [
        "evil.example",
        "evil.example:7071",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "10.0.0.1",
        "0.0.0.0:7071",
        "user@127.0.0.1",
        "127.0.0.1:port",
        "127.0.0.1:99999",
        "127.0.0.1:",
        "[::1",
        "127.0.0.1/..",
        "",
    ] {
        bads.push((bad("GET", "/instances/there").with(("host", host)), 403, FOREIGN_HOST));
    }
    let two =
        bad("GET", "/instances/there").with(("host", "localhost")).with(("host", "localhost"));
    bads.push((two, 403, FOREIGN_HOST));
    check(&server, bads).await;
}

#[tokio::test]
async fn what_is_too_much_is_refused() {
    let server = server(None).await;
    let megabyte = 1024 * 1024;
    let text = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    let mut bads = vec![
        (start(text(megabyte + 1)), 413, TOO_LARGE),
        (raise(text(megabyte + 1)), 413, TOO_LARGE),
        (start("1").with(("content-length", "1048577")), 413, TOO_LARGE),
        (start("1").with(("content-length", "18446744073709551615")), 413, TOO_LARGE),
    ];
    for path in [
        format!("/instances/{}", "x".repeat(17_000)),
        format!("/instances?instanceIdPrefix={}", "x".repeat(17_000)),
        format!("/instances?{}", "a=b&".repeat(5_000)),
    ] {
        bads.push((bad("GET", path), 414, Message("the URL is too long")));
    }
    let many = (0..1000).fold(bad("GET", "/instances/there"), |bad, number| {
        bad.with(("x-many", format!("{number:040}")))
    });
    bads.push((many, 431, Message("the headers are too large")));
    let large = bad("GET", "/instances/there").with(("cookie", "x".repeat(40_000)));
    bads.push((large, 431, Message("the headers are too large")));
    check(&server, bads).await;
}
