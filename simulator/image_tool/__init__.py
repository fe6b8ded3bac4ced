"""qemu-img on any Host, without QEMU: the same arguments, messages, exit status and image locks (qemu-img.c,
7.2)."""

from __future__ import annotations

from simulator.image_tool.bench import Bench, ToolError
from simulator.image_tool.options import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from simulator.block.host import Host

# Subcommand -> (module, function)
_COMMANDS = {
    "bitmap": ("bitmaps", "bitmap"),
    "check": ("report", "check"),
    "compare": ("transfer", "compare"),
    "convert": ("transfer", "convert"),
    "create": ("create", "create"),
    "info": ("report", "info"),
    "map": ("report", "map_extents"),
    "rebase": ("change", "rebase"),
    "resize": ("change", "resize"),
}


def run(host: Host, argv: Sequence[str]) -> tuple[int, str, str]:
    """Run ``qemu-img argv...`` to its end: (exit status, standard output, standard error).

    What the simulated tool lacks (such as commit, snapshot, or an encrypted image) ends with status 1 and
    says so.
    """
    bench = Bench(host)
    try:
        status = _run(bench, list(argv))
    except ToolError as failure:
        bench.finish(bench.close_all())
        bench.stderr.append(f"qemu-img: {failure}" + ("\n" if failure.newline else ""))
        status = failure.status
    except UsageError as usage:
        bench.error(str(usage))
        bench.stderr.append("Try 'qemu-img --help' for more information\n")
        status = 1
    finally:
        bench.process.kill()
    return status, "".join(bench.stdout), "".join(bench.stderr)


def _run(bench: Bench, argv: list[str]) -> int:
    from importlib import import_module

    if not argv:
        raise UsageError("Not enough arguments")
    place = _COMMANDS.get(argv[0])
    if place is None:
        raise UsageError(f"Command not found: {argv[0]}")
    function = getattr(import_module(f"simulator.image_tool.{place[0]}"), place[1])
    status: int = bench.finish(function(bench, argv[1:]))
    return status


class ImageReader:
    """The disk in an image, opened read-only: called with (offset, length) it returns the bytes, fewer at the
    end."""

    def __init__(self, host: Host, path: str, image_format: str) -> None:
        self._bench = Bench(host)
        try:
            self._backend = self._bench.finish(self._bench.open(path, image_format))
        except ToolError:
            self._bench.process.kill()
            raise
        self.size = self._bench.node_of(self._backend).size_bytes

    def __call__(self, offset: int, length: int) -> bytes:
        length = max(0, min(length, self.size - offset))
        return self._bench.finish(self._backend.read(offset, length)) if length else b""

    def data_ranges(self) -> Iterator[tuple[int, int]]:
        """(offset, length) of what is not known to read as zero."""
        from simulator.block.driver import STATUS_ZERO
        from simulator.block.status import status_above

        node = self._bench.node_of(self._backend)
        offset = 0
        while offset < self.size:
            flags, length, _ = self._bench.finish(status_above(node, None, offset, self.size - offset))
            if not flags & STATUS_ZERO:
                yield offset, length
            offset += length

    def close(self) -> None:
        self._bench.process.kill()


def open_image(host: Host, path: str, image_format: str) -> tuple[int, ImageReader]:
    """(size in bytes, reader) of an image; raises ToolError, whose str() is qemu-img's message. Close the
    reader."""
    reader = ImageReader(host, path, image_format)
    return reader.size, reader
