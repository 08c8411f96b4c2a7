//! The proxy itself.

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

/// A proxy on a port of its own on the loopback interface. Dropping it closes its connections.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<Infallible>,
}

/// What a proxy has seen and done since it was started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyStats {
    /// The calls that came, whatever became of them.
    pub calls: BTreeMap<Call, usize>,
    /// The faults that they met, by [`Fault::kind`].
    pub faults: BTreeMap<&'static str, usize>,
    /// Which of the calls, by their numbers from 1, may change something.
    pub writes: BTreeSet<usize>,
}

impl ProxyStats {
    /// How many calls came.
    #[must_use]
    pub fn total_calls(&self) -> usize {
        self.calls.values().sum()
    }

    /// How many of them met a fault.
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
    /// Calls that have come and are not over, whether somebody waits for the answer or not.
    in_flight: watch::Sender<usize>,
}

/// Why a call gets no answer; whoever made it finds its connection closed.
#[derive(Debug, thiserror::Error)]
enum NoResponse {
    #[error("a fault was asked for")]
    FaultInjected,
    #[error("there is no endpoint yet")]
    NoEndpoint,
    #[error("the endpoint did not answer")]
    Endpoint(#[from] reqwest::Error),
    #[error("the request ended early")]
    Request(#[from] hyper::Error),
}

impl Proxy {
    /// Starts a proxy to an endpoint, with a plan in which nothing goes wrong.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn start(endpoint_url: &str) -> Result<Self> {
        let proxy = Self::listen(0).await?;
        proxy.set_upstream(endpoint_url);
        Ok(proxy)
    }

    /// Starts a proxy on a port (0: a free one) whose endpoint is not known yet: calls are lost until
    /// [`Proxy::set_upstream`].
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn listen(port: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .await
            .with_context(|| format!("cannot listen on port {port} of the loopback interface"))?;
        let shared = Arc::new(Shared {
            // A redirection is the caller's business, and a proxy of the environment is not meant.
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

    /// Where it passes calls on to, for example `http://127.0.0.1:4566`.
    pub fn set_upstream(&self, endpoint_url: &str) {
        *lock(&self.shared.upstream) = Some(endpoint_url.trim_end_matches('/').to_owned());
    }

    /// Its address, for `AWS_ENDPOINT_URL`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Replaces the plan; calls are counted from here.
    pub fn set_plan(&self, plan: FaultPlan) {
        *lock(&self.shared.plan_state) = PlanState::new(plan);
    }

    /// What [`Fault::Killed`] does: end the calling process, at once. Without this it only loses the call
    /// or its answer.
    pub fn on_kill(&self, kill: impl Fn() + Send + Sync + 'static) {
        *lock(&self.shared.kill) = Some(Arc::new(kill));
    }

    /// What it has seen and done since it was started.
    #[must_use]
    pub fn stats(&self) -> ProxyStats {
        lock(&self.shared.stats).clone()
    }

    /// Resolves when every call that has come is over, those of dead processes included.
    pub async fn wait_until_idle(&self) {
        let mut in_flight = self.shared.in_flight.subscribe();
        // The sender lives as long as this proxy.
        let _settled = in_flight.wait_for(|calls| *calls == 0).await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A poisoned lock holds what it held: nothing here panics between two changes.
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
            // A connection that was given up before it was accepted, or no file descriptors for now.
            Err(error) => debug!(%error, "no connection"),
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve_connection(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(move |request| handle(Arc::clone(&shared), request));
    // An error of the service closes the connection without an answer, which is what it is for.
    if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await
    {
        debug!(%error, "a connection was closed");
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
        debug!(%call, %fault, "a fault");
    }
    // In a task of its own: what has been sent arrives, whether its sender lives or not.
    let in_flight = InFlightCall::start(Arc::clone(&shared));
    let answer = tokio::spawn(async move {
        let answer = apply_fault(&shared, &call, request, fault).await;
        drop(in_flight);
        answer
    });
    match answer.await {
        Ok(answer) => answer.map(Response::into_http),
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
                let answer = match divided.request.take() {
                    Some(passed) => Some(shared.forward(passed).await?),
                    None => None,
                };
                Ok(divided.response(answer))
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
            // The Host that the caller signed, not the endpoint's.
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

/// A call that is not over.
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
