"""The command line of `python -m provision`."""

import argparse
import os
import re
from pathlib import Path

from . import broker
from .authority import CertificateAuthority
from .aws import Registry, IotThings
from .identity import CERTIFICATE_FILE, Identity

DEVICE_ID = re.compile(r"[A-Za-z0-9_:-]{1,128}")
AWS_HELP = """
On AWS, credentials and region are those of the AWS CLI. With --api and a token in METER_TOKEN (scope meter/write) the
registry is updated as well: add registers the device, revoke deactivates it, or deletes it with --delete.
"""


def main() -> None:
    arguments = _parse()
    if arguments.command == "broker":
        lines = broker.write_broker_config(CertificateAuthority(arguments.local), arguments.devices_port, arguments.iot_core_port)
        print(lines, end="")
    elif arguments.local:
        _run_local(arguments)
    else:
        _run_on_aws(arguments)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="provision", description="Manages certificates of devices on AWS or for the local broker.", epilog=AWS_HELP
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("add", "create a certificate for a device in OUT/DEVICE/ (with ca.pem, private.key, connect.json)"),
        ("rotate", "create a new certificate for a device and revoke the old ones"),
        ("revoke", "revoke the certificates of a device and delete its thing"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("device", nargs="+", type=_device_id, help="device id, which is also the name of the thing")
        command.add_argument("--out", type=Path, default=Path("identities"), help="where a device's folder is")
        command.add_argument("--local", type=Path, metavar="FOLDER", help="the authority of a local broker")
        command.add_argument("--local-port", type=int, help="the port of the local broker, if not that of its last start")
        command.add_argument("--stack", default="iot-meter", help="the CloudFormation stack")
        command.add_argument("--api", metavar="URL", help="REST API of the stack; also updates the registry")
        if name == "rotate":
            command.add_argument("--keep", action="store_true", help="do not revoke the old certificates")
        if name == "revoke":
            command.add_argument("--delete", action="store_true", help="also delete the device from the registry")
    command = commands.add_parser("broker", help="write the Mosquitto configuration of `make run SECURE=1`")
    command.add_argument("--local", type=Path, metavar="FOLDER", required=True)
    command.add_argument("--devices-port", type=int, required=True)
    command.add_argument("--iot-core-port", type=int, required=True)
    return parser.parse_args()


def _device_id(text: str) -> str:
    if not DEVICE_ID.fullmatch(text):
        raise argparse.ArgumentTypeError("a device id has 1 to 128 characters of A-Z a-z 0-9 _ : -")
    return text


def _run_local(arguments: argparse.Namespace) -> None:
    authority = CertificateAuthority(arguments.local)
    port = arguments.local_port or broker.devices_port(arguments.local)
    for device in arguments.device:
        present = arguments.out / device / CERTIFICATE_FILE
        if arguments.command == "add" and present.is_file():
            continue
        if arguments.command != "add" and not getattr(arguments, "keep", False):
            if not present.is_file():
                raise SystemExit(f"{present} is missing: --out must be the folder that `add` wrote")
            authority.revoke(present.read_text())
            print(f"{device}: revoked. Restart the broker or send it SIGHUP to apply the revocation.")
        if arguments.command == "revoke":
            continue
        certificate, key = authority.device(device)
        identity = Identity(device, authority.ca, certificate, key, "127.0.0.1", port)
        _print_identity(identity, arguments.out)


def _run_on_aws(arguments: argparse.Namespace) -> None:
    things = IotThings(arguments.stack)
    registry = _registry(arguments)
    for device in arguments.device:
        old = things.certificates(device)
        if arguments.command == "revoke":
            things.revoke(device, old)
            things.remove(device)
            if registry:
                (registry.delete if arguments.delete else registry.deactivate)(device)
            print(f"{device}: {len(old)} certificates revoked, thing deleted{_registry_note(registry)}")
            continue
        if arguments.command == "add" and old:
            raise SystemExit(f"{device} already has a certificate. Use `rotate` to replace it.")
        if registry:
            registry.register(device)
        identity = things.add(device, arguments.out)
        if arguments.command == "rotate" and not arguments.keep:
            things.revoke(device, old)
        _print_identity(identity, arguments.out)
        print(f"{device}: certificate created{_registry_note(registry)}")


def _registry(arguments: argparse.Namespace) -> Registry | None:
    if not arguments.api:
        return None
    token = os.environ.get("METER_TOKEN")
    if not token:
        raise SystemExit("METER_TOKEN is not set: --api requires a token with the scope meter/write")
    return Registry(arguments.api, token)


def _registry_note(registry: Registry | None) -> str:
    return "" if registry else "; registry unchanged (no --api)"


def _print_identity(identity: Identity, out: Path) -> None:
    place = identity.write(out)
    print(f"{place}/\n{identity.example_commands(out)}", end="")


if __name__ == "__main__":
    main()
