//! The two calls of the Lambda API that the commands use, signed by hand: the SDK's crate compiles
//! for longer than the rest of this tool.
//!
//! API: <https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html>,
//! <https://docs.aws.amazon.com/lambda/latest/api/API_GetFunctionConfiguration.html>.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use aws_config::SdkConfig;
use aws_sdk_sqs::config::{ProvideCredentials as _, SharedCredentialsProvider};
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde_json::Value;

const API: &str = "2015-03-31/functions";
/// Longer than the timeout of the watchdog function.
const TIMEOUT: Duration = Duration::from_secs(120);

type HttpClient = legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// A client of the Lambda API.
pub(crate) struct LambdaClient {
    http: HttpClient,
    endpoint: String,
    region: String,
    credentials: SharedCredentialsProvider,
}

impl LambdaClient {
    /// A client with the region, credentials and endpoint of `config`. `AWS_ENDPOINT_URL_LAMBDA`
    /// takes precedence, as in the SDKs.
    ///
    /// # Errors
    /// When no region or credentials are configured, or the machine has no root certificates.
    pub(crate) fn new(config: &SdkConfig) -> Result<Self> {
        let region = config.region().context("no AWS region is configured")?.to_string();
        let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let endpoint = std::env::var("AWS_ENDPOINT_URL_LAMBDA")
            .ok()
            .or_else(|| config.endpoint_url().map(str::to_owned))
            .unwrap_or_else(|| format!("https://lambda.{region}.{suffix}"));
        let credentials = config.credentials_provider();
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::aws_lc_rs::default_provider())
            .context("cannot read the root certificates of this machine")?
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self {
            http: legacy::Client::builder(TokioExecutor::new()).build(connector),
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            region,
            credentials: credentials.context("no AWS credentials are configured")?,
        })
    }

    /// The environment variables of a function.
    ///
    /// # Errors
    /// When the call fails.
    pub(crate) async fn environment(&self, function: &str) -> Result<BTreeMap<String, String>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Configuration {
            environment: Environment,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Environment {
            variables: BTreeMap<String, String>,
        }
        let path = format!("{API}/{function}/configuration");
        let (_, body) = self.call(Method::GET, &path, Bytes::new()).await?;
        let configuration: Configuration = serde_json::from_slice(&body)
            .with_context(|| format!("Lambda returned no settings of {function}"))?;
        Ok(configuration.environment.variables)
    }

    /// Invokes a function and returns its response.
    ///
    /// # Errors
    /// When the call or the function fails.
    pub(crate) async fn invoke(&self, function: &str, payload: &Value) -> Result<Value> {
        let path = format!("{API}/{function}/invocations");
        let (headers, body) = self.call(Method::POST, &path, payload.to_string().into()).await?;
        let text = String::from_utf8_lossy(&body);
        ensure!(!headers.contains_key("x-amz-function-error"), "{function} failed: {text}");
        serde_json::from_str(&text).with_context(|| format!("{function} returned no JSON: {text}"))
    }

    async fn call(&self, method: Method, path: &str, body: Bytes) -> Result<(HeaderMap, Bytes)> {
        let uri = format!("{}/{path}", self.endpoint);
        let mut request =
            Request::builder().method(method).uri(&uri).body(Full::new(body.clone()))?;
        self.sign(&mut request, &uri, &body).await?;
        let exchange = async {
            let response = self.http.request(request).await?;
            let (parts, body) = response.into_parts();
            anyhow::Ok((parts, body.collect().await?.to_bytes()))
        };
        let (parts, body) = tokio::time::timeout(TIMEOUT, exchange)
            .await
            .with_context(|| format!("{uri}: no response within {} s", TIMEOUT.as_secs()))?
            .with_context(|| format!("cannot call {uri}"))?;
        if !parts.status.is_success() {
            bail!("{uri}: {} {}", parts.status, String::from_utf8_lossy(&body));
        }
        Ok((parts.headers, body))
    }

    async fn sign(&self, request: &mut Request<Full<Bytes>>, uri: &str, body: &[u8]) -> Result<()> {
        let credentials = self.credentials.provide_credentials().await;
        let identity = credentials.context("cannot load AWS credentials")?.into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("lambda")
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()?
            .into();
        let body = SignableBody::Bytes(body);
        let signable =
            SignableRequest::new(request.method().as_str(), uri, std::iter::empty(), body)?;
        let (instructions, _) = sign(signable, &parameters)?.into_parts();
        instructions.apply_to_request_http1x(request);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use aws_config::{BehaviorVersion, Region};
    use aws_sdk_sqs::config::Credentials;
    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::{get, post};
    use serde_json::json;

    use super::*;

    async fn client(router: Router) -> LambdaClient {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let credentials = Credentials::new("AKID", "secret", None, None, "test");
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-central-1"))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .endpoint_url(endpoint)
            .build();
        LambdaClient::new(&config).unwrap()
    }

    #[tokio::test]
    async fn invocation_is_signed_and_returns_the_response_of_the_function() {
        let path = "/2015-03-31/functions/watchdog/invocations";
        let client = client(Router::new().route(
            path,
            post(|headers: HeaderMap, body: String| async move {
                let authorization = headers["authorization"].to_str().unwrap().to_owned();
                json!({"authorization": authorization, "payload": body}).to_string()
            }),
        ));
        let response = client.await.invoke("watchdog", &json!({"recount": true})).await.unwrap();
        assert_eq!(response["payload"], r#"{"recount":true}"#);
        let authorization = response["authorization"].as_str().unwrap();
        assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKID/"), "{authorization}");
        assert!(authorization.contains("/eu-central-1/lambda/aws4_request"), "{authorization}");
    }

    #[tokio::test]
    async fn failed_function_and_refused_call_are_errors_with_their_reason() {
        let failed = || async { ([("x-amz-function-error", "Unhandled")], "out of memory") };
        let refused = || async { (StatusCode::FORBIDDEN, "AccessDeniedException") };
        let client = client(
            Router::new()
                .route("/2015-03-31/functions/failed/invocations", post(failed))
                .route("/2015-03-31/functions/refused/invocations", post(refused)),
        )
        .await;
        for (function, reason) in [("failed", "out of memory"), ("refused", "AccessDenied")] {
            let error = client.invoke(function, &Value::Null).await.unwrap_err();
            assert!(format!("{error:#}").contains(reason), "{error:#}");
        }
    }

    #[tokio::test]
    async fn environment_is_read_from_the_configuration_of_the_function() {
        let body = json!({"Environment": {"Variables": {"METRIC_STORE": "dynamodb"}}}).to_string();
        let route = get(|| async { body });
        let path = "/2015-03-31/functions/ingest/configuration";
        let client = client(Router::new().route(path, route)).await;
        let variables = client.environment("ingest").await.unwrap();
        assert_eq!(variables["METRIC_STORE"], "dynamodb");
    }
}
