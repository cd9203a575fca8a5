//! Speaks HTTP to an example that serves it, and starts and stops that one.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::program::{self, Ran};

/// Where the API is, below the address.
pub(crate) const BASE: &str = "/runtime/webhooks/durabletask";

/// How long an answer may take, or a state to come. A shared machine can be slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A connection, for one request after the other.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    address: SocketAddr,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), address })
    }

    /// Sends a request, whose body is said to be JSON where there is one, and takes the answer.
    pub(crate) fn ask(&mut self, verb: &str, path: &str, body: Option<&str>) -> io::Result<Answer> {
        self.ask_with(verb, path, &[], body)
    }

    /// The same with more headers.
    pub(crate) fn ask_with(
        &mut self,
        verb: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> io::Result<Answer> {
        let more: String =
            headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let kind = if body.is_some() { "Content-Type: application/json\r\n" } else { "" };
        let (body, address) = (body.unwrap_or_default(), self.address);
        let length = body.len();
        let request = format!(
            "{verb} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n{kind}{more}\r\n{body}"
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        let line = self.line()?;
        let code = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let code = code.ok_or_else(|| io::Error::other(format!("no status line: {line:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        let mut answer = Answer { code, headers, body: String::new() };
        let length = answer.header("content-length").and_then(|length| length.parse().ok());
        let mut bytes = vec![0; length.unwrap_or(0)];
        self.stream.read_exact(&mut bytes)?;
        answer.body = String::from_utf8(bytes).map_err(io::Error::other)?;
        Ok(answer)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }
}

/// The example `http_api`, on ports of its own. Killed when it is dropped.
pub(crate) struct Api {
    child: Option<Child>,
    stdout: BufReader<ChildStdout>,
    /// What it said before it served.
    pub(crate) said: String,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Where client libraries are led.
    pub(crate) rpc: String,
}

impl Api {
    /// Starts it, with its data in a folder, on any port where no other is asked for.
    pub(crate) fn start(folder: &Path, more: &[&str]) -> Self {
        let any = ["--listen", "127.0.0.1:0"];
        let listen = if more.contains(&"--listen") { &[][..] } else { &any[..] };
        let arguments = [listen, &["--data", "."], more].concat();
        let mut child = program::spawn("http_api", folder, &arguments);
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut said = String::new();
        while !said.contains("serving") {
            if stdout.read_line(&mut said).expect("it can be read") == 0 {
                panic!("{said}{}", program::wait(child));
            }
        }
        let after = |what: &str| {
            let line = said.lines().find_map(|line| line.strip_prefix(what));
            line.unwrap_or_else(|| panic!("{what} is not said: {said}")).trim().to_owned()
        };
        let url = after("management API:");
        let address = url.strip_prefix("http://").and_then(|url| url.strip_suffix(BASE));
        let address = address.expect("a URL").parse().expect("an address");
        let rpc = after("client libraries:");
        Self { child: Some(child), stdout, said, address, rpc }
    }

    /// A request to the routes below the base, on a connection of its own.
    pub(crate) fn ask(&self, verb: &str, path: &str, body: Option<&str>) -> Answer {
        self.ask_at(verb, &format!("{BASE}{path}"), body)
    }

    /// The same to any path.
    pub(crate) fn ask_at(&self, verb: &str, path: &str, body: Option<&str>) -> Answer {
        let mut connection = Connection::open(self.address).expect("it listens");
        connection.ask(verb, path, body).expect("it answers")
    }

    /// The status of an instance, once it is that.
    pub(crate) fn until(&self, id: &str, runtime_status: &str) -> Value {
        let began = Instant::now();
        loop {
            let answer = self.ask("GET", &format!("/instances/{id}"), None);
            if matches!(answer.code, 200 | 202) {
                let status = answer.json();
                if status["runtimeStatus"] == runtime_status {
                    return status;
                }
            }
            assert!(
                began.elapsed() < PATIENCE,
                "{id} does not become {runtime_status}: {answer:?}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Presses Ctrl-C, and waits for its end.
    pub(crate) fn stop(mut self) -> Ran {
        let child = self.child.take().expect("it runs");
        let pid = child.id().to_string();
        let told = Command::new("kill").args(["-INT", &pid]).status().expect("kill can be run");
        assert!(told.success());
        let mut ran = program::wait(child);
        self.stdout.read_to_string(&mut ran.stdout).expect("it can be read");
        ran
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
