"""`make deploy-local`: template.yaml in a local AWS endpoint until Ctrl-C."""

import os
import signal
import tempfile
from pathlib import Path

from . import stack
from .endpoint import CREDENTIALS, DeploymentFailed, Endpoint

CHECKOUT = Path(__file__).resolve().parents[2]

USAGE = """
The stack of template.yaml runs in MiniStack at {endpoint} (log: {log}). Ctrl-C removes it with all data.

REST API   {api}
issuer     {issuer}

$ export AWS_ENDPOINT_URL={endpoint} {credentials}
$ .venv/bin/aws iot-data publish --topic iot/shed-1/telemetry --qos 1 --payload '{{"device_id":"shed-1","temperature":23.5,"unit":"celsius"}}'
$ curl -s '{api}/health'
{token}$ curl -s -H "Authorization: Bearer $token" '{api}/api/devices/shed-1/metrics'
"""

TOKEN_COMMANDS = """$ secret=$(.venv/bin/aws cognito-idp describe-user-pool-client --user-pool-id {pool} --client-id {client} --query UserPoolClient.ClientSecret --output text)
$ token=$(curl -s -u "{client}:$secret" -d grant_type=client_credentials {endpoint}/oauth2/token | .venv/bin/python -c 'import json,sys; print(json.load(sys.stdin)["access_token"])')
"""


def main() -> None:
    # SIGTERM stops MiniStack and removes the data, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _deploy_and_wait()
    except DeploymentFailed as failed:
        raise SystemExit(str(failed)) from None
    except KeyboardInterrupt:
        print("stopped")


def _deploy_and_wait() -> None:
    port = int(os.environ.get("ENDPOINT_PORT", "4566"))
    binaries = Path(os.environ.get("CARGO_TARGET_DIR", CHECKOUT / "target")) / "debug"
    with tempfile.TemporaryDirectory(prefix="iot-meter-deploy-") as folder:
        folder = Path(folder)
        log = folder / "ministack.log"
        with Endpoint(CHECKOUT / ".venv/bin", port, log) as endpoint:
            print("deploying template.yaml to MiniStack with sam", flush=True)
            built = stack.build(CHECKOUT, binaries, folder / "build")
            deployed = stack.deploy(endpoint, CHECKOUT, built, {}, folder / "sam.log")
            outputs = deployed.outputs
            credentials = " ".join(f"{name}={value}" for name, value in CREDENTIALS.items())
            token = TOKEN_COMMANDS.format(
                pool=outputs["UserPoolId"], client=outputs["OperatorClientId"], endpoint=endpoint.url
            )
            print(
                USAGE.format(
                    endpoint=endpoint.url,
                    log=log,
                    api=deployed.api_url,
                    issuer=outputs["JwtIssuer"],
                    credentials=credentials,
                    token=token,
                ),
                flush=True,
            )
            while True:
                signal.pause()


if __name__ == "__main__":
    main()
