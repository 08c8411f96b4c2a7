"""Each command in the console blocks of README.md succeeds, as a person pastes it.

All commands run in order, in one shell, in the checkout. Substituted are only:

- `make run VARIABLE=VALUE`: the system starts with these variables, without installation and build;
- the default ports of `make run`, by free ports (`running_system.PORT_VARIABLES`);
- `.local`, by a temporary data directory.

An HTTP status of 400 or higher is a failure of `curl`. A query that follows a publication in its
block is repeated until its result is not empty, since a message becomes readable within seconds.
JSON output that the document shows may have other values, but no fields that the actual output does
not have.
"""

import json
import re
import sys
import tempfile
import time
import unittest
from pathlib import Path

from console import Command, blocks, differences, substitute
from running_system import CHECKOUT, TIMEOUT_S, RunningSystem, Shell

# Commands that are not run, and why.
NOT_RUN = {
    r"git clone ": "requires a network",
    r"sudo |apt-get |make setup|local/setup": "installs packages",
    r"docker ": "requires a Docker engine",
    r"sam |make deploy-local": "deploys; tests/deployed runs the deployment",
    r"make (test|lint|audit|soak|bench|fuzz)": "runs tests for minutes",
    r"make (watch-notifications|clean|reset)": "does not end, or removes files of the checkout",
    r".*cargo[- ]lambda .*watch|cargo run ": "does not end",
    r".*127\.0\.0\.1:9100": "queries the function that cargo-lambda serves",
}
MAKE_RUN = re.compile(r"make run\b([^#&]*)")


def reason_not_run(command: str) -> str | None:
    return next((reason for pattern, reason in NOT_RUN.items() if re.match(pattern, command)), None)


class Readme(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory(prefix="iot-meter-readme-")))
        cls.data = folder / "data"
        cls.system = RunningSystem(cls.data)
        cls.addClassCleanup(cls.system.close)
        cls.shell = Shell(cls.system.env)
        cls.addClassCleanup(cls.shell.close)
        cls.shell.run('set -o pipefail; curl() { command curl --fail-with-body "$@"; }')

    def test_each_command_succeeds(self):
        for commands in blocks((CHECKOUT / "README.md").read_text()):
            has_published = False
            for command in commands:
                with self.subTest(line=command.line):
                    self.run_command(command, has_published)
                has_published |= "mosquitto_pub" in command.text

    def run_command(self, command: Command, has_published: bool) -> None:
        if reason_not_run(command.text):
            return
        if start := MAKE_RUN.match(command.text):
            self.system.start(**dict(pair.split("=", 1) for pair in start[1].split()))
            return
        text = substitute(command.text, self.system.ports, str(self.data))
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            status, output = self.shell.run(text)
            is_empty = has_published and "curl" in text and output.strip() in ("", "[]")
            if status == 0 and not is_empty or time.monotonic() > deadline or not has_published:
                break
            time.sleep(0.2)
        context = f"README.md:{command.line}: {command.text}\nrun as: {text}\nexit status {status}, output:\n{output}"
        self.assertEqual(status, 0, context)
        self.assertFalse(is_empty, context)
        try:
            documented, actual = json.loads(command.output), json.loads(output)
        except ValueError:
            return
        self.assertEqual([], differences(documented, actual), context)


class Console(unittest.TestCase):
    def test_commands_have_continuation_lines_and_output(self):
        document = "# A\n```console\n$ one \\\n    two\nout\n$ three # why\n```\n```sh\n$ no\n```\n"
        expected = [[Command("one \\\n    two", 3, "out\n"), Command("three # why", 6)]]
        self.assertEqual(expected, blocks(document))

    def test_default_ports_and_data_directory_are_substituted(self):
        text = "curl http://127.0.0.1:8080/a?v=1512.5 -p 8080 .local/x ./.local 18080"
        expected = "curl http://127.0.0.1:1/a?v=1512.5 -p 1 /d/x ./.local 18080"
        self.assertEqual(expected, substitute(text, {8080: 1, 1512: 2}, "/d"))

    def test_missing_fields_are_reported(self):
        documented = [{"a": 1, "b": {"c": 2}, "d": []}]
        self.assertEqual([], differences(documented, [{"a": 2, "b": {"c": 0, "x": 0}, "d": [1]}]))
        self.assertEqual(["$[0].a is missing", "$[0].b is int, documented is dict"], differences(documented, [{"b": 1, "d": []}]))


if __name__ == "__main__":
    sys.exit(unittest.main(verbosity=2))
