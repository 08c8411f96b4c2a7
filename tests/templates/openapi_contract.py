"""The operations of infra/openapi.yaml with their responses, schemas and examples."""

import copy
import json
import re
from functools import cached_property
from pathlib import Path

import http_api
from openapi_schema_validator import OAS30Validator, oas30_format_checker
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4
from samcli.yamlhelper import yaml_parse

FILE = Path(__file__).resolve().parents[2] / "infra/openapi.yaml"
DEFAULT_ROUTE = ("paths", "/$default", http_api.ANY_METHOD)
BASE = "urn:openapi"

# Keys that lead to a part of the document.
Location = tuple[str | int, ...]


class Contract:
    """A document in which each part has a location."""

    def __init__(self, document: dict | None = None):
        self.document = yaml_parse(FILE.read_text()) if document is None else document

    def resolve(self, location: Location) -> tuple[Location, dict]:
        """The part at a location, and its location after references are followed."""
        found = self.document
        for key in location:
            found = found[key]
        if isinstance(found, dict) and "$ref" in found:
            return self.resolve(tuple(found["$ref"].removeprefix("#/").split("/")))
        return location, found

    def operations(self) -> list[tuple[str, Location, dict]]:
        """Name, location and content of each operation. The default route is not an operation of
        OpenAPI.
        """
        return [
            (f"{method.upper()} {path}", ("paths", path, method), operation)
            for path, item in self.document["paths"].items()
            for method, operation in item.items()
            if method in http_api.METHODS
        ]

    def routes(self) -> list[tuple[str, Location, dict]]:
        """The operations and the default route."""
        return [*self.operations(), ("$default", DEFAULT_ROUTE, self.resolve(DEFAULT_ROUTE)[1])]

    def route_of(self, method: str, path: str) -> tuple[str, Location, dict]:
        """The route that a request reaches."""
        for name, location, operation in self.operations():
            pattern = re.sub(r"\\{\w+\\\+\\}", ".+", re.escape(location[1]))
            pattern = re.sub(r"\\{\w+\\}", "[^/]+", pattern)
            if location[2].upper() == method and re.fullmatch(pattern, path):
                return name, location, operation
        return self.routes()[-1]

    def responses(self, location: Location) -> dict[str, tuple[Location, dict]]:
        """Location and content of each response of an operation, by its status."""
        _, found = self.resolve((*location, "responses"))
        return {status: self.resolve((*location, "responses", status)) for status in found}

    def parameters(self, location: Location) -> set[str]:
        """The names of the parameters of an operation, without those of its path."""
        given = self.resolve(location)[1].get("parameters", [])
        return {self.resolve((*location, "parameters", number))[1]["name"] for number in range(len(given))}

    def examples(self, location: Location) -> dict[str, object]:
        """The examples of the media type at a location, by their names."""
        _, media = self.resolve(location)
        if "example" in media:
            return {"example": media["example"]}
        names = media.get("examples", {})
        return {name: self.resolve((*location, "examples", name))[1]["value"] for name in names}

    def errors(self, media_type: Location, value) -> list[str]:
        """The errors of a value by the schema of the media type at a location.

        Stricter than the document: a property that a schema does not define is an error, unless the
        schema sets `additionalProperties`.
        """
        pointer = "/".join(key.replace("~", "~0").replace("/", "~1") for key in (*media_type, "schema"))
        validator = OAS30Validator(
            {"$ref": f"{BASE}#/{pointer}"}, registry=self._registry, format_checker=oas30_format_checker
        )
        return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]

    @cached_property
    def _registry(self) -> Registry:
        strict = self._strict(copy.deepcopy(self.document))
        return Registry().with_resource(BASE, Resource(contents=strict, specification=DRAFT4))

    def _strict(self, node):
        if isinstance(node, list):
            return [self._strict(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "allOf" in node:
            node = self._merged(node)
        if isinstance(node.get("properties"), dict):
            node.setdefault("additionalProperties", False)
        return {key: self._strict(value) for key, value in node.items()}

    def _merged(self, schema: dict) -> dict:
        """One schema instead of `allOf`, which with `additionalProperties: false` would accept
        nothing.
        """
        merged = {key: value for key, value in schema.items() if key != "allOf"}
        for part in schema["allOf"]:
            if "$ref" in part:
                _, part = self.resolve(tuple(part["$ref"].removeprefix("#/").split("/")))
            for key, value in copy.deepcopy(part).items():
                if key == "properties":
                    merged[key] = merged.get(key, {}) | value
                elif key == "required":
                    merged[key] = merged.get(key, []) + value
                else:
                    merged[key] = value
        return merged


def values(media_type: str, text) -> list:
    """The values of a body or an example: several for a type with a value on each line. JSON in a
    string is parsed.
    """
    if media_type == "application/x-ndjson":
        return [json.loads(line) for line in text.splitlines()]
    if media_type.endswith("json") and isinstance(text, str):
        return [json.loads(text)]
    return [text]
