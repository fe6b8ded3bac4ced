"""Descriptors that a client of the monitor has passed, in sets that file names of /dev/fdset/N lead to.

Source: monitor_fdset_add_fd and the functions around it, monitor/misc.c, 7.2.
"""

from __future__ import annotations

from errno import EACCES, EINVAL, ENOENT, ENOSYS

from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from simulator.block.host import Host

PREFIX = "/dev/fdset/"


class Passed:
    """A descriptor in a set."""

    __slots__ = ("fd", "opaque", "removed")

    def __init__(self, fd: int, opaque: str | None) -> None:
        self.fd, self.opaque = fd, opaque
        self.removed = False


class FdSet:
    """`passed` newest first; `opened` counts files that were opened by one of them and are open still."""

    __slots__ = ("opened", "passed")

    def __init__(self) -> None:
        self.passed: list[Passed] = []
        self.opened = 0


class FdSets:
    """By number. A set that no file is open from loses its descriptors when the last monitor's client leaves;
    while the machine stands still, nothing is closed."""

    def __init__(self, host: Host, is_running: Callable[[], bool], can_open: bool) -> None:
        """`can_open`: whether files can be opened from them. A storage daemon has no such thing."""
        self._host, self._is_running, self._can_open = host, is_running, can_open
        self._sets: dict[int, FdSet] = {}
        self.has_clients = False

    def add(self, fd: int, number: int | None, opaque: str | None) -> int:
        """The number of the set: as given, or the first that is free. Raises QmpError, and the descriptor is
        the caller's still."""
        if number is None:
            number = next(free for free in range(len(self._sets) + 1) if free not in self._sets)
        if number < 0:
            raise QmpError("Parameter 'fdset-id' expects a non-negative value")
        self._sets.setdefault(number, FdSet()).passed.insert(0, Passed(fd, opaque))
        return number

    def remove(self, number: int, fd: int | None) -> None:
        """One descriptor, or all. Raises QmpError."""
        fdset = self._sets.get(number)
        chosen = [] if fdset is None else [each for each in fdset.passed if fd in (None, each.fd)]
        if fdset is None or (fd is not None and not chosen):
            name = f"fdset-id:{number}" + (f", fd:{fd}" if fd is not None else "")
            raise QmpError(f"File descriptor named '{name}' not found")
        for each in chosen:
            each.removed = True
        self._clean_up(number)

    def open(self, path: str, writable: bool) -> tuple[int, int]:
        """(the set's number, the descriptor that a file is to be opened by). Raises OSError."""
        text = path.removeprefix(PREFIX)
        if not text.isdigit():
            raise OSError(EINVAL, "no number")
        if not self._can_open:
            raise OSError(ENOSYS, "no sets")
        fdset = self._sets.get(int(text))
        if fdset is None:
            raise OSError(ENOENT, "no such set")
        for each in fdset.passed:
            if self._host.may_open(each.fd, writable):
                fdset.opened += 1
                return int(text), each.fd
        raise OSError(EACCES, "no descriptor of that kind")

    def closed(self, number: int) -> None:
        """A file that was opened from that set."""
        self._sets[number].opened -= 1
        if not self._sets[number].opened:
            self._clean_up(number)

    def client_gone(self, is_last: bool) -> None:
        self.has_clients = not is_last
        for number in list(self._sets):
            self._clean_up(number)

    def _clean_up(self, number: int) -> None:
        fdset = self._sets[number]
        unused = not fdset.opened and not self.has_clients
        for each in list(fdset.passed):
            if (each.removed or unused) and self._is_running():
                fdset.passed.remove(each)
                self._host.close_descriptor(each.fd)
        if not fdset.passed and not fdset.opened:
            del self._sets[number]

    def describe(self) -> list[dict[str, Any]]:
        """FdsetInfo of each, the highest number first; descriptors oldest first."""
        return [
            {
                "fdset-id": number,
                "fds": [
                    {"fd": each.fd, **({} if each.opaque is None else {"opaque": each.opaque})}
                    for each in reversed(self._sets[number].passed)
                ],
            }
            for number in sorted(self._sets, reverse=True)
        ]
