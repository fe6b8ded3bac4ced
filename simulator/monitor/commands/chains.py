"""block-stream, block-commit and change-backing-file: work on a chain of backing files (blockdev.c, 7.2)."""

from __future__ import annotations

from simulator.block import chain
from simulator.block.errors import QmpError
from simulator.block.reopening import set_read_only
from simulator.jobs.backing import change_backing_file
from simulator.jobs.commit import start_commit
from simulator.jobs.commit_options import CommitOptions
from simulator.jobs.mirror_start import start_active_commit
from simulator.jobs.stream import start_stream
from simulator.jobs.stream_options import StreamOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine

    Arguments = dict[str, Any]


async def block_stream(machine: Machine, arguments: Arguments) -> dict[str, Any]:
    await start_stream(machine.jobs, StreamOptions(machine.graph, arguments))
    return {}


async def block_commit(machine: Machine, arguments: Arguments) -> dict[str, Any]:
    options = CommitOptions(machine.jobs, arguments)
    start = start_active_commit if options.is_active else start_commit
    await start(machine.jobs, options)
    return {}


async def change_backing(machine: Machine, arguments: Arguments) -> dict[str, Any]:
    """The name in an image's header; the node below stays (qmp_change_backing_file)."""
    graph, device = machine.graph, arguments["device"]
    active = machine.jobs.root_node(device)
    image = graph.lookup("", arguments["image-node-name"])
    if chain.last_layer(image) is image:
        raise QmpError("not allowing backing file change on an image without a backing file")
    graph.check_operation(active, "change")
    if not chain.chain_contains(active, image):
        raise QmpError(f"'{device}' and image file are not in the same chain")
    was_read_only = image.read_only
    if was_read_only:
        await set_read_only(graph, image, False)
    try:
        await change_backing_file(image, arguments["backing-file"], image.driver.format_name)
    except OSError as error:
        text = f"Could not change backing file to '{arguments['backing-file']}': {error.strerror}"
        raise QmpError(text) from None
    finally:
        if was_read_only:
            await set_read_only(graph, image, True)
    return {}


COMMANDS = {
    "block-stream": block_stream,
    "block-commit": block_commit,
    "change-backing-file": change_backing,
}
