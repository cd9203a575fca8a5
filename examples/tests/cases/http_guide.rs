//! The commands of the guide to HTTP, one after the other, and the answers that it shows.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::http::Api;
use super::program;

/// Where the guide has its server.
const ADDRESS: &str = "127.0.0.1:7071";

/// How long a state may take to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A command of a console, and what it prints. `…` stands for anything.
struct Step {
    command: String,
    prints: String,
}

fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for block in page.split("```console\n").skip(1) {
        for line in block.split("```").next().unwrap_or_default().lines() {
            match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => {
                    steps.push(Step { command: command.to_owned(), prints: String::new() });
                }
                (None, Some(step)) => step.prints = format!("{}{line}\n", step.prints),
                (None, None) => panic!("what prints this? {line}"),
            }
        }
    }
    steps
}

/// Whether a text is like a pattern, in which `…` stands for anything.
fn is_like(text: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

#[test]
fn a_pattern_is_a_text_with_gaps() {
    for (text, pattern, like) in [
        ("abc", "abc", true),
        ("abc", "ab", false),
        ("abc", "a…", true),
        ("abc", "…c", true),
        ("abc", "a…b…c", true),
        ("abc", "…b", false),
        ("abc", "a…c…b…", false),
        ("", "…", true),
        ("aba", "ab…ba", false),
    ] {
        assert_eq!(is_like(text, pattern), like, "{text} {pattern}");
    }
}

/// Runs a command in a shell, after what was set before it. The guide's address stands for the server's.
fn shell(folder: &Path, set: &str, command: &str, address: SocketAddr) -> String {
    let script = format!("{set}{command}\n").replace(ADDRESS, &address.to_string());
    let child = Command::new("bash")
        .args(["-c", &script])
        .current_dir(folder)
        .env("NO_PROXY", "*")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("bash can be run");
    let ran = program::wait(child);
    assert!(ran.status.success(), "{command}\n{ran}");
    ran.stdout.replace('\r', "").replace(&address.to_string(), ADDRESS)
}

/// Stops the server that runs, and starts it as a command of the guide does.
fn start(folder: &Path, command: &str, running: Option<Api>) -> Option<Api> {
    let arguments = command.strip_prefix("cargo run --example http_api -- --data api-data")?;
    let mut arguments: Vec<&str> = arguments.split_whitespace().collect();
    let address = running.as_ref().map(|api| api.address.to_string());
    if let Some(api) = running {
        let stopped = api.stop();
        assert!(stopped.status.success(), "{stopped}");
    }
    if let Some(address) = &address {
        arguments.extend(["--listen", address]);
    }
    Some(Api::start(folder, &arguments))
}

#[test]
fn the_conversation_of_the_guide_goes_as_it_says() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guide/http.md");
    let steps = steps(&std::fs::read_to_string(page).unwrap());
    assert!(steps.len() > 30, "the guide holds a conversation");
    let folder = tempfile::tempdir().unwrap();
    let (mut api, mut set): (Option<Api>, String) = (None, String::new());
    for Step { command, prints } in &steps {
        if command.starts_with("cargo run ") {
            let started = start(folder.path(), command, api.take()).expect("the guide's example");
            let said = started.said.replace(&started.address.to_string(), ADDRESS);
            assert!(is_like(&said, prints), "{command}\n{said}");
            api = Some(started);
            continue;
        }
        let address = api.as_ref().expect("the guide starts the server first").address;
        if command.split_once('=').is_some_and(|(name, _)| name.len() == 1) {
            set = format!("{set}{command}\n");
            continue;
        }
        // Who only looks may look again.
        let looks = !command.contains(" -X ") && !command.contains(" -d ");
        let began = Instant::now();
        loop {
            let printed = shell(folder.path(), &set, command, address);
            // What ends without a line break is shown on a line of its own.
            if is_like(printed.trim_end(), prints.trim_end()) {
                break;
            }
            let again = looks && began.elapsed() < PATIENCE;
            assert!(again, "$ {command}\n{printed}\n--- but the guide says\n{prints}");
        }
    }
}
