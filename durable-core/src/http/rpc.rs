//! The port of the client libraries of other languages, as the host of Durable Functions has one.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpListener;

use super::ManagementApi;
use super::app::RPC_PATH;
use super::serve::serve_peers;

/// Where client libraries look first.
const PORT_FIRST: u16 = 17071;

/// Among these a port is chosen where the first one is taken.
const PORTS_ELSE: std::ops::Range<u16> = 30_000..31_000;

const ATTEMPTS_MAX: usize = 10;

/// A port of its own for client libraries of other languages: on 127.0.0.1, without a key.
///
/// ```
/// use durable_core::http::{ManagementApi, RpcListener};
/// use durable_core::prelude::*;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = Client::new(MemoryStore::new());
/// let rpc = RpcListener::bind().await?;
/// assert!(rpc.address().ip().is_loopback());
///
/// let api = ManagementApi::builder(client).rpc_port(&rpc).build()?;
/// assert_eq!(api.client_binding().rpc_base_url, rpc.base_url());
///
/// // Until Ctrl-C, say: `async { _ = tokio::signal::ctrl_c().await }`.
/// let until = async {};
/// rpc.serve(&api, until).await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct RpcListener {
    listener: TcpListener,
    address: SocketAddr,
}

impl RpcListener {
    /// Takes port 17071 or, where that is taken, one of 30000 to 30999; ten are tried in all.
    ///
    /// # Errors
    ///
    /// Why the last of them could not be taken.
    pub async fn bind() -> io::Result<Self> {
        Self::bind_one_of(ports()).await
    }

    async fn bind_one_of(ports: impl Iterator<Item = u16>) -> io::Result<Self> {
        let mut refused = None;
        for port in ports {
            match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
                Ok(listener) => {
                    let address = listener.local_addr()?;
                    return Ok(Self { listener, address });
                }
                Err(error) => refused = Some(error),
            }
        }
        Err(refused.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()))
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What client libraries are given as `rpcBaseUrl`, with the slash at its end that they need.
    #[must_use]
    pub fn base_url(&self) -> String {
        base_url(self.address)
    }

    /// Serves the API until `until` ends, within its limits, as [`serve`](super::serve) does. Requests that come
    /// from or name another machine are refused, whatever leads them here.
    pub async fn serve(self, api: &ManagementApi, until: impl Future<Output = ()>) {
        let local = |peer: SocketAddr| peer.ip().is_loopback();
        let limits = &api.settings.limits;
        serve_peers(self.listener, api.rpc_app(), limits, until, local).await;
    }
}

pub(super) fn base_url(address: SocketAddr) -> String {
    format!("http://{address}{RPC_PATH}/")
}

/// The ports to try, in their order.
fn ports() -> impl Iterator<Item = u16> {
    let (begin, count) = (PORTS_ELSE.start, u128::from(PORTS_ELSE.end - PORTS_ELSE.start));
    let chosen = std::iter::repeat_with(move || {
        let offset = uuid::Uuid::new_v4().as_u128() % count;
        begin + u16::try_from(offset).unwrap_or_default()
    });
    std::iter::once(PORT_FIRST).chain(chosen).take(ATTEMPTS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_port_comes_first_and_then_any_of_a_thousand() {
        let tried: Vec<u16> = ports().collect();
        assert_eq!((tried[0], tried.len()), (17071, 10));
        assert!(tried[1..].iter().all(|port| (30_000..=30_999).contains(port)), "{tried:?}");
        let more: Vec<u16> = (0..30).flat_map(|_| ports().skip(1)).collect();
        assert!(more.iter().any(|port| port % 10 == 0), "zeros at the end are chosen, too");
        assert!(more.iter().any(|port| *port < 30_500) && more.iter().any(|port| *port >= 30_500));
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_passed_over() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let rpc = RpcListener::bind_one_of([port, port, 0].into_iter()).await.unwrap();
        assert_ne!(rpc.address().port(), port);
        assert!(rpc.address().ip().is_loopback());
        assert_eq!(rpc.base_url(), format!("http://{}/durabletask/", rpc.address()));
        let none = RpcListener::bind_one_of([port, port].into_iter()).await.unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::AddrInUse);
    }
}
