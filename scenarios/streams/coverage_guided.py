"""`python -m scenarios.streams.coverage_guided [options of libFuzzer]`: the parsers' checks, on inputs that
atheris makes of the grammars' ones by what they reach. `tox -e fuzz` does it with a fixed number of runs.

Exit status: 0 nothing found; otherwise atheris tells what was raised, and writes the input to a file here.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["simulator.wire"]):
    from scenarios.streams import parsers

_SEEDS = 300
_LONGEST_BYTES = 4096


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for index, data in enumerate(parsers.corpus(_SEEDS)):
            if len(data) <= _LONGEST_BYTES:
                (Path(folder) / str(index)).write_bytes(data)
        atheris.Setup([*sys.argv, f"-max_len={_LONGEST_BYTES}", folder], parsers.check)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
