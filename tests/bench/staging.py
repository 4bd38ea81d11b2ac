"""Staging blobs, beside curl and the SDK's own download, from Azurite and from a server that only sends files."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from edgetrain.onsite import ONSITE
from edgetrain.onsite.staging import BOOTSTRAP
from edgetrain.providers.azure_blob.datastore import from_settings
from testbed.azurite import Azurite, installed
from tests.bench.runner import Contestant, Race, command
from tests.providers.azure_blob.stores import declared

SIZE, UNIT = 512, "MB in 8 large blobs"
SMALL, LARGE, PARALLEL = 1000, 8, 8
NOTE = (
    "The same {parallel} connections for all. curl is told the names and writes plain files; edgetrain also lists, "
    "hashes (SHA-256), makes all of it durable (`syncfs`) and shows it as a folder of hard links, and its time has "
    "the start of Python in it. The SDK row lists, and downloads {parallel} blobs at a time with "
    "azure-storage-blob, of which `az storage blob download-batch` is made: it stands for it, without the start of "
    "the CLI. {who}"
)
WHO = {
    "Azurite": "Azurite itself is the limit here: one core of node.",
    "a plain server": "The server is node sending files; with the client on the same cores.",
}


def bench(folder: Path, size: int) -> Iterator[Race]:
    """Small blobs and large ones, from each server; the SDK's contestant is a process too."""
    folder.mkdir(exist_ok=True)
    if not installed() or not shutil.which("curl"):
        raise RuntimeError("needs node, Azurite (tests/parts) and curl")
    data = folder / "data"
    fill(data, size)
    with Azurite() as azurite, plain_server(data) as port:
        azurite.put_folder("bench", data)
        offer = from_settings(declared(azurite, "bench", folder)).source("")
        servers = {
            "a plain server": (f"http://127.0.0.1:{port}/account/bench", "sig=none"),
            "Azurite": (offer.location, offer.access["sas"]),
        }
        for server, (location, sas) in servers.items():
            for kind, what in (("small", f"{SMALL} small blobs"), ("large", f"{LARGE} blobs, {size} MB in all")):
                names = sorted(f"{kind}/{file.name}" for file in (data / kind).iterdir())
                note = NOTE.format(parallel=PARALLEL, who=WHO[server])
                contestants = list(_contestants(folder, location, sas, kind, names))
                yield Race(f"Stage {what} from {server}", contestants, 5 if kind == "small" else 3, note)


def fill(data: Path, size: int) -> None:
    """Make the files."""
    source = random.Random(1)
    for kind, count, length in (("small", SMALL, 2000), ("large", LARGE, size * 10**6 // LARGE)):
        (data / kind).mkdir(parents=True)
        block = source.randbytes(10**6)
        for number in range(count):
            with (data / kind / f"{number:04}.bin").open("wb") as file:
                file.write(number.to_bytes(8, "big"))
                for start in range(8, length, len(block)):
                    file.write(block[: length - start])


@contextmanager
def plain_server(data: Path) -> Iterator[int]:
    """Serve the folder; its port."""
    script = Path(__file__).with_name("blob_server.js")
    with subprocess.Popen(["node", str(script), str(data)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


def _contestants(folder: Path, location: str, sas: str, kind: str, names: list[str]) -> Iterator[Contestant]:
    out = folder / "out"
    config, request, again = folder / "curl", folder / "request.json", folder / "again.json"
    lines = [f'url = "{location}/{quote(name)}?{sas}"\noutput = "{out / name}"\n' for name in names]
    config.write_text("".join(lines))
    access = {"sas": sas, "apiVersion": "2019-07-07"}
    source = {"kind": "azure-blob", "location": location, "path": kind, "access": access}
    asked = {"verb": "stage", "limit": None, "source": source, "view": True, "parallel": PARALLEL}
    request.write_text(json.dumps({**asked, "cache": str(out / "cache")}) + "\n")
    again.write_text(json.dumps({**asked, "cache": str(folder / "warm")}) + "\n")
    fresh = _fresh(out, kind)
    curl = ["curl", "--silent", "--fail", "--parallel", "--parallel-max", str(PARALLEL), "-K", str(config)]
    yield Contestant(f"`curl --parallel-max {PARALLEL}`", command(*curl), fresh)
    sdk = [sys.executable, "-m", "tests.bench.staging", location, sas, kind, str(out)]
    yield Contestant("azure-storage-blob", command(*sdk), fresh)
    yield Contestant("edgetrain", command(*_program(request)), fresh)
    yield Contestant("edgetrain, second run", command(*_program(again)))


def _fresh(out: Path, kind: str) -> Callable[[], None]:
    def act() -> None:
        shutil.rmtree(out, ignore_errors=True)
        (out / kind).mkdir(parents=True)
        subprocess.run(["sync", "--file-system", str(out)], check=True)

    return act


def _program(request: Path) -> list[str]:
    """The staging program as sshd would start it, its request on stdin."""
    program = [sys.executable, "-I", "-c", BOOTSTRAP, str(ONSITE)]
    return ["/bin/sh", "-c", 'exec "$@" < "$0"', str(request), *program]


def download(location: str, sas: str, kind: str, out: Path) -> None:
    """List and download with the SDK, as its samples do: many blobs at a time, and large ones in parts."""
    from azure.storage.blob import ContainerClient

    with (
        ContainerClient.from_container_url(f"{location}?{sas}", api_version="2019-07-07") as container,
        ThreadPoolExecutor(PARALLEL) as pool,
    ):

        def one(name: str) -> None:
            with (out / name).open("wb") as file:
                container.download_blob(name).readinto(file)

        list(pool.map(one, [blob.name for blob in container.list_blobs(f"{kind}/")]))


if __name__ == "__main__":
    download(*sys.argv[1:4], Path(sys.argv[4]))
