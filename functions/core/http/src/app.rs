//! A REST function as a whole: from an event of API Gateway to the response.
//!
//! Every event gets a response of the API, also if the handler fails. The layers around the routes
//! of a function are, from the outside: common headers, the request id, CORS, compression, problem
//! details and conditional requests, panics, authorization.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use ::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::extract::{DefaultBodyLimit, MatchedPath, OriginalUri, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Extension, Router};
use futures::future::BoxFuture;
use lambda_http::lambda_runtime::LambdaEvent;
use lambda_http::request::{LambdaRequest, RequestContext};
use lambda_http::tower::ServiceExt;
use lambda_http::{Adapter, Body, Service, service_fn};
use meter_domain::time::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tower_http::CompressionLevel;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::SizeAbove;
use tower_http::request_id::PropagateRequestIdLayer;
use tower_http::set_header::SetResponseHeaderLayer;

use super::authorization::{self, Caller};
use super::extract::{MAX_BODY_BYTES, ReceivedAt, ResponseLimit};
use super::problem::{ApiError, Problem};
use super::routes::{self, Function, ROUTES};
use super::settings::Api;
use super::{conditional, cors, event};

/// The header with the name of a request, for the log and the client.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The size in bytes from which a body is compressed.
const MIN_GZIP_BYTES: u16 = 1_024;

/// The media type of bytes that are no text.
const BINARY: &str = "application/octet-stream";

/// A REST function: its routes within the layers that all functions have.
#[derive(Debug, Clone)]
pub struct App {
    router: Router,
}

/// A function and its settings, for layers.
#[derive(Debug, Clone)]
struct Context {
    function: Function,
    settings: Arc<Api>,
}

/// The stage that an event names.
#[derive(Debug, Clone)]
struct Stage(Option<String>);

/// The answer to an event that is invalid.
#[derive(Debug, Clone)]
struct Refusal(Problem);

impl App {
    /// Puts the layers around the routes of a function.
    ///
    /// # Panics
    /// If `routes` contains a path of another function.
    pub fn new(function: Function, routes: Router, settings: Api) -> Self {
        let limit = ResponseLimit(settings.max_response_bytes as usize);
        let vary = cors::vary(&settings.cors);
        let context = Context { function, settings: Arc::new(settings) };
        let routes = routes.route_layer(from_fn_with_state(context.clone(), authorize));
        let external: BTreeSet<_> =
            ROUTES.iter().filter(|r| r.function != function).map(|r| r.path).collect();
        let routes = external.into_iter().fold(routes, |routes, path| {
            routes.route(path, any(other_method).with_state(context.clone()))
        });
        let below_stage = routes.clone().fallback(not_found);
        let router = routes
            .fallback(move |Extension(stage), request| {
                route_below_stage(below_stage, stage, request)
            })
            .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
            .layer(Extension(limit))
            // The panic hook has logged the message.
            .layer(CatchPanicLayer::custom(|_| {
                ApiError::Internal("the handler panicked".into()).into_response()
            }))
            .layer(from_fn(finish))
            .layer(
                // An instance processes one request at a time: compression delays no other request.
                CompressionLayer::new()
                    .quality(CompressionLevel::Fastest)
                    .compress_when(SizeAbove::new(MIN_GZIP_BYTES)),
            )
            .layer(from_fn_with_state(context, add_cors_headers))
            .layer(PropagateRequestIdLayer::new(REQUEST_ID))
            .layer(overriding(header::VARY, vary))
            // A response may contain what a device sent, which a browser must not take for a page.
            .layer(overriding(header::X_CONTENT_TYPE_OPTIONS, "nosniff"));
        Self { router }
    }

    /// The response to an event of API Gateway that was received at `now`.
    pub async fn handle(
        &self,
        event: &Value,
        invocation_id: &str,
        now: Timestamp,
    ) -> impl Serialize + use<> {
        let stage = Stage(event::stage(event));
        let (event, refusal) = event::convert(event, invocation_id);
        let service = service_fn(|mut request: lambda_http::Request| {
            let extensions = request.extensions_mut();
            extensions.insert(ReceivedAt(now));
            extensions.insert(stage.clone());
            if let Some(problem) = &refusal {
                extensions.insert(Refusal(problem.clone()));
            }
            let response = self.router.clone().oneshot(request);
            async move { response.await.map(GatewayResponse) }
        });
        let request =
            LambdaEvent::new(LambdaRequest::ApiGatewayV2(event), lambda_http::Context::default());
        let Ok::<_, Infallible>(response) = Adapter::from(service).call(request).await;
        response
    }
}

/// A response for API Gateway, which takes text as it is and other bytes as base64.
///
/// `lambda_http` would send NDJSON as base64, which is larger than its limit allows for
/// ([`super::response_limit`]).
struct GatewayResponse(Response);

impl lambda_http::IntoResponse for GatewayResponse {
    fn into_response(self) -> BoxFuture<'static, ::http::Response<Body>> {
        let (mut head, body) = self.0.into_parts();
        // API Gateway sets it.
        head.headers.remove(header::CONTENT_LENGTH);
        let is_binary = head.headers.contains_key(header::CONTENT_ENCODING)
            || head
                .headers
                .get(header::CONTENT_TYPE)
                .is_some_and(|media_type| media_type == BINARY);
        Box::pin(async move {
            // A body in memory cannot fail.
            let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
            let body = match String::from_utf8(bytes.into()) {
                Ok(text) if !is_binary => Body::Text(text),
                Ok(text) => Body::Binary(text.into_bytes()),
                Err(error) => Body::Binary(error.into_bytes()),
            };
            ::http::Response::from_parts(head, body)
        })
    }
}

fn overriding(name: HeaderName, value: &'static str) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value))
}

async fn not_found() -> ApiError {
    Problem::no_route().into()
}

/// Routes by the path below the stage: the path of a request to a named stage begins with its name,
/// unless the request came by a custom domain.
async fn route_below_stage(
    routes: Router,
    Stage(stage): Stage,
    mut request: Request,
) -> Result<Response, ApiError> {
    let original = request.uri().clone();
    let below = stage
        .and_then(|stage| original.path().strip_prefix('/')?.strip_prefix(stage.as_str()))
        .filter(|path| path.starts_with('/'))
        .ok_or_else(Problem::no_route)?;
    let uri = match original.query() {
        Some(query) => format!("{below}?{query}").parse::<Uri>(),
        None => below.parse(),
    };
    *request.uri_mut() = uri.map_err(|error| ApiError::Internal(error.into()))?;
    request.extensions_mut().insert(OriginalUri(original));
    let Ok(response) = routes.oneshot(request).await;
    Ok(response)
}

/// Lets a request with the scope of its route through.
///
/// A handler of a route that is not in the table is not called.
async fn authorize(
    State(context): State<Context>,
    path: MatchedPath,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let Some(route) = routes::find(request.method(), path.as_str()) else {
        return other_method(State(context), path, request).await;
    };
    let caller = match request.extensions().get::<RequestContext>() {
        Some(RequestContext::ApiGatewayV2(context)) => context.authorizer.as_ref(),
        _ => None,
    };
    let caller = caller.and_then(|authorizer| authorizer.jwt.as_ref()).map(Caller::from_jwt);
    if let Some(scope) = route.scope {
        authorization::authorize(context.settings.auth, caller.as_ref(), scope)?;
    }
    if let Some(caller) = caller {
        request.extensions_mut().insert(caller);
    }
    Ok(next.run(request).await)
}

/// The answer to a method that a known path has no handler for: to a preflight the allowed methods,
/// otherwise 405.
async fn other_method(
    State(Context { function, settings }): State<Context>,
    path: MatchedPath,
    request: Request,
) -> Result<Response, ApiError> {
    let methods = routes::methods(function, path.as_str());
    let allowed = cors::methods_header(&methods);
    if request.method() == Method::OPTIONS {
        let mut response = (StatusCode::NO_CONTENT, [(header::ALLOW, allowed)]).into_response();
        let origin = request.headers().get(header::ORIGIN);
        cors::add_preflight(response.headers_mut(), &settings.cors, origin, &methods);
        return Ok(response);
    }
    if methods.contains(request.method()) {
        tracing::warn!(path = path.as_str(), "API Gateway sent a route of another function");
        return Err(Problem::no_route().into());
    }
    let detail = format!("{} is not allowed for this path", request.method());
    let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail);
    Err(problem.with_header(header::ALLOW, allowed).into())
}

async fn add_cors_headers(
    State(context): State<Context>,
    request: Request,
    next: Next,
) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = next.run(request).await;
    cors::add_headers(response.headers_mut(), &context.settings.cors, origin.as_ref());
    response
}

/// Writes the body of a problem and logs its causes, answers 304 to a client that has the response,
/// and logs the request.
async fn finish(mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let id = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let id = id.unwrap_or_default().to_owned();
    let if_none_match = request.headers().get(header::IF_NONE_MATCH).cloned();
    let mut response = match request.extensions_mut().remove::<Refusal>() {
        Some(Refusal(problem)) => ApiError::from(problem).into_response(),
        None => next.run(request).await,
    };
    if let Some(error) = response.extensions_mut().remove::<Arc<ApiError>>() {
        response = error.render(&id, &path);
    }
    if matches!(method, Method::GET | Method::HEAD) {
        response = conditional::not_modified(response, if_none_match.as_ref());
    }
    if method == Method::HEAD {
        *response.body_mut() = axum::body::Body::empty();
    }
    tracing::info!(
        request_id = id,
        %method,
        path,
        status = response.status().as_u16(),
        duration_ms = started.elapsed().as_secs_f64() * 1e3,
        "answered"
    );
    response
}

#[cfg(test)]
mod tests;
