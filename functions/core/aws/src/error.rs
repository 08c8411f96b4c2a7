//! Classification of failed AWS calls as [`StoreError`]s.
//!
//! The class follows from the error code, the kind of SDK error and the HTTP status, never from the
//! text of a message, which AWS changes without notice.

use std::error::Error;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use meter_store::{Cause, StoreError};

/// Constructor of a [`StoreError`] of one class.
pub(crate) type ErrorClass = fn(&'static str, Cause) -> StoreError;

/// Returns a conversion for errors of one AWS operation (`dynamodb:Query`).
pub(crate) fn classify<E>(
    operation: &'static str,
) -> impl FnOnce(SdkError<E, HttpResponse>) -> StoreError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    move |error| class_of_error(&error)(operation, error.into())
}

fn class_of_error<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> ErrorClass {
    match error {
        // The request could not be built or signed: no credentials, no region, a missing field.
        SdkError::ConstructionFailure(_) => StoreError::misconfigured,
        SdkError::ServiceError(response) => {
            let by_code = response.err().code().and_then(class_of_code);
            by_code.unwrap_or_else(|| class_of_status(response.raw().status().as_u16()))
        }
        // Timeouts, broken connections and responses that are not of AWS.
        _ => StoreError::unavailable,
    }
}

/// Returns the class of an error code, with or without its suffix: an exception of a whole call has
/// the suffix `Exception`, the error of one statement or transaction item has `Error` or none.
///
/// `None` for codes that the HTTP status classifies well enough.
pub(crate) fn class_of_code(code: &str) -> Option<ErrorClass> {
    let name = code.strip_suffix("Exception").or_else(|| code.strip_suffix("Error"));
    match name.unwrap_or(code) {
        "Throttling"
        | "Throttled"
        | "ProvisionedThroughputExceeded"
        | "RequestLimitExceeded"
        | "LimitExceeded"
        | "TooManyRequests"
        | "TransactionInProgress"
        | "RequestTimeout"
        | "InternalServer"
        // Timestream moved the account to another endpoint; the SDK looks it up again.
        | "InvalidEndpoint" => Some(StoreError::unavailable),
        "TransactionConflict" | "Conflict" | "OperationAborted" => Some(StoreError::conflict),
        "ItemCollectionSizeLimitExceeded" | "EntityTooLarge" | "RejectedRecords" => {
            Some(StoreError::invalid)
        }
        // The adapters check item sizes before they send a request. What AWS still rejects as
        // invalid is the form of the request or the schema of the table, and concerns every item.
        "Validation" | "AccessDenied" | "ResourceNotFound" => Some(StoreError::misconfigured),
        _ => None,
    }
}

/// Returns the class of an HTTP status: the same request fails again after most 4xx responses.
fn class_of_status(status: u16) -> ErrorClass {
    match status {
        408 | 429 | 500.. => StoreError::unavailable,
        409 => StoreError::conflict,
        413 => StoreError::invalid,
        _ => StoreError::misconfigured,
    }
}

#[cfg(test)]
mod tests {
    use aws_smithy_runtime_api::client::result::ConnectorError;
    use aws_smithy_types::body::SdkBody;
    use aws_smithy_types::error::ErrorMetadata;

    use super::*;

    fn service_error(status: u16, code: Option<&str>) -> SdkError<ServiceError, HttpResponse> {
        let mut metadata = ErrorMetadata::builder();
        if let Some(code) = code {
            metadata = metadata.code(code);
        }
        let response = HttpResponse::new(status.try_into().unwrap(), SdkBody::empty());
        SdkError::service_error(ServiceError(metadata.build()), response)
    }

    #[derive(Debug, thiserror::Error)]
    #[error("service error")]
    struct ServiceError(ErrorMetadata);

    impl ProvideErrorMetadata for ServiceError {
        fn meta(&self) -> &ErrorMetadata {
            &self.0
        }
    }

    fn class_name(error: SdkError<ServiceError, HttpResponse>) -> &'static str {
        match classify("test:Call")(error) {
            StoreError::Invalid { .. } => "invalid",
            StoreError::Misconfigured { .. } => "misconfigured",
            StoreError::Conflict { .. } => "conflict",
            StoreError::Unavailable { .. } => "unavailable",
            StoreError::Corrupt { .. } => "corrupt",
        }
    }

    #[test]
    fn service_errors_are_classified_by_code_then_status() {
        for (status, code, expected) in [
            (400, Some("ProvisionedThroughputExceededException"), "unavailable"),
            (400, Some("ThrottlingException"), "unavailable"),
            (400, Some("ThrottlingError"), "unavailable"),
            (400, Some("RequestTimeout"), "unavailable"),
            (500, Some("InternalServerError"), "unavailable"),
            (503, Some("SlowDown"), "unavailable"),
            (429, None, "unavailable"),
            (400, Some("TransactionConflictException"), "conflict"),
            (409, Some("OperationAborted"), "conflict"),
            (409, None, "conflict"),
            (400, Some("EntityTooLarge"), "invalid"),
            (419, Some("RejectedRecordsException"), "invalid"),
            (413, None, "invalid"),
            (400, Some("ValidationException"), "misconfigured"),
            (400, Some("AccessDeniedException"), "misconfigured"),
            (403, Some("AccessDenied"), "misconfigured"),
            (400, Some("ResourceNotFoundException"), "misconfigured"),
            (404, Some("NoSuchBucket"), "misconfigured"),
            (403, None, "misconfigured"),
            (301, Some("PermanentRedirect"), "misconfigured"),
        ] {
            assert_eq!(class_name(service_error(status, code)), expected, "{status} {code:?}");
        }
    }

    #[test]
    fn client_errors_are_classified_by_kind() {
        let io = || Box::new(std::io::Error::other("reset"));
        let unsent = SdkError::dispatch_failure(ConnectorError::io(io()));
        assert_eq!(class_name(unsent), "unavailable");
        assert_eq!(class_name(SdkError::timeout_error(io())), "unavailable");
        assert_eq!(class_name(SdkError::construction_failure(io())), "misconfigured");
    }
}
