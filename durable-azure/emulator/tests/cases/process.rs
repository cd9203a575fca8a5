//! A process that starts, answers, and never outlives whoever started it.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use durable_emulator::{Emulator, Endpoints, Service};

/// The address in an endpoint's URL.
fn address(endpoint: &str) -> SocketAddr {
    endpoint.trim_start_matches("http://").split('/').next().unwrap().parse().unwrap()
}

fn listens(endpoint: &str) -> bool {
    TcpStream::connect(address(endpoint)).is_ok()
}

fn all(endpoints: &Endpoints) -> Vec<String> {
    Service::ALL.iter().map(|service| endpoints.of(*service).to_owned()).collect()
}

fn ends(endpoint: &str) -> bool {
    let deadline = Instant::now() + Duration::from_secs(10);
    while listens(endpoint) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    !listens(endpoint)
}

#[test]
fn all_services_listen_until_it_is_dropped() {
    let emulator = Emulator::start().unwrap();
    let endpoints = all(emulator.endpoints());
    for endpoint in &endpoints {
        assert!(listens(endpoint), "{endpoint}");
        assert!(endpoint.ends_with("/devstoreaccount1"), "{endpoint}");
        let named = format!("Endpoint={endpoint};");
        assert!(emulator.connection_string().contains(&named), "{named}");
    }
    drop(emulator);
    for endpoint in &endpoints {
        assert!(!listens(endpoint), "{endpoint}");
    }
}

#[test]
fn two_run_side_by_side() {
    let (one, other) = (Emulator::start().unwrap(), Emulator::start().unwrap());
    let ports: BTreeSet<_> =
        all(one.endpoints()).into_iter().chain(all(other.endpoints())).collect();
    assert_eq!(ports.len(), 6);
    drop(one);
    assert!(all(other.endpoints()).iter().all(|endpoint| listens(endpoint)));
}

#[test]
fn the_shared_one_is_started_once() {
    let ids: BTreeSet<u32> = thread::scope(|scope| {
        let ask = || scope.spawn(|| Emulator::shared().unwrap().process_id());
        [ask(), ask(), ask()].map(|asked| asked.join().unwrap()).into()
    });
    assert_eq!(ids.len(), 1);
}

/// The program holds an emulator; SIGKILL leaves it no time to end anything.
#[test]
fn it_ends_with_a_process_that_was_killed() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_durable-emulator"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(program.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let endpoints: Vec<&str> =
        line.trim().split(';').filter_map(|part| Some(part.split_once("Endpoint=")?.1)).collect();
    assert_eq!(endpoints.len(), 3, "{line}");
    assert!(endpoints.iter().all(|endpoint| listens(endpoint)));

    program.kill().unwrap();
    program.wait().unwrap();
    for endpoint in endpoints {
        assert!(ends(endpoint), "{endpoint}");
    }
}
