"""What tests of TLS say of certificates, which openssl makes while the test runs."""

from __future__ import annotations

from scenarios.backends.certificates import LEAF as LEAF
from scenarios.backends.certificates import ROOT as ROOT
from scenarios.backends.certificates import Authority as Authority
from scenarios.backends.certificates import directory as directory
from scenarios.backends.certificates import openssl as openssl

NAMES = "subjectAltName=DNS:localhost,DNS:server.example,IP:127.0.0.1"
PAST = ("20200101000000Z", "20200201000000Z")
NOW = ("20200101000000Z", "20491231235959Z")
FUTURE = ("20400101000000Z", "20491231235959Z")


def purpose(kind: str) -> str:
    """`kind` is server or client."""
    return f"extendedKeyUsage=critical,{kind}Auth"
