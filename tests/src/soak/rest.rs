//! Client of the REST API that invokes its functions directly.

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::{Value, json};

use super::function::{Function, InvocationOutcome};

/// The functions of the REST API.
pub(super) struct RestApi {
    pub(super) devices: Function,
    pub(super) alerts: Function,
    pub(super) stats: Function,
}

/// A response of the API.
#[derive(Debug)]
pub(super) struct RestResponse {
    pub(super) status: u16,
    pub(super) body: String,
    bytes: Vec<u8>,
    next: Option<String>,
}

/// The response of a function to API Gateway (HTTP API, payload format 2.0).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProxyResponse {
    status_code: u16,
    #[serde(default)]
    headers: serde_json::Map<String, Value>,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    is_base64_encoded: bool,
}

impl RestResponse {
    pub(super) fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("body is not JSON: {}", self.body))
    }
}

impl RestApi {
    pub(super) async fn send(
        &mut self,
        method: &str,
        path_and_query: &str,
        accept: &str,
        body: Option<&Value>,
    ) -> Result<RestResponse> {
        let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        let event = json!({
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": path,
            "rawQueryString": query,
            "headers": {"accept": accept, "content-type": "application/json"},
            "body": body.map(Value::to_string),
            "isBase64Encoded": false,
            "requestContext": {"requestId": "soak", "stage": "$default", "http": {"method": method}},
        });
        let ended = self.function(path).invoke(&event).await?;
        let InvocationOutcome::Response(reply) = ended else {
            bail!("{method} {path_and_query}: the function returned no response: {ended:?}")
        };
        let reply: ProxyResponse = serde_json::from_value(reply)?;
        let body = reply.body.unwrap_or_default();
        let bytes = match reply.is_base64_encoded {
            true => BASE64.decode(body)?,
            false => body.into_bytes(),
        };
        let body = String::from_utf8_lossy(&bytes).into_owned();
        let link = reply.headers.get("link").and_then(Value::as_str);
        Ok(RestResponse { status: reply.status_code, body, bytes, next: link.and_then(next_path) })
    }

    /// The function of a path, as in the routes of API Gateway.
    fn function(&mut self, path: &str) -> &mut Function {
        if path == "/api/stats" {
            &mut self.stats
        } else if path.starts_with("/api/alerts") || path.ends_with("/alerts") {
            &mut self.alerts
        } else {
            &mut self.devices
        }
    }

    /// Sends `GET` and returns the JSON of a response with status 200.
    pub(super) async fn get(&mut self, path: &str) -> Result<Value> {
        let answer = self.send("GET", path, "application/json", None).await?;
        ensure!(answer.status == 200, "GET {path}: {} {}", answer.status, answer.body);
        answer.json()
    }

    /// Sends `GET` and returns the bytes of a response with status 200.
    pub(super) async fn bytes(&mut self, path: &str) -> Result<Vec<u8>> {
        let answer = self.send("GET", path, "*/*", None).await?;
        ensure!(answer.status == 200, "GET {path}: {} {}", answer.status, answer.body);
        Ok(answer.bytes)
    }

    /// Sends `POST` and returns the JSON of a response with status 201 or 202.
    pub(super) async fn post(&mut self, path: &str, body: &Value) -> Result<Value> {
        let answer = self.send("POST", path, "application/json", Some(body)).await?;
        ensure!(
            matches!(answer.status, 201 | 202),
            "POST {path}: {} {}",
            answer.status,
            answer.body
        );
        answer.json()
    }

    /// Reads all pages of a list.
    pub(super) async fn list(&mut self, path: &str) -> Result<Vec<Value>> {
        let mut items = Vec::new();
        for page in self.pages(path, "application/json").await? {
            let page: Vec<Value> = serde_json::from_str(&page)?;
            items.extend(page);
        }
        Ok(items)
    }

    /// Reads the pages of a list until one contains an item for which `is_end` is true. Returns the
    /// other items.
    pub(super) async fn list_until(
        &mut self,
        path: &str,
        is_end: impl Fn(&Value) -> bool,
    ) -> Result<Vec<Value>> {
        let mut items: Vec<Value> = Vec::new();
        let mut next = Some(path.to_owned());
        while let Some(path) = next {
            let answer = self.send("GET", &path, "application/json", None).await?;
            ensure!(answer.status == 200, "GET {path}: {} {}", answer.status, answer.body);
            let page: Vec<Value> = serde_json::from_str(&answer.body)?;
            let ends = page.iter().any(&is_end);
            items.extend(page);
            next = if ends { None } else { answer.next };
        }
        items.retain(|item| !is_end(item));
        Ok(items)
    }

    /// Reads all pages of a list as NDJSON.
    pub(super) async fn lines(&mut self, path: &str) -> Result<Vec<Value>> {
        let pages = self.pages(path, "application/x-ndjson").await?;
        let lines = pages.iter().flat_map(|page| page.lines());
        lines.map(|line| serde_json::from_str(line).map_err(Into::into)).collect()
    }

    async fn pages(&mut self, path: &str, accept: &str) -> Result<Vec<String>> {
        let mut pages = Vec::new();
        let mut next = Some(path.to_owned());
        while let Some(path) = next {
            let answer = self.send("GET", &path, accept, None).await?;
            ensure!(answer.status == 200, "GET {path}: {} {}", answer.status, answer.body);
            ensure!(answer.next.as_ref() != Some(&path), "the next page of {path} is {path}");
            pages.push(answer.body);
            next = answer.next;
        }
        Ok(pages)
    }

    pub(super) async fn stop(&mut self) {
        for function in [&mut self.devices, &mut self.alerts, &mut self.stats] {
            function.stop().await;
        }
    }
}

/// The path of `Link: <…>; rel="next"`, without the host.
fn next_path(link: &str) -> Option<String> {
    let target = link.split_once('<')?.1.split_once('>')?.0;
    let path = target.find("/api/").map(|at| &target[at..])?;
    link.contains("rel=\"next\"").then(|| path.to_owned())
}
