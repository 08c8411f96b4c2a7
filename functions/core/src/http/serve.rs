//! From an event of API Gateway to its reply. Whatever happens inside, the client gets an answer of
//! ours.

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::time::Instant;

use ::http::{HeaderValue, Method, StatusCode, header};
use futures::FutureExt;
use lambda_runtime::{LambdaEvent, service_fn};
use tracing::Instrument;

use super::access;
use super::answer::{Answer, Body};
use super::cors;
use super::encoding;
use super::event::{Event, Reply};
use super::problem::{self, Failure, Problem};
use super::request::Request;
use super::route::{Access, Found, Router};
use crate::config::Api;
use crate::observe;
use crate::time::Timestamp;

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

/// Anything that keeps a function from starting.
pub type Error = lambda_runtime::Error;

/// A function's `main`: starts logging, makes the server and serves the Lambda runtime until the process
/// is told to end. What keeps it from starting is one line in the log.
pub async fn start<F: Function>(
    server: impl Future<Output = Result<Server<F>, Error>>,
) -> ExitCode {
    observe::init();
    let outcome = match server.await {
        Ok(server) => run(server).await,
        Err(error) => Err(error),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("cannot start: {}", observe::with_causes(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

async fn run<F: Function>(server: Server<F>) -> Result<(), Error> {
    let server = &server;
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Event>| {
        let id = &event.context.request_id;
        let reply = server.reply(event.payload, id, now()).await;
        Ok::<_, Error>(reply)
    }))
    .await
}

/// To the millisecond, as the broker stamps messages: what clients read back has no digits that mean
/// nothing.
fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millis(now.as_millis()).unwrap_or(now)
}

impl<F: Function> Server<F> {
    /// A server of a function.
    pub fn new(function: F, router: Router<F::Endpoint>, settings: Api) -> Self {
        Self { function, router, settings }
    }

    /// Answers an event; `id` names the request if the gateway has not.
    pub async fn reply(&self, event: Event, id: &str, now: Timestamp) -> Reply {
        let started = Instant::now();
        let stage = event.request_context.stage.clone();
        let mut request = Request::new(event, id, now);
        request.max_answer_bytes = self.settings.max_answer_bytes as usize;
        let found = self.find(stage.as_deref(), &mut request);
        let span = tracing::info_span!("request", request_id = %request.id);
        let outcome = self.outcome(found, &mut request).instrument(span).await;
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
    let text = observe::with_causes(&failure);
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
mod tests {
    use std::sync::atomic::{AtomicU8, Ordering};

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::config::{Auth, Origins};
    use crate::http::route::Route;
    use crate::http::testing::{self, Call};

    #[derive(Debug, Clone, Copy)]
    enum Endpoint {
        Echo,
        Panic,
        Fail,
        Change,
        Large,
    }

    const ROUTES: &[Route<Endpoint>] = &[
        Route::open(Method::GET, "/health", Endpoint::Echo),
        Route::new(Method::GET, "/api/things/{id}", Endpoint::Echo),
        Route::new(Method::PUT, "/api/things/{id}", Endpoint::Change),
        Route::new(Method::GET, "/panic", Endpoint::Panic),
        Route::new(Method::GET, "/fail", Endpoint::Fail),
        Route::new(Method::GET, "/large", Endpoint::Large),
    ];

    #[derive(Default)]
    struct Things {
        changed: AtomicU8,
    }

    impl Function for Things {
        type Endpoint = Endpoint;

        async fn handle(&self, endpoint: Endpoint, request: &Request) -> Result<Answer, Failure> {
            match endpoint {
                Endpoint::Echo => {
                    Ok(Answer::ok(&json!({"id": request.params.get("id")}))?.with_etag())
                }
                Endpoint::Change => {
                    self.changed.fetch_add(1, Ordering::Relaxed);
                    Answer::ok(&json!({}))
                }
                Endpoint::Panic => panic!("secret"),
                Endpoint::Fail => Err(Failure::Internal("secret".into())),
                Endpoint::Large => Answer::ok(&"x".repeat(5_000)),
            }
        }
    }

    fn server(auth: Auth, cors: Origins) -> Server<Things> {
        let router = Router::new(ROUTES).unwrap();
        let router = router.knowing(Method::POST, "/elsewhere").unwrap();
        Server::new(Things::default(), router, Api { auth, cors, ..Api::default() })
    }

    async fn reply(call: Call) -> testing::Answered {
        call.to(&server(Auth::None, Origins::None)).await
    }

    #[tokio::test]
    async fn every_answer_has_the_request_s_id_and_is_not_to_be_guessed_at() {
        for path in ["/health", "/nothing", "/panic"] {
            let answered = reply(testing::get(path)).await;
            assert_eq!(answered.header("x-request-id"), Some("request-1"), "{path}");
            assert_eq!(answered.header("x-content-type-options"), Some("nosniff"));
        }
    }

    #[tokio::test]
    async fn what_fails_inside_is_a_problem_without_a_word_of_the_inside() {
        for path in ["/panic", "/fail"] {
            let answered = reply(testing::get(path)).await;
            assert_eq!(answered.status, 500);
            assert_eq!(answered.header("content-type"), Some("application/problem+json"));
            assert_eq!(answered.json()["request_id"], "request-1");
            assert!(!answered.text().contains("secret"));
        }
    }

    #[tokio::test]
    async fn unknown_paths_are_404_and_unknown_methods_405() {
        let answered = reply(testing::get("/api/thing")).await;
        assert_eq!((answered.status, answered.json()["status"].as_u64()), (404, Some(404)));
        let answered = reply(testing::delete("/api/things/a")).await;
        assert_eq!(answered.status, 405);
        assert_eq!(answered.header("allow"), Some("GET, HEAD, OPTIONS, PUT"));
        let answered = reply(testing::get("/elsewhere")).await;
        assert_eq!(answered.status, 405);
        assert_eq!(answered.header("allow"), Some("OPTIONS, POST"));
        assert_eq!(reply(testing::post("/elsewhere")).await.status, 404);
    }

    #[tokio::test]
    async fn a_stage_in_the_path_does_not_matter() {
        for (path, stage) in [
            ("/api/things/a", "$default"),
            ("/dev/api/things/a", "dev"),
            ("/api/things/a", "dev"),
            ("/api/api/things/a", "api"),
            ("/api/things/a", "api"),
        ] {
            let answered = reply(testing::get(path).stage(stage)).await;
            assert_eq!(answered.json(), json!({"id": "a"}), "{path} {stage}");
        }
        assert_eq!(reply(testing::get("/device/api/things/a").stage("dev")).await.status, 404);
    }

    #[tokio::test]
    async fn routes_are_closed_without_a_token_unless_they_are_open() {
        let server = server(Auth::Jwt, Origins::None);
        for (call, status) in [
            (testing::get("/health"), 200),
            (testing::get("/nothing"), 404),
            (testing::get("/api/things/a"), 401),
            (testing::get("/api/things/a").scope("meter/write"), 403),
            (testing::get("/api/things/a").scope("meter/read"), 200),
            (testing::put("/api/things/a").scope("meter/read"), 403),
        ] {
            assert_eq!(call.to(&server).await.status, status);
        }
        assert_eq!(server.function.changed.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn head_is_get_without_the_body() {
        let answered = reply(testing::call("HEAD", "/api/things/a")).await;
        assert_eq!((answered.status, answered.text()), (200, ""));
        assert!(answered.header("etag").is_some());
    }

    #[tokio::test]
    async fn what_the_client_has_is_304_and_a_change_is_never_held_back() {
        let etag = reply(testing::get("/api/things/a")).await.header("etag").unwrap().to_owned();
        let again = testing::get("/api/things/a").header("If-None-Match", &etag);
        let answered = reply(again).await;
        assert_eq!((answered.status, answered.text()), (304, ""));
        assert_eq!(answered.header("x-request-id"), Some("request-1"));
        let put = testing::put("/api/things/a").header("If-None-Match", "*");
        assert_eq!(reply(put).await.status, 200);
    }

    #[tokio::test]
    async fn gzip_travels_as_base64() {
        let answered = reply(testing::get("/large").header("Accept-Encoding", "gzip")).await;
        assert_eq!(answered.header("content-encoding"), Some("gzip"));
        assert!(answered.is_base64());
        assert_eq!(answered.json(), Value::String("x".repeat(5_000)));
        assert_eq!(reply(testing::get("/large")).await.header("content-encoding"), None);
    }

    #[tokio::test]
    async fn a_page_of_an_allowed_origin_may_ask_before_it_calls() {
        let origins = Origins::These(vec!["https://a.example".to_owned()]);
        let server = server(Auth::Jwt, origins);
        let preflight = |origin| testing::call("OPTIONS", "/api/things/a").header("Origin", origin);
        let answered = preflight("https://a.example").to(&server).await;
        assert_eq!(answered.status, 204);
        for (name, value) in [
            ("access-control-allow-origin", "https://a.example"),
            ("access-control-allow-methods", "GET, HEAD, OPTIONS, PUT"),
            ("vary", "accept, accept-encoding, origin"),
        ] {
            assert_eq!(answered.header(name), Some(value));
        }
        let answered = preflight("https://b.example").to(&server).await;
        assert_eq!(answered.header("access-control-allow-origin"), None);
        // The page must be able to read why it was refused.
        let refused = testing::get("/api/things/a").header("Origin", "https://a.example");
        let answered = refused.to(&server).await;
        assert_eq!(answered.status, 401);
        assert_eq!(answered.header("access-control-allow-origin"), Some("https://a.example"));
    }

    proptest! {
        #[test]
        fn no_request_goes_without_an_answer(path in any::<String>(), query in any::<String>(), stage in "[a-z$/]{0,5}", body in any::<String>()) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let call = testing::raw("GET", &path, &query).stage(&stage).body(&body);
            let status = runtime.block_on(reply(call)).status;
            prop_assert!([200, 404, 405, 500].contains(&status), "{status}");
        }
    }
}
