//! Adapters of the ports to AWS, and the only crate that names types of the AWS SDK.
//!
//! A process creates [`Clients`] once; adapters are cheap to clone and share their connections.
//! Every call has a timeout and is retried, see [`Clients::from_environment`]. A call that still
//! fails is a [`StoreError`] with the operation and the cause.

pub mod dynamodb;
mod error;
mod iot_data;
mod queue;
mod readiness;
mod s3;
pub mod settings;
mod sns;
mod timestream;
mod tracing_interceptor;

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader, Region, SdkConfig};
use aws_sdk_dynamodb::config::Credentials;
use meter_store::StoreError;

pub use self::iot_data::IotCommandPublisher;
pub use self::queue::IngestQueue;
pub use self::readiness::StoreProbe;
pub use self::s3::S3Archive;
pub use self::sns::{AwsPublisher, SnsNotifier};
pub use self::timestream::Timestream;
use self::tracing_interceptor::TracingInterceptor;

/// Attempts of one call. With the backoff between them that is about two seconds of a throttling
/// store; the queue redelivers a batch that still fails.
const MAX_ATTEMPTS: u32 = 4;

/// Backoff before the first retry. The default of the SDK, a second, is long for DynamoDB, which
/// responds in milliseconds.
const INITIAL_BACKOFF: Duration = Duration::from_millis(50);
const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// Timeout of a connection, which takes milliseconds inside a region.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Timeout of one attempt, including the largest archive object.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(8);

/// Timeout of a call with all attempts: below the 29 s of API Gateway, and less than half of the 60
/// s of the ingest function.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(20);

/// The clients of all AWS services.
#[derive(Debug, Clone)]
pub struct Clients {
    dynamodb: aws_sdk_dynamodb::Client,
    s3: aws_sdk_s3::Client,
    iot_data: aws_sdk_iotdataplane::Client,
    sqs: aws_sdk_sqs::Client,
    sns: aws_sdk_sns::Client,
    config: SdkConfig,
}

impl Clients {
    /// Creates clients with the region, credentials and endpoints (`AWS_ENDPOINT_URL`,
    /// `AWS_ENDPOINT_URL_S3` …) of the environment, as in every AWS SDK.
    ///
    /// Retries are the standard ones of the SDK, with jitter and with a token bucket that stops
    /// them while most calls fail.
    pub async fn from_environment() -> Self {
        let config = load_config(aws_config::defaults(BehaviorVersion::latest())).await;
        let s3_endpoint = std::env::var_os("AWS_ENDPOINT_URL_S3");
        let is_overridden = config.endpoint_url().is_some() || s3_endpoint.is_some();
        Self::new(&config, is_overridden)
    }

    /// Creates clients of an emulator, which accepts any credentials.
    pub async fn for_emulator(endpoint_url: &str) -> Self {
        let credentials = Credentials::new("local", "local", None, None, "emulator");
        let config = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::from_static("us-east-1"))
            .credentials_provider(credentials)
            .endpoint_url(endpoint_url);
        Self::new(&load_config(config).await, true)
    }

    fn new(config: &SdkConfig, is_emulator: bool) -> Self {
        // The host name of an emulator has no subdomain for each bucket, so the bucket is in the
        // path.
        let s3 = aws_sdk_s3::config::Builder::from(config).force_path_style(is_emulator);
        let dynamodb = aws_sdk_dynamodb::config::Builder::from(config);
        let iot_data = aws_sdk_iotdataplane::config::Builder::from(config);
        let sqs = aws_sdk_sqs::config::Builder::from(config);
        Self {
            dynamodb: aws_sdk_dynamodb::Client::from_conf(
                dynamodb.interceptor(TracingInterceptor).build(),
            ),
            s3: aws_sdk_s3::Client::from_conf(s3.interceptor(TracingInterceptor).build()),
            iot_data: aws_sdk_iotdataplane::Client::from_conf(
                iot_data.interceptor(TracingInterceptor).build(),
            ),
            sqs: aws_sdk_sqs::Client::from_conf(sqs.interceptor(TracingInterceptor).build()),
            sns: sns::client(config),
            config: config.clone(),
        }
    }

    /// Creates clients of Timestream, which discover their endpoints now and then periodically.
    ///
    /// A configured endpoint is used without discovery, whose endpoints always use HTTPS.
    async fn timestream(
        &self,
    ) -> Result<(aws_sdk_timestreamwrite::Client, aws_sdk_timestreamquery::Client), StoreError>
    {
        let write = aws_sdk_timestreamwrite::config::Builder::from(&self.config);
        let write = aws_sdk_timestreamwrite::Client::from_conf(
            write.interceptor(TracingInterceptor).build(),
        );
        let query = aws_sdk_timestreamquery::config::Builder::from(&self.config);
        let query = aws_sdk_timestreamquery::Client::from_conf(
            query.interceptor(TracingInterceptor).build(),
        );
        let variables = ["AWS_ENDPOINT_URL_TIMESTREAM_WRITE", "AWS_ENDPOINT_URL_TIMESTREAM_QUERY"];
        let is_overridden = self.config.endpoint_url().is_some()
            || variables.iter().any(|name| std::env::var_os(name).is_some());
        if is_overridden {
            return Ok((write, query));
        }
        let discovery = |error| StoreError::unavailable("timestream:DescribeEndpoints", error);
        let (write, reload) = write.with_endpoint_discovery_enabled().await.map_err(discovery)?;
        tokio::spawn(reload.reload_task());
        let (query, reload) = query.with_endpoint_discovery_enabled().await.map_err(discovery)?;
        tokio::spawn(reload.reload_task());
        Ok((write, query))
    }
}

async fn load_config(config: ConfigLoader) -> SdkConfig {
    let retries = RetryConfig::standard()
        .with_max_attempts(MAX_ATTEMPTS)
        .with_initial_backoff(INITIAL_BACKOFF)
        .with_max_backoff(MAX_BACKOFF);
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(OPERATION_TIMEOUT)
        .build();
    config.retry_config(retries).timeout_config(timeouts).load().await
}
