//! The text that `devstack run` prints when the system is ready.

use std::path::Path;
use std::time::Duration;

use devstack::{DevStack, EXAMPLE_DEVICE, MetricStore, Options};
use simulator::fleet::{FleetMember, default_fleet};

/// Addresses, and commands that can be pasted into another terminal in the checkout.
pub(crate) fn text(devstack: &DevStack, startup: Duration, options: &Options) -> String {
    let rest = devstack.rest_url();
    let timestream = match options.metric_store {
        MetricStore::Dynamodb => String::new(),
        MetricStore::Timestream => format!("  Timestream    {}\n", devstack.timestream_url()),
    };
    let mqtt = match options.tls_port {
        Some(port) => format!("127.0.0.1:{port} with TLS"),
        None => devstack.broker(),
    };
    format!(
        r#"
IoT Meter is ready after {seconds:.1} s.

  REST API      {rest}
  MQTT          {mqtt}
  AWS endpoint  {endpoint}  (bucket {bucket})
{timestream}  iot-data      {iot_data}
  functions     {functions}
  devices       {devices} simulated
  data          {data}
  logs          {logs}

Publish a message and read it back:

{preparation}  mosquitto_pub {connection} -q 1 -t iot/{EXAMPLE_DEVICE}/telemetry -m '{{"device_id":"{EXAMPLE_DEVICE}","temperature":23.5,"unit":"celsius"}}'
  curl -s '{rest}/api/devices/{EXAMPLE_DEVICE}/metrics?metric=temperature'
{live_data}
Ctrl-C stops everything and keeps the data. `make reset` removes it.
"#,
        seconds = startup.as_secs_f64(),
        endpoint = devstack.endpoint_url(),
        bucket = devstack.outputs().get("ArchiveBucketName").map_or("", String::as_str),
        iot_data = devstack.iot_data_url(),
        functions = devstack.functions_url(),
        devices = options.devices,
        live_data = live_data(&rest, options),
        data = devstack.data().display(),
        logs = devstack.logs().display(),
        preparation = preparation(devstack, options),
        connection = connection(&devstack.broker(), options.tls_port, devstack.data()),
    )
}

/// The commands that register the example device where `devstack run` has not done it.
fn preparation(devstack: &DevStack, options: &Options) -> String {
    if options.devices > 0 {
        return String::new();
    }
    let mut commands = format!(
        "  curl -s {}/api/devices -H 'content-type: application/json' \
         -d '{{\"device_id\":\"{EXAMPLE_DEVICE}\",\"device_name\":\"Example meter\"}}'\n",
        devstack.rest_url()
    );
    if options.tls_port.is_some() {
        let data = devstack.data().display();
        commands += &format!(
            "  PYTHONPATH=infra .venv/bin/python -m provision add {EXAMPLE_DEVICE} \
             --local {data}/authority --out {data}/identities\n"
        );
    }
    commands
}

/// The command that reads data of the first simulated device.
fn live_data(rest: &str, options: &Options) -> String {
    let first = default_fleet(options.devices.min(1) as usize).into_iter().next();
    first.map_or_else(String::new, |FleetMember { device_id, .. }| {
        format!(
            "\nRead the latest values of a simulated device:\n\n  \
             curl -s {rest}/api/devices/{device_id}/metrics/latest\n"
        )
    })
}

/// The options of mosquitto_pub that connect the example device to the broker (`HOST:PORT`), or to
/// the TLS port with its certificate in the data directory.
pub(crate) fn connection(broker: &str, tls_port: Option<u16>, data: &Path) -> String {
    if let Some(port) = tls_port {
        let folder = data.join("identities").join(EXAMPLE_DEVICE);
        let folder = folder.display();
        return format!(
            "-p {port} -i {EXAMPLE_DEVICE} --cafile {folder}/ca.pem --cert {folder}/certificate.pem --key {folder}/private.key"
        );
    }
    match broker.rsplit_once(':') {
        Some(("127.0.0.1", port)) => format!("-p {port}"),
        Some((host, port)) => format!("-h {host} -p {port}"),
        None => format!("-h {broker}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_options_follow_broker_and_tls_port() {
        let data = Path::new("/data");
        assert_eq!(connection("127.0.0.1:1884", None, data), "-p 1884");
        assert_eq!(connection("mosquitto:1883", None, data), "-h mosquitto -p 1883");
        let tls = connection("127.0.0.1:1883", Some(8884), data);
        assert!(tls.starts_with("-p 8884 -i dc-meter-001 --cafile /data/identities/"), "{tls}");
    }
}
