"""Reads an OpenAPI document by the import rules of API Gateway's HTTP APIs.

The rules are those of the API Gateway Developer Guide, which differ from the OpenAPI specification:

- Only OpenAPI 3.0 can be imported ("Use OpenAPI definitions for HTTP APIs").
- Each operation is a route, and so is `x-amazon-apigateway-any-method`, for ANY method. With
  `isDefaultRoute` it is the route `$default` ("x-amazon-apigateway-any-method object").
- A route invokes its `x-amazon-apigateway-integration`, or the entry of
  `components/x-amazon-apigateway-integrations` that it references
  ("x-amazon-apigateway-integrations object").
- An authorizer is a security scheme with `x-amazon-apigateway-authorizer`. A route has it if
  `security` of the operation names it, with the scopes there ("x-amazon-apigateway-authorizer
  object"). `security` at the root of the document is ignored. More than one requirement is an error
  ("Import validation information").
"""

import re
from dataclasses import dataclass

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
ANY_METHOD = "x-amazon-apigateway-any-method"
INTEGRATION = "x-amazon-apigateway-integration"
INTEGRATIONS = "#/components/x-amazon-apigateway-integrations/"
AUTHORIZER = "x-amazon-apigateway-authorizer"


class ImportFailed(Exception):
    """API Gateway imports no route from the document."""


@dataclass(frozen=True)
class Route:
    """A route of an imported API. `authorizer` is None if anyone can call it."""

    key: str
    integration: dict
    authorizer: str | None
    scopes: tuple[str, ...]

    @property
    def function(self) -> str:
        """The logical id of the Lambda function in the integration's URI."""
        uri = self.integration["uri"]["Fn::Sub"]
        match = re.search(r":lambda:path/2015-03-31/functions/\$\{(\w+)\.Arn\}/invocations$", uri)
        if match is None:
            raise ImportFailed(f"{self.key}: {uri} invokes no function")
        return match[1]


def routes(document: dict) -> dict[str, Route]:
    """The routes of the imported API by their keys, such as `GET /health` and `$default`."""
    if not re.fullmatch(r"3\.0\.\d+", document["openapi"]):
        raise ImportFailed(f"OpenAPI {document['openapi']} cannot be imported")
    found = {}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method not in METHODS and method != ANY_METHOD:
                continue
            route = _route(document, _key(method, path, operation), operation)
            if route.key in found:
                raise ImportFailed(f"{route.key} is defined twice")
            found[route.key] = route
    return found


def authorizers(document: dict) -> dict[str, dict]:
    """The authorizers by the names of their security schemes."""
    schemes = document["components"].get("securitySchemes", {})
    return {name: scheme[AUTHORIZER] for name, scheme in schemes.items() if AUTHORIZER in scheme}


def _key(method: str, path: str, operation: dict) -> str:
    if method != ANY_METHOD:
        return f"{method.upper()} {path}"
    return "$default" if operation.get("isDefaultRoute") else f"ANY {path}"


def _route(document: dict, key: str, operation: dict) -> Route:
    authorizer, scopes = _security(document, key, operation.get("security", []))
    return Route(key, _integration(document, key, operation), authorizer, scopes)


def _security(document: dict, key: str, requirements: list[dict]) -> tuple[str | None, tuple[str, ...]]:
    named = [item for requirement in requirements for item in requirement.items()]
    if not named:
        return None, ()
    if len(requirements) > 1 or len(named) > 1:
        raise ImportFailed(f"{key} has more than one security requirement")
    ((name, scopes),) = named
    if name not in authorizers(document):
        raise ImportFailed(f"{key} names {name}, which is not an authorizer")
    return name, tuple(scopes)


def _integration(document: dict, key: str, operation: dict) -> dict:
    integration = operation.get(INTEGRATION)
    if integration is None:
        raise ImportFailed(f"{key} has no integration")
    reference = integration.get("$ref")
    if reference is None:
        return integration
    integrations = document["components"].get("x-amazon-apigateway-integrations", {})
    name = reference.removeprefix(INTEGRATIONS)
    if name == reference or name not in integrations:
        raise ImportFailed(f"{key}: {reference} is not defined")
    return integrations[name]
