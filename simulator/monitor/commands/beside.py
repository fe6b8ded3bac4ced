"""Commands about what a machine of the simulator has beside its disks: a keyboard nobody types at, no
network, no balloon, no console."""

from __future__ import annotations

from simulator.block.errors import QmpError
from simulator.monitor import board
from simulator.monitor.commands.refusing import refuses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine
    from simulator.monitor.dispatch import Handler

    Arguments = dict[str, Any]

# Texts for people, which HMP prints, too: "x-query-NUMA" is "info numa".
_FOR_PEOPLE = ("irq", "jit", "numa", "opcount", "profile", "ramblock", "rdma", "roms", "usb")
_ERROR = "Error: "


async def nobody_sees(machine: Machine, arguments: Arguments) -> Any:
    return {}


def _of_named(name: str) -> Handler:
    """A command about a device or the like that is not there, named by this argument."""

    async def run(machine: Machine, arguments: Arguments) -> Any:
        raise QmpError(f"Device '{arguments[name]}' not found", "DeviceNotFound")

    return run


async def query_rocker(machine: Machine, arguments: Arguments) -> Any:
    raise QmpError(f"rocker {arguments['name']} not found")


async def yank(machine: Machine, arguments: Arguments) -> Any:
    """No instance is there that it could be done to."""
    if arguments["instances"]:
        raise QmpError("Instance not found", "DeviceNotFound")
    return {}


async def query_yank(machine: Machine, arguments: Arguments) -> Any:
    """Sockets and NBD clients (qmp_query_yank, util/yank.c)."""
    chardevs = [name for name, each in machine.chardevs.items() if each.kind == "socket"]
    clients = [name for name, node in machine.graph.nodes.items() if node.driver.format_name == "nbd"]
    told: list[dict[str, Any]] = [{"type": "block-node", "node-name": name} for name in clients]
    return [{"type": "chardev", "id": name} for name in chardevs] + told


async def add_client(machine: Machine, arguments: Arguments) -> Any:
    """There is no display that could take one, and no descriptor of that name."""
    raise QmpError(f"File descriptor named '{arguments['fdname']}' has not been found")


def _for_people(topic: str) -> Handler:
    async def run(machine: Machine, arguments: Arguments) -> Any:
        text = board.told(machine).get("info", {}).get(topic)
        if text is None:
            raise QmpError(f"The command x-query-{topic} is not simulated")
        text = text.replace("\r\n", "\n")
        if text.startswith(_ERROR):
            raise QmpError(text.removeprefix(_ERROR).rstrip("\n"))
        return {"human-readable-text": text}

    return run


COMMANDS = {
    "announce-self": nobody_sees,
    "add_client": add_client,
    "balloon": refuses("No balloon device has been activated", "DeviceNotActive"),
    "change-vnc-password": refuses("Could not set password"),
    "expire_password": refuses("Could not set password expire time"),
    "input-send-event": nobody_sees,
    "netdev_del": _of_named("id"),
    "query-rocker": query_rocker,
    "rtc-reset-reinjection": nobody_sees,
    "screendump": refuses("There is no console to take a screendump from"),
    "send-key": nobody_sees,
    "set_password": refuses("Could not set password"),
    "set_link": _of_named("name"),
    "x-colo-lost-heartbeat": refuses("The feature 'colo' is not enabled"),
    "yank": yank,
    "query-yank": query_yank,
    **{f"x-query-{topic}": _for_people(topic) for topic in _FOR_PEOPLE},
}
