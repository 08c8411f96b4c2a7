"""The examples of infra/openapi.yaml, and the calls of older clients, against its schemas."""

import json
import re
import sys
import unittest
from pathlib import Path

from openapi_contract import Contract, values
from openapi_spec_validator import validate

CHECKOUT = Path(__file__).resolve().parents[2]
CONTRACT = Contract()
PROBLEM = "application/problem+json"
# Values for the placeholders of recorded calls (functions/core/http/src/testing/recorded.rs).
PLACEHOLDERS = {
    "id": "019cd773-4a00-7b3e-9c41-5d2f8e6a1b70",
    "time": "2026-03-10T12:00:00.25Z",
    "text": "text",
    "number": 1,
    "list": [],
}


class Examples(unittest.TestCase):
    maxDiff = None

    def assert_valid(self, location: tuple[str, ...], content: dict):
        """Each media type has an example, and its schema accepts all of them."""
        for media_type in content:
            found = CONTRACT.examples((*location, media_type))
            self.assertTrue(found, f"{media_type} has no example")
            for name, example in found.items():
                for value in values(media_type, example):
                    self.assertEqual(CONTRACT.errors((*location, media_type), value), [], f"{media_type}, {name}")

    def test_document_follows_the_openapi_specification(self):
        validate(CONTRACT.document)

    def test_each_request_body_has_valid_examples(self):
        for name, location, operation in CONTRACT.operations():
            if "requestBody" in operation:
                with self.subTest(name):
                    self.assert_valid((*location, "requestBody", "content"), operation["requestBody"]["content"])

    def test_each_response_has_valid_examples(self):
        for name, location, _ in CONTRACT.routes():
            for status, (found, response) in CONTRACT.responses(location).items():
                with self.subTest(f"{name} {status}"):
                    if status in ("204", "304"):
                        self.assertNotIn("content", response)
                    else:
                        self.assert_valid((*found, "content"), response["content"])

    def test_each_problem_example_has_the_status_of_its_response(self):
        for name, location, _ in CONTRACT.routes():
            for status, (found, response) in CONTRACT.responses(location).items():
                if PROBLEM not in response.get("content", {}):
                    continue
                for example in CONTRACT.examples((*found, "content", PROBLEM)).values():
                    with self.subTest(f"{name} {status}"):
                        self.assertEqual(example["status"], int(status))
                        self.assertEqual(example["error"], example["detail"])

    def test_no_response_is_a_default(self):
        for name, location, _ in CONTRACT.routes():
            with self.subTest(name):
                self.assertNotIn("default", CONTRACT.responses(location))

    def test_each_operation_has_the_error_responses_of_its_inputs(self):
        for name, location, operation in CONTRACT.routes():
            given = CONTRACT.parameters(location)
            expected = {"429", "500", "503"}
            if operation["security"]:
                expected |= {"401", "403"}
            if "requestBody" in operation:
                expected |= {"400", "413", "415"}
            if given & {"limit", "cursor", "purge"}:
                expected |= {"400"}
            if "If-Match" in given:
                expected |= {"412"}
            if "If-None-Match" in given:
                expected |= {"304"}
            if "Idempotency-Key" in given:
                expected |= {"422"}
            with self.subTest(name):
                found = set(CONTRACT.responses(location))
                self.assertEqual(expected - found, set())
                # The others depend on what is stored, or on the route.
                others = {"200", "201", "202", "204", "404", "405", "409"}
                self.assertEqual(found - expected - others, set())

    def test_a_list_links_to_its_next_page(self):
        for name, location, operation in CONTRACT.operations():
            with self.subTest(name):
                success = CONTRACT.responses(location).get("200", (None, {}))[1]
                self.assertEqual("cursor" in CONTRACT.parameters(location), "Link" in success.get("headers", {}))

    def test_no_value_is_null(self):
        """CloudFormation rejects a template with a null value, and template.yaml includes the
        document.
        """

        def check(node, path):
            self.assertIsNotNone(node, path)
            children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
            for key, child in children:
                check(child, f"{path}/{key}")

        check(CONTRACT.document, "")


class RecordedCalls(unittest.TestCase):
    """The recorded calls of older clients (tests/older-client)."""

    maxDiff = None

    def calls(self):
        remembered = {}
        for path in sorted((CHECKOUT / "tests/older-client").glob("*.json")):
            call = json.loads(path.read_text())
            answer = {key: _filled(call["response"][key], remembered) for key in call["response"]}
            request = call["request"]
            yield path.name, request["method"], request["path"].split("?")[0], request.get("body"), answer

    def test_each_answer_is_a_documented_response(self):
        for name, method, path, _, answer in self.calls():
            with self.subTest(name):
                _, location, _ = CONTRACT.route_of(method, path)
                self.assertIn(str(answer["status"]), CONTRACT.responses(location))

    def test_each_body_is_valid(self):
        for name, method, path, body, answer in self.calls():
            with self.subTest(name):
                _, location, _ = CONTRACT.route_of(method, path)
                status = answer["status"]
                if body is not None and status < 400:
                    media_type = (*location, "requestBody", "content", "application/json")
                    self.assertEqual(CONTRACT.errors(media_type, body), [])
                found = answer.get("body", answer.get("contains"))
                if found is not None:
                    location, _ = CONTRACT.responses(location)[str(status)]
                    self.assertEqual(CONTRACT.errors((*location, "content", "application/json"), found), [])

    def test_the_example_has_the_fields_of_each_answer(self):
        # The keys of a configuration are free, and `quality` and the like are optional.
        free = {"getConfig", "putConfig"}
        for name, method, path, _, answer in self.calls():
            found = answer.get("body", answer.get("contains"))
            _, location, operation = CONTRACT.route_of(method, path)
            if found and operation.get("operationId") not in free:
                with self.subTest(name):
                    location, _ = CONTRACT.responses(location)[str(answer["status"])]
                    example = next(iter(CONTRACT.examples((*location, "content", "application/json")).values()))
                    (example,) = values("application/json", example)
                    self.assertEqual(_fields(example), _fields(found))


def _fields(value) -> set[str]:
    """The names of the fields of an object, or of the first one of a list."""
    return set(value[0] if isinstance(value, list) else value)


def _filled(template, remembered: dict):
    """A recorded answer with values in place of its placeholders."""
    if isinstance(template, list):
        return [_filled(item, remembered) for item in template]
    if isinstance(template, dict):
        filled = {key: _filled(value, remembered) for key, value in template.items()}
        # A message id contains no dashes.
        return filled | ({"mid": filled["mid"].replace("-", "")} if "mid" in filled else {})
    if not isinstance(template, str):
        return template
    if placeholder := re.fullmatch(r"<(\w+)(?::(\w+))?>", template):
        value = PLACEHOLDERS[placeholder[1]]
        if placeholder[2]:
            remembered[placeholder[2]] = value
        return value
    if name := re.fullmatch(r"{(\w+)}", template):
        return remembered[name[1]]
    return template


if __name__ == "__main__":
    sys.exit(unittest.main(verbosity=2))
