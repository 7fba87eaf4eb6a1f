"""A node as the rig's are, for the tests of the supervisor: it notes its transitions in a file. Its parameters say what goes wrong."""

import os
import signal
import sys
from pathlib import Path

from robosteer_core.errors import UserError
from robosteer_ros.nodes.rig_node import Declared, RigNode, main
from robosteer_ros.ros import std_srvs

NOTES, NAME, *OTHERS = sys.argv[1 : sys.argv.index("--ros-args")]


class SmallNode(RigNode):
    PARAMETERS = RigNode.PARAMETERS | {
        "refuse": Declared("", "the transition that is refused, while the file `refuse` is beside the notes"),
        "kill": Declared("", "the transition in which the process is killed, once"),
    }

    def __init__(self, name):
        super().__init__(name)
        self.create_service(std_srvs.srv.Trigger, f"{name}/stop", self._stop)

    def configure(self):
        self._do("configure")
        self.resources.callback(self._note, "close")

    def activate(self):
        self._do("activate")

    def deactivate(self):
        self._note("deactivate")

    def _do(self, step):
        self._note(step)
        if self.value("refuse") == step and Path(NOTES).with_name("refuse").exists():
            raise UserError(f"expected a cable for {step}, found none; plug it in")
        killed = Path(f"{NOTES}.{self.get_name()}.killed")
        if self.value("kill") == step and not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def _stop(self, request, response):
        self._note("stop")
        response.success = True
        return response

    def _note(self, what):
        with open(NOTES, "a") as file:
            file.write(f"{self.get_name()} {what}\n")


if __name__ == "__main__":
    main(*((lambda name=name: SmallNode(name)) for name in (NAME, *OTHERS)))
