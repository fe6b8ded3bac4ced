"""Workers answer in order, and nothing they start outlives them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scenarios.gate.pool import Pool

ROOT = Path(__file__).parents[3]


def lost(task: int, reason: str, seconds: float) -> str:
    del seconds
    return f"{task} lost: {reason}"


def quiet(done: int) -> None:
    del done


def is_alive(pid: int) -> bool:
    """A zombie counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pids: list[int]) -> list[int]:
    """The pids that are still there after ten seconds."""
    give_up = time.monotonic() + 10
    while time.monotonic() < give_up and any(is_alive(pid) for pid in pids):
        time.sleep(0.02)
    return [pid for pid in pids if is_alive(pid)]


def test_tasks_run_in_another_order_and_answers_do_not(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def work(task: int) -> int:
        with log.open("a") as file:
            file.write(str(task))
        return task

    assert list(Pool(work, lost, 1).run(range(4), quiet, [2, 0, 3, 1])) == [0, 1, 2, 3]
    assert log.read_text() == "2031"


def test_every_worker_has_a_last_word() -> None:
    def work(task: int) -> int:
        time.sleep(0.1)
        return task

    pool = Pool(work, lost, 2, at_end=lambda: [f"{os.getpid()} is done"])
    assert list(pool.run(range(4), quiet)) == [0, 1, 2, 3]
    assert len(set(pool.last_words)) == 2


def test_a_worker_that_dies_at_its_end_is_told_of() -> None:
    def die() -> list[str]:
        os.kill(os.getpid(), signal.SIGKILL)
        return []

    pool = Pool(lambda task: task, lost, 1, at_end=die)
    assert list(pool.run(range(1), quiet)) == [0]
    assert pool.last_words == ["at its end, the process that ran it ended by signal 9"]


def test_answers_come_in_the_order_of_the_tasks() -> None:
    def work(task: int) -> str:
        time.sleep(0.05 * (5 - task))
        return f"{task} by {os.getpid()}"

    answers = list(Pool(work, lost, 3).run(range(5), quiet))
    assert [answer.split()[0] for answer in answers] == ["0", "1", "2", "3", "4"]
    assert str(os.getpid()) not in [answer.split()[2] for answer in answers]


def test_work_is_side_by_side(tmp_path: Path) -> None:
    """Each task waits until both have begun: one worker alone would never get there."""

    def work(task: int) -> bool:
        (tmp_path / str(task)).touch()
        give_up = time.monotonic() + 10
        while time.monotonic() < give_up:
            if all((tmp_path / str(other)).exists() for other in range(2)):
                return True
            time.sleep(0.01)
        return False

    assert list(Pool(work, lost, 2).run(range(2), quiet)) == [True, True]


def test_a_worker_that_dies_costs_its_own_task_only() -> None:
    def work(task: int) -> str:
        if task == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if task == 3:
            os._exit(7)
        return f"{task} done"

    assert list(Pool(work, lost, 2).run(range(5), quiet)) == [
        "0 done",
        "1 lost: the process that ran it ended by signal 9",
        "2 done",
        "3 lost: the process that ran it ended with status 7",
        "4 done",
    ]


def test_a_worker_that_is_late_is_ended(tmp_path: Path) -> None:
    def work(task: int) -> str:
        if task == 0:
            (tmp_path / "pid").write_text(str(os.getpid()))
            time.sleep(60)
        return f"{task} done"

    begin = time.monotonic()
    answers = list(Pool(work, lost, 1, deadline_s=0.5).run(range(2), quiet))
    assert answers == ["0 lost: no result after 0.5 s", "1 done"]
    assert time.monotonic() - begin < 10
    assert wait_until_gone([int((tmp_path / "pid").read_text())]) == []


def test_an_interrupted_run_cleans_up_first(tmp_path: Path) -> None:
    def work(task: int) -> None:
        try:
            (tmp_path / f"{task}.pid").write_text(str(os.getpid()))
            time.sleep(60)
        finally:
            (tmp_path / f"{task}.cleaned").touch()

    def interrupt(done: int) -> None:
        del done
        if len(list(tmp_path.glob("*.pid"))) == 2:
            raise KeyboardInterrupt

    pool = Pool(work, lost, 2, deadline_s=0.2)
    with pytest.raises(KeyboardInterrupt):
        list(pool.run(range(20), interrupt))
    assert len(list(tmp_path.glob("*.cleaned"))) >= 2
    assert wait_until_gone([int(file.read_text() or 0) for file in tmp_path.glob("*.pid")]) == []


PARENT = """
import sys, time, os, pathlib
from scenarios.gate.pool import Pool
folder = pathlib.Path(sys.argv[1])
def work(task):
    (folder / f"{task}.pid").write_text(str(os.getpid()))
    time.sleep(1.0)
list(Pool(work, lambda *a: None, 2).run(range(20), lambda done: None))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_their_parent(tmp_path: Path, number: signal.Signals) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        give_up = time.monotonic() + 20
        while time.monotonic() < give_up and len(list(tmp_path.glob("*.pid"))) < 2:
            time.sleep(0.02)
        if number == signal.SIGINT:
            os.killpg(parent.pid, number)  # as a terminal does: to parent and workers at once
        else:
            parent.kill()
        parent.wait(20)
        pids = [int(file.read_text() or 0) for file in tmp_path.glob("*.pid")]
        assert len(pids) >= 2
        assert wait_until_gone(pids) == []
    finally:
        if parent.poll() is None:
            parent.kill()
            parent.wait()
