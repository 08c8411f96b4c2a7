use lambda_runtime::{Error, LambdaEvent, service_fn};
use meter_core::observe;
use meter_core::time::Timestamp;
use serde_json::Value;

#[tokio::main]
async fn main() -> Result<(), Error> {
    observe::init();
    lambda_runtime::run(service_fn(|event: LambdaEvent<Value>| async move {
        Ok::<_, Error>(watchdog::run(&event.payload, Timestamp::now()))
    }))
    .await
}
