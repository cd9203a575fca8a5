//! The emulator's process: started, waited for, ended.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::service::{Endpoints, Service};

/// Where `package.json` is.
const FOLDER: &str = env!("CARGO_MANIFEST_DIR");

/// What `make emulator` leaves behind when all is installed.
const STAMP: &str = "node_modules/.installed";

const ARGUMENTS: [&str; 11] = [
    "start.js",
    "--inMemoryPersistence",
    "--disableTelemetry",
    "--silent",
    "--skipApiVersionCheck",
    "--blobPort",
    "0",
    "--queuePort",
    "0",
    "--tablePort",
    "0",
];

const READY_WITHIN: Duration = Duration::from_secs(30);

/// One try to get an answer from a service that says it listens.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Why there is no emulator.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EmulatorError {
    /// It was never installed, or not to the end.
    #[error("the storage emulator is not installed: run `make emulator`")]
    NotInstalled,
    /// The operating system did not start its process.
    #[error("cannot run the storage emulator, which needs Node.js 20 or newer (`node`): {0}")]
    NotStarted(#[source] io::Error),
    /// Its process ended by itself.
    #[error("the storage emulator ended at once; it printed:\n{output}")]
    Ended {
        /// What it printed.
        output: String,
    },
    /// Its process runs, but not all services answer.
    #[error("the storage emulator was not ready after {READY_WITHIN:?}; it printed:\n{output}")]
    NotReady {
        /// What it printed.
        output: String,
    },
}

/// A running emulator. It ends when this is dropped, or with the process that holds this, however that
/// ends. Any number can run at once.
#[derive(Debug)]
pub struct Emulator {
    process: Process,
    endpoints: Endpoints,
}

impl Emulator {
    /// Starts one and waits until all services answer. Blocks, for about half a second.
    ///
    /// # Errors
    ///
    /// When it is not installed, or does not come up in time.
    pub fn start() -> Result<Self, EmulatorError> {
        if !Path::new(FOLDER).join(STAMP).exists() {
            return Err(EmulatorError::NotInstalled);
        }
        let deadline = Instant::now() + READY_WITHIN;
        let (process, lines) = Process::start().map_err(EmulatorError::NotStarted)?;
        let addresses = listening(&lines, deadline)?;
        for address in addresses.values() {
            wait_for_answer(*address, &lines, deadline)?;
        }
        let endpoints = Endpoints::at(|service| addresses[&service]);
        Ok(Self { process, endpoints })
    }

    /// One for all tests of a process, started by whoever asks first. Each test takes names of its own
    /// for what it stores.
    ///
    /// # Errors
    ///
    /// When it could not be started, to everyone who asks.
    pub fn shared() -> Result<&'static Self, &'static EmulatorError> {
        static SHARED: OnceLock<Result<Emulator, EmulatorError>> = OnceLock::new();
        SHARED.get_or_init(Self::start).as_ref()
    }

    /// Where its services are.
    #[must_use]
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// What a client needs: account, key and endpoints.
    #[must_use]
    pub fn connection_string(&self) -> String {
        self.endpoints.connection_string()
    }

    /// The number of its process.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.process.child.id()
    }
}

#[derive(Debug)]
struct Process {
    child: Child,
    /// Open for as long as the emulator is to run: it ends when this closes.
    _lifeline: Option<ChildStdin>,
}

impl Process {
    /// The process, and the lines it prints.
    fn start() -> io::Result<(Self, Receiver<String>)> {
        let mut child = Command::new("node")
            .args(ARGUMENTS)
            .current_dir(FOLDER)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (sender, lines) = channel();
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let process = Self { _lifeline: child.stdin.take(), child };
        if let Some(out) = out {
            forward_lines(out, sender.clone())?;
        }
        if let Some(err) = err {
            forward_lines(err, sender)?;
        }
        Ok((process, lines))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only for a process that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads to the end, also when nobody listens any more: a full pipe would stop the emulator.
fn forward_lines(from: impl Read + Send + 'static, to: Sender<String>) -> io::Result<()> {
    let read = move || {
        for line in BufReader::new(from).lines() {
            let Ok(line) = line else { break };
            let _ = to.send(line);
        }
    };
    thread::Builder::new().name("durable-emulator".to_owned()).spawn(read).map(drop)
}

/// Waits until each service has said where it listens.
fn listening(
    lines: &Receiver<String>,
    deadline: Instant,
) -> Result<BTreeMap<Service, SocketAddr>, EmulatorError> {
    let mut found = BTreeMap::new();
    let mut output = String::new();
    while found.len() < Service::ALL.len() {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                found.extend(address_in(&line));
                output.push_str(&line);
                output.push('\n');
            }
            Err(RecvTimeoutError::Timeout) => return Err(EmulatorError::NotReady { output }),
            Err(RecvTimeoutError::Disconnected) => return Err(EmulatorError::Ended { output }),
        }
    }
    Ok(found)
}

/// Of a line such as `Azurite Blob service is successfully listening at http://127.0.0.1:32959`.
fn address_in(line: &str) -> Option<(Service, SocketAddr)> {
    Service::ALL.into_iter().find_map(|service| {
        let before = format!("Azurite {service} service is successfully listening at http://");
        Some((service, line.trim().strip_prefix(&before)?.parse().ok()?))
    })
}

fn wait_for_answer(
    address: SocketAddr,
    lines: &Receiver<String>,
    deadline: Instant,
) -> Result<(), EmulatorError> {
    while !answers(address).unwrap_or(false) {
        if Instant::now() >= deadline {
            let output: Vec<String> = lines.try_iter().collect();
            return Err(EmulatorError::NotReady { output: output.join("\n") });
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Whether any HTTP answer comes, an error included.
fn answers(address: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    write!(stream, "GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut start = [0; 5];
    stream.read_exact(&mut start)?;
    Ok(&start == b"HTTP/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_line_of_a_service_that_listens_has_its_address() {
        let line = "Azurite Queue service is successfully listening at http://127.0.0.1:45245";
        assert_eq!(address_in(line), Some((Service::Queue, ([127, 0, 0, 1], 45245).into())));
        assert_eq!(address_in("Azurite Blob service is starting at http://127.0.0.1:0"), None);
    }
}
