"""A testbed VM as the runner uses it, but for SSH: programs brought there, an image loaded, runs supervised."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgetrain.core.ports import DataSource, InputMount, RunLimits, RunSpec
from edgetrain.onsite import ONSITE
from edgetrain.onsite.supervisor import BOOTSTRAP
from edgetrain.providers.oci_layout.provider import OciLayoutRegistry
from edgetrain.providers.ssh import environment
from edgetrain.providers.ssh.container import Site, instructions
from edgetrain.providers.ssh.engine import Engine
from edgetrain.providers.ssh.image import RunImage, archive, describe
from testbed.base_image import Base
from testbed.vm import Vm
from tests.contract.compute import until

WORK = "/srv/edgetrain"
TOOLS = f"{WORK}/tools/onsite"
PROGRAM = (
    "import sys, importlib; sys.path.insert(0, sys.argv[1]); importlib.import_module('onsite.engine.main').main()"
)
START = 'cd / && exec 9<>"$0/lock" && exec python3 -I -c "$1" "$2" "$0" 9 >"$0/supervisor.log" 2>&1'


class Machine:
    """One VM with one base image, by the engine `command`."""

    def __init__(self, vm: Vm, base: Base, command: str = "podman") -> None:
        self.vm, self.command = vm, command
        self.python = base.python
        target = vm.path(TOOLS)
        for path in sorted(ONSITE.rglob("*.py")):
            place = target / path.relative_to(ONSITE)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())
        self.engine = Engine.of(self.ask("probe", engine=command))
        self.base = OciLayoutRegistry(root=base.layout.parent).base(f"{base.layout.name}@{base.digest}")
        self.image = self.load(describe(self.base), archive(self.base))

    def call(self, verb: str, payload: Iterable[bytes] = (), **request: Any) -> Any:
        """The whole answer of a verb."""
        place = self.vm.path(f"{WORK}/request")
        with place.open("wb") as file:
            file.write(json.dumps({"verb": verb, "work": WORK, **request}).encode() + b"\n")
            for part in payload:
                file.write(part)
        done = self.vm.run(
            ["sh", "-c", 'python3 -I -S -c "$0" "$1" <"$2"', PROGRAM, f"{WORK}/tools", f"{WORK}/request"]
        )
        place.unlink()
        return json.loads(done.stdout)

    def ask(self, verb: str, payload: Iterable[bytes] = (), **request: Any) -> Any:
        """What a verb answers that succeeds."""
        answer = self.call(verb, payload, **request)
        assert "ok" in answer, answer
        return answer["ok"]

    def load(self, image: RunImage, parts: Iterable[bytes]) -> RunImage:
        """Bring an image in, unless it is there."""
        found = self.ask("image", engine=self.command, ids=image.ids)
        if not found:
            found = self.ask("load", parts, engine=self.command, ids=image.ids, reference=image.reference)
        return image.called(found)

    def environment(self, state: Path, requirements: bytes) -> str:
        """Build one, bring it in; its folder on the machine."""
        packed = environment.ensure(state, requirements, self.base.digest, self.python, self.image.platform)
        if not self.ask("environment", id=packed.id):
            self.ask("receive", packed.parts(), id=packed.id, digest=packed.digest, size=packed.size)
        return f"{WORK}/environments/{packed.id}"

    def containers(self) -> list[str]:
        """The names of all containers, running or not."""
        return self.vm.run([self.command, "ps", "-a", "--format", "{{.Names}}"]).stdout.split()


class Play:
    """One run of a Python source on a machine."""

    def __init__(
        self,
        machine: Machine,
        folder: Path,
        run_id: str,
        source: str,
        *,
        inputs: Mapping[str, str] | None = None,
        single_file: bool = False,
        environment: str = "",
        change: Callable[[dict[str, Any]], None] = lambda spec: None,
        grace: float = 10.0,
        engine: Engine | None = None,
        **changes: Any,
    ) -> None:
        self.machine = machine
        self.id, self.place = run_id, f"{WORK}/runs/{run_id}"
        self.root = machine.vm.path(self.place)
        (self.root / "code").mkdir(parents=True, mode=0o700)
        (self.root / "outputs").mkdir(mode=0o700)
        self.root.chmod(0o700)
        (self.root / "code" / "train.py").write_text(textwrap.dedent(source))
        (self.root / "code" / "train.py").chmod(0o600)
        (self.root / "log").touch(0o600)
        (self.root / "lock").touch(0o600)
        self.spec = replace(
            RunSpec(
                id=run_id,
                command="python train.py",
                parameters={"lr": 0.1},
                seed=7,
                code=folder,
                requirements=b"",
                image="base@" + machine.base.digest,
                python=machine.python,
                inputs=[InputMount(name, DataSource("azure-blob", "x"), "", single_file) for name in inputs or {}],
                outputs={"model": "model.txt"},
                limits=RunLimits(timeout=300, memory=256 * 2**20, pids=64),
            ),
            **changes,
        )
        site = Site(self.place, environment or machine.environment(folder, b""), TOOLS, inputs or {})
        self.instructions = instructions(
            self.spec, engine=engine or machine.engine, image=machine.image, site=site, capacity=None, grace=grace
        )
        change(self.instructions)
        (self.root / "spec.json").write_text(json.dumps(self.instructions))

    def start(self) -> Play:
        """Start the supervisor."""
        self.machine.vm.run(
            ["sh", "-c", START, self.place, BOOTSTRAP, TOOLS], env={"HTTPS_PROXY": "http://hunter2"}
        )
        return self

    def says(self, text: str) -> Play:
        """Wait for a line of the log."""
        until(lambda: text in self.log, f"the log to say {text}: {self.log}")
        return self

    def end(self) -> dict[str, Any]:
        """Wait for its end; how it ended."""
        ended = self.root / "ended.json"
        until(ended.exists, f"the run to end: {(self.root / 'supervisor.log').read_text()}")
        found: dict[str, Any] = json.loads(ended.read_text())
        return found

    def play(self) -> dict[str, Any]:
        """From start to end."""
        return self.start().end()

    @property
    def log(self) -> list[str]:
        """What it said so far."""
        return (self.root / "log").read_text(errors="replace").splitlines()

    def output(self, name: str) -> str:
        """A file that it left."""
        return (self.root / "outputs" / name).read_text()
