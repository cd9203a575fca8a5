//! Many clients start and poll instances over HTTP, and every instance is accounted for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::http::{Answer, Api, BASE, Connection};

/// Clients and instances, as `CLIENTSxINSTANCES`: `make load` sets it.
const SIZE: &str = "DURABLE_HTTP_LOAD";
const SIZE_SHORT: (usize, usize) = (20, 500);

/// What the server may need at most: so long, and so long for each instance. It is far more than it needs.
const TIME_AT_ALL: Duration = Duration::from_secs(60);
const TIME_EACH: Duration = Duration::from_millis(30);

/// Between two looks at an instance: at first, and at most.
const LOOK_FIRST: Duration = Duration::from_millis(2);
const LOOK_LAST: Duration = Duration::from_millis(200);

/// Of each so many instances the history of one is read.
const HISTORY_OF: usize = 50;

fn size() -> (usize, usize) {
    let Ok(size) = std::env::var(SIZE) else { return SIZE_SHORT };
    let numbers = size
        .split_once('x')
        .and_then(|(clients, instances)| Some((clients.parse().ok()?, instances.parse().ok()?)));
    numbers.unwrap_or_else(|| panic!("{SIZE} is CLIENTSxINSTANCES, not {size:?}"))
}

fn id(number: usize) -> String {
    format!("load-{number}")
}

fn input(number: usize) -> Value {
    json!({ "number": number, "text": "an order of some length, as orders are" })
}

/// What one client saw.
#[derive(Default)]
struct Seen {
    /// How long each start took to be answered.
    starts: Vec<Duration>,
    /// How long each look took to be answered.
    looks: Vec<Duration>,
    /// From a start to the look that saw the end.
    ends: Vec<Duration>,
    /// How often it was told to come again later.
    refused: usize,
}

struct Client {
    connection: Connection,
    deadline: Instant,
    seen: Seen,
}

impl Client {
    fn new(address: SocketAddr, deadline: Instant) -> Self {
        let connection = Connection::open(address).expect("it listens");
        Self { connection, deadline, seen: Seen::default() }
    }

    /// Asks, and again for as long as there is no room, when it is told to.
    fn ask(&mut self, verb: &str, path: &str, body: Option<&str>) -> (Answer, Duration) {
        loop {
            assert!(Instant::now() < self.deadline, "it takes too long: {verb} {path}");
            let began = Instant::now();
            let answer = self.connection.ask(verb, path, body).expect("an answer");
            if !matches!(answer.code, 429 | 503) {
                return (answer, began.elapsed());
            }
            let later = answer.header("retry-after").and_then(|later| later.parse().ok());
            let later = later.unwrap_or_else(|| panic!("when may it be tried again? {answer:?}"));
            self.seen.refused += 1;
            thread::sleep(Duration::from_secs(later));
        }
    }

    /// Starts an instance, and looks at it until it has ended.
    fn run(&mut self, number: usize) {
        let began = Instant::now();
        let path = format!("{BASE}/orchestrators/Echo/{}", id(number));
        let (started, took) = self.ask("POST", &path, Some(&input(number).to_string()));
        assert_eq!(started.code, 202, "{started:?}");
        self.seen.starts.push(took);
        let path = format!("{BASE}/instances/{}", id(number));
        let mut pause = LOOK_FIRST;
        loop {
            let (status, took) = self.ask("GET", &path, None);
            self.seen.looks.push(took);
            match status.code {
                202 => {
                    thread::sleep(pause);
                    pause = (pause * 2).min(LOOK_LAST);
                }
                200 => break check(&status.json(), number),
                _ => panic!("{number}: {status:?}"),
            }
        }
        self.seen.ends.push(began.elapsed());
    }
}

/// An instance has completed with its own result.
fn check(status: &Value, number: usize) {
    assert_eq!(status["instanceId"], id(number));
    assert_eq!(status["runtimeStatus"], "Completed", "{status}");
    assert_eq!(status["output"], input(number), "{status}");
}

/// Every instance is there once, and there are no others.
fn account(client: &mut Client, instances: usize) {
    let mut found = BTreeMap::new();
    let mut token = None;
    loop {
        let path = format!("{BASE}/instances?top=1000");
        let headers: Vec<_> = token
            .iter()
            .map(|token: &String| ("x-ms-continuation-token", token.as_str()))
            .collect();
        let page = client.connection.ask_with("GET", &path, &headers, None).expect("a page");
        assert_eq!(page.code, 200, "{page:?}");
        for status in page.json().as_array().expect("a list") {
            let id = status["instanceId"].as_str().expect("an id").to_owned();
            assert!(found.insert(id.clone(), status.clone()).is_none(), "{id} is there twice");
        }
        token = page.header("x-ms-continuation-token").map(str::to_owned);
        if token.as_ref().is_none_or(String::is_empty) {
            break;
        }
    }
    assert_eq!(found.len(), instances);
    for number in 0..instances {
        check(&found[&id(number)], number);
    }
    for number in (0..instances).step_by(HISTORY_OF) {
        let path = format!("{BASE}/instances/{}?showHistory=true", id(number));
        let (status, _) = client.ask("GET", &path, None);
        let events = status.json()["historyEvents"].clone();
        let kinds: Vec<_> =
            events.as_array().expect("a history").iter().map(|event| &event["EventType"]).collect();
        assert_eq!(kinds, ["ExecutionStarted", "ExecutionCompleted"], "{number} ran once");
    }
    let (metrics, _) = client.ask("GET", "/metrics", None);
    let count = format!("status=\"Completed\"}} {instances}\n");
    assert!(metrics.body.contains(&count), "{}", metrics.body);
}

/// A line of the report: how many, and how long the middle one, the hundredth from above, and the longest took.
fn line(what: &str, mut took: Vec<Duration>) -> String {
    took.sort();
    let at = |share: f64| {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
        let index = (took.len() as f64 * share) as usize;
        took[index.min(took.len() - 1)].as_secs_f64() * 1000.0
    };
    let (count, p50, p99, most) = (took.len(), at(0.5), at(0.99), at(1.0));
    format!("{what:<22} {count:>7}  p50 {p50:>8.2} ms  p99 {p99:>8.2} ms  max {most:>8.2} ms")
}

#[test]
fn every_start_is_accounted_for() {
    let (clients, instances) = size();
    let folder = tempfile::tempdir().unwrap();
    let api = Api::start(folder.path(), &[]);
    let (began, next) = (Instant::now(), AtomicUsize::new(0));
    let deadline = began + TIME_AT_ALL + TIME_EACH * u32::try_from(instances).unwrap();
    let seen: Vec<Seen> = thread::scope(|scope| {
        let work = || {
            let mut client = Client::new(api.address, deadline);
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= instances {
                    return client.seen;
                }
                client.run(number);
            }
        };
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let took = began.elapsed();
    account(&mut Client::new(api.address, deadline), instances);

    let all = |of: fn(&Seen) -> &Vec<Duration>| seen.iter().flat_map(of).copied().collect();
    let refused: usize = seen.iter().map(|seen| seen.refused).sum();
    let rate = instances as f64 / took.as_secs_f64();
    println!("{instances} instances by {clients} clients in {:.1} s:", took.as_secs_f64());
    println!(
        "{rate:.0} started and seen to complete each second; {refused} told to come again later"
    );
    println!("{}", line("starts", all(|seen| &seen.starts)));
    println!("{}", line("looks", all(|seen| &seen.looks)));
    println!("{}", line("start to seen complete", all(|seen| &seen.ends)));
    let stopped = api.stop();
    assert!(stopped.status.success(), "{stopped}");
}
