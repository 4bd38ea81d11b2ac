"""From a trained model to a pushed and tagged image, beside a bare PUT of its bytes, podman and buildah."""

from __future__ import annotations

import http.client
import os
import random
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from hashlib import file_digest
from itertools import count
from pathlib import Path
from urllib.parse import quote

from edgetrain.image.assembly import About, assemble, scoring_files
from edgetrain.image.layer import LayerFile
from edgetrain.providers.oci.provider import OciRegistry
from testbed.registry import Registry
from tests.bench.runner import ROOT, Contestant, Race, Sample, call, command
from tests.providers.oci.front import Front

SIZE, UNIT = 100, "MB of model; the one whose memory is measured has 50 times as many"
BASE_MB = 60
ABOUT = About(title="sample", version="1", revision="5" * 40, created="2026-01-01T00:00:00Z")
CONTAINERS = '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\nruntime = "runc"\n'
STORAGE = '[storage]\ndriver = "overlay"\ngraphroot = "{0}/graph"\nrunroot = "{0}/run"\n'


def release(model: Path, host: str, repository: str, base: str) -> None:
    """What a release does: assemble the image on a base of the registry, push it, tag it."""
    registry = OciRegistry(host, plain_http=True)
    files = [LayerFile("model/model.bin", model.stat().st_size, lambda: model.open("rb"))]
    image = assemble(
        about=ABOUT, scoring=scoring_files("sample", 1, {}), model=files, base=registry.base(base), base_name="base"
    )
    registry.tag(repository, "1", registry.push(repository, image))


def put(model: Path, digest: str, host: str, repository: str) -> None:
    """The model's bytes in one request; its digest is known."""
    link = http.client.HTTPConnection(host, blocksize=2**20)
    link.request("POST", f"/v2/{repository}/blobs/uploads/", headers={"Content-Length": "0"})
    begun = link.getresponse()
    begun.read()
    place = f"{begun.headers['Location']}&digest={quote(digest)}"
    headers = {"Content-Length": str(model.stat().st_size), "Content-Type": "application/octet-stream"}
    with model.open("rb") as stream:
        link.request("PUT", place, body=stream, headers=headers)
        done = link.getresponse()
    done.read()
    if done.status != 201:
        raise RuntimeError(f"the registry answered {done.status}")


class Field:
    """Where the race is run: a registry with a base in it, and a model that is another one each turn."""

    def __init__(self, folder: Path, registry: Registry, size: int) -> None:
        self.folder, self.registry, self.size = folder, registry, size
        self.host = registry.name
        self.context = folder / "context"
        self.context.mkdir()
        self.model = self.context / "model.bin"
        self.digest = self.repository = ""
        self._turns = count()
        weights = random.Random(0).randbytes(BASE_MB * 10**6)
        made = assemble(about=ABOUT, scoring=[], model=[LayerFile.of_bytes("usr/base", weights)])
        oci = OciRegistry(self.host, plain_http=True)
        digest = oci.push("base", made)
        oci.tag("base", "1", digest)
        self.base = f"base@{digest}"

    def fresh(self) -> None:
        """Another model, of which the registry has nothing, and another repository."""
        self.repository = f"models/m{next(self._turns)}"
        with self.model.open("wb") as stream:
            for _ in range(self.size):
                stream.write(os.urandom(10**6))
        with self.model.open("rb") as stream:
            self.digest = f"sha256:{file_digest(stream, 'sha256').hexdigest()}"

    def wire(self) -> tuple[float, int]:
        """Bytes on the wire of a release by the model's bytes, and of the same release once more."""
        self.fresh()
        with Front(self.registry) as front:
            release(self.model, front.host, self.repository, self.base)
            first, front.received, front.sent = front.received + front.sent, 0, 0
            release(self.model, front.host, self.repository, self.base)
            return first / self.model.stat().st_size, front.received + front.sent

    def builders(self) -> Iterator[Contestant]:
        """podman and buildah, as far as they are here, with a store of their own and the base in it."""
        settings = {"CONTAINERS_CONF": CONTAINERS, "CONTAINERS_STORAGE_CONF": STORAGE.format(self.folder / "store")}
        for name, text in settings.items():
            (self.folder / name).write_text(text)
        environment = {**os.environ, **{name: str(self.folder / name) for name in settings}}
        (self.context / "Containerfile").write_text(
            f"FROM {self.host}/{self.base}\nCOPY model.bin /model/model.bin\nUSER 65532:65532\n"
        )
        for tool, build in (("podman", "build"), ("buildah", "build")):
            if shutil.which(tool) is None or os.geteuid():
                continue
            pull = [tool, "pull", "--tls-verify=false", "--quiet", f"{self.host}/{self.base}"]
            subprocess.run(pull, env=environment, check=True, capture_output=True)
            yield Contestant(
                f"`{tool} build` and `{tool} push`", self._builder(tool, build, environment), self.fresh
            )

    def _builder(self, tool: str, build: str, environment: dict[str, str]) -> Callable[[], Sample]:
        def act() -> None:
            target = f"{self.host}/{self.repository}:1"
            for line in (
                [tool, build, "--quiet", "--pull=never", "--tag", target, str(self.context)],
                [tool, "push", "--quiet", "--tls-verify=false", target],
            ):
                done = subprocess.run(line, env=environment, check=False, capture_output=True, text=True)
                if done.returncode:
                    raise RuntimeError(
                        f"{' '.join(line)[:300]} ended with {done.returncode}: {done.stderr[-1500:]}"
                    )

        return call(act)


def bench(folder: Path, size: int) -> Iterator[Race]:
    """Two races: time beside others, and memory alone."""
    with Registry("open") as registry:
        field = Field(folder, registry, size)
        ratio, again = field.wire()
        contestants = [
            Contestant(
                "a bare PUT of the model to the same registry",
                call(lambda: put(field.model, field.digest, field.host, field.repository)),
                field.fresh,
            ),
            Contestant(
                "edgetrain: assemble, push, tag",
                call(lambda: release(field.model, field.host, field.repository, field.base)),
                field.fresh,
            ),
            *field.builders(),
        ]
        note = (
            f"The base ({BASE_MB} MB) is in the registry, and for the builders in their store too; the model is "
            "random, another one each turn. Python is running, as it is within `apply`. On the wire a release has "
            f"{ratio:.4f} times the model's bytes, in both directions; the same release once more {again:,} bytes."
        )
        yield Race(f"A model of {size} MB pushed to Docker distribution", contestants, 5, note)

        large = folder / "large.bin"
        with large.open("wb") as stream:
            stream.truncate(50 * size * 10**6)

        def again_and_another() -> None:
            registry.stop()
            shutil.rmtree(registry.folder / "data")
            registry.start()
            Field(Path(_made(folder)), registry, 1)

        def turn() -> Sample:
            line = [sys.executable, "-m", "tests.bench.push", large, field.host, "models/large", field.base]
            return command(*line, cwd=ROOT)()

        yield Race(
            f"A model of {50 * size / 1000:g} GB, for its memory",
            [Contestant("edgetrain: assemble, push, tag", turn, again_and_another)],
            1,
            "With Python's start. The model is a file of zeros: what counts is its size.",
        )


def _made(folder: Path) -> str:
    path = folder / secrets.token_hex(4)
    path.mkdir()
    return str(path)


if __name__ == "__main__":
    release(Path(sys.argv[1]), *sys.argv[2:5])
