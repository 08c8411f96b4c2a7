"""The examples of infra/openapi.yaml, and the calls of older clients, against its schemas."""

import json
import re
import sys
import unittest
from pathlib import Path

import http_api
from openapi_examples import Schemas, parse, resolve
from openapi_spec_validator import validate
from samcli.yamlhelper import yaml_parse

CHECKOUT = Path(__file__).resolve().parents[2]
DOCUMENT = yaml_parse((CHECKOUT / "infra/openapi.yaml").read_text())
SCHEMAS = Schemas(DOCUMENT)
PROBLEM = "application/problem+json"
# What an older client must get where a recorded call has a placeholder (functions/core/src/http/testing/recorded.rs).
PLACEHOLDERS = {
    "id": "019cd773-4a00-7b3e-9c41-5d2f8e6a1b70",
    "time": "2026-03-10T12:00:00.25Z",
    "text": "text",
    "number": 1,
    "list": [],
}


def operations() -> list[tuple[str, tuple[str, ...], dict]]:
    """Name, location and content of each operation. The default route is no operation of OpenAPI."""
    found = []
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            if method in http_api.METHODS:
                found.append((f"{method.upper()} {path}", ("paths", path, method), operation))
    return found


def every_route() -> list[tuple[str, tuple[str, ...], dict]]:
    default = ("paths", "/$default", http_api.ANY_METHOD)
    return [*operations(), ("$default", default, resolve(DOCUMENT, default)[1])]


def responses(location: tuple[str, ...]) -> dict[str, tuple[tuple[str, ...], dict]]:
    """Location and content of each response of an operation, by its status."""
    _, found = resolve(DOCUMENT, (*location, "responses"))
    return {status: resolve(DOCUMENT, (*location, "responses", status)) for status in found}


def parameters(location: tuple[str, ...], operation: dict) -> set[str]:
    """The names of the parameters of an operation, without those of its path."""
    given = operation.get("parameters", [])
    return {resolve(DOCUMENT, (*location, "parameters", number))[1]["name"] for number in range(len(given))}


def examples(location: tuple[str, ...], media: dict) -> dict[str, object]:
    """The examples of a media type by their names."""
    if "example" in media:
        return {"example": media["example"]}
    names = media.get("examples", {})
    return {name: resolve(DOCUMENT, (*location, "examples", name))[1]["value"] for name in names}


class Examples(unittest.TestCase):
    maxDiff = None

    def assert_valid(self, location: tuple[str, ...], content: dict):
        """Each media type has an example, and its schema accepts all of them."""
        for media_type, media in content.items():
            found = examples((*location, media_type), media)
            self.assertTrue(found, f"{media_type} has no example")
            for name, example in found.items():
                for value in parse(media_type, example):
                    errors = SCHEMAS.errors((*location, media_type, "schema"), value)
                    self.assertEqual(errors, [], f"{media_type}, {name}")

    def test_document_follows_the_openapi_specification(self):
        validate(DOCUMENT)

    def test_each_request_body_has_valid_examples(self):
        for name, location, operation in operations():
            if "requestBody" in operation:
                with self.subTest(name):
                    self.assert_valid((*location, "requestBody", "content"), operation["requestBody"]["content"])

    def test_each_response_has_valid_examples(self):
        for name, location, _ in every_route():
            for status, (found, response) in responses(location).items():
                with self.subTest(f"{name} {status}"):
                    if status in ("204", "304"):
                        self.assertNotIn("content", response)
                    else:
                        self.assert_valid((*found, "content"), response["content"])

    def test_each_problem_example_has_the_status_of_its_response(self):
        for name, location, _ in every_route():
            for status, (found, response) in responses(location).items():
                media = response.get("content", {}).get(PROBLEM, {})
                for example in examples((*found, "content", PROBLEM), media).values():
                    with self.subTest(f"{name} {status}"):
                        self.assertEqual(example["status"], int(status))
                        self.assertEqual(example["error"], example["detail"])

    def test_no_response_is_a_default(self):
        for name, location, _ in every_route():
            with self.subTest(name):
                self.assertNotIn("default", responses(location))

    def test_each_operation_has_the_responses_of_what_it_accepts(self):
        for name, location, operation in every_route():
            given = parameters(location, operation)
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
                found = set(responses(location))
                self.assertEqual(expected - found, set())
                # The others depend on what is stored, or on the route.
                others = {"200", "201", "202", "204", "404", "405", "409"}
                self.assertEqual(found - expected - others, set())

    def test_a_list_links_to_its_next_page(self):
        for name, location, operation in operations():
            with self.subTest(name):
                success = responses(location).get("200", (None, {}))[1]
                self.assertEqual("cursor" in parameters(location, operation), "Link" in success.get("headers", {}))

    def test_no_value_is_null(self):
        """CloudFormation rejects a template with a null value, and template.yaml includes the document."""

        def check(node, path):
            self.assertIsNotNone(node, path)
            children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
            for key, child in children:
                check(child, f"{path}/{key}")

        check(DOCUMENT, "")


class RecordedCalls(unittest.TestCase):
    """The calls of older clients (tests/older-client), which tests hold against the code."""

    maxDiff = None

    def calls(self):
        remembered = {}
        for path in sorted((CHECKOUT / "tests/older-client").glob("*.json")):
            call = json.loads(path.read_text())
            answer = {key: _filled(call["answer"][key], remembered) for key in call["answer"]}
            request = call["request"]
            yield path.name, request["method"], request["path"].split("?")[0], request.get("body"), answer

    def test_each_answer_is_a_documented_response(self):
        for name, method, path, _, answer in self.calls():
            with self.subTest(name):
                _, location = self.operation(method, path)
                self.assertIn(str(answer["status"]), responses(location))

    def test_each_body_is_valid(self):
        for name, method, path, body, answer in self.calls():
            with self.subTest(name):
                _, location = self.operation(method, path)
                status = answer["status"]
                if body is not None and status < 400:
                    schema = (*location, "requestBody", "content", "application/json", "schema")
                    self.assertEqual(SCHEMAS.errors(schema, body), [])
                found = answer.get("body", answer.get("contains"))
                if found is not None:
                    location, _ = responses(location)[str(status)]
                    self.assertEqual(SCHEMAS.errors((*location, "content", "application/json", "schema"), found), [])

    def test_the_example_has_the_fields_of_each_answer(self):
        # The keys of a configuration are free, and `quality` and the like are optional.
        free = {"getConfig", "putConfig"}
        for name, method, path, _, answer in self.calls():
            found = answer.get("body", answer.get("contains"))
            operation, location = self.operation(method, path)
            if found and operation.get("operationId") not in free:
                with self.subTest(name):
                    location, response = responses(location)[str(answer["status"])]
                    location = (*location, "content", "application/json")
                    example = next(iter(examples(location, resolve(DOCUMENT, location)[1]).values()))
                    (example,) = parse("application/json", example)
                    self.assertEqual(_fields(example), _fields(found))

    def operation(self, method: str, path: str) -> tuple[dict, tuple[str, ...]]:
        """The operation that a request reaches, else the default route."""
        for _, location, operation in operations():
            pattern = re.sub(r"\\{\w+\\\+\\}", ".+", re.escape(location[1]))
            pattern = re.sub(r"\\{\w+\\}", "[^/]+", pattern)
            if location[2].upper() == method and re.fullmatch(pattern, path):
                return operation, location
        location = ("paths", "/$default", http_api.ANY_METHOD)
        return resolve(DOCUMENT, location)[1], location


def _fields(value) -> set[str]:
    """The names of the fields of an object, or of the first one of a list."""
    return set(value[0] if isinstance(value, list) else value)


def _filled(template, remembered: dict):
    """A recorded answer with values in place of its placeholders."""
    if isinstance(template, list):
        return [_filled(item, remembered) for item in template]
    if isinstance(template, dict):
        filled = {key: _filled(value, remembered) for key, value in template.items()}
        # A message id has no dashes.
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
