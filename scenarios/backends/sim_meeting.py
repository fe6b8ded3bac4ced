"""How machines of the in-process simulator meet: each other's NBD servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simulator.block.host import HostListener, HostStream
from simulator.machine import Machine

if TYPE_CHECKING:
    from simulator.block.host import Receive


class Meeting:
    """What gives a machine's NBD server a place on the host that others connect to."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._listener: HostListener | None = None
        machine.listen, machine.on_listen = self._listen, self._changed

    def _listen(self, address: dict[str, Any]) -> HostListener:
        return self._machine.host.listen(address, self._accept)

    def _changed(self, listener: HostListener | None) -> None:
        if self._listener is not None:
            self._listener.close()
        self._listener = listener

    def _accept(self, stream: HostStream) -> Receive:
        connection = self._machine.connect_nbd()

        def send() -> None:
            stream.send(connection.output_buffers())
            if connection.closed:
                stream.close()

        def receive(payload: bytes) -> None:
            if payload:
                connection.receive(payload)
            else:
                self._machine.disconnect(connection)

        connection.on_output = send
        send()
        return receive
