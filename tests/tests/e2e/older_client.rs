//! Clients of the earlier service are supported unchanged: the recorded calls, in order, over HTTP.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow, ensure};
use blackbox::device::Device;
use blackbox::system::{Response, System};
use meter_domain::time::Timestamp;
use meter_testing::http::recorded::{
    self, ActualResponse, Captures, RecordedCall, RecordedRequest,
};
use reqwest::Method;

/// Sends a recorded request without any other header or body.
async fn send(system: &System, captures: &Captures, sent: &RecordedRequest) -> Result<Response> {
    let method = Method::from_bytes(sent.method.as_bytes())?;
    let mut request = system.request(method, &captures.substitute(&sent.path));
    for (name, value) in &sent.headers {
        request = request.header(name, value);
    }
    if let Some(body) = &sent.body {
        request = request.body(captures.substitute_value(body, Timestamp::now()).to_string());
    }
    system.execute(request).await
}

/// Sends the request of a recorded call and compares the response. Returns the captures with its
/// values.
async fn check(system: &System, captures: &Captures, call: &RecordedCall) -> Result<Captures> {
    let response = send(system, captures, &call.request).await?;
    let header = |name: &str| response.headers.get(name)?.to_str().ok().map(str::to_owned);
    let actual =
        ActualResponse { status: response.status.as_u16(), header: &header, body: &response.text };
    let mut captures = captures.clone();
    captures.check(&call.response, actual).map_err(|difference| anyhow!(difference))?;
    Ok(captures)
}

#[tokio::test]
async fn recorded_calls_of_the_older_client_get_their_responses() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("older-client");
    let calls = recorded::load(&folder)?;
    ensure!(calls.len() > 50, "expected more than 50 calls, actual {}", calls.len());
    let system = System::start().await?;
    let mut device = Device::connect(system.mqtt_port(), "older-client").await?;
    let mut captures = Captures::default();
    for (file, call) in &calls {
        if let Some(publication) = &call.publish {
            let payload = captures.substitute_value(&publication.payload, Timestamp::now());
            device.publish(&publication.topic, payload.to_string()).await?;
        }
        let what = || format!("{file}: {}", call.description);
        captures = if call.eventually {
            system.eventually(&what(), || check(&system, &captures, call)).await
        } else {
            check(&system, &captures, call).await
        }
        .with_context(what)?;
    }
    system.stack.stop().await;
    Ok(())
}
