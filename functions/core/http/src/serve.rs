//! From an event of API Gateway to its reply. Whatever happens inside, the client gets an answer of
//! ours.

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Instant;

use ::http::{HeaderValue, Method, StatusCode, header};
use futures::FutureExt;
use meter_domain::time::Timestamp;

use super::access;
use super::answer::{Answer, Body};
use super::cors;
use super::encoding;
use super::event::{Event, Reply};
use super::problem::{self, Failure, Problem};
use super::request::Request;
use super::route::{Access, Found, Router};
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
    ) -> impl Future<Output = Result<Answer, Failure>> + Send;
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
    pub async fn reply(&self, event: Event, invocation_id: &str, now: Timestamp) -> Reply {
        let started = Instant::now();
        let stage = event.request_context.stage.clone();
        let mut request = Request::new(event, invocation_id, now);
        request.max_answer_bytes = self.settings.max_answer_bytes as usize;
        let found = self.find(stage.as_deref(), &mut request);
        let outcome = self.outcome(found, &mut request).await;
        let answer = self.dress(&request, settle(&request, outcome));
        tracing::info!(
            request_id = %request.id,
            method = %request.method,
            path = %request.path,
            status = answer.status.as_u16(),
            milliseconds = started.elapsed().as_secs_f64() * 1e3,
            "answered"
        );
        answer.into()
    }

    /// Routes by the path as it is, else by what follows the stage: the default stage adds nothing to
    /// a path, a named one does, and a custom domain takes it away again.
    fn find(&self, stage: Option<&str>, request: &mut Request) -> Found<F::Endpoint> {
        let found = self.router.find(&request.method, &request.raw_path);
        let below_stage = stage
            .and_then(|stage| request.raw_path.strip_prefix('/')?.strip_prefix(stage))
            .filter(|rest| rest.starts_with('/'));
        match (found, below_stage) {
            (Found::Nothing, Some(below)) => {
                request.path = below.to_owned();
                self.router.find(&request.method, &request.path)
            }
            (found, _) => found,
        }
    }

    async fn outcome(
        &self,
        found: Found<F::Endpoint>,
        request: &mut Request,
    ) -> Result<Answer, Failure> {
        let route = match found {
            Found::Route(route, params) => {
                request.params = params;
                route
            }
            Found::Methods(methods) if request.method == Method::OPTIONS => {
                return Ok(self.preflight(request, &methods));
            }
            Found::Methods(methods) if methods.contains(&request.method) => {
                // The gateway should have sent it to the function that answers it.
                tracing::warn!(path = request.path, "another function's route");
                return Err(nothing_here().into());
            }
            Found::Methods(methods) => {
                let detail = format!("{} is not allowed here", request.method);
                return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
                    .with_header(header::ALLOW, cors::method_list(&methods))
                    .into());
            }
            Found::Nothing => return Err(nothing_here().into()),
        };
        if route.access == Access::Scoped {
            access::check(self.settings.auth, request.caller.as_ref(), &request.method)?;
        }
        // Boxed, because the futures of handlers, stores and SDK in one another are a type too deep for
        // the compiler.
        let handled = self.function.handle(route.endpoint, request).boxed();
        match AssertUnwindSafe(handled).catch_unwind().await {
            Ok(outcome) => outcome,
            // What it said is in the log already, by the panic hook.
            Err(_) => Err(Failure::Internal("a handler panicked".into())),
        }
    }

    fn preflight(&self, request: &Request, methods: &[Method]) -> Answer {
        let mut answer = Answer::empty(StatusCode::NO_CONTENT)
            .with_header(header::ALLOW, cors::method_list(methods));
        let origin = request.headers.get("origin");
        cors::add_preflight(&mut answer.headers, &self.settings.cors, origin, methods);
        answer
    }

    /// Adds what every answer has, and takes off what this request does not want.
    fn dress(&self, request: &Request, answer: Answer) -> Answer {
        let mut answer = if matches!(request.method, Method::GET | Method::HEAD) {
            answer.unless_known(request.headers.get("if-none-match"))
        } else {
            answer
        };
        if request.method == Method::HEAD {
            answer.body = Body::Empty;
        }
        let accept_encoding = request.headers.get("accept-encoding");
        if let Some(packed) = encoding::gzip(accept_encoding, answer.body.as_bytes()) {
            answer.body = Body::Bytes(packed);
            answer.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let headers = &mut answer.headers;
        // An answer may hold what a device sent: no browser shall guess that it is a page.
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(
            header::VARY,
            HeaderValue::from_static(if cors::varies(&self.settings.cors) {
                "accept, accept-encoding, origin"
            } else {
                "accept, accept-encoding"
            }),
        );
        if let Ok(id) = HeaderValue::try_from(&request.id) {
            headers.insert("x-request-id", id);
        }
        cors::add_to(headers, &self.settings.cors, request.headers.get("origin"));
        answer
    }
}

fn nothing_here() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is nothing at this path")
}

/// The answer of an outcome. Failures are logged here and nowhere else: the client's at debug, since
/// it was told, ours as errors with all of their causes.
fn settle(request: &Request, outcome: Result<Answer, Failure>) -> Answer {
    let failure = match outcome {
        Ok(answer) => return answer,
        Err(failure) => failure,
    };
    let text = meter_store::with_causes(&failure);
    match failure {
        Failure::Client(_) => tracing::debug!(request_id = %request.id, "refused: {text}"),
        _ => tracing::error!(request_id = %request.id, path = %request.path, "failed: {text}"),
    }
    let problem = failure.problem();
    let body = Body::Text(problem.body(&request.id));
    let mut answer = Answer::new(problem.status, problem::MEDIA_TYPE, body);
    answer.headers.extend(problem.headers);
    answer
}

#[cfg(test)]
mod tests;
