"""Validates values against the schemas of an OpenAPI 3.0 document, more strictly than the document: a property that a
schema does not define is an error, unless the schema sets `additionalProperties`."""

import copy
import json

from openapi_schema_validator import OAS30Validator, oas30_format_checker
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4

BASE = "urn:openapi"


class Schemas:
    """The schemas of a document by their location in it, which is a sequence of keys."""

    def __init__(self, document: dict):
        self._document = _strict(copy.deepcopy(document), document)
        self._registry = Registry().with_resource(BASE, Resource(contents=self._document, specification=DRAFT4))

    def errors(self, location: tuple[str, ...], value) -> list[str]:
        """What is wrong with a value; empty if the schema at the location accepts it."""
        pointer = "/".join(key.replace("~", "~0").replace("/", "~1") for key in location)
        validator = OAS30Validator(
            {"$ref": f"{BASE}#/{pointer}"}, registry=self._registry, format_checker=oas30_format_checker
        )
        return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]


def resolve(document: dict, location: tuple[str | int, ...]) -> tuple[tuple[str | int, ...], dict]:
    """What is at a location, and where it is after references are followed."""
    found = document
    for key in location:
        found = found[key]
    if isinstance(found, dict) and "$ref" in found:
        return resolve(document, tuple(found["$ref"].removeprefix("#/").split("/")))
    return location, found


def parse(media_type: str, example) -> list:
    """The values of an example: several for a type with a value on each line. JSON in a string is parsed."""
    if media_type == "application/x-ndjson":
        return [json.loads(line) for line in example.splitlines()]
    if media_type.endswith("json") and isinstance(example, str):
        return [json.loads(example)]
    return [example]


def _strict(node, document: dict):
    if isinstance(node, list):
        return [_strict(item, document) for item in node]
    if not isinstance(node, dict):
        return node
    if "allOf" in node:
        node = _merged(node, document)
    if isinstance(node.get("properties"), dict):
        node.setdefault("additionalProperties", False)
    return {key: _strict(value, document) for key, value in node.items()}


def _merged(schema: dict, document: dict) -> dict:
    """One schema instead of `allOf`: together with `additionalProperties: false` it would accept nothing."""
    merged = {key: value for key, value in schema.items() if key != "allOf"}
    for part in schema["allOf"]:
        if "$ref" in part:
            _, part = resolve(document, tuple(part["$ref"].removeprefix("#/").split("/")))
        for key, value in copy.deepcopy(part).items():
            if key == "properties":
                merged[key] = merged.get(key, {}) | value
            elif key == "required":
                merged[key] = merged.get(key, []) + value
            else:
                merged[key] = value
    return merged
