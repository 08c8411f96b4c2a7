// The futures of a claim, the stores and the SDK in one another are a type deeper than the compiler's default.
#![recursion_limit = "256"]

use lambda_runtime::{Error, LambdaEvent, service_fn};
use meter_aws::settings::Tables;
use meter_aws::{Clients, dynamodb};
use meter_domain::time::Timestamp;
use meter_runtime::observability;
use meter_runtime::settings;
use provisioning::{HookResponse, Request, claim, metrics};
use tracing::Instrument;

#[tokio::main]
async fn main() -> Result<(), Error> {
    observability::init();
    let tables: Tables = settings::load()?;
    let clients = Clients::from_environment().await;
    let registry = &dynamodb::Devices::new(&clients, &tables);
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Request>| async move {
        let request_id = event.context.request_id.as_str();
        let span = tracing::info_span!(target: meter_store::TRACE_TARGET, "claim", request_id);
        observability::continue_trace(&span, &event.context);
        let request = &event.payload;
        let work = async {
            let now = Timestamp::now();
            let claimed = claim(registry, request, now).await?;
            let answer = HookResponse { allow_provisioning: claimed.is_ok() };
            // Not what is no id: whoever asks may have put anything there.
            let device_id = request.device_id().ok().map(tracing::field::display);
            let (certificate, by) = (&request.certificate_id, &request.claim_certificate_id);
            match claimed {
                Ok(()) => tracing::info!(request_id, device_id, certificate_id = %certificate, claim_certificate_id = %by, "claimed"),
                Err(refusal) => {
                    tracing::warn!(request_id, device_id, certificate_id = %certificate, claim_certificate_id = %by, "claim refused: {refusal}");
                }
            }
            metrics(answer).emit(now);
            Ok::<_, Error>(answer)
        };
        work.instrument(span).await
    }))
    .await
}
