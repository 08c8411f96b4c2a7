//! A complete system for one test, and its REST API.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use devstack::{DevStack, Options};
use reqwest::{Method, RequestBuilder, StatusCode, header::HeaderMap};
use serde_json::{Value, json};

use crate::wait::{NO_PROGRESS, Progress};

/// The time between two attempts of [`System::eventually`].
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// A running system on free ports in a temporary folder.
pub struct System {
    /// The processes of the system.
    pub stack: DevStack,
    http: reqwest::Client,
}

/// A response of the API.
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
        serde_json::from_str(&self.text).with_context(|| format!("body is not JSON: {self}"))
    }

    /// Compares the status with the expected one.
    ///
    /// # Errors
    ///
    /// If they differ: the request, the expected status and the response.
    pub fn expect_status(&self, request: &str, expected: StatusCode) -> Result<()> {
        ensure!(self.status == expected, "{request}\nexpected: {expected}\nactual: {self}");
        Ok(())
    }
}

impl fmt::Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, self.text)
    }
}

impl System {
    /// Starts a system with the default options.
    pub async fn start() -> Result<Self> {
        Self::start_with(Options::default()).await
    }

    /// Starts a system with other options.
    pub async fn start_with(options: Options) -> Result<Self> {
        Ok(Self { stack: DevStack::start(options).await?, http: reqwest::Client::new() })
    }

    /// The port of the MQTT broker.
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

    /// Builds a request, to which headers and a body can be added.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.stack.rest_url())).timeout(NO_PROGRESS)
    }

    /// Sends a request as it was built.
    pub async fn execute(&self, request: RequestBuilder) -> Result<Response> {
        let response = request.send().await.context("no response")?;
        let (status, headers) = (response.status(), response.headers().clone());
        Ok(Response { status, headers, text: response.text().await? })
    }

    /// Sends `GET` and returns the JSON of a response with status 200.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.get_response(path).await?.json()
    }

    async fn get_response(&self, path: &str) -> Result<Response> {
        let mut response = self.send(Method::GET, path, None).await?;
        // The local router responds with an error of its own; see `load::rest`.
        if response.status.is_server_error() && !response.headers.contains_key("x-request-id") {
            response = self.send(Method::GET, path, None).await?;
        }
        response.expect_status(&format!("GET {path}"), StatusCode::OK)?;
        Ok(response)
    }

    /// Sends `POST` and returns the JSON of a response with a status of success.
    pub async fn post(&self, path: &str, body: Value) -> Result<Value> {
        let response = self.send(Method::POST, path, Some(&body)).await?;
        ensure!(
            response.status.is_success(),
            "POST {path} {body}\nexpected: success\nactual: {response}"
        );
        response.json()
    }

    /// Registers a device.
    pub async fn register(&self, device_id: &str) -> Result<()> {
        let device = json!({"device_id": device_id, "device_name": device_id});
        self.post("/api/devices", device).await.map(drop)
    }

    /// Reads all pages of a list.
    pub async fn list(&self, path: &str) -> Result<Vec<Value>> {
        let mut all = Vec::new();
        let mut path = path.to_owned();
        loop {
            let response = self.get_response(&path).await?;
            let page: Vec<Value> = serde_json::from_str(&response.text)
                .with_context(|| format!("GET {path} is not a list: {response}"))?;
            all.extend(page);
            match next_link(&response.headers) {
                Some(next) => path = next,
                None => return Ok(all),
            }
        }
    }

    /// Repeats a check until it passes. A check that fails for another reason than before has made
    /// progress.
    ///
    /// # Errors
    ///
    /// After [`NO_PROGRESS`] without progress: the reason of the last failure.
    pub async fn eventually<T, F>(&self, what: &str, check: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut progress = Progress::new(NO_PROGRESS);
        loop {
            match check().await {
                Ok(result) => return Ok(result),
                Err(reason) if progress.is_stalled(format!("{reason:#}")) => {
                    return Err(reason.context(format!("no progress while waiting for {what}")));
                }
                Err(_) => tokio::time::sleep(POLL_INTERVAL).await,
            }
        }
    }
}

/// The path of `Link: <…>; rel="next"`, without the host.
fn next_link(headers: &HeaderMap) -> Option<String> {
    let link = headers.get("link")?.to_str().ok()?;
    let target = link.split_once('<')?.1.split_once('>')?.0;
    let path = target.find("/api/").map(|at| &target[at..])?;
    link.contains("rel=\"next\"").then(|| path.to_owned())
}
