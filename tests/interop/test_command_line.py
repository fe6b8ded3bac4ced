"""Command lines of the real executables and of the simulator's: the same words on the same streams, the
same status."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest
from both_programs import (
    DAEMON,
    DAEMON_MONITOR,
    NONE,
    PC,
    SYSTEM,
    SYSTEM_MONITOR,
    Running,
    program_path,
    real,
)

FILE = "driver=file,node-name=f,filename=disk.raw"
RAW = "if=none,id=d,file=disk.raw,format=raw"
SOCKET = "addr.type=unix,addr.path=n.sock"

# Options of a system emulator without devices; our monitor, which asks it to quit, comes behind them. So
# those that it accepts end with status 0.
ON_NONE: list[tuple[str, ...]] = [
    (),
    ("-nope",),
    ("--nope",),
    ("-drive",),
    ("-qmp",),
    ("-blockdev", FILE),
    ("-blockdev", "file,node-name=f,filename=disk.raw"),
    ("-blockdev", '{"driver":"file","node-name":"f","filename":"disk.raw"}'),
    ("-blockdev", '{"driver":"file",'),
    ("-blockdev", "{driver"),
    ("-blockdev", '{"driver":"file"} x'),
    ("-blockdev", '{"driver":"nope","node-name":"f"}'),
    ("-blockdev", '{"driver":"file","node-name":"f"}'),
    ("-blockdev", '{"driver":"file","node-name":"f","filename":"disk.raw","zork":1}'),
    ("-blockdev", '{"driver":"file","node-name":"f","filename":7}'),
    ("-blockdev", '{"driver":"file","filename":"disk.raw"}'),
    ("-blockdev", "[]"),
    ("-blockdev", ""),
    ("-blockdev", "nope,node-name=f"),
    ("-blockdev", "driver=nope,node-name=f"),
    ("-blockdev", "node-name=f"),
    ("-blockdev", "driver=file,node-name=f"),
    ("-blockdev", "driver=file,node-name=f,filename=missing.raw"),
    ("-blockdev", "driver=file,node-name=f,filename=disk.raw,zork=1"),
    ("-blockdev", "driver=file,node-name=f,filename=disk.raw,read-only=perhaps"),
    ("-blockdev", "driver=file,node-name=7f,filename=disk.raw"),
    ("-blockdev", "driver=file,filename=disk.raw"),
    ("-blockdev", "driver=qcow2,node-name=q,file=nope"),
    ("-blockdev", FILE, "-blockdev", "driver=qcow2,node-name=q,file=f"),
    ("-blockdev", FILE, "-blockdev", FILE),
    ("-blockdev", FILE, "-blockdev", "driver=raw,node-name=r,file=f"),
    ("-blockdev", "driver=raw,node-name=r,file=f", "-blockdev", FILE),
    ("-blockdev", "driver=raw,node-name=r,file.driver=file,file.filename=disk.raw"),
    ("-blockdev", "driver=raw,node-name=r,file.driver=file,file.filename=missing.raw"),
    ("-blockdev", "driver=raw,node-name=r,file=f,file.driver=file"),
    ("-drive", RAW),
    ("-drive", "if=none,id=d,file=disk.raw"),
    ("-drive", "if=none,id=d,file=disk.qcow2"),
    ("-drive", "if=none,id=d,file=disk.qcow2,format=qcow2,cache=none"),
    ("-drive", "if=none,id=d,file=disk.qcow2,format=qcow2,cache=nope"),
    ("-drive", "if=none,id=d,file=missing.raw,format=raw"),
    ("-drive", "if=none,id=d,file=missing.raw"),
    ("-drive", "if=none,id=d,file=disk.raw,format=nope"),
    ("-drive", "if=none,id=d,file=disk.raw,format=qcow2"),
    ("-drive", "if=none,id=d"),
    ("-drive", "if=none,id=d,format=raw"),
    ("-drive", "if=none,id=d,media=cdrom"),
    ("-drive", "if=none,file=disk.raw,format=raw"),
    ("-drive", "if=none,id=7,file=disk.raw,format=raw"),
    ("-drive", "if=nope,id=d,file=disk.raw,format=raw"),
    ("-drive", "if=none,id=d,file=disk.raw,format=raw,zork=1"),
    ("-drive", "if=none,id=d,file=disk.raw,format=raw,readonly=perhaps"),
    ("-drive", "if=none,id=d,file=disk.raw,format=raw,readonly=on"),
    ("-drive", "if=none,id=d,file=disk.raw,format=raw,media=nope"),
    ("-drive", "if=none,id=d,file=disk.raw,format=raw,werror=nope"),
    ("-drive", "if=none,id=d,file=disk.raw,format=raw,index=x"),
    ("-drive", "if=none,id=d,file=disk.raw,format=raw,aio=nope"),
    ("-drive", "if=none,id=d,file=disk.raw,format=raw,discard=nope"),
    ("-drive", "if=none,id=d,file=disk.raw,format=raw,cache.direct=perhaps"),
    ("-drive", "if=none,id=d,file=disk.raw,format=raw,driver=raw"),
    ("-drive", "if=none,id=d,driver=raw,file.driver=file,file.filename=disk.raw"),
    ("-drive", "if=none,id=d,driver=raw,file.driver=file,file.filename=missing.raw"),
    ("-drive", "if=none,id=d,driver=raw"),
    ("-drive", "if=none,id=d,driver=qcow2,node-name=d,file.driver=file,file.filename=disk.qcow2"),
    ("-drive", RAW, "-drive", "if=none,id=d,file=other.raw,format=raw"),
    ("-drive", RAW, "-drive", "if=none,id=e,file=disk.raw,format=raw"),
    ("-drive", "if=none,id=f,file=other.raw,format=raw", "-blockdev", FILE),
    ("-drive", "if=none,id=d,driver=nope"),
    ("-drive", "if=none,id=d,driver=raw,file.driver=nope"),
    ("-drive", "if=none,id=d,driver=raw,file.driver=file,file.filename=disk.raw,file.zork=1"),
    ("-drive", "if=none,id=d,driver=file,filename=disk.raw"),
    ("-drive", "if=none,id=d,file.filename=disk.raw"),
    ("-drive", "if=none,id=d,driver=raw,file=missing.raw"),
    ("-drive", "file=disk.raw,format=raw"),
    ("-drive", "if=virtio,file=disk.raw,format=raw"),
    ("-blockdev", FILE, "-device", "virtio-blk-pci,drive=f"),
    ("-device", "virtio-rng-pci"),
    ("disk.raw",),
    ("-hda", "missing.raw"),
    ("-device", "nope"),
    ("-device", "nope,id=x"),
    ("-device", ""),
    ("-device", "id=x"),
    ("-device", '{"driver":"nope"}'),
    ("-device", '{"driver":'),
    ("-chardev", "null,id=n"),
    ("-chardev", "null"),
    ("-chardev", "nope,id=n"),
    ("-chardev", ""),
    ("-chardev", "id=n"),
    ("-chardev", "null,id=7"),
    ("-chardev", "null,id=n", "-chardev", "null,id=n"),
    ("-chardev", "socket,id=n"),
    ("-chardev", "socket,id=n,path=none.sock"),
    ("-chardev", "socket,id=n,path=no-such-directory/x.sock,server=on,wait=off"),
    ("-chardev", "socket,id=n,path=taken.sock,server=on,wait=off"),
    ("-chardev", "socket,id=n,path=x.sock,server=on,wait=off,zork=1"),
    ("-chardev", "socket,id=n,path=x.sock,server=perhaps"),
    ("-chardev", "socket,id=n,path=x.sock,wait=off"),
    ("-chardev", f"socket,id=n,path={'x' * 120},server=on,wait=off"),
    ("-chardev", "socket,id=n,host=127.0.0.1"),
    ("-chardev", "socket,id=n,host=127.0.0.1,port=1"),
    ("-chardev", "socket,id=n,host=127.0.0.1,port=0,server=on,wait=off"),
    ("-chardev", "socket,id=n,fd=nope"),
    ("-chardev", "socket,id=n,fd=99"),
    ("-chardev", "socket,id=n,fd=0"),
    ("-chardev", "socket,id=n,path=x,fd=3"),
    ("-chardev", "file,id=n"),
    ("-chardev", "file,id=n,path=no-such-directory/x"),
    ("-chardev", "file,id=n,path=log"),
    ("-chardev", "ringbuf,id=n"),
    ("-chardev", "pipe,id=n,path=none"),
    ("-mon", "nope"),
    ("-mon", "chardev=nope,mode=control"),
    ("-mon", "mode=control"),
    ("-mon", "chardev=own,mode=nope"),
    ("-mon", "chardev=own,zork=1"),
    ("-mon", ""),
    ("-chardev", "null,id=n", "-mon", "n"),
    ("-chardev", "null,id=n", "-mon", "n,mode=control,pretty=perhaps"),
    ("-chardev", "null,id=n", "-mon", "n,mode=control,pretty=on"),
    ("-chardev", "null,id=n", "-mon", "n,mode=readline,pretty=on"),
    ("-qmp", "unix:x.sock,server=on,wait=off"),
    ("-qmp", "unix:x.sock,server,nowait"),
    ("-qmp", "unix:none.sock"),
    ("-qmp", "unix:no-such-directory/x.sock,server=on,wait=off"),
    ("-qmp", "tcp:127.0.0.1:0,server=on,wait=off"),
    ("-qmp", "tcp:127.0.0.1:1"),
    ("-qmp", "tcp:127.0.0.1"),
    ("-qmp", "tcp::0,server=on,wait=off"),
    ("-qmp", "nope"),
    ("-qmp", "nope:x"),
    ("-qmp", ""),
    ("-qmp", "null"),
    ("-qmp", "none"),
    ("-qmp", "chardev:nope"),
    ("-qmp", "stdio"),
    ("-daemonize", "-qmp", "stdio"),
    ("-chardev", "socket,id=n,path=x.sock,server,nowait"),
    ("-qmp", "unix:x.sock,server=on,wait=off", "-device", "nope"),
    ("-qmp", "unix:x.sock,server=on,wait=off", "-pidfile", "pid", "-blockdev", "nope"),
    ("-device", "nope", "-version"),
    ("-chardev", ",,", "-version"),
    ("-version", "-chardev", ",,"),
    ("-qmp", "stdio", "-monitor", "stdio"),
    ("-qmp-pretty", "unix:x.sock,server=on,wait=off"),
    ("-monitor", "none"),
    ("-monitor", "null"),
    ("-monitor", "nope"),
    ("-object", "throttle-group,id=t,x-iops-total=100"),
    ("-object", '{"qom-type":"throttle-group","id":"t","limits":{"iops-total":100}}'),
    ("-object", "iothread,id=t"),
    ("-object", "nope,id=t"),
    ("-object", "throttle-group"),
    ("-object", "throttle-group,id=7"),
    ("-object", "throttle-group,id=t,zork=1"),
    ("-object", "iothread,id=t", "-object", "iothread,id=t"),
    ("-object", '{"qom-type":"throttle-group"}'),
    ("-object", '{"qom-type":'),
    ("-object", ""),
    ("-object", "qom-type=iothread"),
    ("-pidfile", "no-such-directory/pid"),
    ("-pidfile", "."),
    ("-pidfile", "pid"),
    ("-daemonize", "-pidfile", "no-such-directory/pid"),
    ("-daemonize", "-drive", "if=none,id=d,file=missing.raw,format=raw"),
    ("-daemonize", "-drive"),
    ("-name", "guest=x"),
    ("-name", "x"),
    ("-name", "guest=x,zork=1"),
    ("-S",),
    ("-M", "bad"),
    ("-machine", "bad"),
    ("-machine", "type=none"),
    ("-M", "none,zork=1"),
    ("-accel", "tcg"),
    ("-accel", "nope"),
    ("-m", "64"),
    ("-m", "nope"),
    ("-display", "nope"),
    ("-uuid", "nope"),
    ("-vga", "none"),
    ("-no-user-config", "-nodefaults"),
    ("-D", "log"),
    ("-msg", "timestamp=off"),
    ("-blockdev",),
    ("-version",),
    ("--version",),
    ("--version", "-nope"),
    ("-nope", "--version"),
    ("-drive=x",),
]

VIRTIO = "virtio-blk-pci,drive="

# With a PC to put devices on.
ON_PC: list[tuple[str, ...]] = [
    ("-device", "virtio-blk-pci"),
    ("-device", "virtio-blk-pci,id=d0"),
    ("-device", f"{VIRTIO}nope"),
    ("-device", f"{VIRTIO}nope,id=d0"),
    ("-device", "scsi-hd,drive=nope"),
    ("-device", "ide-hd,drive=nope"),
    ("-device", "ide-hd"),
    ("-device", "virtio-scsi-pci", "-device", "scsi-hd"),
    ("-device", "virtio-scsi-pci", "-device", "scsi-hd,drive=nope"),
    ("-device", "virtio-rng-pci,zork=1"),
    ("-M", "pc,zork=1"),
    ("-blockdev", FILE, "-device", f"{VIRTIO}f,id=d0"),
    ("-blockdev", FILE, "-device", f"{VIRTIO}f,id=7"),
    ("-blockdev", FILE, "-device", f"{VIRTIO}f,id=d0,zork=1"),
    ("-blockdev", FILE, "-device", f"{VIRTIO}f,id=d0", "-device", f"{VIRTIO}f,id=d1"),
    ("-blockdev", FILE, "-device", f"{VIRTIO}f,id=d0", "-device", f"{VIRTIO}f,id=d0"),
    ("-blockdev", FILE, "-device", f"{VIRTIO}f,share-rw=on", "-device", f"{VIRTIO}f,share-rw=on"),
    ("-blockdev", FILE, "-device", f"{VIRTIO}f,share-rw=perhaps"),
    ("-blockdev", FILE, "-device", '{"driver":"virtio-blk-pci","drive":"f","id":"d0"}'),
    ("-blockdev", FILE, "-device", '{"driver":"virtio-blk-pci","drive":"f","id":"d0","zork":1}'),
    ("-blockdev", FILE, "-device", "ide-hd,drive=f,id=d0"),
    ("-blockdev", f"{FILE},read-only=on", "-device", f"{VIRTIO}f"),
    ("-blockdev", f"{FILE},read-only=on", "-device", "ide-hd,drive=f"),
    ("-drive", RAW, "-device", f"{VIRTIO}d"),
    ("-drive", RAW, "-device", f"{VIRTIO}d", "-device", f"{VIRTIO}d"),
    ("-drive", "if=none,id=d", "-device", f"{VIRTIO}d"),
    ("-drive", "if=none,id=d", "-device", "ide-hd,drive=d"),
    ("-drive", "if=none,id=d,file=disk.raw,format=raw,readonly=on", "-device", f"{VIRTIO}d"),
    ("-drive", "if=virtio,file=disk.raw,format=raw"),
    ("-drive", "if=virtio,file=missing.raw,format=raw"),
    ("-drive", "file=disk.raw,format=raw"),
    ("-drive", "file=disk.raw,format=raw,index=0", "-drive", "file=other.raw,format=raw,index=0"),
    ("-hda", "disk.qcow2"),
    ("-hda", "missing.qcow2"),
    ("disk.qcow2",),
    ("-device", "pci-bridge,id=b,chassis_nr=1"),
    ("-device", "VGA"),
]

ON_DAEMON: list[tuple[str, ...]] = [
    (),
    ("--nope",),
    ("-nope",),
    ("-n",),
    ("nope",),
    ("--blockdev",),
    ("--blockdev", FILE),
    (f"--blockdev={FILE}",),
    ("--block", FILE),
    ("--m", "chardev=own"),
    ("--blockdev", '{"driver":"file",'),
    ("--blockdev", "driver=file,node-name=f,filename=missing.raw"),
    ("--blockdev", "driver=nope,node-name=f"),
    ("--blockdev", "node-name=f"),
    ("--blockdev", FILE, "--blockdev", FILE),
    ("--blockdev", "driver=raw,node-name=r,file=f", "--blockdev", FILE),
    ("--export", "type=nbd,id=e,node-name=f"),
    ("--export", "nbd,id=e"),
    ("--export", "type=nope,id=e,node-name=f"),
    ("--export", ""),
    ("--export", "{"),
    ("--blockdev", FILE, "--export", "type=nbd,id=e,node-name=f"),
    ("--nbd-server", "addr.type=unix,addr.path=nbd.sock", "--export", "type=nbd,id=e,node-name=f"),
    ("--nbd-server", SOCKET, "--blockdev", FILE, "--export", "nbd,id=e,node-name=f"),
    ("--nbd-server", SOCKET, "--blockdev", FILE, "--export", "nbd,id=7,node-name=f"),
    (
        "--nbd-server",
        SOCKET,
        "--blockdev",
        FILE,
        "--export",
        "nbd,id=e,node-name=f",
        "--export",
        "nbd,id=e,node-name=f",
    ),
    ("--nbd-server", SOCKET, "--nbd-server", "addr.type=unix,addr.path=m.sock"),
    ("--nbd-server", "addr.type=unix"),
    ("--nbd-server", "addr.type=nope"),
    ("--nbd-server", ""),
    ("--nbd-server", "addr.type=unix,addr.path=n.sock,zork=1"),
    ("--nbd-server", "addr.type=unix,addr.path=n.sock,max-connections=x"),
    ("--nbd-server", "addr.type=unix,addr.path=no-such-directory/n.sock"),
    ("--nbd-server", "addr.type=inet,addr.host=127.0.0.1,addr.port=0"),
    ("--nbd-server", "addr.type=inet,addr.host=127.0.0.1,addr.port=nope"),
    ("--nbd-server", "addr.type=inet,addr.host=127.0.0.1"),
    ("--nbd-server", '{"addr":{"type":"unix","path":"n.sock"}}'),
    ("--nbd-server", '{"addr":{"type":"unix","data":{"path":"n.sock"}}}'),
    ("--monitor", "chardev=nope"),
    ("--monitor", "nope"),
    ("--monitor", ""),
    ("--monitor", "chardev=own,mode=nope"),
    ("--chardev", "null,id=n", "--monitor", "n,mode=readline"),
    ("--chardev", "null,id=n", "--monitor", "n,mode=control,pretty=on"),
    ("--chardev", "null,id=n", "--monitor", "n,zork=1"),
    ("--chardev", "null"),
    ("--chardev", "nope,id=n"),
    ("--chardev", "null,id=n", "--chardev", "null,id=n"),
    ("--chardev", "socket,id=n,path=no-such-directory/x.sock,server=on,wait=off"),
    ("--chardev", "socket,id=n,path=x.sock,server=on,wait=off,zork=1"),
    ("--object", "throttle-group,id=t,x-iops-total=100"),
    ("--object", "nope,id=t"),
    ("--object", "iothread,id=t", "--object", "iothread,id=t"),
    ("--object", "throttle-group"),
    ("--object", "{"),
    ("--pidfile", "no-such-directory/pid"),
    ("--pidfile", "pid"),
    ("--pidfile", "pid", "--pidfile", "other"),
    ("--pidfile", "pid", "--chardev", "socket,id=n,path=x.sock,server=on,wait=off", "--blockdev", "nope"),
    ("--pid",),
    ("--chardev", "null,id=n", "--monitor", '{"chardev":"n","pretty":true}'),
    ("-Vh",),
    ("--daemonize", "--blockdev", "driver=file,node-name=f,filename=missing.raw"),
    ("--daemonize", "--pidfile", "no-such-directory/pid"),
    ("--daemonize=x",),
    ("--version",),
    ("-V",),
    ("--version", "--nope"),
    ("--nope", "--version"),
    ("--blockdev", "driver=nope,node-name=f", "--version"),
]


def shape(text: str, path: str) -> str:
    """Program name and numbers of the package made alike."""
    text = text.replace(path, "PROGRAM")
    text = re.sub(r"^Copyright.*$|^Simulated by.*$", "(whose)", text, flags=re.MULTILINE)
    return re.sub(r"'?/dev/fdset/\d+'?", "FDSET", text)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("images")
    for name in ("disk.raw", "other.raw"):
        (place / name).write_bytes(bytes(1 << 20))
    subprocess.run([real("qemu-img"), "create", "-q", "-f", "qcow2", place / "disk.qcow2", "1M"], check=True)
    return place


def outcome(
    program: str, is_real: bool, base: tuple[str, ...], options: tuple[str, ...], images: Path
) -> tuple[int, str, str, list[str]]:
    """(exit status, standard output, standard error, files left)."""
    path = program_path(program, is_real)
    monitor = SYSTEM_MONITOR if program == SYSTEM else DAEMON_MONITOR
    with tempfile.TemporaryDirectory() as directory:
        cwd = Path(directory)
        for image in images.iterdir():
            shutil.copy(image, cwd)
        with socket.socket(socket.AF_UNIX) as taken:
            taken.bind(f"{directory}/taken.sock")
            with Running([path, *base], cwd, (*monitor[:2], *options, *monitor[2:])) as running:
                running.send(b'{"execute":"qmp_capabilities"}{"execute":"quit"}')
                status = running.wait()
                stdout, stderr = running.printed()
        left = sorted({file.name for file in cwd.iterdir()} - {"stdout", "stderr"})
    return status, shape(stdout, path), shape(stderr, path), left


def compare(program: str, base: tuple[str, ...], options: tuple[str, ...], images: Path) -> None:
    wanted = outcome(program, True, base, options, images)
    assert outcome(program, False, base, options, images) == wanted


def _name(options: tuple[str, ...]) -> str:
    return " ".join(options)[:100] or "nothing"


@pytest.mark.parametrize("options", ON_NONE, ids=_name)
def test_system_emulator_without_devices(options: tuple[str, ...], images: Path) -> None:
    compare(SYSTEM, NONE, options, images)


@pytest.mark.parametrize("options", ON_PC, ids=_name)
def test_system_emulator_with_a_pc(options: tuple[str, ...], images: Path) -> None:
    compare(SYSTEM, PC, options, images)


@pytest.mark.parametrize("options", ON_DAEMON, ids=_name)
def test_storage_daemon(options: tuple[str, ...], images: Path) -> None:
    compare(DAEMON, (), options, images)
