"""A second machine, and what is wrong with it or on the way there: each is a finding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from scenarios.backends.registry import open_backend
from scenarios.gate.case import SPECS
from scenarios.judges import judge_all
from scenarios.language.loader import load_file, load_text
from scenarios.run.history import DiskAdded, GuestOp, History, Residue
from scenarios.run.runner import CaseResult, run_case
from simulator.block import activity
from simulator.block.drivers import qcow2_bitmaps
from simulator.jobs.mirror_copying import MirrorCopying
from simulator.monitor import migrated_bitmaps
from simulator.monitor.arriving import Arrival
from simulator.monitor.migrated_bitmaps import Arrivals, Leaving

HEAD = "name: two\ndisks: {vda: {size: 1M}}\ndestination: {images: IMAGES}\nsteps:\n"


def run(scenario: Any) -> CaseResult:
    return run_case(scenario, open_backend("sim:7.2"), None, 0)


def spec(name: str) -> Any:
    return load_file(SPECS / f"migration/{name}.yaml")


def told(result: CaseResult) -> dict[str, list[str]]:
    """What each judge found, by its name."""
    return {
        verdict.judge: [finding.explanation for finding in verdict.findings]
        for verdict in result.verdicts
        if verdict.findings
    }


def test_steps_on_it_are_recorded_in_its_own_history_by_the_same_clock() -> None:
    steps = "  - guest: {write: {at: 0, length: 4k}}\n  - destination: [{qmp: {execute: query-status}}]\n"
    result = run(load_text(HEAD.replace("IMAGES", "fresh") + steps))
    assert result.outcome == "holds"
    history = result.history
    assert history is not None
    assert history.destination is not None
    assert [record.disk for record in history.destination.of(DiskAdded)] == ["vda"]
    assert history.destination.of(GuestOp) == []
    assert {record.machine for record in history.destination.records} == {"destination"}
    assert {record.machine for record in history.records} == {""}
    begins = [record.begin for record in history.of_both()]
    assert begins == sorted(set(begins))
    assert [record.step for record in history.destination.records if record.step] == ["2.1"]


def test_a_disk_that_is_to_be_copied_and_is_not() -> None:
    steps = "  - guest: {write: {at: 0, length: 4k}}\n"
    assert run(load_text(HEAD.replace("IMAGES", "fresh") + steps)).outcome == "holds"
    [explanation] = told(run(load_text(HEAD.replace("IMAGES", "copied") + steps)))["guest_intact"]
    assert "must hold 0x01 (guest's write, step 1)" in explanation


def test_what_its_guest_writes_to_a_shared_disk_is_looked_for_there() -> None:
    result = run(spec("bitmaps_go_along_on_shared_image"))
    history = result.history
    assert history is not None
    assert history.destination is not None
    assert history.of(GuestOp)
    assert set(map(id, history.of(GuestOp))) <= set(map(id, history.destination.of(GuestOp)))


def test_a_judge_tells_what_is_wrong_with_either() -> None:
    history = History(scenario="x", backend="none")
    there = history.begin_destination()
    there.records.append(Residue(begin=there.tick(), kind="job", name="j"))
    [left] = [verdict for verdict in judge_all(history) if verdict.judge == "nothing_left"]
    assert (left.outcome, len(left.findings)) == ("invalid", 1)
    history.records.append(Residue(begin=history.tick(), kind="node", name="n"))
    [left] = [verdict for verdict in judge_all(history) if verdict.judge == "nothing_left"]
    assert [each.evidence[0].begin for each in left.findings] == [2, 1]


def test_what_is_left_of_it_must_be_said() -> None:
    steps = "  - destination: [{qmp: {execute: block-dirty-bitmap-add, arguments: {node: vda, name: b}}}]\n"
    text = HEAD.replace("IMAGES", "fresh") + steps
    assert told(run(load_text(text))) == {"nothing_left": ["bitmap vda/b is left"]}
    assert run(load_text(text.replace("fresh", 'fresh, leaves: ["bitmap:vda/b"]'))).outcome == "holds"


# ---------------------------------------------------------------- bugs


def _loses_last_bits(original: Any) -> Any:
    return lambda self: (original(self)[0], [])


def _forgets_persistence(original: Any) -> Any:
    return lambda self, *given: original(self, *given[:-1], False)


def _does_nothing(original: Any) -> Any:
    return lambda *given: None


def _does_nothing_later(original: Any) -> Any:
    async def nothing(*given: Any) -> None:
        return None

    return nothing


def _stores_all(original: Any) -> Any:
    async def store(driver: Any) -> None:
        gone_along = [bitmap for bitmap in driver.node.bitmaps if bitmap.skip_store]
        for bitmap in gone_along:
            bitmap.skip_store = False
        await original(driver)
        for bitmap in gone_along:
            bitmap.skip_store = True

    return store


def _knows_no_names(original: Any) -> Any:
    return lambda graph, mapping: original(graph, None)


def _goes_on_listening(original: Any) -> Any:
    def finish(self: Arrival) -> None:
        self._listener.close = lambda: None  # type: ignore[method-assign]
        original(self)

    return finish


@pytest.mark.parametrize(
    ("owner", "method", "make", "scenario", "judge"),
    [
        (Leaving, "next_chunk", _loses_last_bits, "bitmaps_go_along", "expectations"),
        (Leaving, "next_chunk", _loses_last_bits, "postcopy", "expectations"),
        (Arrivals, "begin", _forgets_persistence, "bitmaps_go_along", "expectations"),
        (Arrivals, "before_guest_runs", _does_nothing, "postcopy", "expectations"),
        (Arrivals, "lose", _does_nothing, "postcopy_source_dies", "expectations"),
        (Arrivals, "lose", _does_nothing, "postcopy_destination_quits", "expectations"),
        (qcow2_bitmaps, "store", _stores_all, "postcopy", "expectations"),
        (qcow2_bitmaps, "store", _stores_all, "bitmaps_go_along_on_shared_image", "expectations"),
        (migrated_bitmaps, "collect", _knows_no_names, "aliases_of_source", "expectations"),
        (activity, "inactivate_all", _does_nothing_later, "bitmaps_go_by_shared_image", "expectations"),
        (MirrorCopying, "repeat_write", _does_nothing_later, "storage_goes_along", "guest_intact"),
        (Arrival, "_finish", _goes_on_listening, "bitmaps_go_along", "nothing_left"),
    ],
)
def test_a_bug_on_the_way_is_found(
    owner: Any,
    method: str,
    make: Callable[[Any], Any],
    scenario: str,
    judge: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(owner, method, make(getattr(owner, method)))
    assert judge in told(run(spec(scenario)))
