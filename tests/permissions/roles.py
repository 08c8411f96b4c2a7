"""What template.yaml lets each function do, with the names of deployed stores in it."""

import fnmatch
import re
from dataclasses import dataclass
from pathlib import Path

from samcli.yamlhelper import yaml_parse

# What Lambda does with the role before and after the function's own code.
LAMBDAS_OWN = {"Log", "Trace", "Queue"}
PSEUDO = {"AWS::Partition": "aws", "AWS::Region": "us-east-1", "AWS::AccountId": "000000000000"}


@dataclass(frozen=True, order=True)
class Grant:
    """An action on resources of a pattern."""

    action: str
    resource: str
    sid: str = ""

    def covers(self, action: str, resource: str) -> bool:
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
        return {name: str(self._value(value)) for name, value in variables.items()}

    def grants(self, binary: str) -> list[Grant]:
        """Everything that a function's own code may do."""
        properties = self._resources[self.functions[binary]]["Properties"]
        if "Policies" in properties:
            raise AssertionError(f"{binary}: SAM reads Policies only without a Role, and then adds more than these")
        role, attribute = properties["Role"]["Fn::GetAtt"]
        assert attribute == "Arn"
        found = []
        for policy in self._resources[role]["Properties"]["Policies"]:
            for statement in policy["PolicyDocument"]["Statement"]:
                if statement["Effect"] != "Allow" or statement["Sid"] in LAMBDAS_OWN:
                    continue
                for action in _list(statement["Action"]):
                    for resource in _list(statement["Resource"]):
                        found.append(Grant(action, self._value(resource), statement["Sid"]))
        return found

    def wildcards(self, binary: str) -> list[str]:
        """Sids of statements on every resource, or of actions with a wildcard."""
        role, _ = self._resources[self.functions[binary]]["Properties"]["Role"]["Fn::GetAtt"]
        return [
            statement["Sid"]
            for policy in self._resources[role]["Properties"]["Policies"]
            for statement in policy["PolicyDocument"]["Statement"]
            if "*" in _list(statement["Resource"]) or any("*" in action for action in _list(statement["Action"]))
        ]

    def roles(self) -> set[str]:
        return {
            self._resources[name]["Properties"]["Role"]["Fn::GetAtt"][0] for name in self.functions.values()
        }

    def _value(self, value):
        """A text, a number, or a function of CloudFormation on the way to one."""
        if not isinstance(value, dict):
            return value
        ((name, argument),) = value.items()
        if name == "Ref":
            return PSEUDO.get(argument) or self._parameters[argument]["Default"]
        if name == "Fn::GetAtt":
            return self._attribute(".".join(argument))
        if name == "Fn::Sub":
            return re.sub(r"\$\{([^}]+)\}", lambda match: self._name(match[1]), argument)
        if name == "Fn::If":
            condition, yes, no = argument
            return self._value(yes if self._holds(self._conditions[condition]) else no)
        raise AssertionError(f"cannot evaluate {name} here")

    def _holds(self, condition) -> bool:
        ((name, argument),) = condition.items()
        if name == "Fn::Equals":
            left, right = (str(self._value(side)) for side in argument)
            return left == right
        if name == "Fn::Not":
            return not self._holds(argument[0])
        raise AssertionError(f"cannot evaluate {name} here")

    def _name(self, name: str) -> str:
        return self._attribute(name) if "." in name else str(self._value({"Ref": name}))

    def _attribute(self, path: str) -> str:
        if ".Outputs." in path:
            return self._outputs[path.split(".Outputs.")[1]]
        return f"arn:aws:unknown:::{path}"


def _list(value) -> list:
    return value if isinstance(value, list) else [value]
