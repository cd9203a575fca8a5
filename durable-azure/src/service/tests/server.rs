//! A server that does as it is told.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::connection::Endpoints;

/// What becomes of one connection.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// These bytes, and the end.
    Bytes(String),
    /// These bytes, and then nothing more.
    Hang(String),
    /// The end, without a word.
    Close,
}

impl Answer {
    /// A whole answer with a status, further header lines, and a body.
    pub(super) fn status(status: &str, headers: &str, body: &str) -> Self {
        Self::Bytes(format!(
            "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ))
    }
}

/// Gives its answers one by one, the last one from then on, and remembers what it was sent.
pub(super) struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(super) async fn start(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            let mut connections = 0;
            while let Ok((stream, _)) = listener.accept().await {
                let answer = answers[connections.min(answers.len() - 1)].clone();
                connections += 1;
                tokio::spawn(serve(stream, answer, Arc::clone(&seen)));
            }
        });
        Self { address, requests }
    }

    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    pub(super) fn endpoints(&self) -> Endpoints {
        let endpoint = format!("http://{}/devstoreaccount1", self.address);
        Endpoints { blob: endpoint.clone(), queue: endpoint.clone(), table: endpoint }
    }

    pub(super) fn service(&self, request_timeout: Duration) -> Service {
        let connection = Connection::emulator().with_endpoints(self.endpoints()).unwrap();
        let options = ServiceOptions { request_timeout, ..ServiceOptions::default() };
        Service::connect(&connection, &names(), &options).unwrap()
    }
}

async fn serve(mut stream: TcpStream, answer: Answer, seen: Arc<Mutex<Vec<String>>>) {
    let mut request = Vec::new();
    let mut part = [0; 4096];
    while !is_whole(&request) {
        match stream.read(&mut part).await {
            Ok(read) if read > 0 => request.extend_from_slice(&part[..read]),
            _ => break,
        }
    }
    seen.lock().unwrap().push(String::from_utf8_lossy(&request).into_owned());
    match answer {
        Answer::Bytes(bytes) => {
            let _ = stream.write_all(bytes.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
        Answer::Hang(bytes) => {
            let _ = stream.write_all(bytes.as_bytes()).await;
            tokio::time::sleep(Duration::from_secs(600)).await;
        }
        Answer::Close => {}
    }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    body.len() >= length.unwrap_or(0)
}
