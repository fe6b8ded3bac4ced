"""The older options; refusals and warnings are compared with the real QEMU at the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from scenarios.record.monitor import complaint
from simulator.qapi.qemu_opts import OptionError, id_is_well_formed, parse

QEMU = Path("/usr/bin/qemu-system-x86_64")


def test_pairs_in_order_and_the_last_one_wins():
    opts = parse("if=none,id=d0,file=a,,b,file=c")
    assert opts.id == "d0"
    assert opts.pairs == [("if", "none"), ("file", "a,b"), ("file", "c")]
    assert opts.get("file") == "c"
    assert opts.get("zork") is None
    assert opts.to_dict() == {"id": "d0", "if": "none", "file": "c"}


def test_the_first_name_may_be_implied():
    opts = parse("socket,id=c,path=p", "backend")
    assert opts.pairs == [("backend", "socket"), ("path", "p")]
    assert parse("a,,b", "file").pairs == [("file", "a,b")]


def test_flags():
    opts = parse("socket,server,nowait,nodelay", "backend")
    assert opts.pairs == [("backend", "socket"), ("server", "on"), ("wait", "off"), ("delay", "off")]
    assert opts.get_bool("server", False)
    assert not opts.get_bool("wait", True)
    assert opts.warnings[-1] == "Please use nodelay=on instead"


def test_conversions():
    opts = parse("a=on,b=0x10,c=64k,d=maybe")
    assert (opts.get_bool("a", False), opts.get_number("b", 0), opts.get_size("c", 0)) == (True, 16, 65536)
    assert (opts.get_bool("x", True), opts.get_number("x", 7), opts.get_size("x", 8)) == (True, 7, 8)
    with pytest.raises(OptionError, match="Parameter 'd' expects 'on' or 'off'"):
        opts.get_bool("d", False)


def test_help():
    assert parse("help", kinds={}).help_wanted
    assert not parse("x=help", kinds={"x": "str"}).help_wanted


def test_identifiers():
    assert [
        name for name in ("a", "A-b.c_1", "1a", "", "-a", "é", "a b", "a#") if id_is_well_formed(name)
    ] == [
        "a",
        "A-b.c_1",
    ]


# A part of qemu_chardev_opts (chardev/char.c, 7.2).
CHARDEV_KINDS = {
    "backend": "str",
    "path": "str",
    "host": "str",
    "port": "str",
    "to": "num",
    "ipv4": "bool",
    "wait": "bool",
    "server": "bool",
    "delay": "bool",
    "reconnect": "num",
    "telnet": "bool",
    "size": "size",
    "append": "bool",
}
REFUSED = [
    "socket,id=c,zork=1",
    "socket,id=1c",
    "socket,id=",
    "socket,id=a b",
    "socket,id=c,reconnect=x",
    "socket,id=c,reconnect=99999999999999999999",
    "socket,id=c,reconnect=",
    "socket,id=c,wait=maybe",
    "socket,id=c,server,zork",
    "socket,id=c,server,nowait,nozork=1",
    "socket,id=c,nodelay,telnet=1",
    "socket,id=c,delay,telnet=1",
    "ringbuf,id=c,size=1z",
    "ringbuf,id=c,size=17E",
    "ringbuf,id=c,size=-1",
    "ringbuf,id=c,=1",
    "ringbuf,id=c,,zork",
    "zork",
    ",zork",
]


@pytest.mark.skipif(not QEMU.exists(), reason=f"{QEMU} is not installed")
@pytest.mark.parametrize("text", REFUSED)
def test_what_the_real_qemu_prints(text):
    prefix = f"qemu-system-x86_64: -chardev {text}: "
    said = complaint(QEMU, ["-M", "none", "-nodefaults", "-display", "none", "-chardev", text], 20)
    try:
        opts = parse(text, "backend", CHARDEV_KINDS)
        lines, refusal, hint = opts.warnings, None, ""
    except OptionError as error:
        lines, refusal, hint = error.warnings, error.desc, error.hint
    ours = "".join(
        f"{prefix}warning: {line}\n" if number % 2 == 0 else f"{line}\n" for number, line in enumerate(lines)
    )
    if refusal is None:
        assert said.startswith(ours)
        assert "Invalid parameter" not in said
        return
    assert said == f"{ours}{prefix}{refusal}\n{hint}"
