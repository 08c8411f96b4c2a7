//! Adapters of the ports to AWS, and the only module that names a type of an SDK.
//!
//! [`Clients`] are made once a process; the adapters are cheap to clone and share their connections.
//! Every call has a time limit and is retried as [`Clients::from_environment`] says; what fails after
//! that is a [`StoreError`](meter_store::StoreError) that names the operation and keeps the cause.

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

/// A call fits into this many tries. With the waits between them that is at most some two seconds of a
/// store that is throttling; a batch that failed comes again from the queue anyway.
const MAX_ATTEMPTS: u32 = 4;

/// The SDK's own first wait is a second, made for calls that take one. DynamoDB answers in milliseconds.
const INITIAL_BACKOFF: Duration = Duration::from_millis(50);
const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// A connection inside a region is there in milliseconds, or not at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// One try, the largest archive object included.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(8);

/// A call with all its tries: below the 29 s after which API Gateway gives up, and less than half of
/// ingest's 60 s.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(20);

/// The clients of every service that the functions use.
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
    /// Region, credentials and endpoints (`AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_S3`,
    /// `AWS_ENDPOINT_URL_DYNAMODB`, `AWS_ENDPOINT_URL_SQS`, `AWS_ENDPOINT_URL_SNS`, `AWS_ENDPOINT_URL_IOT_DATA_PLANE`) from the environment, as in
    /// every AWS SDK. Retries are the standard ones, with jitter and a token bucket that ends them when
    /// everything fails.
    pub async fn from_environment() -> Self {
        let config = load_config(aws_config::defaults(BehaviorVersion::latest())).await;
        let of_s3 = std::env::var_os("AWS_ENDPOINT_URL_S3");
        let is_overridden = config.endpoint_url().is_some() || of_s3.is_some();
        Self::new(&config, is_overridden)
    }

    /// Clients of an emulator, which takes any credentials.
    pub async fn for_emulator(endpoint_url: &str) -> Self {
        let credentials = Credentials::new("local", "local", None, None, "emulator");
        let config = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::from_static("us-east-1"))
            .credentials_provider(credentials)
            .endpoint_url(endpoint_url);
        Self::new(&load_config(config).await, true)
    }

    fn new(config: &SdkConfig, is_emulator: bool) -> Self {
        // An emulator's host name has no wildcard in the DNS, so the bucket goes into the path.
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

    /// Clients of Timestream, which are made only where it is used: on AWS they first ask where to go, and go
    /// on asking. An endpoint of its own is asked for nothing, since what it answers would be taken for https.
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
        let own = ["AWS_ENDPOINT_URL_TIMESTREAM_WRITE", "AWS_ENDPOINT_URL_TIMESTREAM_QUERY"];
        let is_overridden = self.config.endpoint_url().is_some()
            || own.iter().any(|name| std::env::var_os(name).is_some());
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
