"""Checks of a spec's head: names, methods, features and residues, and each disk by itself."""

from __future__ import annotations

import re
from typing import Any

from scenarios.language import steps
from scenarios.language.problems import Place, Problems

LARGEST_DISK_BYTES = (1 << 63) - 512
SMALLEST_CLUSTER_BYTES, LARGEST_CLUSTER_BYTES = 512, 2 << 20
SECTOR_BYTES = 512

# What QEMU takes as an id (util/id.c, 7.2), short enough for names made of a disk and an id to be node names,
# which have at most 31 characters.
NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,19}")
_RESIDUE = re.compile(r"(job|node|export|bitmap|file|connection|process|server):.+")


def header(problems: Problems, members: dict[str, Any]) -> None:
    """`members` of the Scenario that could be decoded."""
    add = problems.add
    if members.get("name") == "":
        add(("name",), "expected a name that says what the scenario is for")
    if members.get("guest") == "linux" and members.get("attach") == "none":
        add(("guest",), "a Linux guest needs its disks: attach cannot be none")
    if members.get("incoming") and (members.get("attach") != "none" or members.get("methods")):
        add(
            ("incoming",),
            "a machine that waits for a migration has no guest yet: expected attach: none and no methods",
        )
    destination = members.get("destination")
    if destination is not None:
        if members.get("incoming") or members.get("guest") == "linux":
            add(("destination",), "expected neither incoming nor guest: linux beside a second machine")
        _residues(problems, ("destination", "leaves"), destination.leaves)
    methods = members.get("methods", [])
    if len(set(methods)) < len(methods):
        add(("methods",), f"expected each method once, got {', '.join(methods)}")
    for index, feature in enumerate(members.get("needs", [])):
        # Imported late: the runner's package imports this one.
        from scenarios.run.features import known

        if not known(feature):
            add(("needs", index), f'unknown feature "{feature}"; scenarios/run/features.py lists them')
    for name, authority in members.get("certificates", {}).items():
        if not NAME.fullmatch(name) or not NAME.fullmatch(authority):
            add(
                ("certificates", name),
                f"expected names of up to 20 letters, digits, - . _ after a letter, got {name}: {authority}",
            )
    _residues(problems, ("leaves",), members.get("leaves", []))


def _residues(problems: Problems, place: Place, leaves: list[str]) -> None:
    for index, residue in enumerate(leaves):
        if not _RESIDUE.fullmatch(residue):
            problems.add(
                (*place, index),
                f'expected something such as job:ID, node:NAME or file:NAME, got "{residue}"',
            )


def disk(problems: Problems, place: Place, name: str, described: steps.Disk | None) -> None:
    """`described` None: its own description is broken."""
    add = problems.add
    if not NAME.fullmatch(name):
        add(place, f'expected a disk name of up to 20 letters, digits, - . _ after a letter, got "{name}"')
    if described is None:
        return
    if not 0 < described.size <= LARGEST_DISK_BYTES:
        add((*place, "size"), f"expected a size from 512 to 8 EiB, got {described.size}")
    elif described.size % SECTOR_BYTES:
        add((*place, "size"), f"expected a multiple of 512 bytes, got {described.size}")
    if described.cluster is not None:
        cluster(problems, (*place, "cluster"), described.cluster, described.format)


def cluster(problems: Problems, place: Place, cluster_bytes: int, format_: str | None) -> None:
    if format_ == "raw":
        problems.add(place, "a raw image has no clusters")
    elif (
        cluster_bytes.bit_count() != 1 or not SMALLEST_CLUSTER_BYTES <= cluster_bytes <= LARGEST_CLUSTER_BYTES
    ):
        problems.add(place, f"expected a power of two from 512 to 2M, got {cluster_bytes}")
