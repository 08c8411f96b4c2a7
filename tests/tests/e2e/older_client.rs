//! Clients of the earlier service run unchanged: each of their calls, in order, over HTTP.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow, ensure};
use blackbox::device::Device;
use blackbox::system::{Response, System};
use meter_domain::time::Timestamp;
use meter_testing::http::recorded::{
    self, ActualResponse, Captures, RecordedCall, RecordedRequest,
};
use reqwest::Method;

/// Sends exactly what is recorded: no header and no body that the client does not send.
async fn send(system: &System, memo: &Captures, sent: &RecordedRequest) -> Result<Response> {
    let method = Method::from_bytes(sent.method.as_bytes())?;
    let mut request = system.request(method, &memo.substitute(&sent.path));
    for (name, value) in &sent.headers {
        request = request.header(name, value);
    }
    if let Some(body) = &sent.body {
        request = request.body(memo.substitute_value(body, Timestamp::now()).to_string());
    }
    system.execute(request).await
}

/// Sends the request of a recorded call and compares; what the memo is when the answer is right.
async fn check(system: &System, memo: &Captures, call: &RecordedCall) -> Result<Captures> {
    let answer = send(system, memo, &call.request).await?;
    let header = |name: &str| answer.headers.get(name)?.to_str().ok().map(str::to_owned);
    let got =
        ActualResponse { status: answer.status.as_u16(), header: &header, body: &answer.text };
    let mut memo = memo.clone();
    memo.check(&call.response, got).map_err(|difference| anyhow!(difference))?;
    Ok(memo)
}

#[tokio::test]
async fn every_call_of_the_older_client_gets_the_answer_that_it_expects() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("older-client");
    let calls = recorded::load(&folder)?;
    ensure!(calls.len() > 50, "{} calls", calls.len());
    let system = System::start().await?;
    let mut device = Device::connect(system.mqtt_port(), "older-client").await?;
    let mut memo = Captures::default();
    for (file, call) in &calls {
        if let Some(publication) = &call.publish {
            let payload = memo.substitute_value(&publication.payload, Timestamp::now());
            device.publish(&publication.topic, payload.to_string()).await?;
        }
        let what = || format!("{file}: {}", call.description);
        memo = if call.eventually {
            system.eventually(&what(), || check(&system, &memo, call)).await
        } else {
            check(&system, &memo, call).await
        }
        .with_context(what)?;
    }
    system.stack.stop().await;
    Ok(())
}
