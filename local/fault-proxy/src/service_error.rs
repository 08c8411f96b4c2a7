//! Errors of services under load.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::call::{Call, Service};
use crate::message::{Request, Response};

/// An error after which nothing was changed, and the same call can succeed when retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceError {
    /// Too many calls: `ThrottlingException`, `SlowDown` in S3.
    Throttled,
    /// Too many calls to a partition: `ProvisionedThroughputExceededException`, in DynamoDB only.
    ThroughputExceeded,
    /// An internal error: status 500.
    Internal,
    /// A transaction conflict: `TransactionCanceledException`.
    Conflict,
}

impl ServiceError {
    /// All errors.
    pub const ALL: [Self; 4] =
        [Self::Throttled, Self::ThroughputExceeded, Self::Internal, Self::Conflict];

    /// Returns the name in plans and statistics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::ThroughputExceeded => "throughput-exceeded",
            Self::Internal => "internal-error",
            Self::Conflict => "conflict",
        }
    }

    /// Returns whether a call can fail with this error.
    #[must_use]
    pub fn applies_to(self, call: &Call) -> bool {
        match self {
            Self::Throttled | Self::Internal => true,
            Self::ThroughputExceeded => call.service == Service::DynamoDb,
            Self::Conflict => {
                call.service == Service::DynamoDb && call.operation == "TransactWriteItems"
            }
        }
    }

    /// Returns the response of the service.
    pub(crate) fn response(self, call: &Call, request: &Request) -> Response {
        match call.service {
            Service::S3 | Service::Other => self.s3_response(),
            Service::IotData => self.iot_data_response(),
            Service::Sqs => {
                let (status, code) = match self {
                    Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
                    _ => (StatusCode::BAD_REQUEST, "RequestThrottled"),
                };
                json_response(status, "com.amazonaws.sqs", code, json!({}))
            }
            Service::Timestream => {
                let (status, code) = match self {
                    Self::Internal => {
                        (StatusCode::INTERNAL_SERVER_ERROR, "InternalServerException")
                    }
                    _ => (StatusCode::BAD_REQUEST, "ThrottlingException"),
                };
                json_response(status, "com.amazonaws.timestream.v20181101", code, json!({}))
            }
            Service::DynamoDb => {
                let (status, code) = match self {
                    Self::Throttled => (StatusCode::BAD_REQUEST, "ThrottlingException"),
                    Self::ThroughputExceeded => {
                        (StatusCode::BAD_REQUEST, "ProvisionedThroughputExceededException")
                    }
                    Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError"),
                    Self::Conflict => (StatusCode::BAD_REQUEST, "TransactionCanceledException"),
                };
                let more = match self {
                    Self::Conflict => json!({"CancellationReasons": cancellation_reasons(request)}),
                    _ => json!({}),
                };
                json_response(status, "com.amazonaws.dynamodb.v20120810", code, more)
            }
        }
    }

    fn s3_response(self) -> Response {
        let (status, code) = match self {
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
            _ => (StatusCode::SERVICE_UNAVAILABLE, "SlowDown"),
        };
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{MESSAGE}</Message></Error>"
        );
        let content_type = HeaderValue::from_static("application/xml");
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, content_type)]);
        Response { status, headers, body: body.into() }
    }

    fn iot_data_response(self) -> Response {
        let (status, code) = match self {
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "InternalFailureException"),
            _ => (StatusCode::TOO_MANY_REQUESTS, "ThrottlingException"),
        };
        let mut response = Response::json(status, &json!({"message": MESSAGE}));
        response
            .headers
            .insert(HeaderName::from_static("x-amzn-errortype"), HeaderValue::from_static(code));
        response
    }
}

const MESSAGE: &str = "injected fault";

fn json_response(status: StatusCode, namespace: &str, code: &str, more: Value) -> Response {
    let mut body = json!({"__type": format!("{namespace}#{code}"), "message": MESSAGE});
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
    Response::json(status, &body)
}

/// Returns a cancellation reason for each action, of which the first one has the conflict.
fn cancellation_reasons(request: &Request) -> Vec<Value> {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let actions = body["TransactItems"].as_array().map_or(1, Vec::len);
    let reason = |index| match index {
        0 => json!({"Code": "TransactionConflict", "Message": MESSAGE}),
        _ => json!({"Code": "None"}),
    };
    (0..actions).map(reason).collect()
}
