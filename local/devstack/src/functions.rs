//! The functions, and the routers that stand in for Lambda's runtime API and for API Gateway.
//!
//! `cargo lambda watch` would build and start the functions itself. Here it only routes: prebuilt binaries
//! start in no time, run in several instances, and are started again when they die, which it does not do.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::child::Program;

/// A function by its binary's name, and the router that gives it work.
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) router: Router,
    /// Whether one process is enough, however many the others have.
    single_instance: bool,
}

/// Which of the two routers. They are two, so that the port of the REST API takes no invocations, and
/// a flood of telemetry does not queue up before a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Router {
    /// Routes of the root Cargo.toml, on the REST port.
    Rest,
    /// Invocations by name, on the functions' port.
    Invocations,
}

pub(crate) const FUNCTIONS: [Function; 5] = [
    Function { name: "ingest", router: Router::Invocations, single_instance: false },
    Function { name: "watchdog", router: Router::Invocations, single_instance: true },
    Function { name: "devices", router: Router::Rest, single_instance: false },
    Function { name: "alerts", router: Router::Rest, single_instance: false },
    Function { name: "stats", router: Router::Rest, single_instance: false },
];

impl Router {
    /// The child's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rest => "rest-router",
            Self::Invocations => "invocation-router",
        }
    }

    /// It gets no `--timeout`: that would also end the poll of a function that has nothing to do, at which Lambda's
    /// runtime panics. So a request whose function dies half way waits until its client gives up; for
    /// ingest and watchdog that is the edge, which knows their timeouts.
    pub(crate) fn program(self, tools: &Path, checkout: &Path, listens: SocketAddr) -> Program {
        let (address, port) = (listens.ip().to_string(), listens.port().to_string());
        let arguments = [
            "lambda",
            "watch",
            "--only-lambda-apis",
            "--invoke-address",
            &address,
            "--invoke-port",
            &port,
            // Its default admits every origin, with credentials. The functions answer for CORS.
            "--disable-cors",
        ];
        Program {
            name: self.name().to_owned(),
            executable: tools.join("cargo-lambda"),
            arguments: arguments.map(str::to_owned).to_vec(),
            // It asks cargo for the workspace's metadata, which must not wait for a network.
            environment: vec![("CARGO_NET_OFFLINE".to_owned(), "true".to_owned())],
            working_directory: checkout.to_owned(),
            stop_timeout: Duration::from_secs(5),
            restart_on_exit: true,
        }
    }
}

impl Function {
    /// One program an instance; `port` is its router's.
    pub(crate) fn programs(
        &self,
        binaries: &Path,
        instances: usize,
        port: u16,
        environment: &[(String, String)],
        folder: &Path,
    ) -> Vec<Program> {
        let name = self.name;
        let instances = if self.single_instance { 1 } else { instances };
        (1..=instances)
            .map(|instance| {
                let mut environment = environment.to_vec();
                environment.extend(
                    [
                        ("AWS_LAMBDA_RUNTIME_API", format!("http://127.0.0.1:{port}/.rt/{name}")),
                        ("AWS_LAMBDA_FUNCTION_NAME", name.to_owned()),
                        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST".to_owned()),
                        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512".to_owned()),
                    ]
                    .map(|(name, value)| (name.to_owned(), value)),
                );
                Program {
                    name: format!("{name}-{instance}"),
                    executable: binaries.join(name),
                    arguments: Vec::new(),
                    environment,
                    working_directory: folder.to_owned(),
                    stop_timeout: Duration::from_secs(5),
                    restart_on_exit: true,
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_instance_is_a_child_of_its_own() {
        let names: Vec<_> = FUNCTIONS
            .iter()
            .flat_map(|function| function.programs(Path::new("/"), 2, 1, &[], Path::new("/")))
            .map(|program| program.name)
            .collect();
        assert_eq!(names.len(), 9, "{names:?}");
        assert!(names.contains(&"devices-2".to_owned()));
        assert!(!names.contains(&"watchdog-2".to_owned()), "one watchdog is enough");
    }
}
