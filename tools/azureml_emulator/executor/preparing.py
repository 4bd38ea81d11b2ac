"""Brings what a run needs to its host: code, our launcher, environment, image; and words the order to begin."""

from __future__ import annotations

import hashlib
import io
import os
import shlex
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azureml_emulator import certificates, runs
from azureml_emulator.executor import environments
from azureml_emulator.executor.definition import Job, Unusable
from azureml_emulator.executor.host import FOLDER, Facts, Host

if TYPE_CHECKING:
    from azureml_emulator.emulator import Emulator

GRACE = 10.0  # seconds between being asked to end and being ended


@dataclass(frozen=True)
class Prepared:
    """What the order to begin is made of. `packages` is the environment's folder on the host, or empty."""

    folder: str
    interpreter: str
    packages: str
    image: str


def folder_name(emulator: Emulator, run_id: str) -> str:
    """The name of the run's folder (and container) on its host; other emulators use the same host."""
    digest = hashlib.sha256(f"{emulator.workspace_id}/{run_id}".encode()).hexdigest()
    return f"{run_id[:80]}-{digest[:12]}"


def prepare(
    emulator: Emulator, run_id: str, job: Job, host: Host, say: Callable[[str], None], scratch: Path
) -> Prepared:
    """Bring everything. `say` takes a line for people. Raises Unreachable, Unfit, Unusable, NotBuilt."""
    facts = host.facts()
    image, image_python = _image(job, host, facts, say)
    minor, interpreter = _interpreter(job, host, facts, image, image_python, say)
    packages = ""
    if job.managed and job.requirements:
        packages = _packages(emulator, job, host, facts, minor, say)
    archive = scratch / "run.tar"
    _archive(emulator, job, archive, interpreter)
    host.ask("prepare", folder_name(emulator, run_id), send=archive)
    return Prepared(f"{facts.root}/runs/{folder_name(emulator, run_id)}", interpreter, packages, image)


def _image(job: Job, host: Host, facts: Facts, say: Callable[[str], None]) -> tuple[str, str]:
    """The image and its Python's minor version; empty for a run that is a process."""
    if job.image is None:
        return "", ""
    if not facts.engine:
        say(f"{host.name} has no container engine: the run is a process")
        return "", ""
    wanted = job.image
    order = {
        "engine": facts.engine,
        "image": wanted.name,
        "address": wanted.address,
        "username": wanted.username,
        "password": wanted.password,
    }
    found = host.ask("image", order=order)
    if not found["present"]:
        say(f"the image {wanted.name} can't be had on {host.name}: the run is a process\n{found['said']}")
        return "", ""
    say(f"image {wanted.name} by {facts.engine}")
    return wanted.name, str(found["python"])


def _interpreter(
    job: Job, host: Host, facts: Facts, image: str, image_python: str, say: Callable[[str], None]
) -> tuple[str, str]:
    """The minor version of the Python that runs the script, and how it is called."""
    if not job.managed:
        if host.private_home:
            return facts.own, facts.executable
        return "", job.interpreter
    if image:
        if not image_python and job.requirements:
            raise Unusable("the image has no python3, so no packages can be put beside it")
        return image_python, "python3"
    minor = job.python or facts.own
    if minor not in facts.pythons:
        say(f"{host.name} has no Python {minor}, and there is no conda to bring it: {facts.own} is used")
        minor = facts.own
    return minor, facts.pythons[minor]


def _packages(
    emulator: Emulator, job: Job, host: Host, facts: Facts, minor: str, say: Callable[[str], None]
) -> str:
    """The folder of the environment on the host, built and brought if it is not there."""
    for line in job.dropped:
        say(f"left out, packages come from this machine's own index: {line}")
    platform = environments.platform_of(facts.machine, facts.libc)
    say(f"environment: {len(job.requirements)} requirements for Python {minor} on {platform}")
    cache = emulator.options.cache or emulator.options.folder / "environments"
    packed = environments.ensure(cache, job.requirements, minor, platform, _outside(emulator))
    if not host.ask("has", packed.digest)["has"]:
        host.ask("environment", packed.digest, send=packed.path)
    return f"{facts.root}/environments/{packed.digest}"


def _outside(emulator: Emulator) -> dict[str, str]:
    """This process's environment without what leads a client to the emulator: packages come from elsewhere."""
    proxy = f"127.0.0.1:{(emulator.store.get('emulator', 'ports') or {}).get('proxy')}"
    bundle = str(certificates.ensure(emulator.options.folder).bundle)
    return {name: value for name, value in os.environ.items() if proxy not in value and bundle not in value}


def _archive(emulator: Emulator, job: Job, path: Path, interpreter: str) -> None:
    """The run's folder as a tar file: the snapshot as `code`, what is ours as `setup`."""
    shim = f'#!/bin/sh\nexec {shlex.quote(interpreter)} "$@"\n'.encode()
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, file in sorted(runs.snapshot_files(emulator, job.snapshot).items()):
            archive.add(file, arcname=f"code/{name}", recursive=False)
        archive.add(FOLDER / "launch.py", arcname="setup/launch.py")
        archive.add(certificates.ensure(emulator.options.folder).bundle, arcname="setup/authorities.pem")
        if job.managed and interpreter != "python3":
            for name in ("python", "python3"):
                _entry(archive, f"setup/bin/{name}", shim)


def _entry(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), 0o755
    archive.addfile(entry, io.BytesIO(data))


def order(name: str, job: Job, prepared: Prepared, host: Host, environ: dict[str, str]) -> dict[str, Any]:
    """What `begin` is told; it holds the run's token, and so is never written down."""
    setup, env = f"{prepared.folder}/setup", dict(environ)
    if job.script:
        argv = [prepared.interpreter, f"{setup}/launch.py", job.script, *job.arguments]
    else:
        argv = ["/bin/sh", "-c", job.command]
    path = f"{setup}/bin"
    if prepared.packages:
        env["PYTHONPATH"] = f"{prepared.packages}/lib"
        env["AZUREML_EMULATOR_PACKAGES"] = f"{prepared.packages}/lib"
        path += f":{prepared.packages}/bin"
    if host.private_home or prepared.image:
        env["HOME"] = f"{prepared.folder}/home"
    found: dict[str, Any] = {"env": env, "seconds": job.seconds, "grace": GRACE, "argv": argv, "path": path}
    if prepared.image:
        engine = host.facts().engine
        mounts = ["--volume", f"{prepared.folder}:{prepared.folder}"]
        if prepared.packages:
            mounts += ["--volume", f"{prepared.packages}:{prepared.packages}:ro"]
        # Only names stand on the command line, which all can see; the values are the client's environment.
        names = [part for key in env for part in ("--env", key)]
        inside = ["-c", 'PATH="$0:$PATH" exec "$@"', path, *argv]
        found |= {
            "path": "",
            "engine": engine,
            "container": name,
            "argv": [
                *(engine, "run", "--rm", "--name", name, "--network=host", *mounts, *names),
                *("--workdir", f"{prepared.folder}/code", *job.engine_arguments),
                *("--entrypoint", "/bin/sh", prepared.image, *inside),
            ],
        }
    return found
