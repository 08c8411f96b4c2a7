"""The permissions of each function in template.yaml, with the names of deployed stores."""

import fnmatch
import re
from dataclasses import dataclass
from pathlib import Path

from recorder import timestream_table
from samcli.yamlhelper import yaml_parse

# Statements for calls that Lambda makes with the role, outside of the function's code.
LAMBDA_SERVICE_SIDS = {"Log", "Trace", "Queue"}
# Statements for calls that Timestream makes with the role: reports of rejected records.
TIMESTREAM_SERVICE_SIDS = {"RejectedRecordReports"}
PSEUDO_PARAMETERS = {"AWS::Partition": "aws", "AWS::Region": "us-east-1", "AWS::AccountId": "000000000000"}


@dataclass(frozen=True, order=True)
class Grant:
    """A permission: an action on the resources of a pattern."""

    action: str
    resource: str
    sid: str = ""

    def allows(self, action: str, resource: str) -> bool:
        return self.action == action and fnmatch.fnmatchcase(resource, self.resource)

    def __str__(self) -> str:
        return f"{self.action} on {self.resource} ({self.sid})"


class Template:
    def __init__(self, path: Path, outputs: dict[str, str]):
        document = yaml_parse(path.read_text())
        self._outputs = outputs
        self._parameters = document["Parameters"]
        self._conditions = document.get("Conditions", {})
        self._resources = document["Resources"]
        self._globals = document["Globals"]["Function"]
        self.functions = {
            resource["Metadata"]["BuildProperties"]["Binary"]: name
            for name, resource in self._resources.items()
            if resource["Type"] == "AWS::Serverless::Function"
        }

    def settings(self) -> dict[str, str]:
        variables = self._globals["Environment"]["Variables"]
        return {name: str(self._evaluate(value)) for name, value in variables.items()}

    def grants(self, binary: str) -> list[Grant]:
        """The permissions of a function's code, without those for Timestream."""
        properties = self._resources[self.functions[binary]]["Properties"]
        if "Policies" in properties:
            raise AssertionError(f"{binary}: SAM ignores Policies of a function with a Role")
        role, attribute = properties["Role"]["Fn::GetAtt"]
        assert attribute == "Arn"
        statements = _statements(self._resources[role]["Properties"]["Policies"])
        return [
            Grant(action, self._evaluate(resource), statement["Sid"])
            for statement in statements
            if statement["Sid"] not in LAMBDA_SERVICE_SIDS
            for action in _list(statement["Action"])
            for resource in _list(statement["Resource"])
        ]

    def wildcards(self, binary: str) -> list[str]:
        """The Sids of statements with a wildcard as resource or in an action."""
        return _wildcards(_statements(self._resources[self.role(binary)]["Properties"]["Policies"]))

    def role(self, binary: str) -> str:
        return self._resources[self.functions[binary]]["Properties"]["Role"]["Fn::GetAtt"][0]

    def roles(self) -> set[str]:
        return {self.role(binary) for binary in self.functions}

    def nested_parameters(self, stack: str) -> dict[str, str]:
        """The parameters of a nested stack; references to resources are their logical ids."""
        return {
            name: self._evaluate(value) if value.get("Ref") not in self._resources else value["Ref"]
            for name, value in self._resources[stack]["Properties"]["Parameters"].items()
        }

    def _evaluate(self, value):
        """Evaluates an intrinsic function of CloudFormation; other values are returned unchanged.
        """
        if not isinstance(value, dict):
            return value
        ((name, argument),) = value.items()
        if name == "Ref":
            return PSEUDO_PARAMETERS.get(argument) or self._parameters[argument]["Default"]
        if name == "Fn::GetAtt":
            return self._resolve_attribute(".".join(argument))
        if name == "Fn::Sub":
            return re.sub(r"\$\{([^}]+)\}", lambda match: self._resolve_reference(match[1]), argument)
        if name == "Fn::If":
            condition, yes, no = argument
            return self._evaluate(yes if self._evaluate_condition(self._conditions[condition]) else no)
        raise AssertionError(f"{name} is not supported")

    def _evaluate_condition(self, condition) -> bool:
        ((name, argument),) = condition.items()
        if name == "Fn::Equals":
            left, right = (str(self._evaluate(side)) for side in argument)
            return left == right
        if name == "Fn::Not":
            return not self._evaluate_condition(argument[0])
        raise AssertionError(f"{name} is not supported")

    def _resolve_reference(self, name: str) -> str:
        return self._resolve_attribute(name) if "." in name else str(self._evaluate({"Ref": name}))

    def _resolve_attribute(self, path: str) -> str:
        if ".Outputs." in path:
            return self._outputs[path.split(".Outputs.")[1]]
        return f"arn:aws:unknown:::{path}"


class TimestreamTemplate:
    """infra/timestream: the permissions that a role has with Timestream as the metric store."""

    def __init__(self, path: Path, parameters: dict[str, str]):
        self._parameters = parameters
        self._policies = [
            resource["Properties"]
            for resource in yaml_parse(path.read_text())["Resources"].values()
            if resource["Type"] == "AWS::IAM::Policy"
        ]

    def roles(self) -> set[str]:
        return {self._evaluate(role) for policy in self._policies for role in policy["Roles"]}

    def grants(self, role: str) -> list[Grant]:
        return [
            Grant(action, self._evaluate(resource), statement["Sid"])
            for statement in self._statements_of(role)
            if statement["Sid"] not in TIMESTREAM_SERVICE_SIDS
            for action in _list(statement["Action"])
            for resource in _list(statement["Resource"])
        ]

    def wildcards(self, role: str) -> list[str]:
        return _wildcards(self._statements_of(role))

    def _statements_of(self, role: str) -> list[dict]:
        return _statements([policy for policy in self._policies if role in map(self._evaluate, policy["Roles"])])

    def _evaluate(self, value):
        if not isinstance(value, dict):
            return value
        ((name, argument),) = value.items()
        if name == "Ref":
            return self._parameters[argument]
        if name == "Fn::GetAtt" and argument == ["Table", "Arn"]:
            return timestream_table(self._parameters["DatabaseName"], self._parameters["TableName"])
        if name == "Fn::Sub":
            return re.sub(r"\$\{([^}]+)\}", lambda match: (PSEUDO_PARAMETERS | self._parameters)[match[1]], argument)
        raise AssertionError(f"{name} is not supported")


def _statements(policies: list[dict]) -> list[dict]:
    found = [statement for policy in policies for statement in policy["PolicyDocument"]["Statement"]]
    assert all(statement["Effect"] == "Allow" for statement in found)
    return found


def _wildcards(statements: list[dict]) -> list[str]:
    return [
        statement["Sid"]
        for statement in statements
        if "*" in _list(statement["Resource"]) or any("*" in action for action in _list(statement["Action"]))
    ]


def _list(value) -> list:
    return value if isinstance(value, list) else [value]
