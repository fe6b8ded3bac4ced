"""What a binary says of a machine that has just been made, with a board and some devices.

    {BOARD: {"queries": {COMMAND: REPLY},       where they differ from those of a machine without a board
             "info": {TOPIC: TEXT},             HMP's "info TOPIC"
             "machine": PROPERTIES,             of /machine
             "devices": {TYPE: PROPERTIES}}}    one of each type, on an empty disk

With a device's properties is what query-pci says of it ("pci"), if it stands on the board's own bus.

PROPERTIES is {"list": [[NAME, TYPE], ...], "values": {NAME: VALUE}}, in the order of qom-list. A device that
has its properties from a part below it has "virtio-backend" beside them, PROPERTIES as well.

Everything is asked of two machines, and kept where they answer alike: no addresses, threads or times.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scenarios.record.monitor import BinaryEnded, Monitor, Prefix, monitor, no_prefix

Answers = dict[str, Any]

BOARDS = ("none", "pc", "q35")
# The bus that a device needs is one of the machine's own, or of these adapters.
_DEVICES: dict[str, tuple[str, ...]] = {
    "virtio-blk-pci": ("drive=disk",),
    "virtio-scsi-pci": (),
    "scsi-hd": ("drive=disk",),
    "scsi-cd": (),
    "ide-hd": ("drive=disk",),
    "ide-cd": (),
    "ahci": (),
    "nvme": ("drive=disk", "serial=serial"),
    "virtio-blk-pci-transitional": ("drive=disk",),
    "virtio-blk-pci-non-transitional": ("drive=disk",),
    "usb-storage": ("drive=disk",),
    "qemu-xhci": (),
    "usb-ehci": (),
    "piix3-usb-uhci": (),
    "virtio-net-pci": (),
    "virtio-rng-pci": (),
    "virtio-balloon-pci": (),
    "virtio-serial-pci": (),
    "e1000": (),
    "lsi53c895a": (),
    "megasas": (),
    "sdhci-pci": (),
}
_DISK = ("-blockdev", "driver=null-co,node-name=disk,size=1048576,read-zeroes=on")
# What a device needs whose type begins so.
_NEEDS = {
    "scsi-": ("-device", "virtio-scsi-pci,id=adapter"),
    "usb-storage": ("-device", "qemu-xhci,id=adapter"),
}
# Texts of whole trees: too much for what anybody asks, and other ones as soon as a device comes.
_LONGEST_TEXT = 1 << 14
_BACKEND = "virtio-backend"
# In the order of addresses, which is another one each time but for luck.
_BY_ADDRESS = ("mtree", "ramblock")
_CLOCK = "struct tm"


def record_boards(path: Path, queries: Answers, timeout_s: float, prefix: Prefix = no_prefix) -> Answers:
    """`queries`: what a machine without a board answers. Raises SetupError."""
    found = {}
    for board in BOARDS:
        found[board] = _alike([_board(path, board, queries, timeout_s, prefix) for _ in range(2)])
    return found


def _board(path: Path, board: str, queries: Answers, timeout_s: float, prefix: Prefix) -> Answers:
    with monitor(path, "system", timeout_s, prefix, _machine(board)) as asked:
        replies = {name: asked.command(name) for name in queries}
        told: Answers = {
            "queries": {
                name: {key: reply[key] for key in ("return", "error") if key in reply}
                for name, reply in replies.items()
                if {**queries[name], "id": reply["id"]} != reply
            },
            "info": {topic: _info(asked, topic) for topic in _topics(asked)},
            "machine": _properties(asked, "/machine"),
        }
    if board != "none":
        devices = {kind: _device(path, board, kind, timeout_s, prefix) for kind in _DEVICES}
        told["devices"] = {kind: each for kind, each in devices.items() if each is not None}
    return told


def _machine(board: str) -> list[str]:
    return ["-M", board, "-accel", "tcg", "-S"]


def _topics(asked: Monitor) -> list[str]:
    lines = str(asked.returns("human-monitor-command", {"command-line": "help info"})).splitlines()
    topics = {line.split()[1] for line in lines if line.startswith("info ")}
    return sorted(topics.difference(_BY_ADDRESS))


def _info(asked: Monitor, topic: str) -> str | None:
    """None for what is too long, or ends the binary, as 5.2 does where there are no threads."""
    try:
        text = str(asked.returns("human-monitor-command", {"command-line": f"info {topic}"}))
    except BinaryEnded:
        asked.restart()
        return None
    return text if len(text) <= _LONGEST_TEXT else None


def _device(path: Path, board: str, kind: str, timeout_s: float, prefix: Prefix) -> Answers | None:
    """None where the binary has no such device, or the board no place for it."""
    needs: tuple[str, ...] = sum((_NEEDS[each] for each in _NEEDS if kind.startswith(each)), ())
    options = [*_machine(board), *_DISK, *needs, "-device", ",".join([kind, "id=device", *_DEVICES[kind]])]
    place = "/machine/peripheral/device"
    try:
        with monitor(path, "system", timeout_s, prefix, options) as asked:
            found = _properties(asked, place)
            if _BACKEND in dict(found["list"]):
                found[_BACKEND] = _properties(asked, f"{place}/{_BACKEND}")
            buses = asked.returns("query-pci")
            found["pci"] = next((each for each in buses[0]["devices"] if each["qdev_id"] == "device"), None)
            return found
    except BinaryEnded:
        return None


def _properties(asked: Monitor, place: str) -> Answers:
    listed = [[entry["name"], entry["type"]] for entry in asked.returns("qom-list", {"path": place})]
    asked_for = [name for name, kind in listed if kind != _CLOCK]
    values = {name: asked.command("qom-get", {"path": place, "property": name}) for name in asked_for}
    return {"list": listed, "values": {name: told.get("return") for name, told in values.items()}}


def _alike(both: list[Any], is_whole: bool = False) -> Any:
    """What the two say alike, None left out; `is_whole`: members are not taken apart."""
    one, other = both
    if not isinstance(one, dict) or not isinstance(other, dict):
        return one if one == other else None
    found = {}
    for key in [each for each in one if each in other]:
        if is_whole:
            found[key] = one[key] if one[key] == other[key] else None
        else:
            found[key] = _alike([one[key], other[key]], key in ("queries", "info", "values", "pci"))
    return {key: value for key, value in found.items() if value is not None}
