"""Converts the device policy of ../devices/template.yaml to an access list of Mosquitto."""

import fnmatch
from dataclasses import dataclass
from pathlib import Path

import yaml

TEMPLATE = Path(__file__).resolve().parents[1] / "devices/template.yaml"
THING = "${iot:Connection.Thing.ThingName}"
BASIC_INGEST_PREFIX = "topic/$aws/rules/"


@dataclass(frozen=True)
class Permission:
    """An allowed action on a resource without the prefix of its ARN: `topic/iot/${…}/hello`."""

    action: str
    resource: str


class _Loader(yaml.SafeLoader):
    """Replaces the short forms of CloudFormation functions by their arguments."""


def _argument(loader, _suffix, node):
    if isinstance(node, yaml.ScalarNode):
        return loader.construct_scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node)
    return loader.construct_mapping(node)


_Loader.add_multi_constructor("!", _argument)


def device_permissions(template: Path = TEMPLATE) -> list[Permission]:
    """Returns the permissions of a device. Raises ValueError for a statement other than Allow."""
    document = yaml.load(template.read_text(), _Loader)
    permissions = []
    for statement in document["Resources"]["DevicePolicy"]["Properties"]["PolicyDocument"]["Statement"]:
        if statement["Effect"] != "Allow":
            raise ValueError("Mosquitto supports Allow statements only")
        for action in _list(statement["Action"]):
            for resource in _list(statement["Resource"]):
                # arn:partition:iot:region:account:resource; the variables contain colons.
                place = resource.split("${AWS::AccountId}:", 1)[1].replace("${!", "${")
                permissions.append(Permission(action, place))
    return permissions


def allows(permissions: list[Permission], thing: str, action: str, resource: str) -> bool:
    """Whether AWS IoT allows the action for the thing."""
    return any(
        permission.action == action and fnmatch.fnmatchcase(resource, permission.resource.replace(THING, thing))
        for permission in permissions
    )


def mosquitto_acl(permissions: list[Permission]) -> str:
    """Returns an `acl_file` of Mosquitto for clients with their device id as user name.

    Mosquitto checks received messages instead of subscriptions, has no separate permission to
    retain, and has no Basic Ingest. Raises ValueError for permissions that it cannot represent.
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
                raise ValueError(f"Mosquitto does not support {permission.action} on {permission.resource}")
    if subscribed != received or not retained <= published:
        raise ValueError("Mosquitto requires equal topics to subscribe and receive, and may retain what it may publish")
    return "\n".join(lines) + "\n"


def _pattern(topic: str) -> str:
    pattern = topic.replace(THING, "%u")
    if "$" in pattern or "*" in pattern or "%u" not in pattern:
        raise ValueError(f"Mosquitto does not support the topic {topic}")
    return pattern


def _list(value) -> list:
    return value if isinstance(value, list) else [value]
