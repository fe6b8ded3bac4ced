"""What all subcommands stand on: one process of the host with a graph of its own, and where output goes."""

from __future__ import annotations

from simulator.block import permissions
from simulator.block.backend import BlockBackend
from simulator.block.errors import QmpError
from simulator.block.graph import Graph
from simulator.block.host import Host, HostProcess, LockError
from simulator.block.opening import probe
from simulator.block.probing import PROBED_RAW
from simulator.engine.chance import Chance
from simulator.engine.scheduler import Scheduler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any, TypeVar

    from simulator.block.node import Node

    T = TypeVar("T")


class ToolError(Exception):
    """Ends the command: str() goes after "qemu-img: ", and a newline behind it."""

    def __init__(self, message: str, status: int = 1, newline: bool = True) -> None:
        super().__init__(message)
        self.status = status
        self.newline = newline


def described(error: QmpError) -> str:
    """An error with the hint that tools print on the next line."""
    return f"{error.desc}\n{error.hint}" if isinstance(error, LockError) else error.desc


class Bench:
    def __init__(self, host: Host) -> None:
        self.process = HostProcess(host)
        self.stdout: list[str] = []
        self.stderr: list[str] = []
        self._scheduler = Scheduler()
        self._opened: list[BlockBackend] = []
        self.graph = Graph(self._scheduler, self.process, Chance(0))

    def print(self, text: str) -> None:
        self.stdout.append(text + "\n")

    def error(self, text: str) -> None:
        self.stderr.append(f"qemu-img: {text}\n")

    def finish(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run to the end; nothing outside this bench is waited for."""
        result: T = self._scheduler.run_until(self._scheduler.spawn(coroutine, "qemu-img"))
        return result

    @staticmethod
    def node_of(backend: BlockBackend) -> Node:
        node = backend.node
        assert node is not None, "an image that was opened stands on a node"
        return node

    def format_of(self, path: str, image_format: str | None) -> str:
        """The format given, or probed."""
        if image_format is not None:
            return image_format
        try:
            found = probe(self.graph, path)
        except QmpError as error:
            raise ToolError(f"Could not open '{path}': {described(error)}") from None
        return found

    async def open(
        self, path: str, image_format: str | None = None, writable: bool = False, backing: bool = True,
        force_share: bool = False, io: bool = True,
    ) -> BlockBackend:  # fmt: skip
        """An image as a tool opens it (blk_new_open): it takes what it needs and shares all. Raises
        ToolError.

        `io` False: only what the image says of itself is wanted, not its bytes.
        """
        options: dict[str, Any] = {
            "driver": self.format_of(path, image_format),
            "read-only": not writable,
            "force-share": force_share,
            "discard": "unmap",
            "file": {"driver": "file", "filename": path},
        }
        if not backing and options["driver"] == "qcow2":
            options["backing"] = None
        perm = permissions.CONSISTENT_READ if io else 0
        if writable:
            perm |= permissions.WRITE | permissions.RESIZE
        backend = BlockBackend(self.graph, "", perm, permissions.ALL)
        try:
            node = await self.graph.open(options)
            if image_format is None and options["driver"] == "raw" and writable:
                self.stderr.append(PROBED_RAW.format(path) + "\n")
            try:
                backend.insert(node)
            except QmpError:
                await self.graph.release(node)
                raise
        except QmpError as error:
            raise ToolError(f"Could not open '{path}': {described(error)}") from None
        self._opened.append(backend)
        return backend

    async def close_all(self) -> None:
        """A command that fails closes its images like one that ends well."""
        while self._opened:
            await self.close(self._opened[-1])

    async def close(self, backend: BlockBackend) -> None:
        self._opened.remove(backend)
        await backend.remove()
        for warning in self.graph.warnings:
            self.error(f"warning: {warning}")
        self.graph.warnings.clear()
