use lambda_runtime::Error;
use meter_aws::settings::Tables;
use meter_aws::{Clients, dynamodb};
use meter_runtime::{observability, settings};
use provisioning::{HookResponse, Request, claim, metrics};

#[tokio::main]
async fn main() -> Result<(), Error> {
    observability::init();
    let tables: Tables = settings::load()?;
    let clients = Clients::from_environment().await;
    let registry = dynamodb::Devices::new(&clients, &tables);
    let span = |request_id: &str| tracing::info_span!(target: meter_store::TRACE_TARGET, "claim", request_id);
    meter_runtime::serve(span, async |request: Request, request_id: &str, now| {
        let claimed = claim(&registry, &request, now).await?;
        let response = HookResponse { allow_provisioning: claimed.is_ok() };
        // Only a valid device id is logged: the client controls the parameter.
        let device_id = request.device_id().ok().map(tracing::field::display);
        let (certificate, by) = (&request.certificate_id, &request.claim_certificate_id);
        match claimed {
            Ok(()) => {
                tracing::info!(request_id, device_id, certificate_id = %certificate, claim_certificate_id = %by, "claim granted")
            }
            Err(denial) => {
                tracing::warn!(request_id, device_id, certificate_id = %certificate, claim_certificate_id = %by, "claim denied: {denial}");
            }
        }
        metrics(response).emit(now);
        Ok::<_, Error>(response)
    })
    .await
}
