//! The kind of AWS call that a request makes.

use std::fmt;

use http::{HeaderMap, Method, Uri, header};

/// A service of AWS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// Amazon S3.
    S3,
    /// Amazon DynamoDB.
    DynamoDb,
    /// Amazon SQS.
    Sqs,
    /// The data plane of AWS IoT Core.
    IotData,
    /// Amazon Timestream.
    Timestream,
    /// Any other service.
    Other,
}

impl Service {
    /// All services.
    pub const ALL: [Self; 6] =
        [Self::S3, Self::DynamoDb, Self::Sqs, Self::IotData, Self::Timestream, Self::Other];

    /// Returns the name in plans and statistics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::DynamoDb => "dynamodb",
            Self::Sqs => "sqs",
            Self::IotData => "iot-data",
            Self::Timestream => "timestream",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A service and an operation, for example `dynamodb:PutItem` or `s3:PUT`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Call {
    /// The service.
    pub service: Service,
    /// The operation of DynamoDB, SQS and Timestream; the HTTP method of other services.
    pub operation: String,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.service, self.operation)
    }
}

impl Call {
    /// Creates a call.
    pub fn new(service: Service, operation: impl Into<String>) -> Self {
        Self { service, operation: operation.into() }
    }

    /// Returns whether the call changes nothing. Unknown calls count as changes.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        match self.service {
            Service::S3 => matches!(self.operation.as_str(), "GET" | "HEAD"),
            Service::DynamoDb => {
                matches!(self.operation.as_str(), "GetItem" | "BatchGetItem" | "Query" | "Scan")
            }
            // A receive hides messages.
            Service::Sqs => self.operation == "GetQueueAttributes",
            Service::Timestream => self.operation == "Query",
            Service::IotData | Service::Other => false,
        }
    }

    /// Returns the call that a request makes.
    pub(crate) fn from_request(method: &Method, uri: &Uri, headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        if let Some((interface, operation)) =
            text("x-amz-target").and_then(|target| target.split_once('.'))
        {
            let service = match interface {
                _ if interface.starts_with("DynamoDB_") => Service::DynamoDb,
                _ if interface.starts_with("Timestream_") => Service::Timestream,
                "AmazonSQS" => Service::Sqs,
                _ => Service::Other,
            };
            return Self::new(service, operation);
        }
        let signed_for = text(header::AUTHORIZATION.as_str()).and_then(signed_service);
        let service = match signed_for {
            _ if uri.path().starts_with("/topics/") => Service::IotData,
            Some("s3") => Service::S3,
            _ => Service::Other,
        };
        Self::new(service, method.as_str())
    }
}

/// Returns the service in the scope of a signature
/// (`Credential=KEY/20261231/us-east-1/s3/aws4_request`).
fn signed_service(authorization: &str) -> Option<&str> {
    let scope = authorization.split_once("Credential=")?.1;
    scope.split([',', ' ']).next()?.split('/').nth(3)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn call(method: &str, path: &str, headers: &[(&'static str, &'static str)]) -> String {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
        Call::from_request(&method.parse().unwrap(), &path.parse().unwrap(), &headers.collect())
            .to_string()
    }

    #[test]
    fn call_is_identified_by_target_path_or_signature() {
        let scope = |service| {
            format!(
                "AWS4-HMAC-SHA256 Credential=k/20260101/r/{service}/aws4_request, SignedHeaders=host"
            )
        };
        let s3: &'static str = scope("s3").leak();
        let sns: &'static str = scope("sns").leak();
        let target = |target| [("x-amz-target", target)];
        assert_eq!(call("POST", "/", &target("DynamoDB_20120810.PutItem")), "dynamodb:PutItem");
        assert_eq!(call("POST", "/", &target("AmazonSQS.SendMessage")), "sqs:SendMessage");
        let write = target("Timestream_20181101.WriteRecords");
        assert_eq!(call("POST", "/", &write), "timestream:WriteRecords");
        assert_eq!(call("POST", "/topics/iot%2Fm%2Fcommand?qos=1", &[]), "iot-data:POST");
        assert_eq!(call("PUT", "/bucket/key?x-id=PutObject", &[("authorization", s3)]), "s3:PUT");
        assert_eq!(call("POST", "/", &[("authorization", sns)]), "other:POST");
        assert_eq!(call("GET", "/_ministack/health", &[]), "other:GET");
    }
}
