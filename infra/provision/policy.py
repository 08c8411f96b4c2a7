"""The device policy of ../devices/template.yaml: what it allows, and the same as an access list of Mosquitto."""

import fnmatch
from dataclasses import dataclass
from pathlib import Path

import yaml

TEMPLATE = Path(__file__).resolve().parents[1] / "devices/template.yaml"
THING = "${iot:Connection.Thing.ThingName}"
BASIC_INGEST_PREFIX = "topic/$aws/rules/"


@dataclass(frozen=True)
class Permission:
    """An action on a resource without its ARN's beginning: `iot:Publish` on `topic/iot/${…}/hello`."""

    action: str
    resource: str


class _Loader(yaml.SafeLoader):
    """Takes CloudFormation's short functions for their arguments."""


def _argument(loader, _suffix, node):
    if isinstance(node, yaml.ScalarNode):
        return loader.construct_scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node)
    return loader.construct_mapping(node)


_Loader.add_multi_constructor("!", _argument)


def device_permissions(template: Path = TEMPLATE) -> list[Permission]:
    """Everything that a device may do. A statement that is no plain permission is an error."""
    document = yaml.load(template.read_text(), _Loader)
    permissions = []
    for statement in document["Resources"]["DevicePolicy"]["Properties"]["PolicyDocument"]["Statement"]:
        if statement["Effect"] != "Allow":
            raise ValueError("only Allow can be told to Mosquitto")
        for action in _list(statement["Action"]):
            for resource in _list(statement["Resource"]):
                # arn:partition:iot:region:account:resource, each of the first by a variable with colons in it.
                place = resource.split("${AWS::AccountId}:", 1)[1].replace("${!", "${")
                permissions.append(Permission(action, place))
    return permissions


def allows(permissions: list[Permission], thing: str, action: str, resource: str) -> bool:
    """Whether AWS IoT would let the thing do it."""
    return any(
        permission.action == action and fnmatch.fnmatchcase(resource, permission.resource.replace(THING, thing))
        for permission in permissions
    )


def mosquitto_acl(permissions: list[Permission]) -> str:
    """The permissions as Mosquitto's `acl_file`, for clients whose user name is their certificate's and so their id.

    Mosquitto asks what may be received when it delivers, and not what may be subscribed to; and it has no permission to retain
    apart from the one to publish. Basic Ingest it has not at all. A permission of any other kind is an error.
    """
    lines = []
    published, received, subscribed, retained = set(), set(), set(), set()
    for permission in permissions:
        kind, _, topic = permission.resource.partition("/")
        if permission.resource.startswith(BASIC_INGEST_PREFIX):
            continue
        match (permission.action, kind):
            case ("iot:Connect", "client") if topic == THING:
                pass  # use_username_as_clientid
            case ("iot:Publish", "topic"):
                published.add(topic)
                lines.append(f"pattern write {_pattern(topic)}")
            case ("iot:Receive", "topic"):
                received.add(topic)
                lines.append(f"pattern read {_pattern(topic)}")
            case ("iot:Subscribe", "topicfilter"):
                subscribed.add(topic)
            case ("iot:RetainPublish", "topic"):
                retained.add(topic)
            case _:
                raise ValueError(f"Mosquitto has no {permission.action} on {permission.resource}")
    if subscribed != received or not retained <= published:
        raise ValueError("Mosquitto lets subscribe to what may be received, and retain what may be published")
    return "\n".join(lines) + "\n"


def _pattern(topic: str) -> str:
    pattern = topic.replace(THING, "%u")
    if "$" in pattern or "*" in pattern or "%u" not in pattern:
        raise ValueError(f"cannot be told to Mosquitto: {topic}")
    return pattern


def _list(value) -> list:
    return value if isinstance(value, list) else [value]
