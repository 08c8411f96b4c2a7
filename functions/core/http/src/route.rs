//! Routes as data: which method and path is which endpoint. The same table routes requests, answers 404
//! and 405, and is compared with the OpenAPI file and the template by a test.

use ::http::Method;
pub use matchit::InsertError as RouteError;

use super::request::Params;

/// A method and a path, and what handles it. `E` is the function's own enum of endpoints.
#[derive(Debug, Clone)]
pub struct Route<E> {
    /// GET and so on. GET includes HEAD.
    pub method: Method,
    /// `matchit`'s syntax: `{name}` is one segment, `{*name}` the rest of the path.
    pub path: &'static str,
    /// Who may.
    pub auth: RouteAuth,
    /// What handles it.
    pub endpoint: E,
}

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteAuth {
    /// Anybody.
    Public,
    /// Who has the scope for the method.
    Scoped,
}

impl<E> Route<E> {
    /// A route for those who have the scope.
    pub const fn new(method: Method, path: &'static str, endpoint: E) -> Self {
        Self { method, path, auth: RouteAuth::Scoped, endpoint }
    }

    /// A route for everybody.
    pub const fn public(method: Method, path: &'static str, endpoint: E) -> Self {
        Self { method, path, auth: RouteAuth::Public, endpoint }
    }
}

/// Finds routes.
pub struct Router<E: 'static> {
    tree: matchit::Router<usize>,
    entries: Vec<PathEntry<E>>,
}

/// What is at a path.
struct PathEntry<E: 'static> {
    path: &'static str,
    routes: Vec<&'static Route<E>>,
    /// Methods that another function answers.
    external_methods: Vec<Method>,
}

/// What a method and a path lead to.
pub enum RouteMatch<E: 'static> {
    /// A route, and the variable parts of the path.
    Route(&'static Route<E>, Params),
    /// The path is known, but not with this method: these are allowed.
    OtherMethods(Vec<Method>),
    /// The path, too, is unknown.
    NotFound,
}

impl<E> Router<E> {
    /// A router of these routes; fails when two patterns contradict each other.
    pub fn new(routes: &'static [Route<E>]) -> Result<Self, RouteError> {
        let mut router = Self { tree: matchit::Router::new(), entries: Vec::new() };
        for route in routes {
            router.entry(route.path)?.routes.push(route);
        }
        Ok(router)
    }

    /// Also knows of a route that another function has, for 405 instead of 404: the function that gets
    /// what no route of the gateway matches knows every route.
    pub fn with_external_route(
        mut self,
        method: Method,
        path: &'static str,
    ) -> Result<Self, RouteError> {
        self.entry(path)?.external_methods.push(method);
        Ok(self)
    }

    fn entry(&mut self, path: &'static str) -> Result<&mut PathEntry<E>, RouteError> {
        let index = match self.entries.iter().position(|entry| entry.path == path) {
            Some(index) => index,
            None => {
                self.tree.insert(path, self.entries.len())?;
                self.entries.push(PathEntry {
                    path,
                    routes: Vec::new(),
                    external_methods: Vec::new(),
                });
                self.entries.len() - 1
            }
        };
        Ok(&mut self.entries[index])
    }

    /// Finds what a method and a raw path lead to.
    pub fn find(&self, method: &Method, path: &str) -> RouteMatch<E> {
        let Ok(matched) = self.tree.at(path) else {
            return RouteMatch::NotFound;
        };
        let Some(params) = Params::decode(matched.params.iter()) else {
            return RouteMatch::NotFound;
        };
        let entry = &self.entries[*matched.value];
        let wanted = if method == Method::HEAD { &Method::GET } else { method };
        match entry.routes.iter().find(|route| route.method == *wanted) {
            Some(route) => RouteMatch::Route(route, params),
            None => RouteMatch::OtherMethods(entry.methods()),
        }
    }
}

impl<E> PathEntry<E> {
    fn methods(&self) -> Vec<Method> {
        let mut methods: Vec<_> = self.routes.iter().map(|r| r.method.clone()).collect();
        if methods.contains(&Method::GET) {
            methods.push(Method::HEAD);
        }
        methods.extend(self.external_methods.iter().cloned());
        methods.push(Method::OPTIONS);
        methods.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        methods.dedup();
        methods
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROUTES: &[Route<&str>] = &[
        Route::new(Method::GET, "/api/devices", "list"),
        Route::new(Method::POST, "/api/devices", "create"),
        Route::new(Method::GET, "/api/devices/{id}/raw-data", "messages"),
        Route::new(Method::GET, "/api/devices/{id}/raw-data/{*filename}", "message"),
    ];

    fn find(method: Method, path: &str) -> String {
        let router = Router::new(ROUTES)
            .and_then(|router| {
                router.with_external_route(Method::PUT, "/api/commands/{cmd_id}/ack")
            })
            .unwrap();
        match router.find(&method, path) {
            RouteMatch::Route(route, params) => {
                format!("{} {}{}", route.endpoint, params.get("id"), params.get("filename"))
            }
            RouteMatch::OtherMethods(methods) => format!("{methods:?}"),
            RouteMatch::NotFound => "nothing".to_owned(),
        }
    }

    #[test]
    fn a_route_is_found_by_method_and_path_and_its_parts_are_decoded() {
        assert_eq!(find(Method::POST, "/api/devices"), "create ");
        assert_eq!(find(Method::GET, "/api/devices/a%3Ab/raw-data"), "messages a:b");
        assert_eq!(
            find(Method::GET, "/api/devices/a/raw-data/telemetry/x.json"),
            "message atelemetry/x.json"
        );
        assert_eq!(find(Method::HEAD, "/api/devices"), "list ");
    }

    #[test]
    fn a_known_path_with_another_method_says_which_are_allowed() {
        assert_eq!(find(Method::PATCH, "/api/devices"), "[GET, HEAD, OPTIONS, POST]");
        assert_eq!(find(Method::GET, "/api/commands/x/ack"), "[OPTIONS, PUT]");
        for unknown in ["/api/devices/", "/api", "", "/api/devices/%ff/raw-data", "/api//raw-data"]
        {
            assert_eq!(find(Method::GET, unknown), "nothing", "{unknown}");
        }
    }

    proptest! {
        #[test]
        fn no_path_makes_it_panic(path in any::<String>(), tail in "(/|%|\\*|\\{|[a-z]){0,20}") {
            find(Method::GET, &path);
            find(Method::GET, &format!("/api/devices/{tail}"));
        }
    }
}
