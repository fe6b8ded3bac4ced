"""What is recorded of one binary, and the files that it is kept in.

    greeting.json             the QMP member of the greeting
    schema.json.gz            reply of query-qmp-schema, members in the order in which QEMU printed them
    argument_types.json.gz    what introspection hides, see argument_types.py
    commands.json.gz          reply of query-commands
    objects.json.gz           {"types": qom-list-types, "device": {TYPE: REPLY to device-list-properties},
                              "object": {TYPE: REPLY to qom-list-properties}}
    interfaces.json.gz        {INTERFACE: names of the types that have it, as listed}
    queries.json.gz           reply of each query-* command that needs no arguments: {COMMAND: REPLY}
    boards.json.gz            what is said of machines that have a board, see boards.py
    help.json.gz              the text of HMP's help, where there is a human monitor
    help_info.json.gz         the text of its "help info"

A REPLY is {"return": ...} or {"error": ...}, or {"ends": STDERR} if the question ends the binary.
The same binary gives the same bytes each time.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scenarios.record.argument_types import probe, probe_sizes
from scenarios.record.boards import record_boards
from scenarios.record.monitor import BinaryEnded, Monitor, Prefix, complaint, monitor, no_prefix

Recording = dict[str, Any]

# Too big to keep twice, or different each time they are asked.
_NOT_QUERIED = frozenset({"query-qmp-schema", "query-commands"})
_SIZE_ROOTS = {
    # Its -object still goes through the older kind of options, which say nothing about QAPI's types.
    "system": {"blockdev-add": "-blockdev"},
    "storage-daemon": {
        "blockdev-add": "--blockdev",
        "object-add": "--object",
        "block-export-add": "--export",
    },
}
_BEFORE_OPTION = {"system": ["-M", "none", "-nodefaults", "-display", "none"], "storage-daemon": []}


def record(path: Path, kind: str, timeout_s: float, prefix: Prefix = no_prefix) -> Recording:
    """Ask one binary ("system" or "storage-daemon") everything: file stem -> content. Raises SetupError."""

    def complain(option: str, text: str) -> str:
        return complaint(path, [*_BEFORE_OPTION[kind], option, text], timeout_s, prefix)

    with monitor(path, kind, timeout_s, prefix) as asked:
        # Before anything else, so that later questions cannot show in the answers.
        schema = asked.returns("query-qmp-schema")
        recording: Recording = {"greeting": asked.greeting, "schema": schema}
        recording["queries"] = _queries(asked, schema)
        known = {entry["name"] for entry in schema if entry["meta-type"] == "command"}
        if "query-commands" in known:
            recording["commands"] = asked.returns("query-commands")
        if "human-monitor-command" in known:
            for stem, line in (("help", "help"), ("help_info", "help info")):
                recording[stem] = asked.returns("human-monitor-command", {"command-line": line})
        recording["objects"] = _objects(asked, known)
        recording["interfaces"] = interfaces(asked, recording["objects"].get("types", []))
        recording["argument_types"] = _argument_types(asked, kind, schema, complain)
    if kind == "system":
        recording["boards"] = record_boards(path, recording["queries"], timeout_s, prefix)
    return recording


def version_of(recording: Recording) -> str:
    """ "7.2" of 7.2.22: recordings are kept per minor version."""
    qemu = recording["greeting"]["version"]["qemu"]
    return f"{qemu['major']}.{qemu['minor']}"


def _queries(asked: Monitor, schema: list[dict[str, Any]]) -> dict[str, Any]:
    types = {entry["name"]: entry for entry in schema}
    replies = {}
    for entry in schema:
        name = entry["name"]
        if entry["meta-type"] != "command" or not name.startswith("query-") or name in _NOT_QUERIED:
            continue
        if all("default" in member for member in types[entry["arg-type"]]["members"]):
            replies[name] = _answer(asked, name)
    return replies


def _answer(asked: Monitor, command: str, arguments: dict[str, Any] | None = None) -> dict[str, Any]:
    """Some questions end the binary: 7.2's about a type whose module is not installed, or query-events of
    5.2's storage daemon."""
    try:
        return _reply(asked.command(command, arguments))
    except BinaryEnded as gone:
        asked.restart()
        return {"ends": gone.stderr}


def _reply(message: dict[str, Any]) -> dict[str, Any]:
    return {member: message[member] for member in ("return", "error") if member in message}


def _objects(asked: Monitor, known: set[str]) -> dict[str, Any]:
    if "qom-list-types" not in known:
        return {}
    types = asked.returns("qom-list-types", {"abstract": True})
    names = sorted(entry["name"] for entry in types)
    objects: dict[str, Any] = {"types": sorted(types, key=lambda entry: str(entry["name"]))}
    questions = (("device", "device-list-properties"), ("object", "qom-list-properties"))
    for key, command in questions:
        if command in known:
            objects[key] = {name: _answer(asked, command, {"typename": name}) for name in names}
    return objects


def interfaces(asked: Monitor, types: list[dict[str, Any]]) -> dict[str, list[str]]:
    """`types` as recorded: of an interface nobody tells who has it but the question for it."""
    found = {}
    for entry in types:
        if entry.get("parent") == "interface":
            wanted = {"implements": entry["name"], "abstract": True}
            found[entry["name"]] = [each["name"] for each in asked.returns("qom-list-types", wanted)]
    return found


def _argument_types(
    asked: Monitor, kind: str, schema: list[dict[str, Any]], complain: Callable[[str, str], str]
) -> dict[str, Any]:
    def ask(command: str, arguments: dict[str, Any]) -> str:
        """What it refused with; nothing for one that was carried out, as 5.2 does with query-qmp-schema."""
        reply = asked.command(command, arguments)
        return str(reply["error"]["desc"]) if "error" in reply else ""

    found = probe(schema, ask)
    found["unreached"] = probe_sizes(schema, found["integers"], _SIZE_ROOTS[kind], complain)
    return found


def write(recording: Recording, directory: Path) -> list[Path]:
    """Write the files, replacing those of an earlier recording; the paths written."""
    directory.mkdir(parents=True, exist_ok=True)
    for old in [*directory.glob("*.json"), *directory.glob("*.json.gz")]:
        old.unlink()
    written = []
    for stem, content in recording.items():
        if stem == "greeting":
            path = directory / "greeting.json"
            path.write_text(json.dumps(content, indent=1) + "\n")
        else:
            path = directory / f"{stem}.json.gz"
            text = json.dumps(content, separators=(",", ":"), ensure_ascii=True)
            path.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))
        written.append(path)
    return written
