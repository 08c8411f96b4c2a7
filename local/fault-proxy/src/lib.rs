//! Faults of the kinds that clouds have and emulators have not, played between functions and the AWS
//! endpoint.
//!
//! A [`Proxy`] stands between the two and knows which [`Call`] it passes on: S3 by method, DynamoDB, SQS
//! and Timestream by `X-Amz-Target`, iot-data by path. Its [`FaultPlan`] says which call is lost before it arrives, done
//! without an answer, late, refused as overloaded services refuse, done in part, or the last thing that
//! the calling process lived to see.
//!
//! ```no_run
//! # async fn test(endpoint: &str) -> anyhow::Result<()> {
//! let proxy = fault_proxy::Proxy::start(endpoint).await?;
//! // The third write of a batch is done and its answer lost; then S3 is away.
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
