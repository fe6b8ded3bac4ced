"""The action that always fails, to try out that a transaction undoes all."""

from __future__ import annotations

from simulator.block.errors import QmpError
from simulator.jobs.actions.action import Action


class Abort(Action):
    supports_grouped = True

    async def prepare(self) -> None:
        raise QmpError("Transaction aborted using Abort action")
