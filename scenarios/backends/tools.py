"""External programs that scenarios call: found in PATH, killed when they take too long."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from scenarios.backends.interface import DeadlinePassed, SetupError
from scenarios.backends.processes import Child, deadline
from scenarios.backends.run_directory import RunDirectory

# Debian's package for each program.
PACKAGES = {
    "qemu-img": "qemu-utils",
    "qemu-io": "qemu-utils",
    "qemu-nbd": "qemu-utils",
    "nbdcopy": "libnbd-bin",
    "nbdinfo": "libnbd-bin",
    "nbdkit": "nbdkit",
}


def find_tool(name: str) -> str:
    """Its path. Raises SetupError naming the package that has it."""
    found = shutil.which(name)
    if found is None:
        package = PACKAGES.get(name)
        advice = f"; Debian has it in {package}: apt-get install {package}" if package else ""
        raise SetupError(f"{name}: not found in PATH{advice}")
    return found


async def run_tool(argv: Sequence[str], place: RunDirectory, timeout_ns: int) -> tuple[int, bytes, str]:
    """Run in the machine's directory: status (negative: signal), standard output, the end of standard error.

    Raises SetupError if there is no such program, DeadlinePassed after it was killed for taking too long.
    """
    output: list[bytes] = []
    child = Child.start([find_tool(argv[0]), *argv[1:]], place, on_stdout=output.append)
    try:
        async with deadline(" ".join(argv), timeout_ns):
            status = await child.wait()
    except DeadlinePassed as error:
        await child.kill_and_wait()
        said = child.stderr.strip()
        raise DeadlinePassed(
            f"{error.waited_for}{f' (standard error: {said})' if said else ''}", timeout_ns
        ) from error
    finally:
        child.kill()
    return status, b"".join(output), child.stderr
