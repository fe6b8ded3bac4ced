"""Connections between two processes of a host in memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from simulator.block.errors import QmpError
from simulator.block.host import HostProcess, HostStream
from simulator.block.memory_host import MemoryHost

ADDRESS = {"type": "unix", "path": "/s"}


class Two:
    """A server's process and a client's, which has connected. What is due happens when `turn` is called."""

    def __init__(self) -> None:
        self.host = MemoryHost()
        self.due: list[Callable[[], None]] = []
        self.host.later = self.due.append
        self.server, self.client = HostProcess(self.host), HostProcess(self.host)
        self.at_server: list[bytes] = []
        self.at_client: list[bytes] = []
        self.listener = self.server.listen(ADDRESS, self._accept)
        self.to_server = self.client.connect(ADDRESS, self.at_client.append)

    def _accept(self, stream: HostStream) -> Callable[[bytes], None]:
        self.to_client = stream
        return self.at_server.append

    def turn(self) -> None:
        due, self.due[:] = list(self.due), []
        for act in due:
            act()

    def refusal(self) -> str:
        with pytest.raises(QmpError) as caught:
            self.client.connect(ADDRESS, self.at_client.append)
        return caught.value.desc


def test_bytes_arrive_in_a_turn_of_their_own_and_their_end_last():
    two = Two()
    two.to_server.send([b"a", b"b"])
    two.to_server.send([])
    two.to_server.send([b"c"])
    two.to_server.close()
    two.to_server.send([b"lost"])
    assert two.at_server == []
    two.turn()
    assert two.at_server == [b"ab", b"c", b""]


def test_who_has_closed_receives_nothing_any_more():
    two = Two()
    two.to_client.send([b"late"])
    two.to_server.close()
    two.turn()
    assert two.at_client == []


def test_a_process_that_dies_is_seen_by_the_other_after_all_it_said():
    two = Two()
    two.to_client.send([b"last words"])
    two.server.kill()
    two.turn()
    assert two.at_client == [b"last words", b""]


def test_a_socket_that_was_closed_is_gone_and_one_whose_server_died_is_left():
    two = Two()
    two.listener.close()
    assert two.refusal() == "Failed to connect to '/s': No such file or directory"
    assert two.host.left_sockets == {}
    two.server.listen(ADDRESS, two._accept)
    two.server.kill()
    assert two.refusal() == "Failed to connect to '/s': Connection refused"
    assert list(two.host.left_sockets) == ["/s"]
    HostProcess(two.host).listen(ADDRESS, two._accept)
    assert list(two.host.left_sockets) == []
