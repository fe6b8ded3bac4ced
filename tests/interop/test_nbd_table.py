"""Every NBD client on every server of the simulator, and the simulator's client on every other server: the
run ends with the table of what each did."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from both_programs import DAEMON, DAEMON_MONITOR, NONE, SYSTEM, SYSTEM_MONITOR, Running, real, serving
from certificates import NAMES, Authority, directory, purpose
from nbd_table import CHANGES, CLIENTS, Export, expect_changed, expect_copy, make_image

from scenarios.backends.chroot import ChrootLauncher
from simulator.serve.emulator import write_emulator

VERSIONS = ("5.2", "7.2", "10.0", "11.1")
REAL = "QEMU 7.2"
# QEMU 5.2 wants a key that enciphers others, and takes credentials for TCP alone.
KEY = ("basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature,keyEncipherment")
LETTERS = "r read, m map, w write, z zero, t trim, c cache, f flush"


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], str]:
    """Where a program of the simulator of some version is, or QEMU's own."""
    made: set[str] = set()
    place = tmp_path_factory.mktemp("emulators")

    def find(version: str, program: str) -> str:
        if version == REAL:
            return real(program)
        if version not in made:
            write_emulator(str(place / version), version)
            made.add(version)
        return str(place / version / program)

    return find


@pytest.fixture(scope="session")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with what both ends of a TLS session need."""
    place = tmp_path_factory.mktemp("credentials")
    ca = Authority(place / "made")
    files = {}
    for kind, extensions in (("server", (NAMES,)), ("client", ())):
        ca.issue(kind, f"/CN={kind}.example", (*KEY, purpose(kind), *extensions))
        files |= {f"{kind}_{part}": ca.place / f"{kind}-{part}.pem" for part in ("cert", "key")}
    directory(place / "pki", ca_cert=ca.place / "ca-cert.pem", **files)
    return place / "pki"


@pytest.fixture
def cell(record_property: Callable[[str, object], None]) -> Callable[[str, str, str], None]:
    """Puts what a client did into the table: (server, client, letters)."""

    def put(server: str, client: str, letters: str) -> None:
        kind = "their clients" if client in CLIENTS else "our client"
        record_property("cell", [f"NBD, {kind}: {LETTERS}", server, client, letters])

    return put


def named(version: str) -> str:
    return version if version == REAL else f"simulator {version}"


# -- their clients on our servers


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


@contextmanager
def exports(
    program: str, is_real: bool, place: Path, tls: Path | None, tcp: bool
) -> Iterator[dict[str, Export]]:
    """A storage daemon with an image and a writable export for each client."""
    place.mkdir()
    port = free_port() if tcp else 0
    address = f"addr.type=inet,addr.host=localhost,addr.port={port}" if tcp else "addr.type=unix,addr.path=s"
    argv = []
    if tls:
        argv += ["--object", f"tls-creds-x509,id=t,dir={tls},endpoint=server"]
        address += ",tls-creds=t"
    argv += ["--nbd-server", address]
    served = {}
    for number, client in enumerate(CLIENTS):
        room = place / f"client{number}"
        room.mkdir()
        make_image(room / "image")
        node = f"driver=file,node-name=n{number},filename={room}/image,discard=unmap"
        export = f"nbd,id=e{number},node-name=n{number},name=e{number},writable=on"
        argv += ["--blockdev", node, "--export", export]
        unix = None if tcp else place / "s"
        served[client] = Export(f"e{number}", room / "image", room, unix, port, tls)
    with Running([program, *argv], place, DAEMON_MONITOR, is_real) as running:
        running.negotiate()
        yield served


@pytest.mark.parametrize("way", ["unix", "tcp", "tls"])
@pytest.mark.parametrize("version", [REAL, *VERSIONS])
def test_every_client_on_our_server(
    version: str,
    way: str,
    programs: Callable[[str, str], str],
    credentials: Path,
    tmp_path: Path,
    cell: Callable[[str, str, str], None],
) -> None:
    tls = credentials if way == "tls" else None
    program = programs(version, DAEMON)
    with exports(program, version == REAL, tmp_path / "x", tls, way != "unix") as served:
        for client, export in served.items():
            cell(f"{named(version)}, {way}", client, CLIENTS[client](export))


# -- our client on their servers

NBD_SERVERS = {
    "qemu-nbd": "qemu-nbd -t -e 8 -k {socket} -f raw -x n --discard=unmap {image}",
    "qemu-nbd, tls": "qemu-nbd -t -e 8 -b 127.0.0.1 -p {port} -f raw -x n --discard=unmap "
    "--object tls-creds-x509,id=t,dir={tls},endpoint=server --tls-creds t {image}",
    "nbdkit": "nbdkit -f -U {socket} -e n file {image}",
    "nbdkit, tls": "nbdkit -f -i localhost -p {port} -e n --tls=require --tls-certificates={tls} "
    "file {image}",
}
# Those of Debian's suites that the other tests have root file systems of.
SUITES = {"QEMU 5.2": "bullseye", "QEMU 10.0": "trixie"}
CASES = [(REAL, server) for server in NBD_SERVERS]
CASES += [(version, server) for version in SUITES for server in NBD_SERVERS if server.startswith("qemu")]


def their_server(server: str, version: str, place: Path, export: Export) -> list[str]:
    """How it is started in `place`; out of a suite's root it sees nothing else."""
    given = {"socket": export.socket, "port": export.port, "tls": export.tls, "image": export.image}
    words = NBD_SERVERS[server].format(**given).split()
    return [*ChrootLauncher(SUITES[version]).prefix(place), *words] if version in SUITES else words


def our_client(running: Running, export: Export, place: Path) -> str:
    """Driver nbd, told what qemu-io tells its own, and a backup that reads all of it."""
    before = export.image.read_bytes()
    make_image(place / "read")
    inet = {"type": "inet", "host": "localhost", "port": str(export.port)}
    server = {"type": "unix", "path": str(export.socket)} if export.socket else inet
    node = {"driver": "nbd", "node-name": "n", "server": server, "export": export.name, "discard": "unmap"}
    if export.tls:
        given = {"qom-type": "tls-creds-x509", "id": "t", "endpoint": "client", "dir": str(export.tls)}
        assert running.qmp("object-add", given) == {}
        node["tls-creds"] = "t"
    copy = {"driver": "file", "node-name": "copy", "filename": str(place / "read")}
    for added in (node, copy):
        assert running.qmp("blockdev-add", added) == {}
    backup = {"job-id": "j", "device": "n", "target": "copy", "sync": "full"}
    assert running.qmp("blockdev-backup", backup) == {}
    assert "error" not in running.wait_event("BLOCK_JOB_COMPLETED")["data"]
    assert running.qmp("blockdev-del", {"node-name": "copy"}) == {}
    expect_copy(Export(export.name, export.image, place), "read")
    for command in CHANGES:
        assert running.hmp(f'qemu-io n "{command}"').strip() == ""
    assert "failed" not in running.printed()[0]
    expect_changed(export, before)
    return "rwztf"


def listens(export: Export) -> bool:
    with socket.socket(socket.AF_UNIX if export.socket else socket.AF_INET) as client:
        return client.connect_ex(str(export.socket) if export.socket else ("localhost", export.port)) == 0


@pytest.mark.parametrize(("of", "server"), CASES, ids=map(", ".join, CASES))
def test_our_client_on_every_server(
    of: str,
    server: str,
    programs: Callable[[str, str], str],
    credentials: Path,
    tmp_path: Path,
    cell: Callable[[str, str, str], None],
) -> None:
    (tmp_path / "machine").mkdir()
    is_tls = server.endswith("tls")
    tls = shutil.copytree(credentials, tmp_path / "pki") if is_tls else None
    where: dict[str, Any] = {"tls": tls} if is_tls else {"socket": tmp_path / "s"}
    for version in (REAL, *VERSIONS):
        make_image(tmp_path / "i")
        place = tmp_path / version
        place.mkdir()
        export = Export("n", tmp_path / "i", place, port=free_port() if is_tls else 0, **where)
        argv = their_server(server, of, tmp_path, export)
        program = [programs(version, SYSTEM), *NONE]
        with (
            serving(argv, tmp_path, lambda export=export: listens(export)),
            Running(program, place, SYSTEM_MONITOR, version == REAL) as running,
        ):
            running.negotiate()
            cell(
                f"{of} {server}" if "qemu" in server else server,
                named(version),
                our_client(running, export, place),
            )
