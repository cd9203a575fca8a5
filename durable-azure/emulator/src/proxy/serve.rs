//! Requests on their way to the emulator, and answers on their way back.

use std::fmt;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::http::uri::{Authority, Scheme};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::answer::{Answer, SERVER_BUSY, TIMED_OUT, TOO_MANY_REQUESTS};
use super::plan::Fault;
use super::{Passing, State};
use crate::service::Service;

/// Less than the 5 s after which the emulator closes an idle connection.
const IDLE: Duration = Duration::from_secs(3);

/// Tells the server to close the connection without an answer.
#[derive(Debug)]
struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the connection is to be closed")
    }
}

impl std::error::Error for Cut {}

/// The way to one service.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) service: Service,
    pub(super) target: Authority,
    pub(super) state: Arc<State>,
}

/// Takes connections for ever. Only within a runtime.
pub(super) async fn serve(listener: TcpListener, route: Arc<Route>) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .build(connector);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                drop(tokio::spawn(connection(stream, Arc::clone(&route), client.clone())));
            }
            // Too many open files, mostly: it passes.
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    }
}

type Forward = Client<HttpConnector, Full<Bytes>>;

async fn connection(stream: TcpStream, route: Arc<Route>, client: Forward) {
    // Fails for a connection that is gone already.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        // A task of its own: what was sent takes effect also when the client no longer waits.
        let handled = tokio::spawn(handle(request, Arc::clone(&route), client.clone()));
        async move { handled.await.unwrap_or(Err(Cut)) }
    });
    // Ends with an error whenever a connection was cut.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn handle(
    request: Request<Incoming>,
    route: Arc<Route>,
    client: Forward,
) -> Result<Answer, Cut> {
    let Passing { injection, number } =
        route.state.passing(route.service, request.method().as_str(), request.uri().path());
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Cut)?.to_bytes();
    if let Some(delay) = injection.delay {
        sleep(delay).await;
    }
    let forward = || forward(&client, &route.target, head.clone(), body.clone());
    let Some(injected) = injection.fault else { return forward().await };
    let retry_after = Some(injected.retry_after);
    match injected.fault {
        Fault::Delay => forward().await,
        Fault::DelayedAnswer => {
            let answer = forward().await;
            sleep(injected.lasts).await;
            answer
        }
        Fault::Busy => Ok(SERVER_BUSY.answer(route.service, number, None)),
        Fault::BusyRetryAfter => Ok(SERVER_BUSY.answer(route.service, number, retry_after)),
        Fault::BusyInTransaction => Ok(SERVER_BUSY.in_transaction(number)),
        Fault::TooManyRequests => Ok(TOO_MANY_REQUESTS.answer(route.service, number, retry_after)),
        Fault::TimedOut => {
            forward().await?;
            Ok(TIMED_OUT.answer(route.service, number, None))
        }
        Fault::CutBefore | Fault::Down => Err(Cut),
        Fault::CutAfter => forward().await.and(Err(Cut)),
        Fault::Hang => {
            sleep(injected.lasts).await;
            Err(Cut)
        }
        Fault::Duplicate => {
            let answer = forward().await;
            forward().await.and(answer)
        }
    }
}

/// Sends a request on, as it came: what its signature covers stays as it is.
async fn forward(
    client: &Forward,
    target: &Authority,
    mut head: Parts,
    body: Bytes,
) -> Result<Answer, Cut> {
    let mut uri = head.uri.into_parts();
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = Some(target.clone());
    head.uri = Uri::from_parts(uri).map_err(|_| Cut)?;
    head.headers.remove(CONNECTION);
    head.headers.remove(TRANSFER_ENCODING);
    let only_head = head.method == Method::HEAD;

    let answer = client.request(Request::from_parts(head, Full::new(body))).await;
    let (mut head, body) = answer.map_err(|_| Cut)?.into_parts();
    let body = body.collect().await.map_err(|_| Cut)?.to_bytes();
    head.headers.remove(CONNECTION);
    head.headers.remove("keep-alive");
    head.headers.remove(TRANSFER_ENCODING);
    if !only_head {
        head.headers.remove(CONTENT_LENGTH);
    }
    Ok(Response::from_parts(head, Full::new(body)))
}
