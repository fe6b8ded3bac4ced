"""What tells that a machine which a scenario has left is as it was before: the answers to its own queries."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from scenarios.backends.interface import QmpRefused
from scenarios.language.steps import Qmp, Scenario
from scenarios.language.walk import walk

# Commands of the block layer, and those that only ask: what they change is seen in what is asked always.
_OF_DISKS = re.compile(r"(x-)?(debug-)?(block|job-|nbd-server-|transaction$|query-)")
Query = tuple[str, dict[str, Any] | None]  # command, arguments
AskQmp = Callable[[str, dict[str, Any] | None], Awaitable[Any]]

# What scenarios work with: asked after each. (kind of residue, command, arguments).
_ALWAYS: tuple[tuple[str, str, dict[str, Any] | None], ...] = (
    ("job", "query-jobs", None),
    ("job", "query-block-jobs", None),
    ("export", "query-block-exports", None),
    ("node", "query-named-block-nodes", None),
    ("drive", "query-block", None),
    ("device", "qom-list", {"path": "/machine/peripheral"}),
    ("object", "qom-list", {"path": "/objects"}),
    ("object", "query-chardev", None),
    ("state", "query-status", None),
    # It is refused where no server listens.
    ("server", "nbd-server-stop", None),
)
# What counts a device's requests, and goes on counting as long as it is there.
COUNTERS = "query-blockstats"
# Long lists of what the program was built with; and that.
_NEVER = frozenset(
    (
        COUNTERS,
        "query-qmp-schema",
        "query-commands",
        "query-command-line-options",
        "query-cpu-definitions",
        "query-events",
        "query-machines",
    )
)


def may_change_anything(scenario: Scenario) -> bool:
    """Whether it gives commands that are not about disks, or lines to the human monitor."""
    return any(step.hmp is not None or _is_of_no_disk(step.qmp) for step in walk(scenario.steps))


def _is_of_no_disk(qmp: Qmp | None) -> bool:
    if qmp is None or _OF_DISKS.match(qmp.execute):
        return False
    return qmp.execute != "qom-set" or qmp.arguments.get("property") != "drive"


class Rest:
    """What one machine answers while nobody uses it."""

    def __init__(self, qmp: AskQmp) -> None:
        self._qmp = qmp
        self._always: list[Any] = []
        self._everything: dict[str, Any] = {}

    async def note(self) -> None:
        """Remember the answers about what every scenario works with."""
        self._always = await self._ask([(command, arguments) for _, command, arguments in _ALWAYS])

    async def note_everything(self, introspection: list[dict[str, Any]]) -> None:
        """Once: the answers to all other queries. Asked twice, as what differs by itself tells nothing."""
        if not self._everything:
            queries: list[Query] = [(name, None) for name in _names(introspection)]
            asked = zip(queries, await self._ask(queries), await self._ask(queries), strict=True)
            self._everything = {name: first for (name, _), first, second in asked if first == second}

    async def differences(self, thorough: bool) -> list[tuple[str, str, str]]:
        """(kind, what was asked, both answers) of what is not as it was; `thorough`: by all queries."""
        known = list(zip(_ALWAYS, self._always, strict=True))
        if thorough:
            known += [(("state", name, None), answer) for name, answer in self._everything.items()]
        answers = await self._ask([(command, arguments) for (_, command, arguments), _ in known])
        return [
            (kind, " ".join([command, *(arguments or {}).values()]), _tell(before, answer))
            for ((kind, command, arguments), before), answer in zip(known, answers, strict=True)
            if answer != before
        ]

    async def _ask(self, queries: Sequence[Query]) -> list[Any]:
        """The answers, or errors' words. Asked all at once, which takes half the time."""

        async def ask(command: str, arguments: dict[str, Any] | None) -> Any:
            try:
                answer = await self._qmp(command, arguments)
                if command == "qom-list":
                    answer = [each for each in answer if each["name"] != "type"]
                # What there is, not what was made first.
                return sorted(answer, key=repr) if isinstance(answer, list) else answer
            except QmpRefused as error:
                if command == "qom-list" and error.error_class == "DeviceNotFound":
                    # /objects is made with the first object, and stays when the last has gone.
                    return []
                return f"{error.error_class}: {error.desc}"

        return await asyncio.gather(*(ask(*query) for query in queries))


def _tell(before: Any, now: Any) -> str:
    """Both answers; of lists, what is only in one."""
    if isinstance(before, list) and isinstance(now, list):
        before, now = (
            [each for each in some if each not in others] for some, others in ((before, now), (now, before))
        )
    return f"at first {before}, now {now}"


def _names(introspection: list[dict[str, Any]]) -> list[str]:
    """Commands that ask and need no argument."""
    asked_always = [command for _, command, _ in _ALWAYS]
    types = {entry["name"]: entry for entry in introspection}
    return [
        name
        for name, entry in types.items()
        if entry["meta-type"] == "command"
        and name.startswith("query-")
        and name not in _NEVER
        and name not in asked_always
        and all("default" in member for member in types[entry["arg-type"]].get("members", ()))
    ]
