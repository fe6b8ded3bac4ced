"""The container engine that containers run on: the machine's own, found by its Docker-compatible socket, or
podman's service, started here for as long as this program runs."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from scenarios.backends.interface import SetupError
from scenarios.backends.processes import death_wrapper
from scenarios.backends.run_directory import RunDirectory, owner_is_gone
from scenarios.matrix import roots

OWNER_LABEL = "goldenfleece.owner"
INSTALL = "apt-get install -y podman runc"
_PACKAGES = {"podman": "podman", "runc": "runc"}
_REPOSITORY = "localhost/goldenfleece"
_START_S = 20.0
_REQUEST_S = 120
_PIECE_BYTES = 1 << 20

# Of the service that is started here. Podman's usual crun refuses hosts with both kinds of cgroups; its
# limits may be above those that this host grants; containers of ours have no network.
_CONTAINERS_CONF = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
netns = "none"
log_driver = "k8s-file"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
"""


class Engine:
    """`url` such as "unix:///run/podman/podman.sock". Clients must not be shared between processes."""

    def __init__(self, url: str) -> None:
        """Raises SetupError if it does not answer."""
        self.url = url
        import docker

        try:
            client = docker.DockerClient(base_url=url, version="auto", timeout=_REQUEST_S)
            self._api_version = client.api.api_version
            self.is_podman = "podman" in str(client.version().get("Components", "")).lower()
            client.close()
        except (docker.errors.DockerException, OSError) as error:
            raise SetupError(f"container engine at {url}: expected an answer: {error}") from None

    def arguments(self) -> dict[str, Any]:
        """For docker.from_env and testcontainers. The version spares a question that takes podman 0.3 s."""
        environment = {**os.environ, "DOCKER_HOST": self.url}
        return {"environment": environment, "version": self._api_version, "timeout": _REQUEST_S}

    @contextlib.contextmanager
    def client(self) -> Iterator[Any]:
        """A docker.DockerClient."""
        import docker

        client = docker.from_env(**self.arguments())
        try:
            yield client
        finally:
            client.close()


@cache
def engine() -> Engine:
    """The engine that answers here, else podman's service, started now. What earlier runs could not remove
    is removed, and told. Raises SetupError."""
    try:
        import docker
    except ImportError:
        raise SetupError(
            "containers need the Python package testcontainers. Run: pip install 'goldenfleece[containers]'"
        ) from None
    del docker
    found = _find(os.environ) or Engine(_start_service())
    for line in reap(found):
        print(f"goldenfleece: {line}", file=sys.stderr, flush=True)
    return found


def _find(environment: Mapping[str, str]) -> Engine | None:
    asked_for = environment.get("DOCKER_HOST")
    if asked_for:
        return Engine(asked_for)
    places = [Path("/var/run/docker.sock"), Path("/run/podman/podman.sock")]
    if "XDG_RUNTIME_DIR" in environment:
        places.insert(1, Path(environment["XDG_RUNTIME_DIR"], "podman/podman.sock"))
    for path in places:
        # A socket that nobody listens on any more is no engine, and neither is one that we may not use.
        with contextlib.suppress(SetupError, OSError):
            if path.is_socket():
                return Engine(f"unix://{path}")
    return None


def reap(where: Engine) -> list[str]:
    """Remove containers whose run was killed before it could; one line about each."""
    said = []
    with where.client() as client:
        for container in client.containers.list(all=True, filters={"label": OWNER_LABEL}):
            words = container.labels.get(OWNER_LABEL, "")
            if owner_is_gone(words):
                container.remove(force=True, v=True)
                pid = words.split()[0]
                said.append(f"removed container {container.short_id}, left by process {pid}, which is gone")
    return said


# ---------------------------------------------------------------- podman's service


class _Service:
    """A running `podman system service`, as its run directory sees it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process, self.pid = process, process.pid

    def destroy(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _start_service() -> str:
    """Its URL. It ends with this process, however that ends."""
    lacking = [name for name in _PACKAGES if not _which(name)]
    if lacking:
        raise SetupError(
            f"no container engine answers (DOCKER_HOST, /var/run/docker.sock, podman's socket), and to start"
            f" podman's own service here {' and '.join(lacking)} is missing. Run: {INSTALL}"
        )
    place = RunDirectory()
    names = ("containers.conf", "podman.sock", "podman.log")
    configuration, path, log = (place.path / name for name in names)
    configuration.write_text(_CONTAINERS_CONF)
    command = [*death_wrapper(), _which("podman"), "system", "service", "--time=0", f"unix://{path}"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, "PATH": _path(), "CONTAINERS_CONF": str(configuration)},
        )
    place.adopt(_Service(process))
    atexit.register(_end, place, os.getpid())
    until = time.monotonic() + _START_S
    while not _listens(path):
        if process.poll() is not None or time.monotonic() > until:
            how = "ended" if process.poll() is not None else f"did not listen after {_START_S:g} s"
            said = log.read_text(errors="replace").strip()
            place.__exit__(None, None, None)
            raise SetupError(f"{' '.join(command)}: {how}: {said or '(it said nothing)'}")
        time.sleep(0.02)
    return f"unix://{path}"


def _end(place: RunDirectory, owner: int) -> None:
    # A fork of this process has the same list of things to do at its end.
    if os.getpid() == owner:
        place.__exit__(None, None, None)


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def _which(name: str) -> str:
    return shutil.which(name, path=_path()) or ""


# ---------------------------------------------------------------- images


def image(where: Engine, name: str) -> str:
    """The local image for `name`: a suite's, imported now from its root file system unless it is there, or
    any other. Nothing is pulled. Raises SetupError."""
    if not roots.is_suite(name):
        if not _has_image(where, name):
            raise SetupError(
                f"no image {name} at {where.url}; nothing is pulled from a registry."
                f" Suites that can be built: {', '.join(roots.description().suites)}"
            )
        return name
    root = roots.require(name)
    tag = _tag(root)
    # Of two that import one image at the same time the first would be left with an image without a name.
    with roots.lock("images"):
        if not _has_image(where, tag):
            _import(where, root, tag)
    return tag


def _has_image(where: Engine, name: str) -> bool:
    import docker

    with where.client() as client:
        try:
            client.images.get(name)
        except docker.errors.ImageNotFound:
            return False
    return True


def _import(where: Engine, root: roots.Root, tag: str) -> None:
    """Make the image of a root file system, in place of older ones of the same suite. Raises SetupError."""
    import docker

    print(f"goldenfleece: importing {root.path} as image {tag}", file=sys.stderr, flush=True)
    pack = ["tar", "--numeric-owner", "-C", str(root.path), "-c", "."]
    tar = subprocess.Popen(pack, stdout=subprocess.PIPE)
    assert tar.stdout is not None
    # Pieces, as requests takes the length of a file, 0 for a pipe, for how much there is to send.
    pieces = iter(partial(tar.stdout.read, _PIECE_BYTES), b"")
    repository, _, version = tag.rpartition(":")
    try:
        with where.client() as client:
            said = client.api.import_image_from_stream(pieces)
            if tar.wait() != 0:
                raise SetupError(f"{' '.join(pack)}: expected status 0, got {tar.returncode}")
            # Podman 4 takes no tag in the request that imports.
            made = json.loads(said.splitlines()[-1])
            client.images.get(made.get("id") or made["status"]).tag(repository, version)
    except (docker.errors.DockerException, OSError, ValueError, KeyError) as error:
        raise SetupError(f"image {tag}: {where.url} could not import {root.path}: {error}") from None
    finally:
        tar.kill()
        tar.wait()
        tar.stdout.close()
    remove_images(where, root.about.suite, but=tag)


def remove_images(where: Engine, suite: str, but: str = "") -> list[str]:
    """Remove the suite's images, but for one; their tags."""
    removed = []
    with where.client() as client:
        for each in client.images.list():
            for tag in each.tags:
                if tag.startswith(f"{_REPOSITORY}-{suite}:") and tag != but:
                    client.images.remove(tag)
                    removed.append(tag)
    return removed


def _tag(root: roots.Root) -> str:
    """Another one after each build."""
    version = re.sub(r"[^A-Za-z0-9_.-]", "-", root.about.package)
    return f"{_REPOSITORY}-{root.about.suite}:{version}.{root.about.built_s}"
