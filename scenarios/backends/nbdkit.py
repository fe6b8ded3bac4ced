"""nbdkit as the storage of a real machine's disk: filters of its own make it slow or hold it; errors that are
counted come from its eval plugin, request by request in the order in which they arrive."""

from __future__ import annotations

import asyncio
import itertools
import os
from pathlib import Path
from shlex import quote

from scenarios.backends.interface import SetupError
from scenarios.backends.processes import Child, deadline, find_program
from scenarios.backends.run_directory import RunDirectory
from scenarios.backends.tools import find_tool
from scenarios.language.steps import Fault

PROGRAM = "nbdkit"
_READY_NS = 10_000_000_000
_LOOK_AGAIN_S = 0.002
_BITS = 8

# The plugin's method that a kind of request comes to.
_METHODS = {"read": "pread", "write": "pwrite", "write-zeroes": "zero", "discard": "trim", "flush": "flush"}


class Nbdkit:
    """`StorageServer` for one image file. Its sockets are in the run directory, where every machine's
    programs can reach them, beside the machine's own, where they would be something left behind."""

    _numbers = itertools.count(1)

    def __init__(self, place: RunDirectory, image: Path, fault: Fault) -> None:
        self._place, self._image, self._fault = place, image, fault
        number = next(self._numbers)
        self._socket, self._control, self._ready = (
            place.path / f"{what}-{number}" for what in ("nbd", "pause", "ready")
        )
        self.address = {"type": "unix", "path": str(self._socket)}
        self._child: Child | None = None

    async def start(self) -> None:
        """Raises SetupError."""
        await self._start(_serving(self._image, self._fault, self._control))

    async def _start(self, what: list[str]) -> None:
        for path in (self._socket, self._control, self._ready):
            path.unlink(missing_ok=True)
        # Its plugin keeps files, which are to go when it is killed.
        command = [find_program("env"), f"TMPDIR={self._place.path}", find_tool(PROGRAM), "-f"]
        command += ["-U", str(self._socket), "-P", str(self._ready), *what]
        self._child = child = Child.start(command, self._place, name=PROGRAM)
        async with deadline(f"{PROGRAM} to listen on {self._socket}", _READY_NS):
            while not self._ready.exists():
                if child.status is not None:
                    raise SetupError(f"{' '.join(command[2:])}: {child.describe()}")
                await asyncio.sleep(_LOOK_AGAIN_S)

    async def strike(self) -> None:
        if self._fault.pause:
            await self._tell(b"p", b"P")
        elif self._fault.lost:
            await self.close()

    async def heal(self) -> None:
        if self._fault.pause:
            await self._tell(b"r", b"R")
        elif self._fault.lost:
            await self._start(["file", str(self._image)])

    async def _tell(self, order: bytes, expected: bytes) -> None:
        """To the pause filter, which answers when it is done (nbdkit-pause-filter(1))."""
        async with deadline(f"{PROGRAM} to answer {order!r} on {self._control}", _READY_NS):
            reader, writer = await asyncio.open_unix_connection(str(self._control))
            try:
                writer.write(order)
                answer = await reader.readexactly(1)
            finally:
                writer.close()
        if answer != expected:
            raise SetupError(f"{PROGRAM}: expected {expected!r} from its pause filter, got {answer!r}")

    async def close(self) -> None:
        if self._child is not None:
            child, self._child = self._child, None
            await child.kill_and_wait()
        for path in (self._socket, self._control, self._ready):
            path.unlink(missing_ok=True)


def _serving(image: Path, fault: Fault, control: Path) -> list[str]:
    """Filters, plugin and their settings."""
    file = ["file", str(image)]
    if fault.delay is not None:
        delay = f"{fault.delay // 1_000_000}ms"
        return ["--filter=delay", *file, f"rdelay={delay}", f"wdelay={delay}"]
    if fault.rate is not None:
        return ["--filter=rate", *file, f"rate={fault.rate * _BITS}"]
    if fault.pause:
        return ["--filter=pause", *file, f"pause-control={control}"]
    return file if fault.lost else ["eval", *_scripts(image, fault)]


def _scripts(image: Path, fault: Fault) -> list[str]:
    """Methods of the eval plugin: $3 is a request's length, $4 its offset, $5 its flags, and $tmpdir is the
    plugin's own. One request at a time, so that counting them is exact."""
    file = quote(str(image))
    methods = {
        "pread": f"dd if={file} bs=64k iflag=skip_bytes,count_bytes skip=$4 count=$3 status=none",
        "pwrite": f"dd of={file} bs=64k iflag=fullblock oflag=seek_bytes seek=$4 conv=notrunc status=none",
        "zero": f"case $5 in *may_trim*) how=-p;; *) how=-z;; esac; fallocate $how -o $4 -l $3 {file}",
        "trim": f"fallocate -p -o $4 -l $3 {file}",
        "flush": f"sync -d {file}",
    }
    count = 'n=$(cat "$tmpdir/n" 2>/dev/null || echo 0); echo $((n + 1)) > "$tmpdir/n"'
    method = _METHODS[fault.on]
    # What is to be written comes on standard input, and only then does that end.
    take = "cat > /dev/null; " if method == "pwrite" else ""
    refuse = f"{take}echo {fault.error} >&2; exit 1"
    hit = f'if [ "$n" -ge {fault.skip} ] && [ "$n" -lt {fault.skip + fault.times} ]'
    methods[method] = f"{count}; {hit}; then {refuse}; fi; {methods[method]}"
    can = {f"can_{name}": "exit 0" for name in ("write", "flush", "trim", "zero")}
    size = os.stat(image).st_size
    settings = {"get_size": f"echo {size}", "thread_model": "echo serialize_all_requests", **can, **methods}
    return [f"{name}={script}" for name, script in settings.items()]
