//! A whole system of a test's own, and its REST API.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use devstack::{DevStack, Options};
use reqwest::{Method, RequestBuilder, StatusCode, header::HeaderMap};
use serde_json::{Value, json};

/// How long something may take that happens by itself. Generous: machines that run tests are slow, and
/// what never happens fails all the same.
const TIMEOUT: Duration = Duration::from_secs(90);

/// A running system on free ports in a temporary folder.
pub struct System {
    /// What runs.
    pub stack: DevStack,
    http: reqwest::Client,
}

/// An answer of the API.
#[derive(Debug)]
pub struct Response {
    /// The HTTP status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as text.
    pub text: String,
}

impl Response {
    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.text).with_context(|| format!("no JSON: {:?}", self.text))
    }
}

impl System {
    /// Starts one.
    pub async fn start() -> Result<Self> {
        Self::start_with(Options::default()).await
    }

    /// Starts one that differs from the default.
    pub async fn start_with(options: Options) -> Result<Self> {
        Ok(Self { stack: DevStack::start(options).await?, http: reqwest::Client::new() })
    }

    /// The broker's port.
    pub fn mqtt_port(&self) -> u16 {
        self.stack.ports().mqtt
    }

    /// Sends a request.
    pub async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Response> {
        let request = self.request(method, path);
        self.execute(match body {
            Some(body) => request.json(body),
            None => request,
        })
        .await
    }

    /// A request to which headers and a body may be added.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.stack.rest_url())).timeout(TIMEOUT)
    }

    /// Sends a request as it is.
    pub async fn execute(&self, request: RequestBuilder) -> Result<Response> {
        let response = request.send().await.context("no answer")?;
        let (status, headers) = (response.status(), response.headers().clone());
        Ok(Response { status, headers, text: response.text().await? })
    }

    /// `GET`, which must be answered with 200.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let mut answer = self.send(Method::GET, path, None).await?;
        // An error of the local router's own; see `load::rest`.
        if answer.status.is_server_error() && !answer.headers.contains_key("x-request-id") {
            answer = self.send(Method::GET, path, None).await?;
        }
        if answer.status != StatusCode::OK {
            bail!("GET {path}: {} {}", answer.status, answer.text);
        }
        answer.json()
    }

    /// `POST`, which must be answered with 200 to 202.
    pub async fn post(&self, path: &str, body: Value) -> Result<Value> {
        let answer = self.send(Method::POST, path, Some(&body)).await?;
        if !answer.status.is_success() {
            bail!("POST {path}: {} {}", answer.status, answer.text);
        }
        answer.json()
    }

    /// Registers a device.
    pub async fn register(&self, device_id: &str) -> Result<()> {
        let device = json!({"device_id": device_id, "device_name": device_id});
        self.post("/api/devices", device).await.map(drop)
    }

    /// All of a list, page by page.
    pub async fn list(&self, path: &str) -> Result<Vec<Value>> {
        let mut all = Vec::new();
        let mut path = path.to_owned();
        loop {
            let answer = self.send(Method::GET, &path, None).await?;
            let Value::Array(items) = answer.json()? else { bail!("GET {path}: {}", answer.text) };
            all.extend(items);
            match next_link(&answer.headers) {
                Some(next) => path = next,
                None => return Ok(all),
            }
        }
    }

    /// Asks until the answer is there; fails with the last reason when patience ends.
    pub async fn eventually<T, F>(&self, what: &str, ask: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let started = Instant::now();
        loop {
            match ask().await {
                Ok(answer) => return Ok(answer),
                Err(reason) if started.elapsed() > TIMEOUT => {
                    return Err(reason.context(format!("never: {what}")));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

/// The path of `Link: <…>; rel="next"`, whether it is given with its host or without.
fn next_link(headers: &HeaderMap) -> Option<String> {
    let link = headers.get("link")?.to_str().ok()?;
    let target = link.split_once('<')?.1.split_once('>')?.0;
    let path = target.find("/api/").map(|at| &target[at..])?;
    link.contains("rel=\"next\"").then(|| path.to_owned())
}
