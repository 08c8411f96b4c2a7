//! The proxy server.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;
use tracing::debug;

use crate::call::Call;
use crate::message::{Request, Response, strip_hop_by_hop};
use crate::partial_batch;
use crate::plan::{Fault, FaultPlan, KillPoint, PlanState};

/// A proxy on its own port of the loopback interface. Its connections close when it is dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<Infallible>,
}

/// The statistics of a proxy since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyStats {
    /// The numbers of calls, including those that met faults.
    pub calls: BTreeMap<Call, usize>,
    /// The numbers of faults, by [`Fault::kind`].
    pub faults: BTreeMap<&'static str, usize>,
    /// The numbers, from 1, of the calls that may change data.
    pub writes: BTreeSet<usize>,
}

impl ProxyStats {
    /// Returns the number of calls.
    #[must_use]
    pub fn total_calls(&self) -> usize {
        self.calls.values().sum()
    }

    /// Returns the number of calls that met a fault.
    #[must_use]
    pub fn total_faults(&self) -> usize {
        self.faults.values().sum()
    }
}

type Hook = Arc<dyn Fn() + Send + Sync>;

struct Shared {
    http: reqwest::Client,
    upstream: Mutex<Option<String>>,
    plan_state: Mutex<PlanState>,
    stats: Mutex<ProxyStats>,
    kill: Mutex<Option<Hook>>,
    /// The number of calls that are not complete, even if their callers have given up.
    in_flight: watch::Sender<usize>,
}

/// The reason why a call gets no response, upon which its connection is closed.
#[derive(Debug, thiserror::Error)]
enum NoResponse {
    #[error("injected fault")]
    FaultInjected,
    #[error("no endpoint is set")]
    NoEndpoint,
    #[error("the endpoint did not respond")]
    Endpoint(#[from] reqwest::Error),
    #[error("the request ended early")]
    Request(#[from] hyper::Error),
}

impl Proxy {
    /// Starts a proxy to an endpoint without faults.
    ///
    /// # Errors
    ///
    /// If no port is free.
    pub async fn start(endpoint_url: &str) -> Result<Self> {
        let proxy = Self::listen(0).await?;
        proxy.set_upstream(endpoint_url);
        Ok(proxy)
    }

    /// Starts a proxy on a port (0 selects a free one) without an endpoint. Calls are lost until
    /// [`Proxy::set_upstream`].
    ///
    /// # Errors
    ///
    /// If the port is in use.
    pub async fn listen(port: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .await
            .with_context(|| format!("cannot listen on port {port} of the loopback interface"))?;
        let shared = Arc::new(Shared {
            // Redirects are left to the caller, and proxies of the environment do not apply.
            http: reqwest::Client::builder()
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .build()?,
            upstream: Mutex::default(),
            plan_state: Mutex::default(),
            stats: Mutex::default(),
            kill: Mutex::default(),
            in_flight: watch::Sender::new(0),
        });
        let address = listener.local_addr()?;
        let server = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, server })
    }

    /// Sets the endpoint, for example `http://127.0.0.1:4566`.
    pub fn set_upstream(&self, endpoint_url: &str) {
        *lock(&self.shared.upstream) = Some(endpoint_url.trim_end_matches('/').to_owned());
    }

    /// Returns the address, for `AWS_ENDPOINT_URL`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Replaces the plan; its rules count from the next call.
    pub fn set_plan(&self, plan: FaultPlan) {
        *lock(&self.shared.plan_state) = PlanState::new(plan);
    }

    /// Sets the action of [`Fault::Killed`], which ends the calling process. The default action
    /// only closes the connection.
    pub fn on_kill(&self, kill: impl Fn() + Send + Sync + 'static) {
        *lock(&self.shared.kill) = Some(Arc::new(kill));
    }

    /// Returns the statistics since the start.
    #[must_use]
    pub fn stats(&self) -> ProxyStats {
        lock(&self.shared.stats).clone()
    }

    /// Waits until all calls are complete, including those of killed processes.
    pub async fn wait_until_idle(&self) {
        let mut in_flight = self.shared.in_flight.subscribe();
        // The sender exists as long as this proxy.
        let _settled = in_flight.wait_for(|calls| *calls == 0).await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Locks a mutex. Poisoning is ignored, because no code panics between two related changes.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) -> Infallible {
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(serve_connection(stream, Arc::clone(&shared)));
            }
            // The connection was aborted before it was accepted, or no file descriptor is free.
            Err(error) => debug!(%error, "accepting a connection failed"),
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve_connection(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(move |request| handle(Arc::clone(&shared), request));
    // An error of the service closes the connection without a response, as intended.
    if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await
    {
        debug!(%error, "connection closed");
    }
}

async fn handle(
    shared: Arc<Shared>,
    request: http::Request<Incoming>,
) -> Result<http::Response<Full<Bytes>>, NoResponse> {
    let (head, body) = request.into_parts();
    let call = Call::from_request(&head.method, &head.uri, &head.headers);
    let request = Request {
        body: body.collect().await?.to_bytes(),
        method: head.method,
        uri: head.uri,
        headers: strip_hop_by_hop(head.headers),
    };
    let fault = shared.record(&call);
    if let Some(fault) = fault {
        debug!(%call, %fault, "injecting a fault");
    }
    // A separate task, so that a call completes after its caller has disconnected.
    let in_flight = InFlightCall::start(Arc::clone(&shared));
    let response = tokio::spawn(async move {
        let response = apply_fault(&shared, &call, request, fault).await;
        drop(in_flight);
        response
    });
    match response.await {
        Ok(response) => response.map(Response::into_http),
        Err(_panicked) => Err(NoResponse::FaultInjected),
    }
}

async fn apply_fault(
    shared: &Shared,
    call: &Call,
    request: Request,
    fault: Option<Fault>,
) -> Result<Response, NoResponse> {
    match fault {
        None => shared.forward(request).await,
        Some(Fault::RequestLost) => Err(NoResponse::FaultInjected),
        Some(Fault::ResponseLost) => {
            shared.forward(request).await?;
            Err(NoResponse::FaultInjected)
        }
        Some(Fault::Delayed(by)) => {
            sleep(by).await;
            shared.forward(request).await
        }
        Some(Fault::Error(failure)) => Ok(failure.response(call, &request)),
        Some(Fault::PartialBatch) => match partial_batch::split(call, request.clone()) {
            None => shared.forward(request).await,
            Some(mut divided) => {
                let response = match divided.request.take() {
                    Some(passed) => Some(shared.forward(passed).await?),
                    None => None,
                };
                Ok(divided.response(response))
            }
        },
        Some(Fault::Killed(moment)) => {
            if moment == KillPoint::AfterCall {
                shared.forward(request).await?;
            }
            let kill = lock(&shared.kill).clone();
            if let Some(kill) = kill {
                kill();
            }
            Err(NoResponse::FaultInjected)
        }
    }
}

impl Shared {
    fn record(&self, call: &Call) -> Option<Fault> {
        let fault = lock(&self.plan_state).next_fault(call);
        let mut stats = lock(&self.stats);
        *stats.calls.entry(call.clone()).or_default() += 1;
        if !call.is_read_only() {
            let number = stats.total_calls();
            stats.writes.insert(number);
        }
        if let Some(fault) = fault {
            *stats.faults.entry(fault.kind()).or_default() += 1;
        }
        fault
    }

    async fn forward(&self, request: Request) -> Result<Response, NoResponse> {
        let upstream = lock(&self.upstream).clone().ok_or(NoResponse::NoEndpoint)?;
        let path = request.uri.path_and_query().map_or("/", |path| path.as_str());
        let response = self
            .http
            .request(request.method, format!("{upstream}{path}"))
            // Includes the Host header that the caller signed.
            .headers(request.headers)
            .body(request.body)
            .send()
            .await?;
        Ok(Response {
            status: response.status(),
            headers: strip_hop_by_hop(response.headers().clone()),
            body: response.bytes().await?,
        })
    }
}

/// Counts a call as incomplete until it is dropped.
struct InFlightCall(Arc<Shared>);

impl InFlightCall {
    fn start(shared: Arc<Shared>) -> Self {
        shared.in_flight.send_modify(|calls| *calls += 1);
        Self(shared)
    }
}

impl Drop for InFlightCall {
    fn drop(&mut self) {
        self.0.in_flight.send_modify(|calls| *calls -= 1);
    }
}
