"""The simulated qemu-img beside the real one: the same commands in two directories, the same answers."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess

import pytest

from simulator import image_tool
from simulator.block.memory_host import MemoryHost
from simulator.serve.host_files import DiskHost

pytestmark = pytest.mark.skipif(not shutil.which("qemu-img"), reason="qemu-img is not installed")

SET_UP = (
    "create -q -f qcow2 a.qcow2 64M",
    "create -q -f raw a.raw 64M",
    "create -q -f raw small.raw 1M",
    "create -q -f qcow2 -b a.qcow2 -F qcow2 o.qcow2",
    "create -q -f qcow2 -u -b nope.qcow2 -F qcow2 lost.qcow2 1M",
    "create -q -f qcow2 -o compat=0.10 old.qcow2 1000",
    "bitmap --add a.qcow2 first",
    "bitmap --add --disable -g 4k a.qcow2 second",
)

COMMANDS = (
    "",
    "nosuch",
    "create -f qcow2",
    "create -f qcow2 n.qcow2 64M",
    "create -f raw n.raw 64M",
    "create n.raw 1M",
    "create -f qcow2 n.qcow2 1000",
    "create -f qcow2 -b a.qcow2 -F qcow2 n.qcow2",
    "create -f qcow2 -b a.qcow2 n.qcow2",
    "create -f qcow2 -b nope.qcow2 -F qcow2 n.qcow2",
    "create -f qcow2 -b nope.qcow2 -F qcow2 n.qcow2 1M",
    "create -f qcow2 -u -b nope.qcow2 -F qcow2 n.qcow2 1M",
    "create -f qcow2 -u -b nope.qcow2 -F qcow2 n.qcow2",
    "create -f qcow2 -o backing_file=a.qcow2,backing_fmt=qcow2,cluster_size=4k n.qcow2 8M",
    "create -f qcow2 -o cluster_size=1000 n.qcow2 8M",
    "create -f qcow2 -o compat=0.10,lazy_refcounts=on n.qcow2 8M",
    "create -f qcow2 -o foo=1 n.qcow2 8M",
    "create -f qcow2 n.qcow2",
    "create -f qcow2 n.qcow2 abc",
    "create -f nope n.qcow2 1M",
    "create -f qcow2 /nope/n.qcow2 1M",
    "create -f raw -b a.raw -F raw n.raw 1M",
    "create -f qcow2 -o preallocation=metadata n.qcow2 1M",
    "create -f raw -o preallocation=full n.raw 1M",
    "create -f qcow2 -b a.qcow2 -F qcow2 a.qcow2",
    "info a.qcow2",
    "info o.qcow2",
    "info lost.qcow2",
    "info a.raw",
    "info old.qcow2",
    "info nope",
    "info -f qcow2 a.raw",
    "info --backing-chain o.qcow2",
    "info --output=xml a.raw",
    "info ./o.qcow2",
    "check a.qcow2",
    "check -q a.qcow2",
    "check a.raw",
    "check nope",
    "check -r all a.qcow2",
    "check lost.qcow2",
    "rebase -u -b a.raw -F raw lost.qcow2",
    "rebase -u -b '' o.qcow2",
    "rebase -u -b a.qcow2 o.qcow2",
    "rebase -u -f qcow2 -b new.qcow2 -F qcow2 o.qcow2",
    "rebase -u -b x a.raw",
    "rebase o.qcow2",
    "map a.qcow2",
    "map o.qcow2",
    "map --output=json o.qcow2",
    "map --output=json a.raw",
    "map a.raw",
    "map lost.qcow2",
    "resize a.qcow2 128M",
    "resize a.qcow2 +1M",
    "resize a.qcow2 1M",
    "resize --shrink a.qcow2 1M",
    "resize -q a.qcow2 65M",
    "resize a.raw 1M",
    "resize -f raw --shrink a.raw 1M",
    "resize a.qcow2 foo",
    "resize nope 1M",
    "resize a.qcow2 64M",
    "resize a.qcow2 -1M",
    "resize --shrink a.qcow2 -100M",
    "compare a.raw a.qcow2",
    "compare a.raw small.raw",
    "compare -s a.raw small.raw",
    "compare a.raw nope",
    "convert -O raw o.qcow2 n.raw",
    "convert -O raw nope n.raw",
    "convert -f qcow2 -O qcow2 a.qcow2 n.qcow2",
    "bitmap --add a.qcow2 first",
    "bitmap --remove a.qcow2 third",
    "bitmap --remove a.qcow2 first",
    "bitmap --add small.raw first",
    "bitmap --clear --enable a.qcow2 second",
    "bitmap --add --merge first a.qcow2 third",
    "bitmap --merge nope a.qcow2 first",
    "bitmap --merge first -b a.qcow2 -F qcow2 --merge second --add o.qcow2 top",
    "bitmap --add --merge first --merge second -b a.qcow2 -F qcow2 o.qcow2 top",
    "bitmap --add -b a.qcow2 o.qcow2 top",
    "bitmap --add -F qcow2 o.qcow2 top",
    "bitmap --enable a.qcow2",
    "bitmap a.qcow2 first",
    "convert --bitmaps -O qcow2 a.qcow2 n.qcow2",
    "convert --bitmaps -O raw a.qcow2 n.raw",
    "convert --bitmaps -O qcow2 a.raw n.qcow2",
    "convert --skip-broken-bitmaps -O qcow2 a.qcow2 n.qcow2",
)


def real(directory, command):
    done = subprocess.run(
        ["qemu-img", *shlex.split(command)],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def beside(tmp_path_factory):
    """A directory that real qemu-img filled."""
    directory = tmp_path_factory.mktemp("real")
    for command in SET_UP:
        assert real(directory, command)[0] == 0, command
    subprocess.run(
        ["qemu-io", "-c", "write -P 1 4096 100", "-c", "write -z 1M 1M",
         "-c", "write -P 2 10M 100k", "a.qcow2"],
        cwd=directory, check=True, capture_output=True, timeout=30,
    )  # fmt: skip
    return directory


def load_into_memory(directory):
    """Files with the holes and blocks that they have on the disk."""
    host, disk = MemoryHost(cwd="/images"), DiskHost()
    for name in disk.list(str(directory)):
        source, target = disk.open(str(directory / name), read_only=True), host.open(name, create=True)
        size, at = source.size_bytes(), 0
        target.truncate(size)
        while at < size:
            end, is_data = source.run_at(at, size)
            if is_data:
                target.write(at, source.read(at, end - at))
            at = end
        source.close()
        target.close()
    return host


@pytest.mark.parametrize("command", COMMANDS)
def test_the_same_answer(beside, tmp_path, command):
    shutil.copytree(beside, tmp_path / "copy")
    host = load_into_memory(tmp_path / "copy")
    expected = real(tmp_path / "copy", command)
    if "json" in command and expected[0] == 0:
        status, out, err = image_tool.run(host, shlex.split(command))
        assert (status, json.loads(out), err) == (expected[0], json.loads(expected[1]), expected[2])
    else:
        status, out, err = image_tool.run(host, shlex.split(command))
        assert (status, out, anonymous(err)) == (*expected[:2], anonymous(expected[2]))
    # And the images are the same afterwards, as real qemu-img sees ours.
    assert host.list("/images") == sorted(entry.name for entry in (tmp_path / "copy").iterdir())
    ours = tmp_path / "ours"
    ours.mkdir()
    for name in host.list("/images"):
        (ours / name).write_bytes(host.read_all(name))
        if (ours / name).read_bytes() != (tmp_path / "copy" / name).read_bytes():
            assert described(ours, name) == described(tmp_path / "copy", name), name


def anonymous(text):
    """Without the digits that QEMU draws for nodes without a name."""
    return re.sub(r"#block\d+", "#block", text)


def described(directory, name):
    status, out, _ = real(directory, f"info --output=json {name}")
    assert status == 0
    found = json.loads(out)
    del found["actual-size"]
    assert name.endswith("raw") or real(directory, f"check {name}")[0] in (0, 1)
    return found


@pytest.mark.parametrize("output", ["info --output=json o.qcow2",
                                    "info --backing-chain --output=json o.qcow2",
                                    "check --output=json a.qcow2", "info --output=json a.raw"])  # fmt: skip
def test_json(beside, output):
    host = load_into_memory(beside)
    expected = real(beside, output)
    status, out, err = image_tool.run(host, shlex.split(output))
    ours, theirs = json.loads(out), json.loads(expected[1])
    # Blocks that are reserved but not written are lost on the way into memory.
    for image in [
        *([ours] if isinstance(ours, dict) else ours),
        *([theirs] if isinstance(theirs, dict) else theirs),
    ]:
        image.pop("actual-size", None)
    assert (status, ours, err) == (expected[0], theirs, expected[2])


@pytest.mark.parametrize(
    "command",
    ["info a.qcow2", "check a.qcow2", "resize a.qcow2 20M", "rebase -u -b x -F raw a.qcow2", "map a.qcow2",
     "create -f qcow2 a.qcow2 1M", "create -f qcow2 -b a.qcow2 -F qcow2 z.qcow2", "convert -O raw a.qcow2 zz",
     "compare a.qcow2 a.raw", "info -U a.qcow2", "bitmap --add a.qcow2 q", "info a.raw"],
)  # fmt: skip
def test_an_image_in_use_is_refused_in_the_same_words(beside, tmp_path, command):
    directory = tmp_path / "copy"
    shutil.copytree(beside, directory)
    with subprocess.Popen(
        ["qemu-io", "a.qcow2"], cwd=directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as user:
        user.stdin.write("length\n")
        user.stdin.flush()
        user.stdout.readline()
        expected = real(directory, command)
        # Ours sees the same locks on the same files.
        again = [
            str(directory / word) if "." in word or word == "zz" else word for word in shlex.split(command)
        ]
        status, out, err = image_tool.run(DiskHost(), again)
        user.kill()
    assert (status, out.replace(f"{directory}/", ""), err.replace(f"{directory}/", "")) == expected


def test_the_reader_shows_the_disk_and_what_may_be_data(beside):
    host = load_into_memory(beside)
    size, reader = image_tool.open_image(host, "a.qcow2", "qcow2")
    assert size == reader.size == 64 << 20
    assert reader(4095, 3) == b"\0\1\1"
    assert reader(size - 1, 100) == b"\0"
    assert list(reader.data_ranges()) == [(0, 65_536), (10 << 20, 131_072)]
    reader.close()
    with pytest.raises(image_tool.ToolError, match="Image is not in qcow2 format"):
        image_tool.open_image(host, "a.raw", "qcow2")
