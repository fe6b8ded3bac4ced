"""Exports and NBD clients for the table of who talks with whom: what each client does on an export, and how
that is checked against the image's file.

A client's word has a letter for each thing it did and that was found right: r it read every byte, m it told
what is data and what is a hole, w z t c f it wrote, zeroed, trimmed, cached and flushed.
"""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from both_programs import DEADLINE_S, real

KIB = 1024
SIZE = 4 << 20
# What is data at first; the rest are holes. Whole blocks, so that every file system tells them alike.
DATA = [(256 * KIB, 256 * KIB), (1 << 20, 128 * KIB), (3 << 20, 512 * KIB)]
MAP = [
    (0, 256 * KIB, False), (256 * KIB, 256 * KIB, True), (512 * KIB, 512 * KIB, False),
    (1024 * KIB, 128 * KIB, True), (1152 * KIB, 1920 * KIB, False), (3072 * KIB, 512 * KIB, True),
    (3584 * KIB, 512 * KIB, False),
]  # fmt: skip
# Where clients write, zero and trim, a piece each: data before, but for the first.
PIECE = 64 * KIB
WRITE, ZERO, TRIM = 2 << 20, 3 << 20, (3 << 20) + PIECE
FILL = 0x57
# The same, as qemu-io is told.
CHANGES = [
    f"write -P {FILL} {WRITE} {PIECE}", f"read -P {FILL} {WRITE} {PIECE}", f"write -z {ZERO} {PIECE}",
    f"discard {TRIM} {PIECE}", f"read -P 0 {ZERO} {PIECE}", "flush",
]  # fmt: skip


def make_image(path: Path) -> None:
    chance = random.Random(11)
    with path.open("wb") as file:
        file.truncate(SIZE)
        for offset, length in DATA:
            file.seek(offset)
            file.write(chance.randbytes(length))


@dataclass(frozen=True)
class Export:
    """An export as clients get it: on a unix socket or a TCP port, with the directory of credentials or in
    clear. Clients run in `place`."""

    name: str
    image: Path
    place: Path
    socket: Path | None = None
    port: int = 0
    tls: Path | None = None

    @property
    def uri(self) -> str:
        scheme = "nbds" if self.tls else "nbd"
        parts = [f"socket={self.socket}"] if self.socket else []
        parts += [f"tls-certificates={self.tls}"] if self.tls else []
        host = f"+unix:///{self.name}" if self.socket else f"://localhost:{self.port}/{self.name}"
        return f"{scheme}{host}{'?' if parts else ''}{'&'.join(parts)}"

    @property
    def options(self) -> str:
        """Those of driver nbd, as --image-opts takes them."""
        inet = f"inet,server.host=localhost,server.port={self.port}"
        at = f"unix,server.path={self.socket}" if self.socket else inet
        tls = ",tls-creds=t" if self.tls else ""
        return f"driver=nbd,server.type={at},export={self.name}{tls}"

    def run(self, *argv: str | Path) -> str:
        """Its standard output; a failure is an AssertionError."""
        done = subprocess.run(
            [real(str(argv[0])), *argv[1:]],
            cwd=self.place,
            capture_output=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert done.returncode == 0, f"{argv}: {done.stderr.decode(errors='replace')}"
        return done.stdout.decode(errors="replace")

    @property
    def objects(self) -> str:
        return f"--object tls-creds-x509,id=t,dir={self.tls},endpoint=client" if self.tls else ""

    def qemu(self, command: str, *behind: str) -> str:
        """One of QEMU's tools, in the words of `command`, of which {} is this export."""
        words = command.format(f"{self.objects} --image-opts {self.options}").split()
        return self.run(*words, *behind)


def expect_copy(export: Export, name: str) -> None:
    """What a client read, in file `name`, is what the image holds."""
    copy = export.place / name
    assert copy.read_bytes() == export.image.read_bytes(), f"{name} is not what {export.image} holds"
    copy.unlink()


def expect_changed(export: Export, before: bytes) -> None:
    """What was written and zeroed is so, and nothing else changed; of what was trimmed nobody can tell."""
    wanted = bytearray(before)
    wanted[WRITE : WRITE + PIECE] = bytes([FILL]) * PIECE
    wanted[ZERO : ZERO + PIECE] = bytes(PIECE)
    found = bytearray(export.image.read_bytes())
    found[TRIM : TRIM + PIECE] = wanted[TRIM : TRIM + PIECE]
    assert found == wanted, [
        at for at in range(0, SIZE, KIB) if found[at : at + KIB] != wanted[at : at + KIB]
    ]


def expect_map(runs: Sequence[tuple[int, int, bool]]) -> None:
    """(offset, length, whether it need not read as zeroes); whether zeroes are a hole differs by version."""
    joined: list[tuple[int, int, bool]] = []
    for offset, length, is_data in runs:
        if joined and joined[-1][2] == is_data:
            joined[-1] = (joined[-1][0], joined[-1][1] + length, is_data)
        else:
            joined.append((offset, length, is_data))
    assert joined == MAP


# -- clients

_LIBNBD = f"""
import json, nbd, sys
h, runs = nbd.NBD(), []
h.add_meta_context("base:allocation")
h.set_uri_allow_local_file(True)
h.connect_uri(sys.argv[1])
def extent(context, offset, entries, error):
    for length, flags in zip(entries[::2], entries[1::2]):
        runs.append([offset, length, not flags & 2])
        offset += length
at = 0
while at < h.get_size():
    h.block_status(h.get_size() - at, at, extent)
    at = runs[-1][0] + runs[-1][1]
with open("read", "wb") as file:
    for at in range(0, h.get_size(), 1 << 20):
        file.write(h.pread(1 << 20, at))
h.pwrite(bytes([{FILL}]) * {PIECE}, {WRITE})
h.zero({PIECE}, {ZERO}, nbd.CMD_FLAG_NO_HOLE)
h.trim({PIECE}, {TRIM})
h.cache({PIECE}, 0)
h.flush()
h.shutdown()
print(json.dumps(runs))
"""


def libnbd(export: Export) -> str:
    before = export.image.read_bytes()
    runs = json.loads(export.run("/usr/bin/python3", "-c", _LIBNBD, export.uri))
    expect_map(runs)
    assert (export.place / "read").read_bytes() == before
    expect_changed(export, before)
    return "rmwztcf"


def nbdinfo(export: Export) -> str:
    (described,) = json.loads(export.run("nbdinfo", "--json", export.uri))["exports"]
    assert described["export-size"] == SIZE, described
    assert "base:allocation" in described["contexts"], described
    runs = json.loads(export.run("nbdinfo", "--map", "--json", export.uri))
    expect_map([(run["offset"], run["length"], not run["type"] & 2) for run in runs])
    return "m"


def nbdcopy(export: Export) -> str:
    export.run("nbdcopy", "--connections=4", export.uri, "read")
    expect_copy(export, "read")
    wanted = random.Random(12).randbytes(SIZE)
    (export.place / "new").write_bytes(wanted)
    export.run("nbdcopy", "--connections=4", "--flush", "new", export.uri)
    assert export.image.read_bytes() == wanted
    return "rwf"


def qemu_img(export: Export) -> str:
    runs = json.loads(export.qemu("qemu-img map --output=json {}"))
    expect_map([(run["start"], run["length"], not run["zero"]) for run in runs])
    export.qemu("qemu-img convert -O raw {} read")
    expect_copy(export, "read")
    (export.place / "new").write_bytes(random.Random(13).randbytes(SIZE))
    target = f"--target-image-opts -f raw new {export.options}"
    export.run(*f"qemu-img convert -n {export.objects} {target}".split())
    expect_copy(export, "new")
    return "rmwf"


def qemu_io(export: Export) -> str:
    before = export.image.read_bytes()
    told = export.qemu("qemu-io {}", *(word for command in CHANGES for word in ("-c", command)))
    assert "failed" not in told, told
    expect_changed(export, before)
    return "rwztf"


def nbdkit_proxy(export: Export) -> str:
    """nbdkit as a client that serves what it gets to another, on a socket of its own."""
    script = 'nbdinfo --map --json "$uri" > map && nbdcopy "$uri" read && nbdcopy --flush new "$uri"'
    (export.place / "new").write_bytes(random.Random(14).randbytes(SIZE))
    before = export.image.read_bytes()
    at = [f"socket={export.socket}"] if export.socket else ["hostname=localhost", f"port={export.port}"]
    tls = ["tls=require", f"tls-certificates={export.tls}"] if export.tls else []
    export.run("nbdkit", "-U", "-", "nbd", *at, f"export={export.name}", *tls, "--run", script)
    runs = json.loads((export.place / "map").read_text())
    expect_map([(run["offset"], run["length"], not run["type"] & 2) for run in runs])
    assert (export.place / "read").read_bytes() == before
    expect_copy(export, "new")
    return "rmwf"


CLIENTS: dict[str, Callable[[Export], str]] = {
    "libnbd": libnbd,
    "nbdinfo": nbdinfo,
    "nbdcopy": nbdcopy,
    "qemu-img": qemu_img,
    "qemu-io": qemu_io,
    "nbdkit nbd": nbdkit_proxy,
}
