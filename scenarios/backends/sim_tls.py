"""TLS for the in-process simulator: sessions on memory, of certificates that are files of this host, because
OpenSSL reads no others, and of the machine's host at the same paths."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from scenarios.backends import certificates
from scenarios.backends.run_directory import RunDirectory
from simulator.block.memory_host import MemoryHost


@contextmanager
def made(host: MemoryHost, wanted: dict[str, str]) -> Iterator[str]:
    """Where they are; "" if none are wanted. Raises SetupError."""
    if not wanted:
        yield ""
        return
    with RunDirectory() as run:
        place = run.path / "certificates"
        certificates.make(place, wanted)
        for path in sorted(place.rglob("*.pem")):
            host.make_directories(str(path.parent))
            host.write_all(str(path), path.read_bytes())
        yield str(place)
