"""External programs beside the in-process simulator: qemu-img on files in memory is answered by the
simulator's own; anything else is the real program, for which the machine's NBD server and files are put on
the host while it runs."""

from __future__ import annotations

import selectors
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scenarios.backends.interface import DeadlinePassed, SetupError
from scenarios.backends.tools import find_tool
from scenarios.language.steps import Disk
from simulator import image_tool

if TYPE_CHECKING:
    from scenarios.backends.sim_session import SimSession
    from simulator.block.memory_host import MemoryHost

# Virtual time that passes while the program runs on the host, a poll at a time.
_POLL_NS = 1_000_000
_CHUNK_BYTES = 1 << 18


def create_image(host: MemoryHost, path: str, disk: Disk) -> None:
    """An image of the disk's size and format that reads as zeroes, as images.create_image makes it on a real
    host. Raises SetupError."""
    if disk.format == "raw":
        file = host.open(path, create=True)
        file.truncate(disk.size)
        file.close()
        return
    options = ["-o", f"cluster_size={disk.cluster}"] if disk.cluster is not None else []
    argv = ["create", "-q", "-f", disk.format, *options, path, str(disk.size)]
    status, _, stderr = image_tool.run(host, argv)
    if status:
        raise SetupError(f"qemu-img {' '.join(argv)}: {stderr.strip()}")


async def run_tool(session: SimSession, argv: list[str], timeout_ns: int) -> tuple[int, bytes, str]:
    """Status, standard output, standard error; see Session.tool. Raises SetupError, DeadlinePassed."""
    if argv[0] == "qemu-img" and not any("nbd+unix:" in word or session.nbd_path in word for word in argv):
        status, out, err = image_tool.run(session.host, argv[1:])
        return status, out.encode(), err
    program = find_tool(argv[0])
    with tempfile.TemporaryDirectory(prefix="goldenfleece-tool-") as name:
        directory = Path(name)
        given = _put_files(session, directory, argv)
        words = [word.replace(f"{session.directory}/", f"{name}/") for word in argv[1:]]
        bridge = _Bridge(session, directory / Path(session.nbd_path).name)
        try:
            result = await _run(session, bridge, [program, *words], directory, timeout_ns)
        finally:
            bridge.close()
        _take_files(session, directory, given)
    return result


def _put_files(session: SimSession, directory: Path, argv: list[str]) -> dict[str, bytes]:
    """Files in memory that the command names become files of the host: their contents by name."""
    given = {}
    for path in list(session.host.files()):
        place = Path(path)
        if place.parent == session.directory and any(path in word or place.name in word for word in argv):
            given[place.name] = bytes(session.host.read_all(path))
            (directory / place.name).write_bytes(given[place.name])
    return given


def _take_files(session: SimSession, directory: Path, given: dict[str, bytes]) -> None:
    """What the program wrote becomes a file in memory. One that it left as it was may have changed there, by
    the machine's doing."""
    for place in directory.iterdir():
        if place.is_file():
            content = place.read_bytes()
            if content != given.get(place.name):
                session.host.write_all(str(session.directory / place.name), content)


async def _run(
    session: SimSession, bridge: _Bridge, argv: list[str], directory: Path, timeout_ns: int
) -> tuple[int, bytes, str]:
    with (directory / ".out").open("w+b") as out, (directory / ".err").open("w+b") as err:
        with _child(argv, directory, out, err) as child:
            waited_ns = 0
            while child.poll() is None:
                busy = bridge.pump()
                await session.sleep(0 if busy else _POLL_NS)
                waited_ns += 0 if busy else _POLL_NS
                if waited_ns > timeout_ns:
                    raise DeadlinePassed(f"the end of {' '.join(argv)}", timeout_ns)
        out.seek(0)
        err.seek(0)
        result = child.returncode, out.read(), err.read().decode(errors="replace")
    (directory / ".out").unlink()
    (directory / ".err").unlink()
    return result


@contextmanager
def _child(argv: list[str], directory: Path, out: Any, err: Any) -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(argv, cwd=directory, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
    try:
        yield child
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()


class _Bridge:
    """The machine's NBD server on a real unix socket. `pump` moves what bytes there are and never waits
    long."""

    def __init__(self, session: SimSession, path: Path) -> None:
        self._session = session
        self._selector = selectors.DefaultSelector()
        self._endpoints: dict[socket.socket, tuple[Any, bytearray]] = {}
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)

    def pump(self) -> bool:
        """Whether anything moved. Waits at most a millisecond for it."""
        if self._session.is_stopped:
            return False
        moved = self._send_all()
        for key, _ in self._selector.select(0 if moved else _POLL_NS / 1e9):
            moved = True
            if key.fileobj is self._listener:
                self._accept()
            else:
                self._receive(key.fileobj)  # type: ignore[arg-type]
        return moved

    def _accept(self) -> None:
        sock, _ = self._listener.accept()
        try:
            endpoint = self._session.machine.connect_nbd()
        except ConnectionRefusedError:
            sock.close()
            return
        sock.setblocking(False)
        self._endpoints[sock] = (endpoint, bytearray())
        self._selector.register(sock, selectors.EVENT_READ)

    def _receive(self, sock: socket.socket) -> None:
        try:
            payload = sock.recv(_CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            payload = b""
        if payload:
            self._endpoints[sock][0].receive(payload)
        else:
            self._drop(sock)

    def _send_all(self) -> bool:
        moved = False
        for sock, (endpoint, unsent) in list(self._endpoints.items()):
            unsent += endpoint.output()
            if unsent:
                try:
                    del unsent[: sock.send(unsent)]
                    moved = True
                except BlockingIOError:
                    pass
                except OSError:
                    self._drop(sock)
                    continue
            if endpoint.closed and not unsent:
                self._drop(sock)
        return moved

    def _drop(self, sock: socket.socket) -> None:
        endpoint, _ = self._endpoints.pop(sock)
        endpoint.receive_eof()
        self._selector.unregister(sock)
        sock.close()

    def close(self) -> None:
        for sock in list(self._endpoints):
            self._drop(sock)
        self._listener.close()
        self._selector.close()
