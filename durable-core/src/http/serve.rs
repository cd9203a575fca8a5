//! A listener with bounds on its connections, which `axum::serve` has not.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::impatient::Impatient;
use super::settings::HttpLimits;

/// How long no connection is taken after one could not be: there are too many open files, most likely.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// How long there is for the last answers, to those who wait for an instance when the time for closing is over. They
/// take no time; other requests may hang.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// The least that a connection may keep of a request's head.
const BUFFER_BYTES_MIN: usize = 8 * 1024;

/// Tells a request that its server ends, so that nothing can be waited for any longer.
#[derive(Clone)]
pub(super) struct Ending(watch::Receiver<bool>);

impl Ending {
    /// Comes with the end.
    pub(super) async fn comes(&self) {
        _ = self.0.clone().wait_for(|ends| *ends).await;
    }
}

/// Serves an app until `until` ends, and then what is under way, for [`HttpLimits::closing`] at most. Who still waits
/// for an instance then is answered with its links.
///
/// It is `axum::serve` with bounds: so many [`connections`](HttpLimits::connections), the next one waits until
/// one is closed; so long for the head of a request, the wait for its beginning included
/// ([`header_time`](HttpLimits::header_time)); so long while nothing of an answer is taken
/// ([`answer_time`](HttpLimits::answer_time)). It speaks HTTP/1.1.
///
/// ```
/// use durable_core::http::{HttpLimits, ManagementApi, serve};
/// use durable_core::prelude::*;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = Client::new(MemoryStore::new());
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// let address = listener.local_addr()?;
/// let app = ManagementApi::builder(client).listen(address).build()?.app(address)?;
///
/// // Until Ctrl-C, say: `async { _ = tokio::signal::ctrl_c().await }`.
/// let until = async {};
/// serve(listener, app, &HttpLimits::default(), until).await;
/// # Ok(())
/// # }
/// ```
pub async fn serve(
    listener: TcpListener,
    app: Router,
    limits: &HttpLimits,
    until: impl Future<Output = ()>,
) {
    serve_peers(listener, app, limits, until, |_| true).await;
}

/// The same, for those peers only that are served at all.
pub(super) async fn serve_peers(
    listener: TcpListener,
    app: Router,
    limits: &HttpLimits,
    until: impl Future<Output = ()>,
    serves: impl Fn(SocketAddr) -> bool,
) {
    let places = Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS)));
    let (closing, closes) = watch::channel(false);
    let (ending, ends) = watch::channel(false);
    let app = app.layer(Extension(Ending(ends)));
    let server = server(limits);
    let mut connections = JoinSet::new();
    let mut until = pin!(until);
    loop {
        tokio::select! {
            biased;
            () = &mut until => break,
            Some(_) = connections.join_next() => {}
            (stream, peer, place) = accept(&listener, &places) => {
                if serves(peer) {
                    // An answer is small, and its last packet must not wait for the next.
                    _ = stream.set_nodelay(true);
                    let stream = Impatient::new(stream, limits.answer_time);
                    let closes = closes.clone();
                    connections.spawn(converse(server.clone(), stream, app.clone(), closes, place));
                }
            }
        }
    }
    drop(listener);
    closing.send_replace(true);
    {
        let mut closed = pin!(async { while connections.join_next().await.is_some() {} });
        if tokio::time::timeout(limits.closing, &mut closed).await.is_err() {
            ending.send_replace(true);
            _ = tokio::time::timeout(LAST_ANSWERS, closed).await;
        }
    }
    connections.shutdown().await;
}

fn server(limits: &HttpLimits) -> http1::Builder {
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(limits.header_time);
    // Heads that are a little too large are answered in our own words, larger ones are not even kept.
    let head = limits.url_bytes.saturating_add(limits.header_bytes).saturating_mul(2);
    server.max_buf_size(head.max(BUFFER_BYTES_MIN));
    server
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, Option<OwnedSemaphorePermit>) {
    // Nobody closes the semaphore.
    let place = Arc::clone(places).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer, place),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "no connection can be taken; trying again");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// Whether it was the connection that failed, and not the listener.
fn is_of_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// One connection, to its end. Its place is free then.
async fn converse(
    server: http1::Builder,
    stream: Impatient,
    app: Router,
    mut closes: watch::Receiver<bool>,
    _place: Option<OwnedSemaphorePermit>,
) {
    let connection = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    let mut connection = pin!(connection);
    let told = async { _ = closes.wait_for(|closes| *closes).await };
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = told => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    // Whoever went away, or spoke no HTTP, was not served, or has been answered.
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}
