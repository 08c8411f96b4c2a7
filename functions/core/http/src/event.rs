//! Conversion of API Gateway events (HTTP API, payload format 2.0) into events that `lambda_http`
//! accepts.
//!
//! `lambda_http` panics at a query that is no URI (`?q="x"`), an invalid `Host` and a body that is
//! not the base64 that the event claims, and fails the invocation at an invalid header. Here a path
//! and a query are percent-encoded, and what cannot be repaired becomes a problem for the client.

use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use lambda_http::aws_lambda_events::apigw::{
    ApiGatewayRequestAuthorizer, ApiGatewayRequestAuthorizerJwtDescription, ApiGatewayV2httpRequest,
};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::Value;

use super::app::REQUEST_ID;
use super::problem::Problem;

/// The characters of a query that a URI does not contain. `%` begins an escape.
const QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>');

/// The characters of a path that a URI does not contain, or that a URL parser treats as separators.
const PATH: &AsciiSet = &QUERY.add(b'?').add(b'\\').add(b'^').add(b'`').add(b'{').add(b'}');

/// The name of a request: the gateway's, or the invocation's where the gateway gave none.
pub fn request_id<'a>(event: &'a Value, invocation_id: &'a str) -> &'a str {
    match text(event, "/requestContext/requestId") {
        "" => invocation_id,
        id => id,
    }
}

/// The stage that was called.
pub(crate) fn stage(event: &Value) -> Option<String> {
    Some(text(event, "/requestContext/stage")).filter(|stage| !stage.is_empty()).map(str::to_owned)
}

/// An event for `lambda_http` with the parts of `event` that the API uses, up to the first part
/// that is invalid, and the answer to that one.
///
/// It has no stage, which `lambda_http` would add to the path, and no host.
pub(crate) fn convert(
    event: &Value,
    invocation_id: &str,
) -> (ApiGatewayV2httpRequest, Option<Problem>) {
    let id = request_id(event, invocation_id);
    let mut request = ApiGatewayV2httpRequest::default();
    request.raw_path = Some("/".to_owned());
    request.request_context.request_id = Some(id.to_owned());
    let refusal = convert_parts(event, &mut request).err();
    if let Ok(id) = HeaderValue::try_from(id) {
        request.headers.insert(REQUEST_ID, id);
    }
    (request, refusal)
}

fn convert_parts(event: &Value, request: &mut ApiGatewayV2httpRequest) -> Result<(), Problem> {
    let context = &mut request.request_context;
    context.http.method = Method::from_bytes(text(event, "/requestContext/http/method").as_bytes())
        .map_err(|_| Problem::field("method", "is no method of HTTP"))?;
    context.authorizer = event.pointer("/requestContext/authorizer/jwt").and_then(authorizer);
    request.headers = headers(event)?;
    let path = text(event, "/rawPath");
    if !path.starts_with('/') {
        return Err(Problem::no_route());
    }
    let path = utf8_percent_encode(path, PATH).to_string();
    let query = utf8_percent_encode(text(event, "/rawQueryString"), QUERY).to_string();
    Uri::try_from(format!("{path}?{query}"))
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, format!("the URL: {error}")))?;
    request.raw_path = Some(path);
    request.raw_query_string = Some(query);
    request.body = body(event)?;
    Ok(())
}

fn text<'a>(event: &'a Value, pointer: &str) -> &'a str {
    event.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The checked token. API Gateway writes every claim as text, an array as `[a b]`; other clients of
/// the Lambda API send arrays.
pub(crate) fn authorizer(jwt: &Value) -> Option<ApiGatewayRequestAuthorizer> {
    let words = |list: &[Value]| -> Vec<String> {
        list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let claim = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => words(list).join(" "),
        _ => String::new(),
    };
    let mut token = ApiGatewayRequestAuthorizerJwtDescription::default();
    let claims = jwt.as_object()?.get("claims").and_then(Value::as_object);
    token.claims =
        claims.into_iter().flatten().map(|(name, value)| (name.clone(), claim(value))).collect();
    token.scopes = jwt["scopes"].as_array().map(|list| words(list));
    let mut authorizer = ApiGatewayRequestAuthorizer::default();
    authorizer.jwt = Some(token);
    Some(authorizer)
}

/// The headers without those that `lambda_http` makes a URL of.
fn headers(event: &Value) -> Result<HeaderMap, Problem> {
    let mut headers = HeaderMap::new();
    for (name, value) in event["headers"].as_object().into_iter().flatten() {
        let Some(value) = value.as_str() else { continue };
        let invalid = || Problem::field(name, "is no valid header");
        let name = HeaderName::try_from(name).map_err(|_| invalid())?;
        headers.insert(name, value.parse().map_err(|_| invalid())?);
    }
    headers.remove(::http::header::HOST);
    headers.remove("x-forwarded-proto");
    Ok(headers)
}

/// The body as text: the API accepts none but JSON.
fn body(event: &Value) -> Result<Option<String>, Problem> {
    let Some(body) = event["body"].as_str() else { return Ok(None) };
    if event["isBase64Encoded"] != true {
        return Ok(Some(body.to_owned()));
    }
    let bytes = BASE64.decode(body).map_err(|_| Problem::field("body", "is not base64"))?;
    let text = String::from_utf8(bytes).map_err(|_| Problem::field("body", "is not UTF-8"))?;
    Ok(Some(text))
}
