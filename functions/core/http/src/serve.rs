//! From an event of API Gateway to its reply. Whatever happens inside, the client gets an answer of
//! ours.

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Instant;

use ::http::{HeaderValue, Method, StatusCode, header};
use futures::FutureExt;
use meter_domain::time::Timestamp;

use super::authorization;
use super::cors;
use super::encoding;
use super::event::{GatewayEvent, GatewayResponse};
use super::problem::{self, ApiError, Problem};
use super::request::Request;
use super::response::{Body, Response};
use super::route::{RouteAuth, RouteMatch, Router};
use crate::settings::Api;

/// What a function does: it handles its endpoints.
pub trait Function: Send + Sync {
    /// Its endpoints, one a route.
    type Endpoint: Copy + fmt::Debug + Send + Sync + 'static;

    /// Handles a request that was routed and allowed.
    fn handle(
        &self,
        endpoint: Self::Endpoint,
        request: &Request,
    ) -> impl Future<Output = Result<Response, ApiError>> + Send;
}

/// A function, its routes, and who may call it.
pub struct Server<F: Function> {
    function: F,
    router: Router<F::Endpoint>,
    settings: Api,
}

impl<F: Function> Server<F> {
    /// A server of a function.
    pub fn new(function: F, router: Router<F::Endpoint>, settings: Api) -> Self {
        Self { function, router, settings }
    }

    /// Answers an event; `invocation_id` (Lambda's) names the request if the gateway has not.
    pub async fn handle_event(
        &self,
        event: GatewayEvent,
        invocation_id: &str,
        now: Timestamp,
    ) -> GatewayResponse {
        let started = Instant::now();
        let stage = event.request_context.stage.clone();
        let mut request = Request::new(event, invocation_id, now);
        request.max_response_bytes = self.settings.max_response_bytes as usize;
        let found = self.match_route(stage.as_deref(), &mut request);
        let outcome = self.dispatch(found, &mut request).await;
        let response = self.add_common_headers(&request, into_response(&request, outcome));
        tracing::info!(
            request_id = %request.id,
            method = %request.method,
            path = %request.path,
            status = response.status.as_u16(),
            duration_ms = started.elapsed().as_secs_f64() * 1e3,
            "answered"
        );
        response.into()
    }

    /// Routes by the path as it is, else by what follows the stage: the default stage adds nothing to
    /// a path, a named one does, and a custom domain takes it away again.
    fn match_route(&self, stage: Option<&str>, request: &mut Request) -> RouteMatch<F::Endpoint> {
        let found = self.router.find(&request.method, &request.raw_path);
        let below_stage = stage
            .and_then(|stage| request.raw_path.strip_prefix('/')?.strip_prefix(stage))
            .filter(|rest| rest.starts_with('/'));
        match (found, below_stage) {
            (RouteMatch::NotFound, Some(below)) => {
                request.path = below.to_owned();
                self.router.find(&request.method, &request.path)
            }
            (found, _) => found,
        }
    }

    async fn dispatch(
        &self,
        found: RouteMatch<F::Endpoint>,
        request: &mut Request,
    ) -> Result<Response, ApiError> {
        let route = match found {
            RouteMatch::Route(route, params) => {
                request.params = params;
                route
            }
            RouteMatch::OtherMethods(methods) if request.method == Method::OPTIONS => {
                return Ok(self.preflight(request, &methods));
            }
            RouteMatch::OtherMethods(methods) if methods.contains(&request.method) => {
                // The gateway should have sent it to the function that answers it.
                tracing::warn!(path = request.path, "another function's route");
                return Err(not_found().into());
            }
            RouteMatch::OtherMethods(methods) => {
                let detail = format!("{} is not allowed here", request.method);
                return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
                    .with_header(header::ALLOW, cors::methods_header(&methods))
                    .into());
            }
            RouteMatch::NotFound => return Err(not_found().into()),
        };
        if route.auth == RouteAuth::Scoped {
            authorization::authorize(self.settings.auth, request.caller.as_ref(), &request.method)?;
        }
        // Boxed, because the futures of handlers, stores and SDK in one another are a type too deep for
        // the compiler.
        let handled = self.function.handle(route.endpoint, request).boxed();
        match AssertUnwindSafe(handled).catch_unwind().await {
            Ok(outcome) => outcome,
            // What it said is in the log already, by the panic hook.
            Err(_) => Err(ApiError::Internal("a handler panicked".into())),
        }
    }

    fn preflight(&self, request: &Request, methods: &[Method]) -> Response {
        let mut response = Response::empty(StatusCode::NO_CONTENT)
            .with_header(header::ALLOW, cors::methods_header(methods));
        let origin = request.headers.get("origin");
        cors::add_preflight(&mut response.headers, &self.settings.cors, origin, methods);
        response
    }

    /// Adds what every answer has, and takes off what this request does not want.
    fn add_common_headers(&self, request: &Request, response: Response) -> Response {
        let mut response = if matches!(request.method, Method::GET | Method::HEAD) {
            response.or_not_modified(request.headers.get("if-none-match"))
        } else {
            response
        };
        if request.method == Method::HEAD {
            response.body = Body::Empty;
        }
        let accept_encoding = request.headers.get("accept-encoding");
        if let Some(packed) = encoding::gzip(accept_encoding, response.body.as_bytes()) {
            response.body = Body::Bytes(packed);
            response.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let headers = &mut response.headers;
        // An answer may hold what a device sent: no browser shall guess that it is a page.
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(
            header::VARY,
            HeaderValue::from_static(if cors::varies_by_origin(&self.settings.cors) {
                "accept, accept-encoding, origin"
            } else {
                "accept, accept-encoding"
            }),
        );
        if let Ok(id) = HeaderValue::try_from(&request.id) {
            headers.insert("x-request-id", id);
        }
        cors::add_headers(headers, &self.settings.cors, request.headers.get("origin"));
        response
    }
}

fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is nothing at this path")
}

/// The answer of an outcome. Failures are logged here and nowhere else: the client's at debug, since
/// it was told, ours as errors with all of their causes.
fn into_response(request: &Request, outcome: Result<Response, ApiError>) -> Response {
    let failure = match outcome {
        Ok(response) => return response,
        Err(failure) => failure,
    };
    let text = meter_store::error_chain(&failure);
    match failure {
        ApiError::Client(_) => tracing::debug!(request_id = %request.id, "refused: {text}"),
        _ => tracing::error!(request_id = %request.id, path = %request.path, "failed: {text}"),
    }
    let problem = failure.into_problem();
    let body = Body::Text(problem.body(&request.id));
    let mut response = Response::new(problem.status, problem::MEDIA_TYPE, body);
    response.headers.extend(problem.headers);
    response
}

#[cfg(test)]
mod tests;
