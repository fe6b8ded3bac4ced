"""A client of a simulated machine without disks."""

from __future__ import annotations

import json
from typing import Any

from simulator.block.memory_host import MemoryHost
from simulator.machine import Machine
from simulator.versions import load

MIB = 1 << 20


class Client:
    """Of a machine of the version, after negotiation."""

    def __init__(self, version: str) -> None:
        self.machine = Machine(load(version), MemoryHost())
        self._monitor = self.machine.connect_monitor()
        self._monitor.output()
        assert self.run("qmp_capabilities") == {}

    def run(self, command: str, **arguments: Any) -> Any:
        """What it returns, or the words of its error."""
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        self._monitor.receive(json.dumps({"execute": command, "arguments": named}).encode())
        self.machine.run_for(0)
        messages = [json.loads(line) for line in self._monitor.output().splitlines()]
        [reply] = [each for each in messages if "event" not in each]
        return reply["return"] if "return" in reply else reply["error"]["desc"]
