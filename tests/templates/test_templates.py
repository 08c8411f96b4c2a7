"""Static tests of the templates: each set of parameters renders to a valid template, and alarms and
dashboard reference existing metrics.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import unittest
from itertools import product
from pathlib import Path

from samcli.yamlhelper import yaml_parse

CHECKOUT = Path(__file__).resolve().parents[2]
TOOLS = CHECKOUT / ".venv/bin"
OBSERVABILITY = CHECKOUT / "infra/observability/template.yaml"
RUNBOOK = CHECKOUT / "docs/operations.md"

# Parameters that affect resources or their values.
PARAMETER_CHOICES = {
    "Environment": ["dev", "prod"],
    "Architecture": ["arm64", "x86_64"],
    "JwtIssuer": ["", "https://issuer.example"],
    "ApiConcurrency": ["0", "5"],
    "AlarmTopicArn": ["", "arn:aws:sns:us-east-1:123456789012:alarms"],
}
# AWS metrics in alarms and dashboard:
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/aws-services-cloudwatch-metrics.html
AWS_METRICS = {
    "AWS/SQS": {"ApproximateNumberOfMessagesVisible", "ApproximateAgeOfOldestMessage"},
    "AWS/Lambda": {"Errors", "Throttles", "Duration", "Invocations", "ConcurrentExecutions"},
    "AWS/ApiGateway": {"Count", "4xx", "5xx", "Latency"},
}


def emitted_metrics() -> dict[str, set[str]]:
    """The metrics that the code of each function emits."""
    found = {}
    for function in ("ingest", "watchdog", "provisioning"):
        files = (CHECKOUT / f"functions/{function}/src").rglob("*.rs")
        # Without the unit tests at the end of a file.
        sources = "".join(path.read_text().split("#[cfg(test)]\nmod")[0] for path in files)
        found[function] = set(re.findall(r'metrics\s*\.\s*(?:count|add)\(\s*"(\w+)"', sources))
    return found


def alarms() -> dict[str, dict]:
    """The properties of each alarm, by its name."""
    resources = yaml_parse(OBSERVABILITY.read_text())["Resources"]
    return {
        name: resource["Properties"]
        for name, resource in resources.items()
        if resource["Type"] == "AWS::CloudWatch::Alarm"
    }


def referenced_metrics() -> list[tuple[str, str, dict[str, str]]]:
    """Namespace, name and dimensions of each metric in alarms and dashboard."""
    found = []
    for properties in alarms().values():
        dimensions = {d["Name"]: d["Value"] for d in properties.get("Dimensions", [])}
        found.append((properties["Namespace"], properties["MetricName"], dimensions))
    document = yaml_parse(OBSERVABILITY.read_text())["Resources"]
    body = json.loads(document["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"])
    for widget in body["widgets"]:
        for namespace, name, *rest in widget["properties"]["metrics"]:
            pairs = [part for part in rest if isinstance(part, str)]
            found.append((namespace, name, dict(zip(pairs[::2], pairs[1::2], strict=True))))
    return found


class Metrics(unittest.TestCase):
    def test_alarms_and_dashboard_reference_existing_metrics(self):
        emits = emitted_metrics()
        for namespace, name, dimensions in referenced_metrics():
            with self.subTest(name):
                if namespace == "IotMeter":
                    self.assertIn(name, emits[dimensions["function"]])
                    self.assertEqual(list(dimensions), ["function"])
                else:
                    self.assertIn(name, AWS_METRICS[namespace])

    def test_dashboard_contains_every_metric_of_the_functions(self):
        shown = {name for namespace, name, _ in referenced_metrics() if namespace == "IotMeter"}
        for function, names in emitted_metrics().items():
            self.assertEqual(names - shown, set(), function)

    def test_each_alarm_references_the_runbook(self):
        headings = set(re.findall(r"^## (.+)$", RUNBOOK.read_text(), re.M))
        for name, properties in alarms().items():
            with self.subTest(name):
                chapter = re.search(r'\(docs/operations\.md, "(.+)"\)', properties["AlarmDescription"])
                self.assertIsNotNone(chapter)
                self.assertIn(chapter[1], headings)

    def test_duration_alarm_is_80_percent_of_the_timeout(self):
        resources = yaml_parse((CHECKOUT / "template.yaml").read_text())["Resources"]
        timeout_s = resources["IngestFunction"]["Properties"]["Timeout"]
        self.assertEqual(resources["Observability"]["Properties"]["Parameters"]["IngestDurationThresholdMs"], timeout_s * 800)


class IngestQueue(unittest.TestCase):
    queue = yaml_parse((CHECKOUT / "infra/stores/template.yaml").read_text())["Resources"]["IngestQueue"]["Properties"]

    def test_outage_of_two_days_creates_no_dead_letters(self):
        """A failed message is hidden for the visibility timeout before the next receive."""
        most = self.queue["RedrivePolicy"]["maxReceiveCount"] * self.queue["VisibilityTimeout"]
        self.assertGreaterEqual(most, 2 * 24 * 3600)
        self.assertGreaterEqual(self.queue["MessageRetentionPeriod"], most)

    def test_visibility_timeout_is_six_times_the_function_timeout(self):
        resources = yaml_parse((CHECKOUT / "template.yaml").read_text())["Resources"]
        timeout_s = resources["IngestFunction"]["Properties"]["Timeout"]
        self.assertEqual(self.queue["VisibilityTimeout"], 6 * timeout_s)


class Parameters(unittest.TestCase):
    def test_each_parameter_has_a_description_and_a_default(self):
        for name, parameter in yaml_parse((CHECKOUT / "template.yaml").read_text())["Parameters"].items():
            with self.subTest(name):
                self.assertTrue(parameter.get("Description"))
                self.assertIn("Default", parameter)

    def test_each_combination_renders(self):
        """cfn-lint checks each template with each set of parameters, in one process."""
        combinations = [dict(zip(PARAMETER_CHOICES, values, strict=True)) for values in product(*PARAMETER_CHOICES.values())]
        with tempfile.TemporaryDirectory() as folder:
            command = [TOOLS / "cfn-lint", "--non-zero-exit-code", "warning"]
            for number, values in enumerate(combinations):
                audience = {"JwtAudience": "https://meter.example"} if values["JwtIssuer"] else {}
                path = Path(folder) / f"{number}.json"
                pairs = [{"ParameterKey": k, "ParameterValue": v} for k, v in (values | audience).items()]
                path.write_text(json.dumps(pairs))
                command += ["--parameter-files", path]
            command += ["--", CHECKOUT / "template.yaml"]
            environment = os.environ | {"AWS_DEFAULT_REGION": "us-east-1"}
            done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


class Cost(unittest.TestCase):
    def test_documented_table_matches_the_model(self):
        computed = subprocess.run(
            [sys.executable, CHECKOUT / "infra/cost.py", "--table"], capture_output=True, text=True, check=True
        )
        self.assertIn(computed.stdout, (CHECKOUT / "docs/cost.md").read_text())

    def test_model_includes_every_alarm(self):
        sys.path.insert(0, str(CHECKOUT / "infra"))
        import cost

        self.assertEqual(cost.ALARM_COUNT, len(alarms()))

    def test_cost_grows_linearly_with_messages_and_at_most_linearly_in_total(self):
        sys.path.insert(0, str(CHECKOUT / "infra"))
        import cost

        one, two = cost.monthly_cost(cost.Fleet(1_000, 10)), cost.monthly_cost(cost.Fleet(2_000, 10))
        self.assertAlmostEqual(two["DynamoDB, messages"], 2 * one["DynamoDB, messages"])
        self.assertLess(sum(two.values()), 2 * sum(one.values()))


if __name__ == "__main__":
    sys.exit(unittest.main(verbosity=2))
