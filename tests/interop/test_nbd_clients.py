"""Real NBD clients on the real storage daemon and on the simulator's: the same output, the same bytes."""

from __future__ import annotations

import random
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from both_programs import DAEMON, DEADLINE_S, Running, read_all, real, start, wait_until

MIB = 1 << 20
SIZE = 8 * MIB
GREETING = b"NBDMAGICIHAVEOPT\0\3"

# Clients' command lines; {url} is the export with the image, {other} a second one, {bad} one that there
# is not, {socket} the socket's path. Those that write come last.
CLIENTS = [
    "nbdinfo --json {url}",
    "nbdinfo {url}",
    "nbdinfo --size {url}",
    "nbdinfo --list --json nbd+unix:///?socket={socket}",
    "nbdinfo --list nbd+unix:///?socket={socket}",
    "nbdinfo --map {url}",
    "nbdinfo --map --totals {url}",
    "nbdinfo --map=qemu:allocation-depth {url}",
    "nbdinfo --map=qemu:dirty-bitmap:b0 {url}",
    "nbdinfo --map=qemu:dirty-bitmap:nope {url}",
    "nbdinfo --map=zork:zork {url}",
    "nbdinfo --can write {url}",
    "nbdinfo --can multi-conn {url}",
    "nbdinfo --can df {url}",
    "nbdinfo --can cache {url}",
    "nbdinfo --is rotational {url}",
    "nbdinfo --can write {other}",
    "nbdinfo --json {other}",
    "nbdinfo {bad}",
    "qemu-img info {url}",
    "qemu-img info --output=json {other}",
    "qemu-img map --output=json {url}",
    "qemu-img map {url}",
    "qemu-img info {bad}",
    "qemu-img compare {url} {other}",
    "qemu-img convert -O raw {url} out.raw",
    "qemu-img convert -O qcow2 {url} out.qcow2",
    "qemu-img measure -O qcow2 {url}",
    "nbdcopy --connections=4 {url} copy.raw",
    "nbdcopy --connections=1 --requests=1 {url} slow.raw",
    "nbdcopy --allocated {url} allocated.raw",
    "nbdcopy --synchronous {url} synchronous.raw",
    "nbdcopy {bad} x.raw",
    "qemu-io -f raw -r {url} -c 'read -P 0 0 64k' -c 'read -v 1048570 20' -c 'length'",
    "qemu-io -f raw -r {other} -c 'write 0 512'",
    "qemu-io -f raw {other} -c 'read 0 512'",
    "qemu-io -f raw {url} -c 'write -P 7 3M 128k' -c 'write -z 4M 1M' -c 'write -z -u 5M 1M' -c flush",
    "qemu-io -f raw {url} -c 'discard 6M 1M' -c 'read 6M 1M'",
    "qemu-io -f raw {url} -c 'read 8M 512' -c 'write 8M 512' -c 'write 8388600 100'",
    "qemu-img map --output=json {url}",
    "nbdcopy --connections=4 copy.raw {url}",
    "nbdcopy --connections=4 --destination-is-zero sparse.raw {url}",
    "qemu-img convert -n -f raw -O raw copy.raw {url}",
    "qemu-img compare -f raw copy.raw {url}",
    "qemu-img bench -f raw -c 50 -d 8 -s 4096 -w {url}",
]


def image(path: Path) -> None:
    """Runs of bytes and of holes, the same each time."""
    chance = random.Random(7)
    with path.open("wb") as file:
        file.truncate(SIZE)
        # At edges of clusters: what a half-filled cluster looks like in a map is the host's file system's
        # word, and that changes with what it holds in its cache.
        for offset in (MIB, 2 * MIB, 5 * MIB):
            file.seek(offset)
            file.write(chance.randbytes(256 * 1024))


@contextmanager
def daemon(is_real: bool, cwd: Path) -> Iterator[Running]:
    """With export e, writable and with a bitmap, of disk.qcow2, and export r, read-only, of other.raw."""
    cwd.mkdir()
    image(cwd / "other.raw")
    with (cwd / "sparse.raw").open("wb") as file:
        file.truncate(SIZE)
    qemu_img = real("qemu-img")
    subprocess.run([qemu_img, "convert", "-O", "qcow2", cwd / "other.raw", cwd / "disk.qcow2"], check=True)
    subprocess.run([qemu_img, "bitmap", "--add", "-g", "64k", cwd / "disk.qcow2", "b0"], check=True)
    options = [
        *("--blockdev", "driver=qcow2,node-name=q,discard=unmap,file.driver=file,file.filename=disk.qcow2"),
        *("--blockdev", "driver=file,node-name=f,filename=other.raw,read-only=on"),
        *("--nbd-server", "addr.type=unix,addr.path=n.sock"),
        *("--export", "nbd,id=e,node-name=q,name=e,writable=on,bitmaps.0=b0,description=the first"),
        *("--export", "nbd,id=r,node-name=f,name=r,allocation-depth=on"),
    ]
    with start(DAEMON, is_real, cwd, options) as running:
        running.negotiate()
        yield running


def outcome(client: str, cwd: Path) -> tuple[str, int, str, str]:
    """(client, exit status, standard output, standard error), without times, inode numbers and
    directories."""
    path = cwd / "n.sock"
    urls = {name: f"nbd+unix:///{export}?socket={path}" for name, export in _URLS}
    command = client.format(socket=path, **urls)
    real(command.split()[0])
    done = subprocess.run(
        ["sh", "-c", command], cwd=cwd, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    texts = []
    for text in (done.stdout, done.stderr):
        text = text.replace(str(cwd), "CWD")
        text = re.sub(r"[0-9.]+ sec \([^)]*\)", "SOME sec", text)
        text = re.sub(r"Run completed in [0-9.]+ seconds", "Run completed", text)
        texts.append(text)
    return client, done.returncode, texts[0], texts[1]


_URLS = ("url", "e"), ("other", "r"), ("bad", "nope")


def test_clients_see_the_same(tmp_path: Path) -> None:
    with daemon(True, tmp_path / "real") as _, daemon(False, tmp_path / "simulated") as _:
        different = []
        for client in CLIENTS:
            wanted = outcome(client, tmp_path / "real")
            ours = outcome(client, tmp_path / "simulated")
            if ours != wanted:
                different.append(f"{ours}\nreal: {wanted}")
        assert not different, "\n".join(different)
        for name in ("out.raw", "copy.raw", "slow.raw", "allocated.raw", "synchronous.raw"):
            assert (tmp_path / "simulated" / name).read_bytes() == (tmp_path / "real" / name).read_bytes(), (
                name
            )
    for place in ("real", "simulated"):
        compared = ["qemu-img", "compare", tmp_path / place / "disk.qcow2", tmp_path / "real/copy.raw"]
        subprocess.run(compared, check=True, capture_output=True)
        subprocess.run(
            ["qemu-img", "check", tmp_path / place / "disk.qcow2"], check=True, capture_output=True
        )


def connect(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(DEADLINE_S)
    client.connect(str(path))
    return client


@pytest.mark.parametrize("is_real", [True, False], ids=["real", "simulated"])
@pytest.mark.parametrize("garbage", [b"\xff" * 64, b"\0\0\0\3" + b"\xff" * 60, b"GET / HTTP/1.0\r\n\r\n" * 5])
def test_garbage_ends_its_own_connection_alone(garbage: bytes, is_real: bool, tmp_path: Path) -> None:
    with daemon(is_real, tmp_path / "x") as running:
        path = tmp_path / "x" / "n.sock"
        with connect(path) as waiting, connect(path) as other:
            assert waiting.recv(18) == GREETING
            other.sendall(garbage)
            assert read_all(other, "the server to close the connection").startswith(GREETING)
            # Two flags and NBD_OPT_ABORT: the first client is still served.
            waiting.sendall(b"\0\0\0\3" + b"IHAVEOPT" + b"\0\0\0\2" + b"\0\0\0\0")
            reply = read_all(waiting, "the reply to NBD_OPT_ABORT")
            assert reply == b"\0\3\xe8\x89\x04\x55\x65\xa9" + b"\0\0\0\2" + b"\0\0\0\1" + b"\0\0\0\0"
        assert running.qmp("query-jobs") == []


@pytest.mark.parametrize("is_real", [True, False], ids=["real", "simulated"])
def test_many_clients_at_once(is_real: bool, tmp_path: Path) -> None:
    with daemon(is_real, tmp_path / "x"):
        url = f"nbd+unix:///e?socket={tmp_path}/x/n.sock"
        wanted = (tmp_path / "x" / "other.raw").read_bytes()
        copies = [
            subprocess.Popen([real("nbdcopy"), "--connections=4", url, tmp_path / f"copy{number}"])
            for number in range(4)
        ]
        assert [copy.wait(DEADLINE_S) for copy in copies] == [0] * 4
        for number in range(4):
            assert (tmp_path / f"copy{number}").read_bytes() == wanted


def started(running: Running, address: dict[str, object]) -> object:
    return running.qmp("nbd-server-start", {"addr": address})


def unix(path: str) -> dict[str, object]:
    return {"type": "unix", "data": {"path": path}}


def inet(host: str, port: str) -> dict[str, object]:
    return {"type": "inet", "data": {"host": host, "port": port}}


def server_life(is_real: bool, cwd: Path) -> list[object]:
    """What commands of the NBD server return, and whether its socket is there."""
    cwd.mkdir()
    said: list[object] = []
    with start(DAEMON, is_real, cwd) as running, socket.socket() as taken:
        running.negotiate()
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for _ in range(2):
            said += [
                started(running, unix("n.sock")),
                (cwd / "n.sock").exists(),
                started(running, unix("m.sock")),
            ]
            said += [
                running.qmp("nbd-server-stop"),
                (cwd / "n.sock").exists(),
                running.qmp("nbd-server-stop"),
            ]
        # A file of another kind is in the way, and goes.
        (cwd / "n.sock").write_text("in the way")
        said += [
            started(running, unix("n.sock")),
            (cwd / "n.sock").is_socket(),
            running.qmp("nbd-server-stop"),
        ]
        (cwd / "directory").mkdir()
        addresses = [
            *(unix("directory"), unix("no/n.sock"), unix("x" * 109), inet("127.0.0.1", "0")),
            *(inet("127.0.0.1", str(port)), inet("127.0.0.1", "nope"), inet("127.0.0.1", "99999")),
            *(inet("no.such.host.invalid", "1"), inet("", "0"), inet("::1", "0")),
        ]
        for address in addresses:
            answer = started(running, address)
            text = str(answer).replace(str(port), "PORT")
            said.append((text, running.qmp("nbd-server-stop")))
    return said


def test_the_server_starts_and_stops(tmp_path: Path) -> None:
    assert server_life(False, tmp_path / "simulated") == server_life(True, tmp_path / "real")


@pytest.mark.parametrize("is_real", [True, False], ids=["real", "simulated"])
def test_stopping_the_server_closes_connections(is_real: bool, tmp_path: Path) -> None:
    with daemon(is_real, tmp_path / "x") as running, connect(tmp_path / "x" / "n.sock") as client:
        assert client.recv(18) == GREETING
        client.sendall(b"\0\0\0\3" + b"IHAVEOPT" + b"\0\0\0\1" + b"\0\0\0\1" + b"r")
        assert int.from_bytes(client.recv(10)[:8], "big") == SIZE
        assert running.qmp("nbd-server-stop") == {}
        assert read_all(client, "the server to close its connections") == b""
        assert running.qmp("query-block-exports") == []


@pytest.mark.parametrize("is_real", [True, False], ids=["real", "simulated"])
def test_a_server_on_a_given_port(is_real: bool, tmp_path: Path) -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    with daemon(is_real, tmp_path / "x") as running:
        assert running.qmp("nbd-server-stop") == {}
        assert started(running, inet("127.0.0.1", str(port))) == {}
        export = {"type": "nbd", "id": "t", "node-name": "f", "name": "t"}
        assert running.qmp("block-export-add", export) == {}
        done = subprocess.run(
            [real("nbdinfo"), "--size", f"nbd://127.0.0.1:{port}/t"],
            capture_output=True, text=True, timeout=DEADLINE_S, check=False,
        )  # fmt: skip
        assert (done.stdout, done.stderr) == (f"{SIZE}\n", "")


@pytest.mark.parametrize("is_real", [True, False], ids=["real", "simulated"])
def test_a_client_that_stops_reading_holds_nobody_up(is_real: bool, tmp_path: Path) -> None:
    """It asks for far more than it takes, and so does not get it; the daemon neither waits for it nor
    grows."""
    with daemon(is_real, tmp_path / "x") as running:
        path = tmp_path / "x" / "n.sock"
        with connect(path) as greedy:
            assert greedy.recv(18) == GREETING
            greedy.sendall(b"\0\0\0\3" + b"IHAVEOPT" + b"\0\0\0\1" + b"\0\0\0\1" + b"r")
            assert int.from_bytes(greedy.recv(10)[:8], "big") == SIZE
            read = b"\x25\x60\x95\x13" + b"\0\0\0\0" + bytes(8) + bytes(8) + SIZE.to_bytes(4, "big")
            greedy.settimeout(1.0)
            with pytest.raises(TimeoutError):
                greedy.sendall(read * 1_000_000)
            url = f"nbd+unix:///r?socket={path}"
            subprocess.run([real("nbdcopy"), url, "null:"], check=True, timeout=DEADLINE_S)
            status = Path(f"/proc/{running.process.pid}/status").read_text()
            resident = re.search(r"VmRSS:\s+(\d+) kB", status)
            assert resident
            # 16 requests may be under way, and the interpreter or the emulator takes its own.
            assert int(resident[1]) * 1024 < 20 * SIZE + 64 * MIB
        wait_until(lambda: running.qmp("query-jobs") == [], "the monitor to answer")
