"""Devices on AWS: thing, certificate with the device policy, and registry entry."""

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import boto3
import botocore
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from .identity import Identity

MQTT_PORT = 8883
# The root of Amazon Trust Services, which signs the endpoints of AWS IoT (`iot:Data-ATS`).
ROOT_CA_SUBJECT = "CN=Amazon Root CA 1,O=Amazon,C=US"


@dataclass(frozen=True)
class Registry:
    """The registry of a stack, over its REST API with a token of the scope meter/write."""

    url: str
    token: str

    def register(self, device_id: str) -> None:
        """Registers a device, or activates it if it is registered."""
        body = {"device_id": device_id, "device_name": device_id}
        if self._call("POST", "/api/devices", body, 201, 409) == 409:
            self._call("PUT", f"/api/devices/{device_id}", {"status": "active"}, 200)

    def deactivate(self, device_id: str) -> None:
        self._call("PUT", f"/api/devices/{device_id}", {"status": "inactive"}, 200, 404)

    def delete(self, device_id: str) -> None:
        self._call("DELETE", f"/api/devices/{device_id}", None, 200, 404)

    def _call(self, method: str, path: str, body: dict | None, *expected: int) -> int:
        headers = {"authorization": f"Bearer {self.token}", "content-type": "application/json"}
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.url.rstrip("/") + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                status = answer.status
        except urllib.error.HTTPError as refused:
            status = refused.code
        if status not in expected:
            raise SystemExit(f"{method} {path} returned status {status}. Does METER_TOKEN have the scope meter/write?")
        return status


class IotThings:
    """The IoT things of a stack."""

    def __init__(self, stack: str):
        self._iot = boto3.client("iot")
        found = boto3.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
        self.outputs = {output["OutputKey"]: output["OutputValue"] for output in found["Outputs"]}

    def add(self, device_id: str, folder: Path) -> Identity:
        """Creates a certificate for a thing. A failure leaves no active certificate."""
        self._iot.create_thing(thingName=device_id)
        made = self._iot.create_keys_and_certificate(setAsActive=False)
        arn, number = made["certificateArn"], made["certificateId"]
        try:
            # Files are written before activation: an active certificate always has its key.
            host = self._iot.describe_endpoint(endpointType="iot:Data-ATS")["endpointAddress"]
            key = made["keyPair"]["PrivateKey"]
            identity = Identity(device_id, root_ca(), made["certificatePem"], key, host, MQTT_PORT)
            identity.write(folder)
            self._iot.attach_policy(policyName=self.outputs["DevicePolicyName"], target=arn)
            self._iot.attach_thing_principal(thingName=device_id, principal=arn)
            self._iot.update_certificate(certificateId=number, newStatus="ACTIVE")
        except BaseException:
            self._delete_certificate(device_id, arn)
            raise
        return identity

    def certificates(self, device_id: str) -> list[str]:
        """The ARNs of the certificates of a device."""
        try:
            pages = self._iot.get_paginator("list_thing_principals").paginate(thingName=device_id)
            return [arn for page in pages for arn in page["principals"] if ":cert/" in arn]
        except self._iot.exceptions.ResourceNotFoundException:
            return []

    def revoke(self, device_id: str, certificates: list[str]) -> None:
        """Deletes certificates. AWS IoT closes their connections and refuses new ones."""
        for arn in certificates:
            self._delete_certificate(device_id, arn)

    def remove(self, device_id: str) -> None:
        self._iot.delete_thing(thingName=device_id)

    def _delete_certificate(self, device_id: str, arn: str) -> None:
        number = arn.rsplit("/", 1)[1]
        self._iot.update_certificate(certificateId=number, newStatus="INACTIVE")
        pages = self._iot.get_paginator("list_attached_policies").paginate(target=arn)
        for policy in [policy for page in pages for policy in page["policies"]]:
            self._iot.detach_policy(policyName=policy["policyName"], target=arn)
        if arn in self.certificates(device_id):
            self._iot.detach_thing_principal(thingName=device_id, principal=arn)
        self._iot.delete_certificate(certificateId=number, forceDelete=True)


def root_ca() -> str:
    """The root certificate of Amazon, from the certificates that botocore contains."""
    bundle = Path(botocore.__file__).with_name("cacert.pem").read_bytes()
    for certificate in x509.load_pem_x509_certificates(bundle):
        if certificate.subject.rfc4514_string() == ROOT_CA_SUBJECT:
            return certificate.public_bytes(Encoding.PEM).decode()
    raise SystemExit(f"botocore does not contain {ROOT_CA_SUBJECT}. Download it from https://www.amazontrust.com/repository/.")
