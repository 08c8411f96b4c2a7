//! The functions, and the routers that replace the Lambda runtime API and API Gateway.
//!
//! `cargo lambda watch` can build and start functions. Here it only routes: prebuilt binaries start
//! faster, run in several instances, and are restarted when they exit.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::child::Program;

/// A function, by the name of its binary, and its router.
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) router: Router,
    /// Whether it always runs in one process.
    single_instance: bool,
}

/// A router. There are two, so that the port of the REST API accepts no invocations, and telemetry
/// does not delay requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Router {
    /// The routes of the root Cargo.toml, on the REST port.
    Rest,
    /// Invocations by function name, on the functions' port.
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
    /// The name of the child.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rest => "rest-router",
            Self::Invocations => "invocation-router",
        }
    }

    /// There is no `--timeout`: it would also end the poll of an idle function, and the Lambda
    /// runtime panics then. So a request whose function crashes waits until its client gives up.
    /// For ingest and watchdog that is the IoT Core emulator, which applies their timeouts.
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
            // The default allows every origin, with credentials. The functions handle CORS.
            "--disable-cors",
        ];
        Program {
            name: self.name().to_owned(),
            executable: tools.join("cargo-lambda"),
            arguments: arguments.map(str::to_owned).to_vec(),
            // It runs `cargo metadata`, which must not wait for a network.
            environment: vec![("CARGO_NET_OFFLINE".to_owned(), "true".to_owned())],
            working_directory: checkout.to_owned(),
            stop_timeout: Duration::from_secs(5),
            restart_on_exit: true,
        }
    }
}

impl Function {
    /// One program per instance; `port` is that of the router.
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
    fn each_instance_is_a_separate_child() {
        let names: Vec<_> = FUNCTIONS
            .iter()
            .flat_map(|function| function.programs(Path::new("/"), 2, 1, &[], Path::new("/")))
            .map(|program| program.name)
            .collect();
        assert_eq!(names.len(), 9, "{names:?}");
        assert!(names.contains(&"devices-2".to_owned()));
        assert!(!names.contains(&"watchdog-2".to_owned()));
    }
}
