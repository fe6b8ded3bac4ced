"""An image of random bytes, served by two programs, and nbdcopy to read all of it from either."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

IMAGE_BYTES = 256 << 20
START_S = 10.0
COPY_S = 60.0


class Copies:
    """`layout`: "raw" or "qcow2"; `daemon`: the storage daemon that is measured. Makes `directory`. Raises
    FileNotFoundError naming a program that is missing."""

    def __init__(self, directory: Path, layout: str, daemon: str) -> None:
        for program in ("qemu-img", "qemu-nbd", "nbdcopy"):
            if shutil.which(program) is None:
                raise FileNotFoundError(f"{program}: apt-get install qemu-utils libnbd-bin")
        directory.mkdir()
        self._directory = directory
        (directory / "raw").write_bytes(os.urandom(IMAGE_BYTES))
        if layout != "raw":
            words = ["qemu-img", "convert", "-O", layout, str(directory / "raw"), str(directory / layout)]
            subprocess.run(words, check=True)
        image = str(directory / layout)
        qemu_nbd = ["qemu-nbd", "--read-only", "--persistent", "--format", layout, "--socket"]
        options = (
            f"--blockdev=driver=file,node-name=file,filename={image},read-only=on",
            f"--blockdev=driver={layout},node-name=image,file=file,read-only=on",
            f"--nbd-server=addr.type=unix,addr.path={directory}/ours.sock",
            "--export=type=nbd,id=e,node-name=image,name=",
        )
        self._servers = [
            subprocess.Popen([daemon, *options]),
            subprocess.Popen([*qemu_nbd, f"{directory}/theirs.sock", image]),
        ]
        self._wait_for(directory / "ours.sock")
        self._wait_for(directory / "theirs.sock")

    def _wait_for(self, path: Path) -> None:
        deadline = time.monotonic() + START_S
        while not path.exists():
            if time.monotonic() > deadline:
                self.close()
                raise TimeoutError(f"{path} was not there after {START_S:g} s: its server has not started")
            time.sleep(0.01)

    def from_ours(self) -> None:
        self._copy("ours")

    def from_qemu_nbd(self) -> None:
        self._copy("theirs")

    def _copy(self, name: str) -> None:
        uri = f"nbd+unix:///?socket={self._directory}/{name}.sock"
        subprocess.run(["nbdcopy", uri, "null:"], check=True, timeout=COPY_S)

    def close(self) -> None:
        for server in self._servers:
            server.terminate()
            server.wait(START_S)
