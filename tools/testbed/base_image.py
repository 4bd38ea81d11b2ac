"""The base images of tools/images, built once and kept in the cache folder, and put where a test wants them."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from images import build
from testbed.part import PartFailed, cache_folder, remove
from testbed.registry import Registry
from testbed.vm import Vm

Kind = Literal["train", "serve"]
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")  # which mmdebstrap needs beyond Debian
KEPT = 7 * 86400.0  # seconds


@dataclass(frozen=True)
class Base:
    """A base image in an OCI image layout, under the reference name `kind`."""

    kind: Kind
    layout: Path
    digest: str
    python: str = build.PYTHON

    def reference(self, registry: Registry, host: str = "") -> str:
        """`host:port/base/<kind>@sha256:...`, as reached by `host`, or as the registry calls itself."""
        return f"{registry.name_at(host)}/base/{self.kind}@{self.digest}"

    def push(self, registry: Registry) -> str:
        """Ensure that it is in the registry; answer its reference. Raises PartFailed."""
        command = ["skopeo", "copy", "--quiet", "--insecure-policy", "--preserve-digests", *registry.skopeo("dest")]
        command += [f"oci:{self.layout}:{self.kind}", f"docker://{registry.name}/base/{self.kind}:latest"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise PartFailed(f"the base was not pushed: {done.stderr.strip()}")
        return self.reference(registry)

    def pull(self, vm: Vm, registry: Registry) -> str:
        """Ensure that it is on the VM, pulled from an open registry; answer its reference there."""
        self.push(registry)
        vm.trust_registry(registry.name_at(vm.host_address), registry.ca_bundle)
        reference = self.reference(registry, vm.host_address)
        vm.run(["podman", "pull", "--quiet", reference])
        return reference


def buildable() -> bool:
    """Whether base images can be built here."""
    root = os.geteuid() == 0
    return root and shutil.which("mmdebstrap") is not None and (bool(build.apt_sources()) or KEYRING.is_file())


def base(kind: Kind = "train") -> Base:
    """The base, built where the cache lacks it (some 10 s). Raises images.build.BuildFailed."""
    folder = cache_folder() / f"base-{kind}-{build.recipe(kind)[:12]}"
    with (cache_folder() / "base.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            _sweep(kind)
            debian = cache_folder() / f"debian-{build.recipe('train')[:12]}.tar"
            # Made beside its place and renamed: an interrupted build is never taken for a whole one.
            new = Path(tempfile.mkdtemp(dir=cache_folder(), prefix="base-new-"))
            try:
                build.build(kind, new, debian=debian)
                new.rename(folder)
            finally:
                shutil.rmtree(new, ignore_errors=True)
    os.utime(folder)
    index = json.loads((folder / "index.json").read_bytes())
    return Base(kind, folder, index["manifests"][0]["digest"])


def _sweep(kind: Kind) -> None:
    """Remove what older recipes made and nothing has used for a week."""
    for old in (*cache_folder().glob(f"base-{kind}-*"), *cache_folder().glob("debian-*.tar")):
        if time.time() - old.stat().st_mtime > KEPT:
            remove(old) if old.is_dir() else old.unlink()


def main() -> int:
    """Build both ahead of the tests; answer an exit status."""
    try:
        for kind in ("train", "serve"):
            base(kind)
    except build.BuildFailed as failed:
        print(f"no base images: {failed}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
