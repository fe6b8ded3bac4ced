"""A version: a base and what differs from it, as frozen values, with the recordings of its binaries."""

from __future__ import annotations

import os
import zlib

from simulator.engine.own_files import OneMoreDescriptor
from simulator.qapi.schema import Schema
from simulator.versions.facts import GROUPS
from simulator.versions.rewording import Rewording

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.versions.block_facts import Block
    from simulator.versions.command_line import CommandLine
    from simulator.versions.facts import (
        Dialect,
        Exports,
        Identity,
        Jobs,
        Migration,
        Qmp,
        Queries,
        Texts,
    )

    # name, value, source, and perhaps the scenario that shows it
    Fact = tuple[str, Any, str] | tuple[str, Any, str, str]

RECORDED_DIRECTORY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "recorded")
BINARIES = ("system", "storage-daemon")


class Version:
    """Everything that a simulated machine is told about its version. Do not change any of it.

    `facts` maps each name, such as "qmp.oob", to its value and source.
    """

    __slots__ = (
        "_edits",
        "_recorded",
        "_schemas",
        "block",
        "command_line",
        "dialect",
        "exports",
        "facts",
        "identity",
        "jobs",
        "migration",
        "name",
        "qmp",
        "queries",
        "reword",
        "reworded",
        "texts",
    )

    name: str
    identity: Identity
    qmp: Qmp
    texts: Texts
    jobs: Jobs
    block: Block
    command_line: CommandLine
    exports: Exports
    queries: Queries
    migration: Migration
    dialect: Dialect
    facts: dict[str, Fact]
    reword: Rewording

    def __init__(
        self,
        name: str,
        facts: dict[str, Fact],
        recorded: str,
        edits: tuple[tuple[str, tuple[str, ...], str], ...],
        reworded: tuple[tuple[str, str, str], ...] = (),
    ) -> None:
        """`reworded`: (the base's text, the version's, source), as in rewording.py."""
        self.name = name
        self.facts = facts
        self.reworded = reworded
        self.reword = Rewording((base, own) for base, own, _ in reworded)
        self._recorded = os.path.join(RECORDED_DIRECTORY, recorded)
        self._edits = edits
        self._schemas: dict[str, Schema] = {}
        grouped: dict[str, dict[str, Any]] = {group: {} for group in GROUPS}
        for fact in facts.values():
            group, _, fact_name = fact[0].partition(".")
            grouped[group][fact_name] = fact[1]
        for group, values in grouped.items():
            setattr(self, group, GROUPS[group](values))

    def greeting_version(self) -> dict[str, Any]:
        """The reply of query-version; also the `version` of the greeting."""
        identity = self.identity
        triple = {"major": identity.major, "minor": identity.minor, "micro": identity.micro}
        return {"qemu": triple, "package": identity.package}

    def schema(self, binary: str) -> Schema:
        """The commands and events of "system" or "storage-daemon"; read when first asked for, then kept."""
        schema = self._schemas.get(binary)
        if schema is None:
            entries = self.recorded(binary, "schema")
            hidden = self.recorded(binary, "argument_types")
            for kind, path, value in self._edits:
                assert kind == "add-enum-value", kind
                _add_enum_value(entries, path, value)
            schema = Schema(entries, hidden["integers"], hidden["alternates"], hidden["unchecked"])
            self._schemas[binary] = schema
        return schema

    def recorded(self, binary: str, what: str) -> Any:
        """A fresh copy of something recorded: "schema", "argument_types", "commands", "objects", "queries",
        "help", "help_info".

        Their shapes are described in scenarios/record/recording.py. Raises LookupError naming what
        was recorded.
        """
        directory = os.path.join(self._recorded, binary)
        try:
            path = os.path.join(directory, what + ".json.gz")
            with OneMoreDescriptor(), open(path, "rb") as file:
                packed = file.read()
        except FileNotFoundError:
            there = sorted(os.listdir(directory)) if os.path.isdir(directory) else ["nothing"]
            message = f"nothing recorded as {what} of {binary} {self.name}; there is: {', '.join(there)}"
            raise LookupError(message) from None
        # Here because it is slow to import, and a greeting needs none of it.
        from json import loads

        return loads(zlib.decompress(packed, wbits=31))


def _add_enum_value(entries: list[dict[str, Any]], path: tuple[str, ...], value: str) -> None:
    schema = Schema(entries)
    type_name = schema.type_at(*path)
    if type_name is None:
        # The storage daemon, for one, has no drive-backup.
        return
    entry = schema.by_name[type_name]
    entry["values"].append(value)
    if "members" in entry:  # in addition to the plain values since 6.2
        entry["members"].append({"name": value})
