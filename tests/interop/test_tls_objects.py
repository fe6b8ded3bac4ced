"""Objects of TLS on the real storage daemon and on the simulator's: the same answers to the same commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from both_programs import DAEMON, start
from certificates import FUTURE, LEAF, NAMES, PAST, ROOT, Authority, directory, openssl, purpose

SERVER = (*LEAF, purpose("server"), NAMES)
CLIENT = (*LEAF, purpose("client"))


def x509(place: str, **more: Any) -> dict[str, Any]:
    return {"qom-type": "tls-creds-x509", "dir": place, "endpoint": "server", **more}


def psk(place: str, **more: Any) -> dict[str, Any]:
    return {"qom-type": "tls-creds-psk", "dir": place, **more}


def secret(**more: Any) -> dict[str, Any]:
    return {"qom-type": "secret", **more}


OBJECTS: dict[str, dict[str, Any]] = {
    "good": x509("good"),
    "no dir": {"qom-type": "tls-creds-x509"},
    "no dir, server": {"qom-type": "tls-creds-x509", "endpoint": "server"},
    "no such dir": x509("nowhere"),
    "dir is a file": x509("good/ca-cert.pem"),
    "client": x509("good", endpoint="client"),
    "client with the CA alone": x509("ca-only", endpoint="client"),
    "server with the CA alone": x509("ca-only"),
    "endpoint zork": x509("good", endpoint="zork"),
    "no key": x509("no-key"),
    "client without key": x509("no-key", endpoint="client"),
    "certificate is junk": x509("junk-cert"),
    "certificate is junk, unchecked": x509("junk-cert", **{"sanity-check": False}),
    "certificate is broken": x509("broken-cert"),
    "certificate is broken, unchecked": x509("broken-cert", **{"sanity-check": False}),
    "CRL is broken": x509("broken-crl"),
    "DH is broken": x509("broken-dh"),
    "certificate is no DER": x509("no-der"),
    "CA is junk": x509("junk-ca"),
    "CA is junk, unchecked": x509("junk-ca", **{"sanity-check": False}),
    "CA is broken": x509("broken-ca"),
    "key is junk": x509("junk-key"),
    "key of another": x509("other-key"),
    "CA of another": x509("other-ca"),
    "CA of another, unchecked": x509("other-ca", **{"sanity-check": False}),
    "CA of another with the same name": x509("twin-ca"),
    "CA is one of two": x509("two-cas"),
    "CA expired": x509("past-ca"),
    "CA is a leaf": x509("leaf-ca"),
    "CA without constraints": x509("plain-ca"),
    "CA may not sign": x509("unsigning-ca"),
    "server expired": x509("past"),
    "server expired, unchecked": x509("past", **{"sanity-check": False}),
    "server to come": x509("future"),
    "client expired": x509("past-client", endpoint="client"),
    "for clients": x509("swapped"),
    "for servers": x509("swapped", endpoint="client"),
    "server is a CA": x509("ca-as-server"),
    "for any purpose": x509("any"),
    "without extensions": x509("bare"),
    "may not sign": x509("no-signing"),
    "CRL is junk": x509("junk-crl"),
    "DH is junk": x509("junk-dh"),
    "encrypted": x509("encrypted"),
    "encrypted, no secret": x509("encrypted", passwordid="nobody"),
    "encrypted, no secret either": x509("encrypted", passwordid="list"),
    "encrypted, right": x509("encrypted", passwordid="right"),
    "encrypted, wrong": x509("encrypted", passwordid="wrong"),
    "encrypted, bytes": x509("encrypted", passwordid="bytes"),
    "anonymous": {"qom-type": "tls-creds-anon", "endpoint": "server"},
    "anonymous client": {"qom-type": "tls-creds-anon"},
    "anonymous with junk": {"qom-type": "tls-creds-anon", "endpoint": "server", "dir": "junk-dh"},
    "CA is a directory": x509("ca-directory"),
    "CA is a directory, unchecked": x509("ca-directory", **{"sanity-check": False}),
    "key is a directory": x509("key-directory"),
    "CRL is a directory": x509("crl-directory"),
    "DH is a directory": x509("dh-directory"),
    "keys are a directory": psk("keys-directory"),
    "keys of a server are a directory": psk("keys-directory", endpoint="server"),
    "secret of a directory": secret(file="good"),
    "keys": psk("keys", endpoint="server"),
    "keys with a name": psk("keys", endpoint="server", username="qemu"),
    "no keys": psk("good", endpoint="server"),
    "my key": psk("keys"),
    "another's key": psk("keys", username="alice"),
    "nobody's key": psk("keys", username="bob"),
    "keys nowhere": {"qom-type": "tls-creds-psk"},
    "secret of nothing": secret(),
    "secret of both": secret(data="x", file="y"),
    "secret of no file": secret(file="nowhere"),
    "secret of a file": secret(file="keys/keys.psk"),
    "secret in bad base64": secret(data="*!", format="base64"),
    "secret in base64": secret(data="YWJj", format="base64"),
    "authorised": {"qom-type": "authz-simple", "identity": "CN=x"},
    "authorised nobody": {"qom-type": "authz-simple"},
    "authorised by a list": {"qom-type": "authz-list", "policy": "zork"},
    "authorised by rules": {"qom-type": "authz-list", "rules": [{"match": "x"}]},
}
# What others name; they come first.
NAMED = {
    "list": {"qom-type": "authz-list"},
    "right": secret(data="right"),
    "wrong": secret(data="wrong"),
    "bytes": secret(data="/////w==", format="base64"),
}


def issue(ca: Authority) -> None:
    """What OBJECTS' directories hold of this authority, by name."""
    ca.issue("server", "/C=GB/O=Fleece, Ltd/CN=server.example", SERVER)
    ca.issue("client", "/C=GB/O=Fleece, Ltd/CN=client.example", CLIENT)
    ca.issue("past", "/CN=past", SERVER, PAST)
    ca.issue("past-client", "/CN=past", CLIENT, PAST)
    ca.issue("future", "/CN=future", SERVER, FUTURE)
    ca.issue("any", "/CN=any", (*LEAF, "extendedKeyUsage=critical,anyExtendedKeyUsage"))
    ca.issue("bare", "/CN=bare", ())
    ca.issue("no-signing", "/CN=no", (LEAF[0], "keyUsage=critical,keyEncipherment"))


def wrong_files(made: Path, files: dict[str, Path], other_ca: Path) -> dict[str, Path]:
    """Files that are not what they should be, by name."""
    end = "-----END CERTIFICATE-----\n"
    broken = f"-----BEGIN CERTIFICATE-----\n!!!!\n{end}"
    texts = {
        "junk": "junk\n",
        "broken": broken,
        "broken-crl": broken.replace("CERTIFICATE", "X509 CRL"),
        "broken-dh": broken.replace("CERTIFICATE", "DH PARAMETERS"),
        "no-der": f"-----BEGIN CERTIFICATE-----\nanVuaw==\n{end}",
        "two": other_ca.read_text() + files["ca_cert"].read_text(),
    }
    for name, text in texts.items():
        (made / name).write_text(text)
    encrypted = made / "encrypted"
    openssl("ec", "-aes256", "-passout", "pass:right", "-in", files["server_key"], "-out", encrypted)
    return {"encrypted": encrypted, **{name: made / name for name in texts}}


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directories that OBJECTS name."""
    place = tmp_path_factory.mktemp("credentials")
    ca = Authority(place / "made" / "ca")
    other, twin = Authority(place / "made" / "other", "/CN=Other CA"), Authority(place / "made" / "twin")
    issue(ca)
    past = Authority(place / "made" / "past", valid=PAST)
    plain = Authority(place / "made" / "plain", extensions=())
    unsigning = Authority(place / "made" / "unsigning", extensions=(ROOT[0], "keyUsage=critical,cRLSign"))
    made = ca.place
    files = {
        "ca_cert": made / "ca-cert.pem",
        "server_cert": made / "server-cert.pem",
        "server_key": made / "server-key.pem",
        "client_cert": made / "client-cert.pem",
        "client_key": made / "client-key.pem",
    }
    wrong = wrong_files(made, files, other.place / "ca-cert.pem")
    (place / "keys").mkdir()
    (place / "keys" / "keys.psk").write_text("qemu:0123456789abcdef\nalice:fedcba98\n")
    directory(place / "ca-only", ca_cert=files["ca_cert"])
    changed: dict[str, dict[str, Path | None]] = {
        "good": {},
        "no-key": {"server_key": None, "client_key": None},
        "junk-cert": {"server_cert": wrong["junk"]},
        "broken-cert": {"server_cert": wrong["broken"]},
        "no-der": {"server_cert": wrong["no-der"]},
        "junk-ca": {"ca_cert": wrong["junk"]},
        "broken-ca": {"ca_cert": wrong["broken"]},
        "junk-key": {"server_key": wrong["junk"]},
        "other-key": {"server_key": files["client_key"]},
        "other-ca": {"ca_cert": other.place / "ca-cert.pem"},
        "twin-ca": {"ca_cert": twin.place / "ca-cert.pem"},
        "two-cas": {"ca_cert": wrong["two"]},
        "past-ca": {"ca_cert": past.place / "ca-cert.pem"},
        "leaf-ca": {"ca_cert": files["client_cert"]},
        "plain-ca": {"ca_cert": plain.place / "ca-cert.pem"},
        "unsigning-ca": {"ca_cert": unsigning.place / "ca-cert.pem"},
        "past": {"server_cert": made / "past-cert.pem", "server_key": made / "past-key.pem"},
        "past-client": {
            "client_cert": made / "past-client-cert.pem",
            "client_key": made / "past-client-key.pem",
        },
        "future": {"server_cert": made / "future-cert.pem", "server_key": made / "future-key.pem"},
        "swapped": {
            "server_cert": files["client_cert"],
            "server_key": files["client_key"],
            "client_cert": files["server_cert"],
            "client_key": files["server_key"],
        },
        "ca-as-server": {"server_cert": files["ca_cert"], "server_key": made / "ca-key.pem"},
        "any": {"server_cert": made / "any-cert.pem", "server_key": made / "any-key.pem"},
        "bare": {"server_cert": made / "bare-cert.pem", "server_key": made / "bare-key.pem"},
        "no-signing": {
            "server_cert": made / "no-signing-cert.pem",
            "server_key": made / "no-signing-key.pem",
        },
        "junk-crl": {"ca_crl": wrong["junk"]},
        "junk-dh": {"dh_params": wrong["junk"]},
        "broken-crl": {"ca_crl": wrong["broken-crl"]},
        "broken-dh": {"dh_params": wrong["broken-dh"]},
        "encrypted": {"server_key": wrong["encrypted"]},
    }
    fill(place, files, changed)
    return place


def fill(place: Path, files: dict[str, Path], changed: dict[str, dict[str, Path | None]]) -> None:
    """A directory for each of `changed`, and those in which something that should be a file is none."""
    for name, changes in changed.items():
        sources = {kind: path for kind, path in {**files, **changes}.items() if path is not None}
        directory(place / name, **sources)
    for short, name in (("ca", "ca-cert"), ("key", "server-key"), ("crl", "ca-crl"), ("dh", "dh-params")):
        kept = {kind: path for kind, path in files.items() if kind != name.replace("-", "_")}
        (directory(place / f"{short}-directory", **kept) / f"{name}.pem").mkdir()
    (place / "keys-directory" / "keys.psk").mkdir(parents=True)


def answers(credentials: Path, place: Path, is_real: bool) -> dict[str, Any]:
    place.mkdir()
    said = {}
    with start(DAEMON, is_real, place) as running:
        running.negotiate()
        for name, options in NAMED.items():
            assert running.qmp("object-add", {"id": name, **options}) == {}
        for number, (name, options) in enumerate(OBJECTS.items()):
            given = {**options, "id": f"o{number}"}
            for member in ("dir", "file"):
                if member in given:
                    given[member] = f"{credentials}/{given[member]}"
            said[name] = running.qmp("object-add", given)
        listed = running.qmp("qom-list", {"path": "/objects"})
        # In the order of QEMU's hash table, which is nobody's to rely on.
        said["listed"] = sorted(json.dumps(each, sort_keys=True) for each in listed)
        for path in ("list", "right", *(f"o{number}" for number in range(len(OBJECTS)))):
            properties = running.qmp("qom-list", {"path": f"/objects/{path}"})
            said[f"properties of {path}"] = properties
            if isinstance(properties, list):
                for each in [*properties, {"name": "zork"}]:
                    asked = {"path": f"/objects/{path}", "property": each["name"]}
                    said[f"{path}.{each['name']}"] = running.qmp("qom-get", asked)
        said["twice"] = running.qmp("object-add", {**x509("nowhere"), "id": "right"})
    return said


def test_objects(credentials: Path, tmp_path: Path) -> None:
    wanted = answers(credentials, tmp_path / "real", is_real=True)
    got = answers(credentials, tmp_path / "simulated", is_real=False)
    different = {name: (wanted[name], got.get(name)) for name in wanted if got.get(name) != wanted[name]}
    assert different == {}
    assert {name for name in OBJECTS if wanted[name] == {}} >= {
        "good",
        "client",
        "for any purpose",
        "without extensions",
        "keys",
        "anonymous",
    }
