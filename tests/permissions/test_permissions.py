"""The roles of template.yaml allow exactly the calls that the functions make.

Every function runs through a scenario (scenario.py) behind a proxy that records the permissions of
each call. A call that the role does not allow fails the test, and so does a grant that no call has
used: the role allows too much, or the scenario lacks the call.
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
    def test_each_call_is_allowed_by_the_role(self):
        for function, recorder in environment.recorders.items():
            grants = environment.template.grants(function)
            missing = sorted(permission for permission in recorder.permissions if not any(grant.allows(*permission) for grant in grants))
            with self.subTest(function):
                self.assertEqual(missing, [], f"{function}: calls without a permission in template.yaml")

    def test_each_permission_is_used(self):
        for function, recorder in environment.recorders.items():
            grants = environment.template.grants(function)
            unused = [str(grant) for grant in grants if not any(grant.allows(*permission) for permission in recorder.permissions)]
            with self.subTest(function):
                self.assertEqual(unused, [], f"{function}: permissions without a call")

    def test_timestream_permissions_match_the_calls(self):
        self.assertEqual(set(environment.timestream_recorders), {"ingest", "devices"})
        for function, recorder in environment.timestream_recorders.items():
            grants = environment.timestream_template.grants(environment.template.role(function))
            missing = sorted(permission for permission in recorder.permissions if not any(grant.allows(*permission) for grant in grants))
            unused = [str(grant) for grant in grants if not any(grant.allows(*permission) for permission in recorder.permissions)]
            with self.subTest(function):
                self.assertEqual(missing, [], f"{function}: calls without a permission in infra/timestream")
                self.assertEqual(unused, [], f"{function}: Timestream permissions without a call")

    def test_each_function_has_its_own_role(self):
        self.assertEqual(len(environment.template.roles()), len(environment.template.functions))

    def test_wildcards_only_where_the_action_has_no_resource(self):
        for function in environment.template.functions:
            # The actions of X-Ray have no resource.
            self.assertEqual(environment.template.wildcards(function), ["Trace"], function)
        for role in environment.timestream_template.roles():
            # DescribeEndpoints has no resource.
            self.assertEqual(environment.timestream_template.wildcards(role), ["Endpoints"], role)

    def test_unknown_call_is_an_error(self):
        with self.assertRaises(AssertionError):
            required_permissions("POST", "/", {"x-amz-target": "Unknown_1.Call"}, b"{}")


if __name__ == "__main__":
    unittest.main(verbosity=2)
