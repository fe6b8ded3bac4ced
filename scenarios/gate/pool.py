"""Worker processes that run cases side by side; results come back in the order of the cases.

A worker that dies, or that is over the deadline, costs its own case only: another takes its place. However
the parent ends, workers end too, after they have cleaned up what their case had started.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Generic, TypeVar

Task = TypeVar("Task")
Answer = TypeVar("Answer")

CLEAN_UP_S = 15.0


class _Worker:
    """One process; `index` is the task it works on, None while it is idle."""

    def __init__(self, process: BaseProcess, link: Connection) -> None:
        self.process, self.link = process, link
        self.index: int | None = None
        self.since = 0.0


class Pool(Generic[Task, Answer]):
    """Runs `work(task)` for each task in `workers` processes made by fork.

    `lost(task, reason, seconds)` makes the answer for a task whose worker died or took over `deadline_s`.
    `at_end` is called in each worker when there is nothing left to do, or when it has to stop: `last_words`
    holds what it returned in those that were not stopped.
    """

    def __init__(
        self,
        work: Callable[[Task], Answer],
        lost: Callable[[Task, str, float], Answer],
        workers: int,
        deadline_s: float = 300.0,
        at_end: Callable[[], list[str]] = list,
    ) -> None:
        self._work, self._lost, self._at_end = work, lost, at_end
        self._count, self._deadline_s = workers, deadline_s
        self._context = multiprocessing.get_context("fork")
        self._workers: list[_Worker] = []
        self.running: list[Task] = []
        self.last_words: list[str] = []

    def run(
        self, tasks: Sequence[Task], progress: Callable[[int], None], order: Sequence[int] | None = None
    ) -> Iterator[Answer]:
        """Answers in the order of `tasks`, which are run in that order too or by the indices in `order`.
        `progress(done)` is called whenever something starts or ends.

        Leaves no process behind, also when it is closed or interrupted half-way.
        """
        answers: dict[int, Answer] = {}
        waiting = list(reversed(order if order is not None else range(len(tasks))))
        emitted = 0
        try:
            while emitted < len(tasks):
                self._hand_out(tasks, waiting)
                progress(emitted + len(answers))
                answers.update(self._collect(tasks))
                progress(emitted + len(answers))
                while emitted in answers:
                    yield answers.pop(emitted)
                    emitted += 1
            self._hear_last_words()
        finally:
            self._end_all()

    def _hand_out(self, tasks: Sequence[Task], waiting: list[int]) -> None:
        while waiting:
            worker = next((worker for worker in self._workers if worker.index is None), None)
            if worker is None:
                if len(self._workers) >= self._count:
                    break
                worker = self._start(tasks)
            worker.index, worker.since = waiting.pop(), time.monotonic()
            worker.link.send(worker.index)
        self._note_running(tasks)

    def _note_running(self, tasks: Sequence[Task]) -> None:
        self.running = [tasks[worker.index] for worker in self._workers if worker.index is not None]

    def _collect(self, tasks: Sequence[Task]) -> dict[int, Answer]:
        """Wait until a worker has an answer, has died or is late."""
        busy = [worker for worker in self._workers if worker.index is not None]
        patience = min(worker.since + self._deadline_s for worker in busy) - time.monotonic()
        ready = wait([worker.link for worker in busy], max(0.0, patience))
        answers: dict[int, Answer] = {}
        for worker in busy:
            assert worker.index is not None
            index, seconds = worker.index, time.monotonic() - worker.since
            if worker.link in ready:
                try:
                    answers[index] = worker.link.recv()
                    worker.index = None
                except (EOFError, OSError):
                    answers[index] = self._lost(tasks[index], self._obituary(worker), seconds)
            elif seconds >= self._deadline_s:
                self._end([worker])
                answers[index] = self._lost(tasks[index], f"no result after {self._deadline_s:g} s", seconds)
        self._note_running(tasks)
        return answers

    def _hear_last_words(self) -> None:
        """Each worker is told that there is no more to do. All are idle."""
        for worker in self._workers:
            worker.link.send(None)
        for worker in self._workers:
            try:
                if worker.link.poll(CLEAN_UP_S):
                    self.last_words += worker.link.recv()
                else:
                    self.last_words.append(f"a process that ran cases did not end within {CLEAN_UP_S:g} s")
            except (EOFError, OSError):
                self.last_words.append(f"at its end, {self._end_of(worker)}")

    def _obituary(self, worker: _Worker) -> str:
        words = self._end_of(worker)
        self._end([worker])
        return words

    def _end_of(self, worker: _Worker) -> str:
        worker.process.join(CLEAN_UP_S)
        code = worker.process.exitcode
        how = f"by signal {-code}" if code is not None and code < 0 else f"with status {code}"
        return f"the process that ran it ended {how}"

    # ------------------------------------------------------------ processes

    def _start(self, tasks: Sequence[Task]) -> _Worker:
        ours, theirs = self._context.Pipe()
        foreign = [worker.link for worker in self._workers] + [ours]
        arguments = (self._work, self._at_end, tasks, theirs, foreign)
        process = self._context.Process(target=_serve, args=arguments, daemon=True)
        process.start()
        theirs.close()
        worker = _Worker(process, ours)
        self._workers.append(worker)
        return worker

    def _end(self, workers: Sequence[_Worker]) -> None:
        """SIGTERM, time to clean up, SIGKILL."""
        for worker in workers:
            worker.link.close()
            if worker.process.is_alive():
                worker.process.terminate()
        give_up = time.monotonic() + CLEAN_UP_S
        for worker in workers:
            worker.process.join(max(0.0, give_up - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            self._workers.remove(worker)

    def _end_all(self) -> None:
        # A second Ctrl-C must not stop the cleaning up that the first one began.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self._end(list(self._workers))
        finally:
            signal.signal(signal.SIGINT, before)


def _serve(
    work: Callable[[Task], Answer],
    at_end: Callable[[], list[str]],
    tasks: Sequence[Task],
    link: Connection,
    foreign: Sequence[Connection],
) -> None:
    """A worker's life. Other workers' pipes are closed, so that each sees when the parent is gone."""
    for other in foreign:
        other.close()
    # Ctrl-C in a terminal goes to all processes: the parent alone decides, and says it by SIGTERM.
    signal.signal(signal.SIGINT, _ignore)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        try:
            while (index := link.recv()) is not None:
                link.send(work(tasks[index]))
            link.send(at_end())
        finally:
            # From here on nothing is to interrupt the cleaning up. An interruption right here is the last.
            signal.signal(signal.SIGTERM, _ignore)
    except (EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        at_end()
    # Not sys.exit: what the parent had open and registered is the parent's to flush and to clean up.
    os._exit(0)


def _ignore(number: int, frame: FrameType | None) -> None:
    # A handler rather than SIG_IGN, which programs started from here would inherit.
    del number, frame


def _interrupt(number: int, frame: FrameType | None) -> None:
    del frame
    signal.signal(number, _ignore)
    raise KeyboardInterrupt
