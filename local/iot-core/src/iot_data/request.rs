//! Requests and errors of the Publish API
//! (<https://docs.aws.amazon.com/iot/latest/apireference/API_iotdata_Publish.html>).

use axum::{
    Json,
    http::{HeaderName, StatusCode},
    response::{IntoResponse, Response},
};
use rumqttc::v5::mqttbytes::QoS;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::publisher::PublishError;

/// The quotas of IoT Core: <https://docs.aws.amazon.com/general/latest/gr/iot-core.html>
pub(super) const MAX_PAYLOAD_BYTES: usize = 128 * 1024;
const MAX_TOPIC_BYTES: usize = 256;
const MAX_TOPIC_SLASHES: usize = 7;

const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

/// The query parameters of a Publish. Those of MQTT 5, such as content type and expiry, are
/// ignored.
#[derive(Debug, Deserialize)]
pub(super) struct Parameters {
    #[serde(default)]
    qos: u8,
    #[serde(default)]
    pub(super) retain: bool,
}

impl Parameters {
    pub(super) fn qos(&self) -> Result<QoS, ErrorResponse> {
        match self.qos {
            0 => Ok(QoS::AtMostOnce),
            1 => Ok(QoS::AtLeastOnce),
            other => Err(ErrorResponse::invalid(format!("qos must be 0 or 1, not {other}"))),
        }
    }
}

/// Checks whether IoT Core would accept the topic.
pub(super) fn validate_topic(topic: &str) -> Result<(), ErrorResponse> {
    let problem = if topic.is_empty() {
        "the topic is empty".to_owned()
    } else if topic.len() > MAX_TOPIC_BYTES {
        format!("the topic is longer than {MAX_TOPIC_BYTES} bytes")
    } else if topic.contains(['+', '#']) {
        "the topic has a wildcard".to_owned()
    } else if topic.contains('\0') {
        "the topic has a null character".to_owned()
    } else if topic.starts_with('$') {
        "topics that begin with $ are reserved".to_owned()
    } else if topic.matches('/').count() > MAX_TOPIC_SLASHES {
        format!("the topic has more than {MAX_TOPIC_SLASHES} slashes")
    } else {
        return Ok(());
    };
    Err(ErrorResponse::invalid(problem))
}

/// An error response.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ErrorResponse {
    status: StatusCode,
    error_type: &'static str,
    message: String,
}

impl ErrorResponse {
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            error_type: "InvalidRequestException",
            message: message.into(),
        }
    }

    pub(super) fn too_large() -> Self {
        Self {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            ..Self::invalid(format!("the payload is larger than {MAX_PAYLOAD_BYTES} bytes"))
        }
    }

    pub(super) fn unknown_path() -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            error_type: "ResourceNotFoundException",
            message: "supported: POST /topics/{topic} and GET /ping".to_owned(),
        }
    }

    pub(super) fn unknown_method() -> Self {
        Self {
            status: StatusCode::METHOD_NOT_ALLOWED,
            error_type: "MethodNotAllowedException",
            message: "use POST to publish".to_owned(),
        }
    }
}

impl From<PublishError> for ErrorResponse {
    fn from(error: PublishError) -> Self {
        let (status, error_type) = match error {
            PublishError::NotConnected => {
                (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailableException")
            }
            PublishError::Interrupted | PublishError::TimedOut | PublishError::Rejected(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "InternalFailureException")
            }
        };
        Self { status, error_type, message: error.to_string() }
    }
}

impl IntoResponse for ErrorResponse {
    fn into_response(self) -> Response {
        let body = json!({ "message": self.message, "traceId": Uuid::new_v4() });
        (self.status, [(ERROR_TYPE, self.error_type)], Json(body)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_topics_are_accepted() {
        for topic in ["iot/dc-meter-001/command", "a", "a/b/c/d/e/f/g/h", "iot/ö:1/command"] {
            assert_eq!(validate_topic(topic), Ok(()), "{topic}");
        }
        assert_eq!(validate_topic(&"x".repeat(MAX_TOPIC_BYTES)), Ok(()));
    }

    #[test]
    fn topics_outside_the_iot_core_limits_are_rejected() {
        let long = "x".repeat(MAX_TOPIC_BYTES + 1);
        for topic in [
            "",
            "iot/+/command",
            "iot/#",
            "iot/\0/command",
            "$SYS/broker",
            "a/b/c/d/e/f/g/h/i",
            &long,
        ] {
            let response = validate_topic(topic).unwrap_err();
            assert_eq!(response.status, StatusCode::BAD_REQUEST, "{topic}");
            assert_eq!(response.error_type, "InvalidRequestException");
        }
    }

    #[test]
    fn qos_2_is_rejected() {
        let parameters = |qos| Parameters { qos, retain: false };
        assert_eq!(parameters(0).qos(), Ok(QoS::AtMostOnce));
        assert_eq!(parameters(1).qos(), Ok(QoS::AtLeastOnce));
        assert!(parameters(2).qos().is_err());
    }

    #[test]
    fn unconfirmed_publication_is_a_server_error() {
        for error in [PublishError::NotConnected, PublishError::Interrupted, PublishError::TimedOut]
        {
            assert!(ErrorResponse::from(error).status.is_server_error());
        }
    }
}
