# ruff: noqa: E501  tables of bytes read better in long lines
"""What a real QEMU answers to odd QMP input, byte for byte, against the JSON and request checks of simulator.wire."""

import shutil
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulator.wire import qmp
from simulator.wire.json_stream import JsonStream, ParseError, encode_line

QEMU = "qemu-system-x86_64"
NEGOTIATE = b'{"execute":"qmp_capabilities"}'
END = b'\xff\n{"execute":"query-name","id":"END"}\n'  # FF gets the parser out of whatever it is in


def ask_qemu(payloads, pretty=False):
    """Everything a fresh QEMU sends for these inputs, without its greeting. One process for all of them."""
    assert shutil.which(QEMU), f"{QEMU} is not installed: apt install qemu-system-x86"
    monitor = "mon=m,mode=control" + (",pretty=on" if pretty else "")
    argv = [QEMU, "-M", "none", "-nodefaults", "-display", "none", "-chardev", "stdio,id=m"]
    stream = NEGOTIATE + b"".join(payload + END for payload in payloads)
    done = subprocess.run(
        [*argv, "-mon", monitor.replace("mon=m", "chardev=m")],
        input=stream + b'{"execute":"quit"}',
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def answer(message, oob=False):
    """The model of a monitor that knows one command."""
    if isinstance(message, ParseError):
        return qmp.error("GenericError", message.desc)
    try:
        request = qmp.parse_request(message, oob)
    except qmp.BadRequest as bad:
        return qmp.error("GenericError", bad.desc, bad.id)
    if request.command != "query-name":
        return qmp.error("CommandNotFound", f"The command {request.command} has not been found", request.id)
    return qmp.returned({}, request.id)


def our_answers(payload, chunk_bytes, pretty=False):
    stream, out = JsonStream(False), b""
    data = payload + END
    for start in range(0, len(data), chunk_bytes):
        for message in stream.receive_data(data[start : start + chunk_bytes]):
            out += encode_line(answer(message), pretty)
    return out


def compare(payloads, pretty=False):
    marker = encode_line(qmp.returned({}, "END"), pretty)
    theirs = ask_qemu(payloads, pretty).split(encode_line(qmp.returned({}), pretty), 1)[1].split(marker)[:-1]
    assert len(theirs) == len(payloads)
    for payload, expected in zip(payloads, theirs, strict=True):
        for chunk_bytes in (1 << 20, 1, 7) if len(payload) < 5000 else (1 << 20, 4096):
            got = our_answers(payload, chunk_bytes, pretty).split(marker)[0]
            assert got == expected, (payload[:200], chunk_bytes)


def echo(literal):
    return b'{"execute": "query-name", "id": ' + literal + b"}"


MALFORMED = [
    b"{",
    b"}",
    b"[",
    b"]",
    b"[}",
    b"{]",
    b"{1",
    b"[1}",
    b"{'a':1]",
    b"[1,]",
    b"[,1]",
    b"{,}",
    b"{'a'}",
    b"{'a':}",
    b"{'a':1,}",
    b"{'a' 1}",
    b"{'a':1 'b':2}",
    b"[1 2]",
    b"{1:2}",
    b"{[]:2}",
    b"{{}:2}",
    b"{null:2}",
    b"{'a':1,'a':2}",
    b":",
    b",",
    b"::",
    b"1",
    b"1 ",
    b"-",
    b"- ",
    b"-a",
    b"01",
    b"-01",
    b"1.",
    b"1. ",
    b"1.e1",
    b"1e",
    b"1e+",
    b"1e+ ",
    b"0e1 ",
    b".5",
    b"+1",
    b"0x10 ",
    b"1.5.5 ",
    b"--1",
    b"1-1",
    b"nul ",
    b"nulll ",
    b"true",
    b"truefalse ",
    b"NaN ",
    b"Infinity",
    b"-Infinity",
    b"zork}",
    b"a" * 2000 + b" ",
    b"'",
    b'"',
    b"'abc",
    b'"abc\n',
    b"'abc\t'",
    b"'a\x00b'",
    b"'a\x01'",
    b"\x00",
    b"\x01\x02",
    b"\x7f",
    b"\x80",
    b"\xc3",
    b"\xff",
    b"\xfe",
    b"\xff\xff",
    b"abc\xff",
    b"{'a\xff':1}",
    b"'\xff'",
    b"'\xfe'",
    b"'\xc3'",
    b"'\xc3(",
    b"'\x80'",
    b"'\xed\xa0\x80'",
    b"'\xc0\x80'",
    b"'\xc0\xaf'",
    b"'\xe0\x80\x80'",
    b"'\xf4\x90\x80\x80'",
    b"'\xf8\x88\x80\x80\x80'",
    b"'\xfc\x84\x80\x80\x80\x80'",
    b"'\xef\xbf\xbe'",
    b"'\xef\xb7\x90'",
    rb"'\x'",
    rb"'\u12'",
    rb"'\u'",
    rb"'\uD800'",
    rb"'\uD800\u0041'",
    rb"'\uD800\u12'",
    rb"'\uDC00'",
    rb"'\uFFFE'",
    rb"'\uFDD0'",
    rb"'\uD83F\uDFFE'",
    rb"'\u12x4'",
    b"'\\\x01'",
    b"'\\\xff'",
    "'\\é'".encode(),
    "é".encode(),
    "abcé ".encode(),
    b"%s",
    b"%",
    b"#",
    b"/* c */",
    b"// c\n1 ",
    b"\xef\xbb\xbf{}",
    b"\r\n\t ",
    b"\x0b",
    b"\x0c",
    b"{}{}[]",
    b"{}\n{}\n",
    b"1 2 3 ",
    b"'a''b'",
    b'"a"1 ',
    b"null null ",
    b"[]]",
    b"{}}",
    b"}}}}",
    b"]]",
    b"@{'execute':'query-name'}",
    b"@ {'execute':'query-name'}",
    b"@[{'execute':'query-name'}",
    b"abc:{'execute':'query-name'}",
    b"[" * 1024 + b"]" * 1024,
    b"[" * 1025 + b"]" * 3,
    b"[" * 1200,
    b"{'a':" * 1100,
    b"[{}" * 3,
    b"$" * 300,
    b"{'a': $$$ }",
    b"{'a': \x01 1}",
    b"{'a':1\x00}",
]

REQUESTS = [
    b"[]", b"1 ", b"'x'", b"null ", b"{}", b"{'id':1}", b"{'execute':1}", b"{'execute':null,'id':2}", b"{'execute':'query-name','exec-oob':'query-name'}",
    b"{'exec-oob':'query-name'}", b"{'arguments':1,'execute':'query-name'}", b"{'execute':'query-name','arguments':[]}", b"{'execute':'query-name','arguments':null}",
    b"{'execute':'query-name','foo':1}", b"{'execute':1,'foo':1,'arguments':1,'id':5}", b"{'foo':1,'bar':2,'baz':3,'qux':4,'zip':5}",
    b"{'zip':1,'qux':2,'baz':3,'bar':4,'foo':5}", b"{'execute':'zork'}", b"{'execute':''}", "{'execute':'é'}".encode(), b"{'execute':'query-name','id':{'id':[]}}",
    b"{'':1}", b"{'execute':'query-name','x\xc3\xa9':1,'x\xc3\xa8':1,'\xe2\x82\xac':2}", rb"{'a\u0000b':1}",
]  # fmt: skip

ECHOED = [
    b"0", b"-0", b"1", b"-1", b"9223372036854775807", b"9223372036854775808", b"18446744073709551615", b"18446744073709551616",
    b"-9223372036854775808", b"-9223372036854775809", b"1" * 400, b"-" + b"9" * 400, b"1" * 5000, b"0.0", b"-0.0", b"1.0", b"0.1", b"1e2", b"1.5e300", b"1e400", b"-1e400",
    b"5e-324", b"1e-400", b"123456789.123456789", b"1e16", b"1e17", b"1E5", b"true", b"false", b"null", b"[]", b"{}", b"[[]]", b"[{}, []]",
    b"'a'", b"'\"'", rb"'\''", rb"'\"'", rb"'\\\/\b\f\n\r\t'", rb"'\u0000'", rb"'\u001f\u007f\u0080'", "'é€😀'".encode(), rb"'\uD83D\uDE00'", rb"'\ud83d\ude00'",
    b"'\xc0\x80'", b"'\x7f'", rb"'\u00e9'", b'"it\'s"', b"'" + b"x" * 100_000 + b"'", b"[" * 1000 + b"]" * 1000, b"1.50e-7",
    b"[1, 2.5, 'a.b', -1e-7]",
]  # fmt: skip


def test_malformed_input():
    compare(MALFORMED)


def test_malformed_inside_a_request():
    compare(
        [b"{'execute':'query-name', 'id': " + payload + b"}" for payload in MALFORMED if len(payload) < 500]
    )


def test_request_checks():
    compare(REQUESTS)


@pytest.mark.parametrize("pretty", [False, True])
def test_values_come_back_as_qemu_prints_them(pretty):
    compare([echo(literal) for literal in ECHOED], pretty)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.lists(
            st.sampled_from([*b"{}[]:,\"'\\ \n\t0123459eE.+-untrfals\x00\x01\x7f\x80\xc3\xa9\xff"]).map(
                lambda byte: bytes([byte])
            )
            | st.sampled_from(
                [
                    b"'execute'",
                    b"'query-name'",
                    b"'id'",
                    b":",
                    b"{'a':",
                    rb"\ud83d",
                    rb"\u0041",
                    b"null",
                    b"1.5",
                ]
            ),
            max_size=25,
        ).map(b"".join),
        min_size=40,
        max_size=40,
    )
)
def test_noise(payloads):
    compare(payloads)
