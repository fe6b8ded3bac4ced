"""The human monitor of the real emulator and of the simulator: the same answers, and the same on both
standard streams."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pytest
from both_programs import PC, SYSTEM, Running, real, start, wait_until

WITHOUT_DEVICES = r"""
help qemu-io
help nope
help drive_add
help q
info nope
nope
nope with arguments
info block
info block nope
info block -x
info block -n
info block -v
info block-jobs
info status
info version
info name
info kvm
info jobs
drive_add
drive_add 0
drive_add 0 if=none
drive_add 0 if=none,id=d,file=disk.raw,format=raw
drive_add 0 if=none,id=d,file=disk.raw,format=raw
drive_add 0 if=none,id=7,file=disk.raw,format=raw
drive_add 0 if=none,id=e,file=missing.raw,format=raw
drive_add 0 if=none,id=e,file=missing.raw,format=raw
drive_add 0 if=none,id=e,file=disk.qcow2,format=raw,zork=1
drive_add 0 if=none,id=e,file=disk.qcow2,format=nope
drive_add 0 if=none,id=e,file=disk.qcow2
drive_add 0 if=none,id=r,file=other.raw,format=raw,readonly=on
drive_add 0 if=virtio,id=v,file=other.raw,format=raw
drive_add 0 if=scsi,id=v,file=other.raw,format=raw
drive_add 0 id=v,file=other.raw,format=raw
drive_add 0 if=nope
drive_add -n 0 driver=file,filename=other.raw,node-name=n
drive_add -n 0 driver=nope,node-name=n2
drive_add -n 0 driver=raw,file=n,node-name=n2,zork=1
drive_add -n 0 driver=raw,file=n
drive_add -n 0 driver=raw,file=n,node-name=top
drive_add -x 0 driver=raw
drive_add 0 "if=none,id=q
drive_add 0 if=none extra
info block
info block -v
info block -n
info block -n -v
info block -nv top
info block -n top
info block d
info block -v e
info block n
info block nope
qemu-io d "write -P 17 0 64k"
qemu-io d "write -P 18 4096 512"
qemu-io d "read -P 17 0 4k"
qemu-io d "read -P 17 0 8k"
qemu-io d "read -v 4090 20"
qemu-io d "read -q 0 1"
qemu-io d "read -p 0 512"
qemu-io d "read 0"
qemu-io d "read 0 1 2"
qemu-io d "read x 1"
qemu-io d "read 0 x"
qemu-io d "read 0 9999999999999999999999"
qemu-io d "read 0 -1"
qemu-io d "read 2M 512"
qemu-io d "read -P 300 0 1"
qemu-io d "read -P x 0 1"
qemu-io d "read -x 0 1"
qemu-io d "read -l 4 0 8"
qemu-io d "read -s 4 0 8"
qemu-io d "read -P 17 -s 4 -l 4 0 8"
qemu-io d "read -P 17 -s 4 -l 8 0 8"
qemu-io d "write -P 300 0 1"
qemu-io d "write -n 0 1"
qemu-io d "write -u 0 1"
qemu-io d "write -z -P 3 0 1"
qemu-io d "write -z 0 64k"
qemu-io d "write -z -u 64k 64k"
qemu-io d "write -z -n 128k 64k"
qemu-io d "write -f 0 512"
qemu-io d "write -b 0 512"
qemu-io d "write 1M 512"
qemu-io r "write 0 512"
qemu-io d "writev 0 512 512"
qemu-io d "readv 0 512 512"
qemu-io d "discard 0 64k"
qemu-io d "discard -q 0 64k"
qemu-io d "discard 0"
qemu-io d "discard 0 2M"
qemu-io d "flush"
qemu-io d "length"
qemu-io d "map"
qemu-io e "map"
qemu-io e "map 1"
drive_add 0 if=none,id=over,file=over.qcow2,format=qcow2
info block -v over
qemu-io over "map"
drive_del over
qemu-io d "getlength"
qemu-io d "truncate 1M"
qemu-io d "quit"
qemu-io d "aio_write -P 5 0 1k"
qemu-io d "aio_flush"
qemu-io d "aio_read -P 5 0 1k"
qemu-io d "aio_flush"
qemu-io d "aio_read -P 6 0 1k"
qemu-io d "aio_flush"
qemu-io d "aio_write 2M 512"
qemu-io d "aio_read 2M 512"
qemu-io d "aio_flush"
qemu-io d "aio_write -q 0 512"
qemu-io d "aio_write"
qemu-io d "aio_read -x 0 1"
qemu-io d "nope"
qemu-io d ""
qemu-io d
qemu-io
qemu-io nope "read 0 1"
qemu-io top "read 0 512"
qemu-io top "write 0 512"
qemu-io -d nope "read 0 1"
qemu-io -d d "read 0 1"
qemu-io -x d "read 0 1"
nbd_server_start
nbd_server_start nope
nbd_server_start -w unix:n.sock
nbd_server_stop
nbd_server_add d
nbd_server_start unix:no-such-directory/n.sock
nbd_server_start unix:n.sock
nbd_server_start unix:n.sock
nbd_server_add
nbd_server_add d
nbd_server_add d
nbd_server_add -w d dw
nbd_server_add nope
nbd_server_add -x d
nbd_server_remove
nbd_server_remove nope
nbd_server_remove d
nbd_server_remove -f dw
nbd_server_add -w d
drive_del d
nbd_server_remove d
drive_del d
drive_del
drive_del nope
drive_del top
drive_del n
drive_del n
info block
info block -n
nbd_server_stop
nbd_server_stop
nbd_server_start -a unix:n.sock
nbd_server_stop
nbd_server_start -a -w unix:n.sock
nbd_server_stop
nbd_server_start -a -w nope:
nbd_server_start 127.0.0.1:0
nbd_server_stop
nbd_server_start tcp:127.0.0.1:0
nbd_server_stop
block_job_cancel
block_job_cancel nope
block_job_cancel -f nope
block_job_pause nope
block_job_resume nope
block_job_complete nope
block_job_set_speed nope 5
block_job_set_speed nope
block_job_set_speed nope x
drive_backup
drive_backup nope x
drive_backup -n e missing.raw raw
drive_backup -x e x
block_resize e 2M
block_resize nope 2M
block_resize e x
stop
info status
cont
info status
s
c
  info   status
info status extra
drive_del e
drive_del r
drive_del none0
info block
""".strip().splitlines()

WITH_DEVICES = r"""
info block
info block -v
info block d
info block f0
info block f
info block -n
qemu-io -d d0 "read 0 1"
qemu-io -d d0/virtio-backend "read 0 512"
qemu-io -d /machine/peripheral/f0/virtio-backend "write -P 3 0 512"
qemu-io -d f0/virtio-backend "read -P 3 0 512"
qemu-io f "read -P 3 0 512"
qemu-io f "write 0 512"
qemu-io d "write 0 512"
drive_del f
drive_del f0
nbd_server_start unix:n.sock
nbd_server_add d
nbd_server_add -w d w
nbd_server_add f
drive_del d
drive_del d
nbd_server_remove d
nbd_server_remove w
nbd_server_remove f
drive_add 0 if=none,id=again,file=disk.raw,format=raw
drive_del again
drive_add 0 if=none,id=d,file=disk.raw,format=raw
""".strip().splitlines()

DEVICES = (
    *("-drive", "if=none,id=d,file=disk.raw,format=raw"),
    *("-blockdev", "driver=file,filename=other.raw,node-name=f"),
    *("-device", "virtio-blk-pci,drive=d,id=d0"),
    *("-device", "virtio-blk-pci,drive=f,id=f0"),
    *("-drive", "if=none,id=x,file=disk.qcow2,format=qcow2"),
)


def directory(place: Path) -> Path:
    place.mkdir()
    for name in ("disk.raw", "other.raw"):
        (place / name).write_bytes(bytes(1 << 20))
    make = [real("qemu-img"), "create", "-q", "-f", "qcow2"]
    subprocess.run([*make, place / "disk.qcow2", "1M"], check=True)
    subprocess.run([*make, "-b", "other.raw", "-F", "raw", place / "over.qcow2"], check=True)
    return place


def normalised(text: str) -> str:
    """Without times and made-up names."""
    return re.sub(r"#block\d+", "#block", re.sub(r"[0-9.]+ sec \([^)]*\)", "SOME sec", text))


def await_requests(running: Running, line: str) -> None:
    """A request in the background has printed its report once aio_flush is back, but for the real one's
    last line."""
    if "aio_" in line and "-q" not in line:
        time.sleep(0.02)


def transcript(
    is_real: bool, place: Path, options: tuple[str, ...], lines: list[str]
) -> list[tuple[str, ...]]:
    """(line, what the monitor printed, standard output, standard error) of each line."""
    answers = []
    seen = "", ""
    with start(SYSTEM, is_real, directory(place), options, PC) as running:
        running.negotiate()
        for line in lines:
            answer = running.hmp(line)
            await_requests(running, line)
            printed = running.printed()
            new = [text[len(before) :] for text, before in zip(printed, seen, strict=True)]
            seen = printed
            answers.append((line, normalised(str(answer)), normalised(new[0]), new[1]))
    return answers


@pytest.mark.parametrize(
    ("options", "lines"), [((), WITHOUT_DEVICES), (DEVICES, WITH_DEVICES)], ids=["none", "devices"]
)
def test_answers(options: tuple[str, ...], lines: list[str], tmp_path: Path) -> None:
    wanted = transcript(True, tmp_path / "real", options, lines)
    ours = transcript(False, tmp_path / "simulated", options, lines)
    different = [
        f"{mine}\nreal: {theirs}" for mine, theirs in zip(ours, wanted, strict=True) if mine != theirs
    ]
    assert not different, "\n".join(different)


@pytest.mark.parametrize("is_real", [True, False], ids=["real", "simulated"])
def test_a_drive_under_a_job_cannot_be_deleted(is_real: bool, tmp_path: Path) -> None:
    with start(SYSTEM, is_real, directory(tmp_path / "x"), DEVICES, PC) as running:
        running.negotiate()
        target = {"driver": "null-co", "node-name": "t", "size": 1 << 20}
        assert running.qmp("blockdev-add", target) == {}
        # It copies everything and then waits to be told to end.
        job = {
            "device": "x",
            "target": "t",
            "sync": "full",
            "speed": 1,
            "job-id": "j",
            "auto-finalize": False,
        }
        assert running.qmp("blockdev-backup", job) == {}
        assert (
            running.hmp("drive_del x") == "Node 'x' is busy: block device is in use by block job: backup\r\n"
        )
        jobs = running.hmp("info block-jobs")
        assert re.fullmatch(
            r"Type backup, device j: Completed \d+ of 1048576 bytes, speed limit 1 bytes/s\r\n", jobs
        )
        assert running.hmp("block_job_cancel j") == ""
        running.wait_event("BLOCK_JOB_CANCELLED")
        wait_until(lambda: running.hmp("info block-jobs") == "No active jobs\r\n", "the job to be gone")
        assert running.hmp("drive_del x") == ""


@pytest.mark.parametrize("is_real", [True, False], ids=["real", "simulated"])
def test_ejecting_a_drive_ends_its_export(is_real: bool, tmp_path: Path) -> None:
    with start(SYSTEM, is_real, directory(tmp_path / "x"), DEVICES, PC) as running:
        running.negotiate()
        assert running.hmp("nbd_server_start unix:n.sock") == ""
        assert running.hmp("nbd_server_add x") == ""
        assert [export["id"] for export in running.qmp("query-block-exports")] == ["x"]
        assert running.hmp("drive_del x") == ""
        assert running.qmp("query-block-exports") == []
        assert running.wait_event("BLOCK_EXPORT_DELETED")["data"] == {"id": "x"}


@pytest.mark.parametrize("holder", [True, False], ids=["held by real", "held by simulated"])
def test_an_image_that_another_process_holds(holder: bool, tmp_path: Path) -> None:
    """A drive is not made, and each of the two is refused by the other, with the same words."""
    place = directory(tmp_path / "x")
    held = ("-drive", "if=none,id=d,file=disk.qcow2,format=qcow2", "-device", "virtio-blk-pci,drive=d")
    answers = []
    with start(SYSTEM, holder, place, held, PC) as first:
        first.negotiate()
        for is_real in (True, False):
            other = directory(tmp_path / f"{is_real}")
            with start(SYSTEM, is_real, other) as second:
                second.negotiate()
                answers.append(
                    [second.hmp(f"drive_add 0 if=none,id=e,file={place}/disk.qcow2,{more}") for more in _MORE]
                )
    assert answers[1] == answers[0]
    assert "Is another process using the image" in str(answers[0])


_MORE = ("format=qcow2", "format=qcow2,readonly=on", "format=qcow2,force-share=on,readonly=on", "format=raw")
