"""`qemu_img`: run qemu-img in the scenario's directory."""

from __future__ import annotations

from scenarios.language.steps import QemuImg
from scenarios.run.execution import Execution, NotAsExpectedError, Where


async def run(x: Execution, qemu_img: QemuImg, where: Where) -> None:
    status, out, err = await x.tool(where, ["qemu-img", *map(str, x.named(qemu_img.run))])
    said = (out.decode(errors="replace") + err).strip()
    if status != qemu_img.status:
        raise NotAsExpectedError(f"exit status {qemu_img.status}", f"{status}: {said}")
    if qemu_img.prints is not None and x.named(qemu_img.prints) not in said:
        raise NotAsExpectedError(f"output with {qemu_img.prints!r}", repr(said))
