"""A function may do exactly what it does: the roles of template.yaml against the calls that the functions make.

Every function lives through a fleet's life (scenario.py) behind a proxy that writes down which permission each call needs.
A call that its role does not allow fails the test, and so does an action on a resource that no call has used: then either
the role allows too much, or the journey has yet to go there.
"""

import os
import sys
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
sys.path[:0] = [str(CHECKOUT / "local"), str(HERE)]

import scenario  # noqa: E402
from deploy.endpoint import Endpoint, free_port  # noqa: E402
from recorder import required_permissions  # noqa: E402
from environment import Environment  # noqa: E402

environment: Environment


def setUpModule() -> None:
    global environment
    folder = Path(unittest.enterModuleContext(tempfile.TemporaryDirectory(prefix="iot-meter-permissions-")))
    endpoint = unittest.enterModuleContext(Endpoint(CHECKOUT / ".venv/bin", free_port(), folder / "ministack.log"))
    binaries = Path(os.environ.get("CARGO_TARGET_DIR", CHECKOUT / "target")) / "debug"
    environment = Environment(CHECKOUT, binaries, folder, endpoint)
    unittest.addModuleCleanup(environment.stop)
    scenario.run(environment)


class Permissions(unittest.TestCase):
    def test_no_function_makes_a_call_that_its_role_does_not_allow(self):
        for function, recorder in environment.recorders.items():
            grants = environment.template.grants(function)
            missing = sorted(permission for permission in recorder.permissions if not any(grant.allows(*permission) for grant in grants))
            with self.subTest(function):
                self.assertEqual(missing, [], f"{function} needs more than template.yaml gives it")

    def test_no_role_allows_what_its_function_never_does(self):
        for function, recorder in environment.recorders.items():
            grants = environment.template.grants(function)
            unused = [str(grant) for grant in grants if not any(grant.allows(*permission) for permission in recorder.permissions)]
            with self.subTest(function):
                self.assertEqual(unused, [], f"{function} may do more than it does")

    def test_with_timestream_the_roles_have_what_is_called_there_and_no_more(self):
        self.assertEqual(set(environment.timestream_recorders), {"ingest", "devices"})
        for function, recorder in environment.timestream_recorders.items():
            grants = environment.timestream_template.grants(environment.template.role(function))
            missing = sorted(permission for permission in recorder.permissions if not any(grant.allows(*permission) for grant in grants))
            unused = [str(grant) for grant in grants if not any(grant.allows(*permission) for permission in recorder.permissions)]
            with self.subTest(function):
                self.assertEqual(missing, [], f"{function} needs more than infra/timestream gives it")
                self.assertEqual(unused, [], f"{function} may do more in Timestream than it does")

    def test_each_function_has_a_role_of_its_own(self):
        self.assertEqual(len(environment.template.roles()), len(environment.template.functions))

    def test_no_wildcard_where_the_action_knows_resources(self):
        for function in environment.template.functions:
            # X-Ray knows none.
            self.assertEqual(environment.template.wildcards(function), ["Trace"], function)
        for role in environment.timestream_template.roles():
            # Asking for endpoints neither.
            self.assertEqual(environment.timestream_template.wildcards(role), ["Endpoints"], role)

    def test_a_call_that_is_not_known_is_an_error(self):
        with self.assertRaises(AssertionError):
            required_permissions("POST", "/", {"x-amz-target": "Unknown_1.Call"}, b"{}")


if __name__ == "__main__":
    unittest.main(verbosity=2)
