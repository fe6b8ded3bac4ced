"""How many points in time a spec stacks up on each disk, and how they are named."""

from __future__ import annotations

import pytest

from scenarios.language.steps import Crash, Disk, End, Fleece, Scenario, Step
from scenarios.run.points import Eras, Part


def fleece(name, *disks, **members):
    return Step(fleece=Fleece(id=name, disks=list(disks or ("vda",)), **members))


def end(name):
    return Step(end=End(id=name))


@pytest.mark.parametrize(
    ("steps", "eras"),
    [
        ([], []),
        ([fleece("a")], [1]),
        ([fleece("a"), end("a"), fleece("a"), end("a")], [1, 1]),
        ([fleece("a"), fleece("b"), end("a"), fleece("c"), end("b"), end("c"), fleece("d")], [3, 1]),
        ([fleece("a"), Step(crash=Crash()), fleece("b")], [1, 1]),
        ([fleece("a"), fleece("b", error="no"), end("a")], [2]),
        ([Step(together=[[fleece("a"), end("a")], [fleece("b"), end("b")]]), fleece("c")], [2, 1]),
        ([fleece("a", "vdb"), fleece("b", "vda", "vdb"), end("a"), end("b")], [1]),
    ],
)
def test_eras(steps, eras):
    scenario = Scenario(name="x", disks={"vda": Disk(size=512), "vdb": Disk(size=512)}, steps=steps)
    assert Eras(scenario).by_disk["vda"] == eras


def test_more_than_the_spec_tells_is_one():
    found = Eras(Scenario(name="x", disks={"vda": Disk(size=512)}, steps=[fleece("a"), fleece("b")]))
    assert [found.next_of("vda"), found.next_of("vda")] == [2, 1]


def test_names_of_nodes_are_never_too_long():
    part = Part("a" * 20, "b" * 20, 0)
    assert part.export == "a" * 20 + "-" + "b" * 20
    assert len(part.node) <= 31
