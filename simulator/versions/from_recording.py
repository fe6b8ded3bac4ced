"""A profile of a version that has recordings and no module: what they tell; the rest as in the one before.

What the rest is, `untold` says: each of these facts needs somebody to look at the version's source or to try.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from simulator.versions.version import Fact

    Types = dict[str, dict[str, Any]]

GREETING = os.path.join("system", "greeting.json")
_NOT_TOLD = "not told by the recording, as in "


def number(name: str) -> tuple[int, ...]:
    """(10, 0) of "10.0", to be compared; () for a name that is no version."""
    parts = name.split(".")
    return tuple(map(int, parts)) if all(part.isdigit() for part in parts) else ()


def base_of(name: str, known: Iterable[str]) -> str:
    """The newest of the known versions that is not newer; the oldest, if all are."""
    ordered = sorted((each for each in known if number(each)), key=number)
    older = [each for each in ordered if number(each) <= number(name)]
    return older[-1] if older else ordered[0]


def facts_of(
    base: str, base_facts: dict[str, Fact], greeting: dict[str, Any], schema: list[Any]
) -> dict[str, Fact]:
    """`greeting` and `schema` as recorded. The dialects are nobody's who did not ask for them."""
    facts: dict[str, Fact] = {
        name: fact if name.startswith("dialect.") else (name, fact[1], _NOT_TOLD + base)
        for name, fact in base_facts.items()
    }
    version = greeting["version"]
    told = {f"identity.{part}": version["qemu"][part] for part in ("major", "minor", "micro")}
    told["identity.package"] = version["package"]
    told["qmp.oob"] = "oob" in greeting.get("capabilities", ())
    types: Types = {entry["name"]: entry for entry in schema}
    told.update((name, ask(types)) for name, ask in _ASKED.items())
    verbs = {verb: allowed for verb, allowed in base_facts["jobs.verbs"][1].items() if verb != "change"}
    if "block-job-change" in types:
        verbs["change"] = verbs["pause"]
    facts["jobs.verbs"] = ("jobs.verbs", verbs, f"{_NOT_TOLD}{base}, but whether there is `change`")
    for name, value in told.items():
        facts[name] = (name, value, "greeting and introspection of the binary")
    return facts


def untold(facts: dict[str, Fact]) -> list[str]:
    """Names of the facts that were taken from another version."""
    return sorted(name for name, fact in facts.items() if fact[2].startswith(_NOT_TOLD))


def _returns(command: str, *path: str) -> Callable[[Types], bool]:
    """Whether a member is there in what a command returns; lists are stepped into."""

    def ask(types: Types) -> bool:
        entry: dict[str, Any] | None = types.get(command)
        name = entry["ret-type"] if entry else None
        for step in path:
            if name is None:
                return False
            entry = types[name]
            while entry["meta-type"] == "array":
                entry = types[entry["element-type"]]
            members = entry.get("members", ())
            name = next((member["type"] for member in members if member["name"] == step), None)
        return name is not None

    return ask


def _has_file_specific(types: Types) -> bool:
    """ImageInfoSpecific has a branch for `file`: it is the union with one for qcow2, too."""
    for entry in types.values():
        cases = {variant["case"] for variant in entry.get("variants", ())}
        if {"qcow2", "luks"} <= cases and entry.get("tag") == "type":
            return "file" in cases
    return False


_NODES = "query-named-block-nodes"


def _has_graph_mod(types: Types) -> bool:
    """BlockPermission, which is what query-block's picture of the graph is made of, has `graph-mod`."""
    values = (entry.get("values", ()) for entry in types.values())
    return any("graph-mod" in each and "consistent-read" in each for each in values)


_ASKED: dict[str, Callable[[Types], bool]] = {
    "queries.shows_active": _returns(_NODES, "active"),
    "queries.shows_bitmap_status": _returns(_NODES, "dirty-bitmaps", "status"),
    "queries.shows_children": _returns(_NODES, "children"),
    "queries.shows_drive_bitmaps": _returns("query-block", "dirty-bitmaps"),
    "queries.shows_file_specific": _has_file_specific,
    "queries.shows_graph_mod": _has_graph_mod,
    "queries.shows_limits": _returns(_NODES, "image", "limits"),
    "queries.shows_missing_key": _returns(_NODES, "encryption_key_missing"),
    "queries.shows_zone_append": _returns("query-blockstats", "stats", "zone_append_bytes"),
    "queries.status_singlestep": _returns("query-status", "singlestep"),
}
