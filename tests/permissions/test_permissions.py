"""A function may do exactly what it does: the roles of template.yaml against the calls that the functions make.

Every function lives through a fleet's life (journey.py) behind a proxy that writes down which permission each call needs.
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

import journey  # noqa: E402
from deploy.endpoint import Endpoint, free_port  # noqa: E402
from recorder import needs_of  # noqa: E402
from world import World  # noqa: E402

world: World


def setUpModule() -> None:
    global world
    folder = Path(unittest.enterModuleContext(tempfile.TemporaryDirectory(prefix="iot-meter-permissions-")))
    endpoint = unittest.enterModuleContext(Endpoint(CHECKOUT / ".venv/bin", free_port(), folder / "ministack.log"))
    binaries = Path(os.environ.get("CARGO_TARGET_DIR", CHECKOUT / "target")) / "debug"
    world = World(CHECKOUT, binaries, folder, endpoint)
    unittest.addModuleCleanup(world.stop)
    journey.play(world)


class Permissions(unittest.TestCase):
    def test_no_function_makes_a_call_that_its_role_does_not_allow(self):
        for function, recorder in world.recorders.items():
            grants = world.template.grants(function)
            missing = sorted(need for need in recorder.needs if not any(grant.covers(*need) for grant in grants))
            with self.subTest(function):
                self.assertEqual(missing, [], f"{function} needs more than template.yaml gives it")

    def test_no_role_allows_what_its_function_never_does(self):
        for function, recorder in world.recorders.items():
            grants = world.template.grants(function)
            unused = [str(grant) for grant in grants if not any(grant.covers(*need) for need in recorder.needs)]
            with self.subTest(function):
                self.assertEqual(unused, [], f"{function} may do more than it does")

    def test_with_timestream_the_roles_have_what_is_called_there_and_no_more(self):
        self.assertEqual(set(world.timestream_recorders), {"ingest", "devices"})
        for function, recorder in world.timestream_recorders.items():
            grants = world.timestream_template.grants(world.template.role(function))
            missing = sorted(need for need in recorder.needs if not any(grant.covers(*need) for grant in grants))
            unused = [str(grant) for grant in grants if not any(grant.covers(*need) for need in recorder.needs)]
            with self.subTest(function):
                self.assertEqual(missing, [], f"{function} needs more than infra/timestream gives it")
                self.assertEqual(unused, [], f"{function} may do more in Timestream than it does")

    def test_each_function_has_a_role_of_its_own(self):
        self.assertEqual(len(world.template.roles()), len(world.template.functions))

    def test_no_wildcard_where_the_action_knows_resources(self):
        for function in world.template.functions:
            # X-Ray knows none.
            self.assertEqual(world.template.wildcards(function), ["Trace"], function)
        for role in world.timestream_template.roles():
            # Asking for endpoints neither.
            self.assertEqual(world.timestream_template.wildcards(role), ["Endpoints"], role)

    def test_a_call_that_is_not_known_is_an_error(self):
        with self.assertRaises(AssertionError):
            needs_of("POST", "/", {"x-amz-target": "Unknown_1.Call"}, b"{}")


if __name__ == "__main__":
    unittest.main(verbosity=2)
