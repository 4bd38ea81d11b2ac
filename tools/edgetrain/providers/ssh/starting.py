"""Brings a run to the machine: its base image, its environment, its inputs, its code; and may let it begin."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from edgetrain.core.errors import Conflict, ProviderError, Rejected
from edgetrain.core.ports import EgressLevel, InputMount, RunSpec, RunState, TargetSettings
from edgetrain.onsite.vm.main import GONE
from edgetrain.providers.contract import check_words
from edgetrain.providers.ssh import environment
from edgetrain.providers.ssh.container import ISOLATION, Site, instructions, probe_argv, probe_config
from edgetrain.providers.ssh.engine import Engine
from edgetrain.providers.ssh.image import RunImage, archive, check_reference, describe
from edgetrain.providers.ssh.inputs import PULLED, Inputs
from edgetrain.providers.ssh.remote import Remote
from edgetrain.providers.ssh.transfer import packed, small
from edgetrain.providers.states import state_of

ENGINE = "engine.main"
LOAD_SECONDS = 1800.0
CREATE_SECONDS = 600.0


@dataclass(frozen=True)
class Tried:
    """What a container of an image was seen to be kept from on the machine, and its Python's minor version."""

    isolation: Mapping[str, bool]
    python: str

    @property
    def level(self) -> EgressLevel:
        """Enforced if every restriction that runs need is in force."""
        held = all(self.isolation.get(name) is True for name in ISOLATION)
        return EgressLevel.ENFORCED if held else EgressLevel.ADVISORY

    @property
    def missing(self) -> str:
        """The restrictions that are not in force."""
        return ", ".join(name for name in ISOLATION if self.isolation.get(name) is not True)


class Machine:
    """The machine as far as it was looked at; each look is made once by one instance."""

    def __init__(self, settings: TargetSettings, remote: Remote) -> None:
        self.settings, self.remote = settings, remote
        self._looking = threading.RLock()
        self._host: dict[str, Any] | None = None
        self._engine: Engine | None = None
        self._images: dict[str, RunImage] = {}
        self._tried: dict[str, Tried] = {}
        self.environments: set[str] = set()  # seen there; `create` looks again

    def host(self, anew: bool = False) -> dict[str, Any]:
        """Its facts (see `onsite/vm/host.py`)."""
        with self._looking:
            if self._host is None or anew:
                self._host = self.remote.ask("host")
            return self._host

    def engine(self, anew: bool = False) -> Engine:
        """Its engine. Raises Unavailable if that does not work."""
        with self._looking:
            if self._engine is None or anew:
                self._engine = Engine.of(self.remote.call("probe", module=ENGINE, engine=self.settings.engine))
            return self._engine

    def image(self, reference: str | None) -> RunImage:
        """The base image, which is brought there. Raises Rejected if it is not fit for runs there."""
        digest = check_reference(reference)
        with self._looking:
            if digest not in self._images:
                base = self.settings.base(str(reference))
                image = describe(base)
                image.check()
                if image.platform != self.host()["platform"]:
                    raise Rejected(
                        f"the base image is for {image.platform} and the machine is {self.host()['platform']}",
                        reason="PlatformMismatch",
                        fix="choose a target of the image's platform, or an image for the target's",
                    )
                ask = partial(self.remote.call, module=ENGINE, engine=self.engine().command, ids=image.ids)
                found = ask("image") or ask("load", partial(archive, base), LOAD_SECONDS, reference=image.reference)
                self._images[digest] = image.called(found)
            return self._images[digest]

    def tried(self, image: RunImage) -> Tried:
        """What a container of the image is kept from. Raises Unavailable if none can be made."""
        with self._looking:
            if image.id not in self._tried:
                argv = probe_argv(self.engine(), image, self.host()["tools"])
                found = self.remote.call("attempt", module=ENGINE, argv=argv, config=probe_config())
                isolation = {str(name): value is True for name, value in found["isolation"].items()}
                self._tried[image.id] = Tried(isolation, str(found["python"]))
            return self._tried[image.id]

    def own_image(self) -> RunImage:
        """A small image of the machine's own Python, to look at containers before any base image is there."""
        found = self.remote.call("own", module=ENGINE, engine=self.engine().command)
        return RunImage(found, "", "", {}, (), self.host()["platform"])

    def forget(self) -> None:
        """Look at everything anew: the machine may have changed."""
        with self._looking:
            self._host = self._engine = None
            self._images, self._tried, self.environments = {}, {}, set()


def start(spec: RunSpec, machine: Machine, inputs: Inputs, grace: float) -> None:
    """Start the run, unless it was ever started there. Raises Rejected for what the machine can't serve."""
    check(spec)
    if machine.remote.ask("begin", id=spec.id)["phase"] == "absent":
        _bring(spec, machine, inputs, grace, begins=True)


def prepare(spec: RunSpec, machine: Machine, inputs: Inputs, grace: float) -> RunState:
    """All of `start` but that the run begins: a program on the machine lets it, by the verb `begin`. The state that
    it is in then: `ABSENT` if it may begin. Raises Rejected as `start` does."""
    check(spec)
    if machine.remote.ask("inspect", ids=[spec.id])[spec.id]["phase"] == "absent":
        _bring(spec, machine, inputs, grace, begins=False)
    return state_of(machine.remote.ask("inspect", ids=[spec.id])[spec.id])


def check(spec: RunSpec) -> None:
    """Raises Rejected for what no machine can serve."""
    check_words(spec)
    for mount in spec.inputs:
        check_input(mount)


def _bring(spec: RunSpec, machine: Machine, inputs: Inputs, grace: float, begins: bool) -> None:
    try:
        _create(spec, machine, inputs, grace, begins)
    except Conflict as error:
        if error.reason != GONE:
            raise
        machine.forget()
        _create(spec, machine, inputs, grace, begins)


def _create(spec: RunSpec, machine: Machine, inputs: Inputs, grace: float, begins: bool) -> None:
    remote = machine.remote
    image = machine.image(spec.image)
    tried = machine.tried(image)
    if spec.require_enforced and tried.level is not EgressLevel.ENFORCED:
        raise Rejected(
            f"containers on the machine are not kept from: {tried.missing}",
            reason="SandboxMissing",
            fix="run edgetrain doctor on the target, and see docs/compute.md on its engine",
        )
    if spec.python and spec.python != tried.python:
        raise Rejected(
            f"the base image has Python {tried.python} and the experiment asks for {spec.python}",
            reason="NotServed",
            fix=f"set environment.python to {tried.python}, or choose another base image",
        )
    digest, host = check_reference(spec.image), machine.host()
    name = ensure_environment(machine, spec.requirements, digest, tried.python)
    views = {}
    for mount in spec.inputs:
        try:
            staged = inputs.stage(mount.source, mount.single_file, view=True, expected=mount.digest or None)
        except ProviderError as error:
            if error.reason != "DataChanged":
                raise
            # It never starts; whoever waits for it finds why, and records it.
            remote.ask("bar", id=spec.id, by="data", message=f"input {mount.name}: {error.message}")
            return
        views[mount.name] = f"{staged.view}/{file_name(mount)}" if mount.single_file else str(staged.view)
    site = Site(f"{host['work']}/runs/{spec.id}", f"{host['work']}/environments/{name}", host["tools"], views)
    written = instructions(
        spec,
        engine=machine.engine(),
        image=image,
        site=site,
        capacity=machine.settings.capacity.get("memory"),
        grace=grace,
    )
    written["data"] = [PurePosixPath(view).name for view in views.values()]
    needs = [f"{site.environment}.json", *views.values()]
    whole = small(spec.code)
    if whole is not None:
        remote.ask("create", id=spec.id, spec=written, needs=needs, code=whole, begins=begins)
    else:
        code = partial(packed, spec.code)
        remote.call("create", code, CREATE_SECONDS, id=spec.id, spec=written, needs=needs, begins=begins)


def ensure_environment(machine: Machine, requirements: bytes, image: str, python: str) -> str:
    """The id of the environment, which is built here and brought there unless it is there."""
    platform = machine.host()["platform"]
    name = environment.environment_id(requirements, image, python, platform)
    ask = partial(machine.remote.call, module=ENGINE)
    if name not in machine.environments and not ask("environment", id=name):
        made = environment.ensure(machine.settings.state, requirements, image, python, platform)
        ask("receive", made.parts, LOAD_SECONDS, id=name, digest=made.digest, size=made.size)
    machine.environments.add(name)
    return name


def check_input(mount: InputMount) -> None:
    """Raises Rejected for data that neither the machine nor the runner can read."""
    if mount.source.kind != PULLED and mount.source.stream is None:
        raise Rejected(
            f"an ssh target does not serve data of kind {mount.source.kind}",
            reason="NotServed",
            fix="choose a datastore of type azure-blob or folder",
        )


def file_name(mount: InputMount) -> str:
    """The base name of a single file."""
    return PurePosixPath(mount.source.path or mount.source.location).name
