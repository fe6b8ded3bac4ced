"""Debian's archive as this machine reaches it: which mirror, through which proxy, and what version it has."""

from __future__ import annotations

import contextlib
import lzma
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator

from scenarios.backends.interface import SetupError

_TIMEOUT_S = 60
_PIECE_BYTES = 1 << 18
_SECTION_BYTES = 1 << 16


def mirror(default: str) -> str:
    """URL of the mirror that apt uses for Debian itself, without a slash at its end; `default` where apt
    names none that can be reached by URL."""
    form = "$(ORIGIN)|$(LABEL)|$(REPO_URI)"
    for line in _ask("apt-get", "indextargets", "--format", form, "Created-By: Packages").splitlines():
        origin, _, rest = line.partition("|")
        label, _, uri = rest.partition("|")
        if (origin, label) == ("Debian", "Debian") and uri.startswith(("http://", "https://", "file:")):
            return uri.rstrip("/")
    return default


def environment() -> dict[str, str]:
    """This process's, with the proxy that apt is told to use."""
    proxy = _ask("apt-config", "dump", "--format", "%v%n", "Acquire::http::Proxy").strip()
    named = {"http_proxy": proxy} if proxy and proxy != "DIRECT" else {}
    return {**os.environ, "LC_ALL": "C", **named}


def architecture() -> str:
    """As Debian calls it."""
    return _ask("dpkg", "--print-architecture").strip() or "amd64"


def newest(archive: str, suite: str, package: str) -> str:
    """The version of a package in a suite's main section. Raises SetupError.

    No signature is checked: this only says whether a build, which does check, would bring something new.
    """
    url = f"{archive}/dists/{suite}/main/binary-{architecture()}/Packages.xz"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(_proxies()))
    wanted = f"\nPackage: {package}\n".encode()
    try:
        with contextlib.closing(opener.open(url, timeout=_TIMEOUT_S)) as answer:
            for text in _windows(iter(lambda: answer.read(_PIECE_BYTES), b"")):
                start = text.find(wanted)
                if start >= 0:
                    section = text[start + 1 :].partition(b"\n\n")[0].decode()
                    fields = dict(line.partition(": ")[::2] for line in section.splitlines())
                    if "Version" in fields:
                        return fields["Version"]
    except (urllib.error.URLError, OSError, lzma.LZMAError) as error:
        raise SetupError(
            f"{url}: expected the list of packages of {suite}: {error}."
            " A suite that the mirror does not have (any more) needs another one: --mirror URL"
        ) from None
    raise SetupError(f"{url}: expected a package {package} in it")


def _windows(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The decompressed text in overlapping parts, so that each section is whole in one of them."""
    decompressor, kept = lzma.LZMADecompressor(), b"\n"
    for piece in pieces:
        text = kept + decompressor.decompress(piece)
        if len(text) > 2 * _SECTION_BYTES:
            yield text
            kept = text[-_SECTION_BYTES:]
        else:
            kept = text
    yield kept


def _proxies() -> dict[str, str]:
    named = environment().get("http_proxy")
    return {"http": named} if named else urllib.request.getproxies()


def _ask(*command: str) -> str:
    """What it prints; nothing where there is no such program, as on systems without apt."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
