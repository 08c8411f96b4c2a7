//! Client of the REST API. Lists are read page by page with `Link: <…>; rel="next"` (RFC 8288).

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use jiff::Timestamp;
use reqwest::header::{ACCEPT, HeaderMap, LINK};
use reqwest::{Client, Response, StatusCode, Url};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::model::{METRIC, Point};
use crate::wait::NO_PROGRESS;

/// Retries after an error of the local router, and the time between them.
const ROUTER_ATTEMPTS: usize = 5;
const ROUTER_RETRY_DELAY: Duration = Duration::from_millis(200);

/// A client for one address.
#[derive(Debug, Clone)]
pub struct RestClient {
    http: Client,
    base: Url,
}

#[derive(Deserialize)]
struct MetricRow {
    time: Timestamp,
    metric: String,
    value: f64,
}

#[derive(Deserialize)]
struct FileRow {
    filename: String,
}

impl RestClient {
    /// Creates a client for the API at a base URL.
    ///
    /// # Errors
    ///
    /// If the URL is invalid.
    pub fn new(base: &str) -> Result<Self> {
        let base = Url::parse(base).with_context(|| format!("{base:?} is not a URL"))?;
        ensure!(!base.cannot_be_a_base(), "{base} is not a base URL");
        let http = Client::builder()
            .timeout(NO_PROGRESS)
            .build()
            .context("cannot create an HTTP client")?;
        Ok(Self { http, base })
    }

    /// Sends a health check.
    ///
    /// # Errors
    ///
    /// If the API does not respond with success.
    pub async fn check(&self) -> Result<()> {
        let answer = self.http.get(self.url("/health", &[])?).send().await;
        let answer =
            answer.with_context(|| format!("the API at {} does not respond", self.base))?;
        ensure!(answer.status().is_success(), "GET /health of {}: {}", self.base, answer.status());
        Ok(())
    }

    /// Registers a device, unless it is registered already.
    ///
    /// # Errors
    ///
    /// If the API rejects the device or does not respond.
    pub async fn register(&self, device_id: &str) -> Result<()> {
        let url = self.url("/api/devices", &[])?;
        let body = json!({"device_id": device_id, "device_name": device_id});
        let answer = self.http.post(url).json(&body).send().await;
        let answer = answer.context("registering a device")?;
        match answer.status() {
            StatusCode::CREATED | StatusCode::CONFLICT => Ok(()),
            status => bail!("registering {device_id}: {status} {}", answer.text().await?),
        }
    }

    /// The points of [`METRIC`] in [start, stop), oldest first.
    ///
    /// # Errors
    ///
    /// If the API rejects the request or does not respond, or the response violates its contract.
    pub async fn points(
        &self,
        device_id: &str,
        (start, stop): (Timestamp, Timestamp),
    ) -> Result<Vec<Point>> {
        let path = format!("/api/devices/{device_id}/metrics");
        let range = [("start", start.to_string()), ("stop", stop.to_string())];
        let rows: Vec<MetricRow> = self.list(self.url(&path, &range)?).await?;
        let points = rows.into_iter().filter(|row| row.metric == METRIC);
        Ok(points.map(|row| Point { time: row.time, value: row.value }).collect())
    }

    /// The names of the device's archived messages.
    ///
    /// # Errors
    ///
    /// See [`RestClient::points`].
    pub async fn file_names(&self, device_id: &str) -> Result<Vec<String>> {
        let path = format!("/api/devices/{device_id}/raw-data");
        let rows: Vec<FileRow> = self.list(self.url(&path, &[])?).await?;
        Ok(rows.into_iter().map(|row| row.filename).collect())
    }

    /// The payloads of the device's archived messages, as JSON.
    ///
    /// # Errors
    ///
    /// See [`RestClient::points`].
    pub async fn archived(&self, device_id: &str) -> Result<Vec<Value>> {
        let path = format!("/api/devices/{device_id}/raw-data");
        let mut payloads = Vec::new();
        for page in self.pages(self.url(&path, &[])?, "application/x-ndjson").await? {
            for line in page.lines() {
                let mut line: Value = serde_json::from_str(line)
                    .with_context(|| format!("a line of {path} is not JSON: {line}"))?;
                payloads.push(line["payload"].take());
            }
        }
        Ok(payloads)
    }

    /// All items of a list.
    async fn list<T: serde::de::DeserializeOwned>(&self, url: Url) -> Result<Vec<T>> {
        let mut items = Vec::new();
        for page in self.pages(url.clone(), "application/json").await? {
            let page: Vec<T> = serde_json::from_str(&page)
                .with_context(|| format!("GET {url}: unexpected list items"))?;
            items.extend(page);
        }
        Ok(items)
    }

    /// The bodies of all pages.
    async fn pages(&self, first: Url, accept: &str) -> Result<Vec<String>> {
        let mut pages = Vec::new();
        let mut seen = HashSet::new();
        let mut next = Some(first);
        while let Some(url) = next {
            let answer = self.get(&url, accept).await?;
            let status = answer.status();
            let link = next_link(answer.headers(), &url)?;
            let body =
                answer.text().await.with_context(|| format!("GET {url}: incomplete response"))?;
            ensure!(status == StatusCode::OK, "GET {url}: {status} {body}");
            pages.push(body);
            // The host in the link may differ from that of the client.
            next = link.map(|link| self.on_this_host(&link));
            if let Some(url) = &next {
                ensure!(seen.insert(url.clone()), "the pages of a list form a cycle at {url}");
            }
        }
        Ok(pages)
    }

    /// Reads one page. The local router (cargo-lambda 1.9.2) responds with status 500 if the body
    /// of a function's response is delayed. Responses of the functions have a request id, so a
    /// status of 500 without it is retried.
    async fn get(&self, url: &Url, accept: &str) -> Result<Response> {
        let mut attempt = 0;
        loop {
            let answer = self.http.get(url.clone()).header(ACCEPT, accept).send().await;
            let answer = answer.with_context(|| format!("GET {url}: no response"))?;
            let is_from_function = answer.headers().contains_key("x-request-id");
            if is_from_function || !answer.status().is_server_error() || attempt == ROUTER_ATTEMPTS
            {
                return Ok(answer);
            }
            attempt += 1;
            sleep(ROUTER_RETRY_DELAY).await;
        }
    }

    fn on_this_host(&self, link: &Url) -> Url {
        let mut url = self.base.clone();
        url.set_path(link.path());
        url.set_query(link.query());
        url
    }

    fn url(&self, path: &str, query: &[(&str, String)]) -> Result<Url> {
        let path = format!("{}{path}", self.base.path().trim_end_matches('/'));
        let mut url = self.base.join(&path).with_context(|| format!("{path} is not a path"))?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }
}

/// The target of the first link with `rel="next"`, relative to the page it was on.
fn next_link(headers: &HeaderMap, page: &Url) -> Result<Option<Url>> {
    for header in headers.get_all(LINK) {
        let header = header.to_str().context("a Link header is not text")?;
        // `<target>; rel="next"; title="…", <target>; …`; a target holds no `>`.
        for link in header.split('<').skip(1) {
            let Some((target, parameters)) = link.split_once('>') else { continue };
            let is_next = parameters.split([';', ',']).any(|parameter| {
                matches!(parameter.trim().split_once('='), Some(("rel", rel)) if rel.trim_matches('"') == "next")
            });
            if is_next {
                let url = page.join(target);
                return Ok(Some(
                    url.with_context(|| format!("the Link target {target} is invalid"))?,
                ));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use axum::extract::{Path, Query, State};
    use axum::http::HeaderMap as Headers;
    use axum::response::{AppendHeaders, IntoResponse, Response};
    use axum::routing::get;
    use axum::{Json, Router};

    use super::*;

    fn next_of(header: &'static str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(LINK, header.parse().unwrap());
        let page = Url::parse("http://127.0.0.1:8080/api/devices?limit=2").unwrap();
        next_link(&headers, &page).unwrap().map(|url| url.to_string())
    }

    #[test]
    fn next_page_is_the_link_with_rel_next() {
        let absolute = "http://127.0.0.1:8080/api/devices?cursor=a";
        for header in [
            r#"<http://127.0.0.1:8080/api/devices?cursor=a>; rel="next""#,
            r#"</api/devices?cursor=a>; rel=next"#,
            r#"<?cursor=a>; title="x"; rel="next""#,
            r#"</api/devices?cursor=z>; rel="prev", </api/devices?cursor=a>; rel="next""#,
        ] {
            assert_eq!(next_of(header).as_deref(), Some(absolute), "{header}");
        }
        for header in [r#"</api/devices?cursor=z>; rel="prev""#, "nonsense", r#"rel="next""#] {
            assert_eq!(next_of(header), None, "{header}");
        }
    }

    /// An API with ten items in pages of three. With `cyclic`, the last page links to the first.
    async fn api(cyclic: bool) -> RestClient {
        async fn list(
            State(cyclic): State<bool>,
            Path((device, what)): Path<(String, String)>,
            Query(query): Query<Vec<(String, String)>>,
            headers: Headers,
        ) -> Response {
            let value = |name| query.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
            let from: usize = value("cursor").map_or(0, |cursor| cursor.parse().unwrap());
            let page = from..10.min(from + 3);
            let next = if cyclic { 0 } else { page.end };
            let link = format!(
                "<http://elsewhere/api/devices/{device}/{what}?cursor={next}>; rel=\"next\""
            );
            let links = (cyclic || page.end < 10).then_some(("link", link));
            let body = if what == "metrics" {
                assert!(from > 0 || value("start") == Some("2026-01-01T00:00:00Z"));
                let row = |n| json!({"time": format!("2026-01-01T00:00:0{n}Z"), "metric": METRIC, "value": n});
                let other = json!({"time": "2026-01-01T00:00:00Z", "metric": "other", "value": 1});
                Json(page.map(row).chain([other]).collect::<Vec<_>>()).into_response()
            } else if headers[ACCEPT] == "application/x-ndjson" {
                page.map(|n| format!("{{\"payload\":{{\"seq\":{n}}}}}\n"))
                    .collect::<String>()
                    .into_response()
            } else {
                Json(page.map(|n| json!({"filename": n.to_string()})).collect::<Vec<_>>())
                    .into_response()
            };
            (AppendHeaders(links), body).into_response()
        }
        let router = Router::new().route("/api/devices/{id}/{what}", get(list)).with_state(cyclic);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        RestClient::new(&format!("http://{address}")).unwrap()
    }

    #[tokio::test]
    async fn all_pages_of_a_list_are_read() {
        let rest = api(false).await;
        let range =
            ("2026-01-01T00:00:00Z".parse().unwrap(), "2026-01-02T00:00:00Z".parse().unwrap());
        let points = rest.points("d", range).await.unwrap();
        let values: Vec<_> = points.iter().map(|p| p.value).collect();
        assert_eq!(values, [0., 1., 2., 3., 4., 5., 6., 7., 8., 9.]);
        assert_eq!(rest.file_names("d").await.unwrap().len(), 10);
        let archived = rest.archived("d").await.unwrap();
        assert_eq!((archived.len(), &archived[9]), (10, &json!({"seq": 9})));
    }

    #[tokio::test]
    async fn cyclic_pages_are_an_error() {
        let error = api(true).await.file_names("d").await.unwrap_err();
        assert!(error.to_string().contains("cycle"), "{error}");
    }

    #[tokio::test]
    async fn error_contains_the_unexpected_status() {
        let error = api(false).await.register("d").await.unwrap_err();
        assert!(error.to_string().contains("404"), "{error}");
    }
}
