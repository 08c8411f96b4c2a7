//! A proxy that injects faults between functions and the AWS endpoint, for faults that emulators do
//! not produce.
//!
//! A [`Proxy`] identifies the [`Call`] of each request: S3 by method, DynamoDB, SQS and Timestream
//! by `X-Amz-Target`, iot-data by path. Its [`FaultPlan`] defines which calls are lost, executed
//! without a response, delayed, rejected as an overloaded service does, executed in part, or
//! followed by the end of the calling process.
//!
//! ```no_run
//! # async fn test(endpoint: &str) -> anyhow::Result<()> {
//! let proxy = fault_proxy::Proxy::start(endpoint).await?;
//! // The response to the third batch write is lost. S3 is unavailable.
//! proxy.set_plan("dynamodb:BatchWriteItem#3=response-lost s3#1x*=request-lost".parse()?);
//! println!("AWS_ENDPOINT_URL={}", proxy.url());
//! # Ok(())
//! # }
//! ```

mod call;
mod message;
mod partial_batch;
mod plan;
mod proxy;
mod service_error;
mod syntax;

pub use call::{Call, Service};
pub use plan::{CallFilter, Fault, FaultPlan, FaultRule, KillPoint, Times};
pub use proxy::{Proxy, ProxyStats};
pub use service_error::ServiceError;
pub use syntax::InvalidPlan;
