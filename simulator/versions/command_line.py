"""What may differ between versions in what the two programs make of their command lines."""

from __future__ import annotations

from simulator.versions.group import Group


class CommandLine(Group):
    """daemon_options_unknown: of the storage daemon's, those that the version lacks.
    daemon_reads_twice: the storage daemon looks for --help and --version before it does anything, and for
    words that are no options where they stand; otherwise each has its turn, and words come last.
    daemon_shows_option: the storage daemon puts the option before what is wrong with it.
    flags_warn: "x" for "x=on" is warned of. misuse_warns: what later versions refuse is merely warned of.
    json_devices: -device takes JSON.
    machine_refusal: what is said of a machine that there is not, {name} of it; `shows_machine_option`: behind
    the first option that said something of the machine.
    sockets_need_address: -chardev socket has one, even that of an empty descriptor.
    chardev_taken: said of a chardev {id} that has its user.
    pid_file_first: it is written before the descriptors of -add-fd are looked at.
    pid_file_refusal: said of a pid file {path} that cannot be made.
    """

    __slots__ = (
        "chardev_taken",
        "daemon_options_unknown",
        "daemon_reads_twice",
        "daemon_shows_option",
        "flags_warn",
        "json_devices",
        "machine_refusal",
        "misuse_warns",
        "pid_file_first",
        "pid_file_refusal",
        "shows_machine_option",
        "sockets_need_address",
    )

    chardev_taken: str
    daemon_options_unknown: tuple[str, ...]
    daemon_reads_twice: bool
    daemon_shows_option: bool
    flags_warn: bool
    json_devices: bool
    machine_refusal: str
    misuse_warns: bool
    pid_file_first: bool
    pid_file_refusal: str
    shows_machine_option: bool
    sockets_need_address: bool
