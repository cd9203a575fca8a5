//! A proxy that does to requests what a cloud does: delays, refuses, loses and repeats them.
//!
//! ```no_run
//! use durable_emulator::proxy::{Fault, FaultProxy, Plan, Rule};
//! use durable_emulator::{Emulator, Service};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let emulator = Emulator::start()?;
//! let lost = Rule::new(Fault::CutAfter).service(Service::Table).path("$batch").per_mille(50);
//! let proxy = FaultProxy::start(emulator.endpoints(), Plan::seeded(7).rule(lost))?;
//! println!("{}", proxy.connection_string());
//! // Work through it, then let everything finish:
//! proxy.set_plan(Plan::none());
//! assert!(proxy.counts().faults(Fault::CutAfter) > 0);
//! # Ok(())
//! # }
//! ```

mod answer;
mod plan;
mod rng;
mod serve;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use hyper::Uri;
use tokio::sync::oneshot;

use plan::{Described, Injection, Injector};
pub use plan::{Fault, Plan, Rule};
use serve::{Route, serve};

use crate::service::{Endpoints, Service};

/// A proxy in front of the services of an emulator. It has a thread of its own, so that it goes on while
/// a test blocks, and ends when this is dropped.
#[derive(Debug)]
pub struct FaultProxy {
    endpoints: Endpoints,
    state: Arc<State>,
    /// Dropped to end the thread.
    running: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FaultProxy {
    /// Starts one on free ports of this machine.
    ///
    /// # Errors
    ///
    /// When the endpoints are not plain `http`, or the operating system gives no port or thread.
    pub fn start(target: &Endpoints, plan: Plan) -> io::Result<Self> {
        let state = Arc::new(State {
            injector: Mutex::new(Injector::new(plan)),
            counts: Mutex::new(Counts::default()),
        });
        let mut addresses = BTreeMap::new();
        let mut routes = Vec::new();
        for service in Service::ALL {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            listener.set_nonblocking(true)?;
            addresses.insert(service, listener.local_addr()?);
            let target = authority(target.of(service))?;
            routes.push((listener, Arc::new(Route { service, target, state: Arc::clone(&state) })));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (running, ended) = oneshot::channel::<()>();
        let run = move || {
            for (listener, route) in routes {
                drop(runtime.spawn(serve(listener, route)));
            }
            // The sender is never used: an error is how its end is told.
            let _ = runtime.block_on(ended);
        };
        let thread = thread::Builder::new().name("durable-fault-proxy".to_owned()).spawn(run)?;
        let endpoints = Endpoints::at(|service| -> SocketAddr { addresses[&service] });
        Ok(Self { endpoints, state, running: Some(running), thread: Some(thread) })
    }

    /// Where a client finds it.
    #[must_use]
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// What a client needs: account, key and the proxy's endpoints.
    #[must_use]
    pub fn connection_string(&self) -> String {
        self.endpoints.connection_string()
    }

    /// From now on. A request that was delayed or held under the earlier plan stays so.
    pub fn set_plan(&self, plan: Plan) {
        *locked(&self.state.injector) = Injector::new(plan);
    }

    /// What has passed until now, since the start.
    #[must_use]
    pub fn counts(&self) -> Counts {
        locked(&self.state.counts).clone()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        drop(self.running.take());
        if let Some(thread) = self.thread.take() {
            // It has panicked at worst, and that was printed.
            let _ = thread.join();
        }
    }
}

/// How many requests came, and what they met.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    faults: BTreeMap<Fault, u64>,
    requests: BTreeMap<(Service, String), u64>,
    total: u64,
}

impl Counts {
    /// How many requests met this fault.
    #[must_use]
    pub fn faults(&self, fault: Fault) -> u64 {
        self.faults.get(&fault).copied().unwrap_or(0)
    }

    /// How many faults of any kind were met.
    #[must_use]
    pub fn all_faults(&self) -> u64 {
        self.faults.values().sum()
    }

    /// How many requests with this method came for this service.
    #[must_use]
    pub fn requests(&self, service: Service, method: &str) -> u64 {
        self.requests.get(&(service, method.to_owned())).copied().unwrap_or(0)
    }

    /// How many requests came.
    #[must_use]
    pub fn all_requests(&self) -> u64 {
        self.total
    }
}

#[derive(Debug)]
struct State {
    injector: Mutex<Injector>,
    counts: Mutex<Counts>,
}

/// What is to be done to a request, and which one it is.
struct Passing {
    injection: Injection,
    number: u64,
}

impl State {
    /// Counts a request and says what it meets.
    fn passing(&self, service: Service, method: &str, path: &str) -> Passing {
        let injection = locked(&self.injector).draw(&Described { service, method, path });
        let mut counts = locked(&self.counts);
        counts.total += 1;
        *counts.requests.entry((service, method.to_owned())).or_default() += 1;
        let met = injection.delay.map(|_| Fault::Delay).into_iter();
        for fault in met.chain(injection.fault.map(|injected| injected.fault)) {
            *counts.faults.entry(fault).or_default() += 1;
        }
        Passing { injection, number: counts.total }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn authority(endpoint: &str) -> io::Result<hyper::http::uri::Authority> {
    let uri: Uri =
        endpoint.parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    match (uri.scheme_str(), uri.authority()) {
        (Some("http"), Some(authority)) => Ok(authority.clone()),
        _ => {
            let text = format!("{endpoint:?} is not an http endpoint");
            Err(io::Error::new(io::ErrorKind::InvalidInput, text))
        }
    }
}
