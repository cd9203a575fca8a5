//! The server with an orchestrator of each kind, as its users run it.

use std::net::{SocketAddr, TcpListener};

use durable_emulator::Emulator;
use serde_json::{Value, json};

use super::http::{Api, BASE, Connection};
use super::program::{run, spawn, wait};

#[test]
fn it_says_where_it_is_and_stops_when_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let api = Api::start(folder.path(), &[]);
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert!(api.said.contains(&format!("http://{}{path}", api.address)), "{}", api.said);
        assert_eq!(api.ask_at("GET", path, None).code, 200);
    }
    let binding = std::fs::read_to_string(folder.path().join("client-binding.json")).unwrap();
    let binding: Value = serde_json::from_str(&binding).unwrap();
    assert_eq!(binding["rpcBaseUrl"], api.rpc.as_str());
    assert_eq!(binding["taskHubName"], "default");
    assert_eq!(binding["baseUrl"], format!("http://{}{BASE}", api.address));
    assert_eq!(api.ask("POST", "/orchestrators/WaitForApproval/a", None).code, 202);
    api.until("a", "Running");
    let ran = api.stop();
    assert!(ran.status.success() && ran.stdout.contains("goes on"), "{ran}");

    let again = Api::start(folder.path(), &[]);
    assert_eq!(again.ask("POST", "/instances/a/raiseEvent/approval", Some("[1]")).code, 202);
    assert_eq!(again.until("a", "Completed")["output"], json!([1]));
}

#[test]
fn each_orchestrator_does_what_is_said_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let api = Api::start(folder.path(), &[]);
    for (name, input, output) in [
        ("Echo", r#"{"a": [1, "é"], "b": null}"#, json!({"a": [1, "é"], "b": null})),
        ("Echo", r#""{\"a\": 1}""#, json!("{\"a\": 1}")),
        ("Chain5", "\"any\"", json!(5)),
        ("Sleeper", "0", json!(null)),
        ("Sleeper", "\"0\"", json!(null)),
        ("Parent", "null", json!(4)),
    ] {
        let started = api.ask("POST", &format!("/orchestrators/{name}"), Some(input));
        assert_eq!(started.code, 202, "{started:?}");
        assert_eq!(started.header("retry-after"), Some("10"));
        let id = started.json()["id"].as_str().unwrap().to_owned();
        assert_eq!(api.until(&id, "Completed")["output"], output, "{name} {input}");
    }
    let sleeps = api.ask("POST", "/orchestrators/Sleeper/sleeps", Some("\"60\""));
    assert_eq!(sleeps.code, 202);
    let running = api.until("sleeps", "Running");
    assert_eq!(running["input"], "60", "a body is parsed once");

    let children = api.ask("POST", "/orchestrators/Parent/family", None);
    assert_eq!(children.code, 202);
    api.until("family", "Completed");
    let listed = api.ask("GET", "/instances?instanceIdPrefix=family", None).json();
    assert_eq!(listed.as_array().unwrap().len(), 7, "two children with two each: {listed}");
}

#[test]
fn what_fails_can_be_rewound_and_succeeds_if_its_cause_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let api = Api::start(folder.path(), &[]);
    assert_eq!(api.ask("POST", "/orchestrators/Failing/fails", None).code, 202);
    assert_eq!(api.ask("POST", "/orchestrators/FailingUntil/until", Some("\"file\"")).code, 202);
    for id in ["fails", "until"] {
        api.until(id, "Failed");
    }
    std::fs::write(folder.path().join("file"), "").unwrap();
    for id in ["fails", "until"] {
        assert_eq!(
            api.ask("POST", &format!("/instances/{id}/rewind?reason=again"), None).code,
            202
        );
    }
    assert_eq!(api.until("until", "Completed")["output"], 1);
    let history = |id| {
        let path = format!("/instances/{id}?showHistory=true");
        api.ask("GET", &path, None).json()["historyEvents"].to_string()
    };
    while !history("fails").contains("ExecutionRewound") {}
    api.until("fails", "Failed");
}

#[test]
fn nothing_is_stored_of_a_name_that_is_not_known() {
    let folder = tempfile::tempdir().unwrap();
    let api = Api::start(folder.path(), &[]);
    for name in ["Nothing", "echo", "Step"] {
        let refused = api.ask("POST", &format!("/orchestrators/{name}/a"), Some("1"));
        assert_eq!(refused.code, 400, "{refused:?}");
        assert!(refused.json()["ExceptionMessage"].as_str().unwrap().contains(name));
        assert_eq!(api.ask("GET", "/instances/a", None).code, 404);
    }
    assert_eq!(api.ask("GET", "/instances", None).json(), json!([]));
}

#[test]
fn a_key_is_asked_for_and_client_libraries_are_given_it() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let document = folder.path().join("client-binding.json");
    std::fs::write(&document, "of an earlier run").unwrap();
    std::fs::set_permissions(&document, PermissionsExt::from_mode(0o644)).unwrap();
    let hub = ["--key", "opens-1", "--key", "opens-2", "--task-hub", "orders"];
    let api = Api::start(folder.path(), &hub);
    assert!(!api.said.contains("opens-"), "{}", api.said);
    for (query, code) in
        [("", 401), ("?code=x", 401), ("?code=opens-1", 200), ("?code=opens-2", 200)]
    {
        assert_eq!(api.ask("GET", &format!("/instances{query}"), None).code, code, "{query}");
    }
    assert_eq!(api.ask("GET", "/instances?code=opens-1&taskHub=default", None).code, 404);
    assert_eq!(document.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let binding: Value = serde_json::from_slice(&std::fs::read(document).unwrap()).unwrap();
    assert_eq!(binding["requiredQueryStringParameters"], "code=opens-1");
    assert_eq!(binding["taskHubName"], "orders");

    let rpc = api.rpc.strip_prefix("http://").and_then(|url| url.strip_suffix("/durabletask/"));
    let rpc: SocketAddr = rpc.unwrap().parse().unwrap();
    assert!(rpc.ip().is_loopback() && (rpc.port() == 17071 || rpc.port() / 1000 == 30), "{rpc}");
    let mut libraries = Connection::open(rpc).unwrap();
    assert_eq!(libraries.ask("GET", "/durabletask/instances", None).unwrap().code, 200);
    assert_eq!(api.ask_at("GET", "/durabletask/instances", None).code, 404);
}

#[test]
fn what_is_wrong_is_said_in_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let any = ["--listen", "127.0.0.1:0"];
    for (arguments, sentence) in [
        (&["--listen", "0.0.0.0:0"][..], "other machines reach 0.0.0.0:0: set --key KEY"),
        (&["--listen", "[::]:0"], "other machines reach [::]:0: set --key KEY"),
        (&["--listen", "nowhere"], "no HOST:PORT"),
        (&["--listen", &taken], "cannot listen on 127.0.0.1"),
        (&[&any[..], &["--data", "file"]].concat(), "the folder file cannot be made"),
        (&[&any[..], &["--task-hub", "a b"]].concat(), "--task-hub"),
        (&[&any[..], &["--key", " "]].concat(), "a key must not be blank"),
        (
            &[&any[..], &["--key", "1", "--key", "2", "--key", "3"]].concat(),
            "there are 3 keys; at most 2 open at once",
        ),
        (&[&any[..], &["--azure", "secret=1"]].concat(), "the connection has no"),
    ] {
        let ran = run("http_api", folder.path(), arguments);
        assert!(!ran.status.success() && ran.stderr.contains(sentence), "{arguments:?}: {ran}");
        assert!(!ran.stderr.contains("panicked"), "{ran}");
    }
    let help = run("http_api", folder.path(), &["--help"]);
    for option in ["--listen", "--data", "--task-hub", "--key", "--azure"] {
        assert!(help.status.success() && help.stdout.contains(option), "{help}");
    }
}

#[test]
fn two_of_them_have_ports_of_their_own() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [one, two] = folders.each_ref().map(|folder| Api::start(folder.path(), &[]));
    assert_ne!(one.rpc, two.rpc);
    // One folder is for one of them at a time.
    let arguments = ["--listen", "127.0.0.1:0", "--data", "."];
    let third = wait(spawn("http_api", folders[0].path(), &arguments));
    assert!(!third.status.success() && third.stderr.starts_with("http_api: "), "{third}");
}

#[test]
fn in_azure_storage_it_is_the_same() {
    let emulator = Emulator::start().unwrap();
    let connection = emulator.connection_string();
    let folder = tempfile::tempdir().unwrap();
    let hub = ["--azure", &connection, "--task-hub", "orders"];
    let api = Api::start(folder.path(), &hub);
    assert!(api.said.contains("hub orders in Azure Storage"), "{}", api.said);
    assert!(!api.said.contains("AccountKey"), "{}", api.said);
    let refused = api.ask("POST", "/orchestrators/Nothing/a", None);
    assert!(refused.code == 400 && refused.json()["ExceptionMessage"].is_string(), "{refused:?}");
    for (name, id, output) in [("Chain5", "a", json!(5)), ("Parent", "b", json!(4))] {
        let path = format!("/orchestrators/{name}/{id}?timeout=60&pollingInterval=1");
        let waited = api.ask("POST", &path, None);
        assert_eq!((waited.code, waited.json()), (200, output));
    }
    assert_eq!(api.ask("GET", "/instances?taskHub=Orders&top=1", None).code, 200);
    assert_eq!(api.ask("DELETE", "/instances/a", None).json(), json!({"instancesDeleted": 1}));
    let stopped = api.stop();
    assert!(stopped.status.success(), "{stopped}");
}
