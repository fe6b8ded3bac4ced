"""What a scenario might do next, drawn without knowing what exists then: so that any part can be left out
again.

generator.py makes steps of these, and leaves out what is impossible at its place. Numbers that choose among
what exists (`point`, `disk`) are taken modulo how much there is.
"""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import strategies as st

from scenarios.explore.places import CLUSTER_BYTES, Spot, edges, spots
from scenarios.language.steps import Step

IDS = ("a", "b", "c")
ENDINGS = ("cancel", "remove-export-hard", "remove-export", "stop-server")
CHUNKS = (1 << 20, CLUSTER_BYTES, 4096, 3 * 512, 40_000)
QUERIES = ("query-jobs", "query-block-jobs", "query-block-exports", "query-named-block-nodes")
_MOST_NUMBER = 7

# What is drawn for a whole scenario: each scenario has some of these only, and so more of each ("swarm
# testing").
FEATURES = (
    "bitmap",
    "bytes",
    "connections",
    "crash",
    "discard",
    "flush",
    "guest-read",
    "leave",
    "map",
    "query",
    "quit",
    "race",
    "race-points",
    "refused",
    "sleep",
    "stop-server",
    "target",
    "zero",
)


class GuestDoes(NamedTuple):
    kind: str  # as in language.steps.Guest
    disk: int
    spot: Spot
    unmap: bool


class Take(NamedTuple):
    """`disks` is a mask of the scenario's disks (0: all); `target` a number that chooses the scratch
    image."""

    fleece_id: str
    disks: int
    target: int
    bitmap: bool
    refused: bool


class ReadSome(NamedTuple):
    point: int
    disk: int
    spot: Spot
    times: int
    leave: bool


class CopyAll(NamedTuple):
    """`disk`: -1 for all of the point in time."""

    point: int
    disk: int
    chunk: int
    connections: int


class Ask(NamedTuple):
    """A map. `context`: "bitmap" is the point in time's own."""

    point: int
    disk: int
    context: str


class Finish(NamedTuple):
    """`look`: the whole of it is copied before."""

    point: int
    by: str
    look: bool = False


class Beside(NamedTuple):
    """`focus`: (disk, edge) where all of it happens, so that requests meet; None: each where it was drawn."""

    lanes: list[list[Intent]]
    focus: tuple[int, int] | None = None


class Other(NamedTuple):
    """crash, quit, quit-for-good, sleep, bitmap, or a query command."""

    what: str
    disk: int = 0


class Plain(NamedTuple):
    """A step as it stands, which is possible anywhere."""

    step: Step


Intent = GuestDoes | Take | ReadSome | CopyAll | Ask | Finish | Beside | Other | Plain

_number = st.integers(0, _MOST_NUMBER)


def intents(features: frozenset[str]) -> st.SearchStrategy[Intent]:
    """One intent of a scenario that has these features."""
    choices = [*_plain(features), *_plain(features), _takes(features), *_ends(features)]
    others = _others(features)
    choices += [st.builds(Other, st.sampled_from(others), _number)] if others else []
    if "race" in features:
        choices += [_races(features)] * 2
    return st.one_of(choices)


def beginnings(features: frozenset[str]) -> st.SearchStrategy[list[Intent]]:
    """What a scenario begins with: most of what can go wrong needs a disk with something on it, and a point
    in time."""
    kinds = ["write", "write", *(["zero"] if "zero" in features else [])]
    writes = st.lists(
        st.builds(GuestDoes, st.sampled_from(kinds), _number, spots, st.booleans()), min_size=1, max_size=3
    )
    add = st.builds(Other, st.just("bitmap"), _number)
    bitmaps = st.lists(add, max_size=3 if "bitmap" in features else 0)
    return st.builds(lambda added, written, take: [*added, *written, take], bitmaps, writes, _takes(features))


def _plain(features: frozenset[str]) -> list[st.SearchStrategy[Intent]]:
    """What the guest and clients do; the guest first, as most shrinks go there."""
    kinds = ["write"]
    kinds += [kind for kind in ("zero", "discard", "flush") if kind in features]
    kinds += ["read"] if "guest-read" in features else []
    reads = st.builds(
        ReadSome,
        _number,
        _number,
        spots,
        st.integers(1, 2),
        st.booleans() if "leave" in features else st.just(False),
    )
    connections = st.integers(1, 3) if "connections" in features else st.just(1)
    plain: list[st.SearchStrategy[Intent]] = [
        st.builds(GuestDoes, st.sampled_from(kinds), _number, spots, st.booleans()),
        reads,
        st.builds(CopyAll, _number, st.integers(-1, 2), st.integers(0, len(CHUNKS) - 1), connections),
    ]
    if "map" in features:
        contexts = ["allocation", "depth", *(["bitmap", "bitmap"] if "bitmap" in features else [])]
        plain.append(st.builds(Ask, _number, _number, st.sampled_from(contexts)))
    return plain


def _takes(features: frozenset[str]) -> st.SearchStrategy[Intent]:
    return st.builds(
        Take,
        st.sampled_from(IDS),
        _number,
        _number if "target" in features else st.just(0),
        st.booleans() if "bitmap" in features else st.just(False),
        st.integers(0, 5).map(lambda drawn: drawn == 5) if "refused" in features else st.just(False),
    )


def _ends(features: frozenset[str]) -> list[st.SearchStrategy[Intent]]:
    endings = [by for by in ENDINGS if by != "stop-server" or "stop-server" in features]
    return [st.builds(Finish, _number, st.sampled_from(endings), st.booleans())]


def _others(features: frozenset[str]) -> list[str]:
    others: list[str] = [what for what in ("sleep", "bitmap", "crash") if what in features]
    others += ["quit", "quit-for-good"] if "quit" in features else []
    return [*others, *(QUERIES if "query" in features else ())]


def _races(features: frozenset[str]) -> st.SearchStrategy[Intent]:
    inside = [*_plain(features), *_plain(features), *_ends(features)]
    if "race-points" in features:
        inside.append(_takes(features))
    lane = st.lists(st.one_of(inside), min_size=1, max_size=4)
    focus = st.one_of(st.tuples(_number, edges), st.none())
    return st.builds(Beside, st.lists(lane, min_size=2, max_size=3), focus)


def focused(intent: Intent, focus: tuple[int, int] | None) -> Intent:
    """The same at that place, where it has one."""
    if focus is None or not isinstance(intent, GuestDoes | ReadSome):
        return intent
    disk, edge = focus
    return intent._replace(disk=disk, spot=intent.spot._replace(edge=edge))
