"""What versions of QEMU do differently with nodes: values that a version hands to the block layer."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from simulator.versions.version import Version


class BlockRules:
    """The defaults are what QEMU means to do.

    `cbw_timeout_bits`: how many bits of nanoseconds hold the option cbw-timeout. `forgets_bounded_copies`: a
    request for a point in time that begins in what has been copied and goes beyond its end is answered from
    the source.
    """

    __slots__ = ("cbw_timeout_bits", "forgets_bounded_copies")

    def __init__(self, cbw_timeout_bits: int = 64, forgets_bounded_copies: bool = False) -> None:
        self.cbw_timeout_bits = cbw_timeout_bits
        self.forgets_bounded_copies = forgets_bounded_copies


def rules_of(version: Version) -> BlockRules:
    return BlockRules(version.block.cbw_timeout_bits, version.block.forgets_bounded_copies)
