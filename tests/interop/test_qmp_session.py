"""A QMP connection to the real executables and to the simulator's: the same messages in the same order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from both_programs import DAEMON, SYSTEM, read_all, start

CAPABLE = '{"execute":"qmp_capabilities"}'
OOB = '{"execute":"qmp_capabilities","arguments":{"enable":["oob"]}}'
QUIT = '{"execute":"quit"}'
LONG = json.dumps({"execute": "nope", "arguments": {"x": "y" * 100_000}})
STATUS = '{"execute":"query-jobs"}'
ADD = '{"execute":"blockdev-add","arguments":{"driver":"null-co","node-name":"%s","size":1048576}}'
BACKUP = '{"execute":"blockdev-backup","arguments":{"device":"a","target":"b","sync":"full","job-id":"j"}}'

# What a client sends, without waiting for answers; QUIT comes behind it.
CONVERSATIONS = {
    "a command before capabilities": [STATUS, CAPABLE, STATUS],
    "an unknown command before capabilities": ['{"execute":"nope"}', CAPABLE],
    "capabilities twice": [CAPABLE, CAPABLE],
    "capabilities twice, with a wrong type": [
        CAPABLE,
        '{"execute":"qmp_capabilities","arguments":{"enable":5}}',
    ],
    "capabilities with nothing to enable": ['{"execute":"qmp_capabilities","arguments":{}}', STATUS],
    "an empty list to enable": ['{"execute":"qmp_capabilities","arguments":{"enable":[]}}', STATUS],
    "an unknown capability": [
        '{"execute":"qmp_capabilities","arguments":{"enable":["zork"]}}',
        STATUS,
        CAPABLE,
    ],
    "capabilities with a wrong type": [
        '{"execute":"qmp_capabilities","arguments":{"enable":"oob"}}',
        CAPABLE,
    ],
    "capabilities with an unknown member": ['{"execute":"qmp_capabilities","arguments":{"zork":1}}', CAPABLE],
    "oob enabled": [OOB, STATUS],
    "out of band, enabled": [OOB, '{"exec-oob":"query-jobs","id":1}', STATUS],
    "out of band, not enabled": [CAPABLE, '{"exec-oob":"query-jobs","id":1}', STATUS],
    "out of band before capabilities": ['{"exec-oob":"migrate-pause","id":1}', CAPABLE],
    "out of band, unknown command": [OOB, '{"exec-oob":"nope","id":1}'],
    "out of band without an id": [OOB, '{"exec-oob":"query-jobs"}'],
    "both ways at once": [OOB, '{"exec-oob":"query-jobs","execute":"query-jobs"}'],
    **{
        f"an id that is {text}": [
            CAPABLE,
            f'{{"execute":"query-jobs","id":{text}}}',
            f'{{"execute":"x","id":{text}}}',
        ]
        for text in (
            "1",
            "-1.5",
            '"text"',
            "null",
            "true",
            "[1,{}]",
            '{"a":[null]}',
            "18446744073709551615",
            "1e3",
        )
    },
    "two in one write": [CAPABLE + STATUS + STATUS + '{"execute":"nope"}' + STATUS],
    "spread over lines": ['{"execute"\n:\n"qmp_capabilities"\n}', '{\t"execute" : "query-jobs" }'],
    "in single quotes": ["{'execute':'qmp_capabilities'}", "{'execute':'query-jobs','id':'it\\'s'}"],
    "malformed": [CAPABLE, '{"execute":}', STATUS],
    "malformed before capabilities": ["{x}", CAPABLE, STATUS],
    "a wrong bracket": [CAPABLE, "]", STATUS],
    "a closing brace too many": [CAPABLE + "}", STATUS],
    "words": [CAPABLE, "hello", STATUS],
    "a string": [CAPABLE, '"hello"', STATUS],
    "a number": [CAPABLE, "7", STATUS],
    "a list": [CAPABLE, "[]", STATUS],
    "an empty object": [CAPABLE, "{}", STATUS],
    "an unknown member": [CAPABLE, '{"execute":"query-jobs","zork":1}'],
    "a command that is no string": [CAPABLE, '{"execute":7,"id":1}'],
    "arguments that are no object": [CAPABLE, '{"execute":"query-jobs","arguments":[]}'],
    "an argument too many": [CAPABLE, '{"execute":"query-jobs","arguments":{"zork":1}}'],
    "a byte that is no UTF-8": [CAPABLE, '{"execute":"query-jobs","id":"\udcff"}', STATUS],
    "a control character": [CAPABLE, '{"execute":"query-jobs","id":"\x01"}', STATUS],
    "escapes": [CAPABLE, '{"execute":"query-jobs","id":"\\u00e9\\n\\ud83d\\ude00\\/"}', STATUS],
    "half a surrogate pair": [CAPABLE, '{"execute":"query-jobs","id":"\\ud83d"}', STATUS],
    "the same member twice": [CAPABLE, '{"execute":"nope","execute":"query-jobs"}', STATUS],
    "a huge number": [CAPABLE, '{"execute":"query-jobs","id":123456789012345678901234567890}', STATUS],
    "a long argument": [CAPABLE, LONG, STATUS],
    "a long name": [CAPABLE, '{"execute":"' + "x" * 100_000 + '"}', STATUS],
    "deep nesting": [CAPABLE, '{"execute":"query-jobs","id":' + "[" * 1100 + "]" * 80, STATUS],
    "an unknown command": [CAPABLE, '{"execute":"nope"}', '{"execute":"nope","id":1,"arguments":{}}'],
    "a missing argument": [
        CAPABLE,
        '{"execute":"blockdev-del"}',
        '{"execute":"blockdev-del","arguments":{}}',
    ],
    "an error of the block layer": [
        CAPABLE,
        '{"execute":"blockdev-del","arguments":{"node-name":"x"},"id":5}',
    ],
    "a job's events": [CAPABLE, ADD % "a", ADD % "b", BACKUP, STATUS],
    "a job before capabilities": [ADD % "a", CAPABLE, ADD % "a"],
    "quit before capabilities": [QUIT, CAPABLE],
}


def normalised(line: str) -> str:
    """Without times, and with members in the order of their names: QEMU's is that of a hash table."""
    if not line:
        return line
    message = json.loads(line)
    if "timestamp" in message:
        assert sorted(message["timestamp"]) == ["microseconds", "seconds"]
        message["timestamp"] = "SOME"
    return json.dumps(message, sort_keys=True) + line[len(line.rstrip()) :]


def conversation(program: str, is_real: bool, cwd: Path, sent: list[str]) -> list[str]:
    """All lines that come back, then the exit status and what was printed."""
    with start(program, is_real, cwd) as running:
        running.send("\n".join([*sent, QUIT, ""]).encode(errors="surrogateescape"))
        came = read_all(running.ours, "the machine to close its monitor")
        end = running.wait(), *running.printed()
    return [*(normalised(line) for line in came.decode(errors="surrogateescape").split("\n")), str(end)]


@pytest.mark.parametrize("program", [SYSTEM, DAEMON])
@pytest.mark.parametrize("sent", CONVERSATIONS.values(), ids=list(CONVERSATIONS))
def test_conversations(program: str, sent: list[str], tmp_path: Path) -> None:
    wanted = conversation(program, True, tmp_path, sent)
    assert conversation(program, False, tmp_path, sent) == wanted
