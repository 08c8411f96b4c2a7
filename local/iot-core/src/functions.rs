//! Invocation of functions through the Invoke API of Lambda, which AWS and cargo-lambda implement.

use std::time::Duration;

use bytes::Bytes;
use reqwest::{Client, StatusCode, header::CONTENT_TYPE};
use serde::Deserialize;

use crate::{error_chain::error_chain, template::Function};

/// The maximum length of a function's error in the log.
const ERROR_EXCERPT_CHARS: usize = 300;

/// The reason why an invocation returned no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvokeError {
    /// The function did not run. The invocation can be repeated.
    #[error("{function} cannot be reached at {url}: {cause}")]
    Unreachable { function: String, url: String, cause: String },
    /// The function may have run, and did not finish in time.
    #[error("{function} did not respond within {} s", timeout.as_secs_f32())]
    TimedOut { function: String, timeout: Duration },
    /// The function ran and failed.
    #[error("{function} failed: {reason}")]
    Failed { function: String, reason: String },
}

/// A client of the Invoke API of the functions.
#[derive(Debug, Clone)]
pub(crate) struct FunctionClient {
    http: Client,
    base: String,
}

impl FunctionClient {
    /// Creates a client for the API at `base`, for example `http://127.0.0.1:9000`.
    pub(crate) fn new(base: &str) -> reqwest::Result<Self> {
        // The functions run on this machine, so proxies of the environment do not apply.
        let http = Client::builder().no_proxy().build()?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned() })
    }

    /// Invokes a function with a JSON event and returns its response.
    pub(crate) async fn invoke(
        &self,
        function: &Function,
        event: Bytes,
    ) -> Result<Bytes, InvokeError> {
        let url = format!("{}/2015-03-31/functions/{}/invocations", self.base, function.name);
        let request = self.http.post(&url).header(CONTENT_TYPE, "application/json").body(event);
        let exchange = async {
            let response = request.send().await?;
            let status = response.status();
            let error_header = response.headers().contains_key("x-amz-function-error");
            Ok::<_, reqwest::Error>((status, error_header, response.bytes().await?))
        };
        let name = || function.name.clone();
        match tokio::time::timeout(function.timeout, exchange).await {
            Err(_) => Err(InvokeError::TimedOut { function: name(), timeout: function.timeout }),
            Ok(Err(error)) if error.is_connect() => {
                Err(InvokeError::Unreachable { function: name(), url, cause: error_chain(&error) })
            }
            Ok(Err(error)) => Err(InvokeError::Failed {
                function: name(),
                reason: format!("the connection broke: {}", error_chain(&error)),
            }),
            Ok(Ok((StatusCode::TOO_MANY_REQUESTS, ..))) => Err(InvokeError::Unreachable {
                function: name(),
                url,
                cause: "it is throttled (429)".to_owned(),
            }),
            Ok(Ok((status, error_header, body))) => {
                match function_error(status, error_header, &body) {
                    Some(reason) => Err(InvokeError::Failed { function: name(), reason }),
                    None => Ok(body),
                }
            }
        }
    }
}

/// The error document of a function's runtime.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ErrorDocument {
    error_type: String,
    error_message: String,
}

/// Returns the error that a response contains. AWS marks it with a header; cargo-lambda responds
/// with 200 with the error document of the runtime.
fn function_error(status: StatusCode, error_header: bool, body: &[u8]) -> Option<String> {
    let document = serde_json::from_slice::<ErrorDocument>(body).ok();
    if status.is_success() && !error_header && document.is_none() {
        return None;
    }
    let reason = match document {
        Some(error) => format!("{}: {}", error.error_type, error.error_message),
        None => format!("{status}: {}", String::from_utf8_lossy(body)),
    };
    Some(reason.chars().take(ERROR_EXCERPT_CHARS).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn successful_response_has_no_error() {
        for body in ["", "null", "{}", r#"{"batchItemFailures":[]}"#, r#"{"errorType":"mine"}"#] {
            assert_eq!(function_error(StatusCode::OK, false, body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn error_document_is_a_failure_for_any_status() {
        let body = br#"{"errorType":"Store","errorMessage":"no such bucket","stackTrace":[]}"#;
        for (status, header) in [
            (StatusCode::OK, false),
            (StatusCode::OK, true),
            (StatusCode::INTERNAL_SERVER_ERROR, false),
        ] {
            assert_eq!(
                function_error(status, header, body).as_deref(),
                Some("Store: no such bucket")
            );
        }
    }

    #[test]
    fn error_status_is_a_failure_for_any_body() {
        assert_eq!(
            function_error(StatusCode::NOT_FOUND, false, b"no such function").as_deref(),
            Some("404 Not Found: no such function")
        );
        assert!(function_error(StatusCode::OK, true, b"null").is_some());
    }

    #[test]
    fn long_error_is_truncated() {
        let body = "x".repeat(100_000);
        let reason = function_error(StatusCode::BAD_GATEWAY, false, body.as_bytes()).unwrap();
        assert_eq!(reason.len(), ERROR_EXCERPT_CHARS);
    }
}
