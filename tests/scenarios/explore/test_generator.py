"""What is drawn is a valid spec, whatever is left out of it, and has everything that the language of
scenarios has."""

from __future__ import annotations

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from scenarios.explore import intents as i
from scenarios.explore.generator import cuts, limits_for, meetings, scenario_of, scenarios
from scenarios.explore.places import SIZES, Spot, spots
from scenarios.explore.search import budget
from scenarios.explore.transactions import failing
from scenarios.language.loader import load_text
from scenarios.language.steps import Disk, Scenario, Step
from scenarios.language.writer import write
from scenarios.run.features import walk

METHODS = ["overlay", "snapshot-access"]
STRATEGIES = {
    **{f"any {method}": scenarios(method) for method in METHODS},
    **{f"meetings {method}": meetings(method) for method in METHODS},
    **{f"cuts {method}": cuts(method) for method in METHODS},
    "failing": failing(),
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_scenario_is_a_valid_spec(name: str) -> None:
    """Written and read again it is the same, and the checker of specs has nothing to say."""

    @settings(budget(60), phases=[Phase.generate])
    @given(STRATEGIES[name])
    def read_again(scenario: Scenario) -> None:
        assert load_text(write(scenario), keep_places=False) == scenario

    read_again()


@settings(budget(100), phases=[Phase.generate])
@given(
    st.lists(i.intents(frozenset(i.FEATURES)), max_size=12),
    st.data(),
    st.sampled_from(METHODS),
    st.booleans(),
)
def test_any_part_can_be_left_out(
    drawn: list[i.Intent], data: st.DataObject, method: str, aligned: bool
) -> None:
    """This is what lets a failure shrink."""
    kept = [each for each in drawn if data.draw(st.booleans())]
    disks = {"vda": Disk(size=SIZES[0]), "vdb": Disk(size=512, format="raw")}
    scenario = scenario_of(disks, kept, method, limits_for(method), aligned)
    assert load_text(write(scenario), keep_places=False) == scenario


def traits(step: Step) -> set[str]:
    """What of the language a step uses, in words."""
    found = {step.verb}
    if step.guest is not None:
        kinds = ("write", "zero", "discard", "read")
        found |= {f"guest {kind}" for kind in kinds if getattr(step.guest, kind) is not None}
        found |= {"guest flush"} if step.guest.flush else set()
    if step.end is not None:
        found.add(f"end by {step.end.by}")
    if step.read is not None:
        found |= {"leave"} if step.read.leave else set()
    if step.fleece is not None:
        found |= {"refused"} if step.fleece.error else set()
        found |= {"bitmap"} if step.fleece.bitmap and not step.fleece.error else set()
        found |= {"several disks"} if len(step.fleece.disks) > 1 else set()
        found |= {f"target {step.fleece.target}"} if step.fleece.target else set()
    if step.map is not None:
        found |= {"known bitmap"} if step.map.expect is not None else set()
    return found


def test_everything_is_drawn() -> None:
    drawn: set[str] = set()

    @settings(budget(300), phases=[Phase.generate])
    @given(scenarios("snapshot-access", limits_for("snapshot-access", within=0)))
    def look(scenario: Scenario) -> None:
        alive = 0
        for step in walk(scenario.steps):
            drawn.update(traits(step))
            alive += (step.fleece is not None and not step.fleece.error) - (step.end is not None)
            drawn.update(("three at once",) if alive > 2 else ())

    look()
    verbs = {"guest", "fleece", "read", "copy", "map", "together", "end", "sleep", "crash", "quit", "qmp"}
    guest = {f"guest {kind}" for kind in ("write", "zero", "discard", "read", "flush")}
    ends = {f"end by {by}" for by in i.ENDINGS}
    points = {"refused", "bitmap", "several disks", "target raw", "target qcow2", "three at once"}
    assert (verbs | guest | ends | points | {"leave", "known bitmap"}) - drawn == set()


@given(spots, st.sampled_from(SIZES), st.booleans(), st.sampled_from([0, 65536]))
def test_a_spot_is_inside_any_disk(spot: Spot, size: int, aligned: bool, within: int) -> None:
    at, length = spot.on(size, aligned, within)
    assert at >= 0
    assert length > 0
    assert at + length <= size
    assert not aligned or within or (at % 512, length % 512) == (0, 0)
    assert not within or at // within == (at + length - 1) // within
