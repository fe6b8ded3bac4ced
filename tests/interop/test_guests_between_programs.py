"""A guest of the simulator's goes to no real QEMU, nor one of QEMU's to the simulator: both sides say so, and
nothing hangs. Between two programs of a kind it goes."""

from __future__ import annotations

from pathlib import Path

import pytest
from both_programs import NONE, SYSTEM, Running, start, wait_until

TOLD = [{"capability": "events", "state": True}]
OPTIONS = ("-S", "-blockdev", "driver=null-co,node-name=n,size=1048576")


def pair(tmp_path: Path, is_real: tuple[bool, bool]) -> tuple[Running, Running]:
    """The machine that a guest is in, and the one that waits for it."""
    places = [tmp_path / name for name in ("here", "there")]
    for place in places:
        place.mkdir()
    waits = ("-incoming", f"unix:{tmp_path}/m")
    # An RTC and the like are of the board alone; without a board QEMU has nothing but memory to send.
    here = start(SYSTEM, is_real[0], places[0], OPTIONS, base=(*NONE, "-m", "1"))
    there = start(SYSTEM, is_real[1], places[1], (*OPTIONS, *waits), base=(*NONE, "-m", "1"))
    return here, there


def state(machine: Running) -> str:
    found: str = machine.qmp("query-migrate").get("status", "")
    return found


@pytest.mark.parametrize(
    ("is_real", "words"),
    [
        ((False, True), "Not a migration stream"),
        ((True, False), "a simulator takes guests from simulators only, and this is a stream of QEMU's"),
    ],
    ids=["from the simulator", "to the simulator"],
)
def test_neither_takes_the_other_s(is_real: tuple[bool, bool], words: str, tmp_path: Path) -> None:
    here, there = pair(tmp_path, is_real)
    with here, there:
        here.negotiate()
        there.negotiate()
        assert here.qmp("migrate", {"uri": f"unix:{tmp_path}/m"}) == {}
        assert there.wait() == 1
        assert words in there.printed()[1]
        wait_until(lambda: state(here) in ("completed", "failed"), "the migration to end")
        # What QEMU sends of a machine without memory may be gone before anybody refuses it.
        assert state(here) == "failed" or is_real[0]
        assert here.qmp("quit") == {}
        assert here.wait() == 0


@pytest.mark.parametrize("is_real", [True, False], ids=["real", "simulated"])
def test_those_of_a_kind_take_each_other_s(is_real: bool, tmp_path: Path) -> None:
    here, there = pair(tmp_path, (is_real, is_real))
    with here, there:
        for machine in (here, there):
            machine.negotiate()
            machine.qmp("migrate-set-capabilities", {"capabilities": TOLD})
        assert here.qmp("migrate", {"uri": f"unix:{tmp_path}/m"}) == {}
        for machine in (here, there):
            wait_until(lambda machine=machine: state(machine) == "completed", "the migration to end")
        here.gather(0.05)
        there.gather(0.05)
        seen = [
            [event["data"]["status"] for event in each.events if event["event"] == "MIGRATION"]
            for each in (here, there)
        ]
        assert seen == [["setup", "active", "completed"], ["active", "completed"]]
        assert there.qmp("query-migrate") == {"status": "completed"}
        assert here.qmp("query-status")["status"] == "postmigrate"
        assert there.qmp("query-status")["status"] == "prelaunch"
        assert not (tmp_path / "m").exists()
