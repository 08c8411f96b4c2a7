"""infra/openapi.yaml as API Gateway imports it, compared with the route table of the code."""

import copy
import sys
import unittest
from pathlib import Path

import http_api
from samcli.yamlhelper import yaml_parse

CHECKOUT = Path(__file__).resolve().parents[2]
DOCUMENT = yaml_parse((CHECKOUT / "infra/openapi.yaml").read_text())
# The security scheme of every route that is not public.
AUTHORIZER = "jwt"


def code_routes() -> dict[str, tuple[str, str | None, tuple[str, ...]]]:
    """Function, authorizer and scopes of each route of the code, by the route key of API Gateway.

    A Rust test compares the file with the code (functions/core/http/tests/openapi.rs).
    """
    found = {}
    for line in (CHECKOUT / "infra/routes.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        method, path, function, scope = line.split()
        # The rest of a path is `{*name}` in the code and `{name+}` in API Gateway.
        key = f"{method} {'/'.join(_segment(part) for part in path.split('/'))}"
        public = scope == "-"
        found[key] = (
            f"{function.title()}Function",
            None if public else AUTHORIZER,
            () if public else (scope,),
        )
    return found


def _segment(part: str) -> str:
    return f"{{{part[2:-1]}+}}" if part.startswith("{*") else part


class Routes(unittest.TestCase):
    maxDiff = None

    def test_routes_authorizers_and_scopes_are_those_of_the_code(self):
        imported = http_api.routes(DOCUMENT)
        del imported["$default"]
        found = {key: (route.function, route.authorizer, route.scopes) for key, route in imported.items()}
        self.assertEqual(found, code_routes())

    def test_default_route_is_public_and_invokes_stats(self):
        """The stats function answers 404 and 405. A preflight request carries no token."""
        route = http_api.routes(DOCUMENT)["$default"]
        self.assertEqual((route.function, route.authorizer, route.scopes), ("StatsFunction", None, ()))

    def test_each_operation_names_its_security(self):
        """An operation without `security` is public, and so is one that relies on the root of the
        document.
        """
        self.assertNotIn("security", DOCUMENT)
        for path, item in DOCUMENT["paths"].items():
            for method in (*http_api.METHODS, http_api.ANY_METHOD):
                if method in item:
                    with self.subTest(f"{method} {path}"):
                        self.assertIn("security", item[method])

    def test_each_integration_is_a_lambda_proxy_with_payload_format_2(self):
        for key, route in http_api.routes(DOCUMENT).items():
            with self.subTest(key):
                integration = route.integration
                self.assertEqual(integration["type"], "aws_proxy")
                # Lambda is invoked with POST for every method of a route.
                self.assertEqual(integration["httpMethod"], "POST")
                self.assertEqual(integration["payloadFormatVersion"], "2.0")

    def test_authorizer_reads_a_jwt_from_the_authorization_header(self):
        found = http_api.authorizers(DOCUMENT)
        self.assertEqual(list(found), [AUTHORIZER])
        self.assertEqual(found[AUTHORIZER]["type"], "jwt")
        self.assertEqual(found[AUTHORIZER]["identitySource"], "$request.header.Authorization")
        self.assertEqual(set(found[AUTHORIZER]["jwtConfiguration"]), {"issuer", "audience"})


class ImportRules(unittest.TestCase):
    """The reader, with documents that API Gateway interprets differently from OpenAPI tools."""

    def setUp(self):
        self.document = copy.deepcopy(DOCUMENT)
        self.operation = self.document["paths"]["/api/stats"]["get"]

    def test_root_security_is_ignored(self):
        self.document["security"] = [{AUTHORIZER: ["meter/read"]}]
        self.operation.pop("security", None)
        self.assertIsNone(http_api.routes(self.document)["GET /api/stats"].authorizer)

    def test_missing_and_empty_security_are_public(self):
        for security in ({}, {"security": []}):
            self.operation.pop("security", None)
            self.operation.update(security)
            self.assertIsNone(http_api.routes(self.document)["GET /api/stats"].authorizer)

    def test_invalid_documents_are_not_imported(self):
        one = {AUTHORIZER: ["meter/read"]}
        for change in (
            {"security": [one, one]},
            {"security": [{AUTHORIZER: [], "other": []}]},
            {"security": [{"other": []}]},
            {"x-amazon-apigateway-integration": {"$ref": f"{http_api.INTEGRATIONS}other"}},
            {"x-amazon-apigateway-integration": None},
        ):
            with self.subTest(change):
                self.setUp()
                self.operation.update(change)
                self.assertRaises(http_api.ImportFailed, http_api.routes, self.document)
        self.assertRaises(http_api.ImportFailed, http_api.routes, DOCUMENT | {"openapi": "3.1.0"})

    def test_any_method_is_a_route_key(self):
        self.document["paths"]["/any"] = {http_api.ANY_METHOD: self.operation}
        self.assertIn("ANY /any", http_api.routes(self.document))


if __name__ == "__main__":
    sys.exit(unittest.main(verbosity=2))
