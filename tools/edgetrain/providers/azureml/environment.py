"""The environment of the wrapper in Azure ML, registered once per digest of what it holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from edgetrain.core.digest import digest_bytes
from edgetrain.core.errors import NotFound
from edgetrain.providers.diagnosis import REHEARSAL

if TYPE_CHECKING:
    from edgetrain.providers.azureml.session import Session

PYTHON = "3.11"
CLIENT = "azureml-core==1.61.0.post4"
# What pods without an image of the site's own are built from.
POD_BASE = "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04"
POD_FILE = (
    f"FROM {POD_BASE}\n"
    "RUN apt-get update && apt-get install -y --no-install-recommends bubblewrap && rm -rf /var/lib/apt/lists/*\n"
)


@dataclass(frozen=True)
class Wanted:
    """An environment: the `interpreter` that has all already, or `packages` to be installed; an `image` by digest,
    or the text of a `dockerfile`, or neither where runs are processes of the machine. `requirements` is the digest
    of the experiment's lock, which is installed beside it."""

    requirements: str
    interpreter: str = ""
    packages: tuple[str, ...] = ()
    image: str = ""
    dockerfile: str = ""

    @property
    def name(self) -> str:
        """The name that it is registered under."""
        text = json.dumps({"environment": 1, **vars(self)}, sort_keys=True)
        return f"edgetrain-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    @property
    def dependencies(self) -> list[Any]:
        """What is installed, as conda writes it; by hand, for the client would add packages and indexes of its
        choice."""
        return [f"python={PYTHON}", "pip", {"pip": list(self.packages)}]

    @property
    def base(self) -> str | None:
        """The image that the service is told; it wants one also where runs are no containers."""
        return self.image or (None if self.dockerfile else POD_BASE)

    @property
    def essence(self) -> dict[str, Any]:
        """What makes it another one; see `essence_of`."""
        return {
            "interpreter": self.interpreter or None,
            "packages": None if self.interpreter else self.dependencies,
            "image": self.base,
            "dockerfile": self.dockerfile or None,
        }

    def made(self) -> Any:
        """As the client has it."""
        from azureml.core import Environment
        from azureml.core.conda_dependencies import CondaDependencies

        found = Environment(self.name)
        found.python.user_managed_dependencies = bool(self.interpreter)
        if self.interpreter:
            found.python.interpreter_path = self.interpreter
        else:
            packages = {"name": "edgetrain", "dependencies": self.dependencies}
            found.python.conda_dependencies = CondaDependencies(_underlying_structure=packages)
        found.docker.base_image = self.base
        found.docker.base_dockerfile = self.dockerfile or None
        # The client's default holds an example variable.
        found._environment_variables = {}
        return found


class Rehearsed(Wanted):
    """One that nothing runs in, for `edgetrain doctor --live`. Azure ML keeps it: there is no taking away."""

    @property
    def name(self) -> str:
        """The same each time, so that there is only one."""
        return REHEARSAL


def for_rehearsal() -> Wanted:
    """The environment whose registration is tried."""
    return Rehearsed(digest_bytes(b""), interpreter="python")


def for_machine(requirements: bytes, interpreter: str) -> Wanted:
    """The environment of runs that an attached machine makes as processes."""
    packages = () if interpreter else (CLIENT,)
    return Wanted(digest_bytes(requirements), interpreter, packages)


def for_pod(requirements: bytes, image: str) -> Wanted:
    """The environment of runs in pods: the site's own image, or one that Azure ML builds."""
    if image:
        return Wanted(digest_bytes(requirements), interpreter="python", image=image)
    return Wanted(digest_bytes(requirements), packages=(CLIENT, f"uv=={version('uv')}"), dockerfile=POD_FILE)


def ensure(session: Session, wanted: Wanted) -> Any:
    """The registered environment, as the client has it; registered unless the newest of its name is the same."""
    what = f"registering environment {wanted.name}"
    made = session.with_sdk(lambda workspace: wanted.made(), what)
    try:
        found = session.get("experimentation", f"/environment/v1.0{{WS}}/environments/{wanted.name}")
    except NotFound:
        found = None
    if isinstance(found, Mapping) and found.get("version") and essence_of(found) == wanted.essence:
        made.version = str(found["version"])
        return made
    return session.with_sdk(made.register, what)


def essence_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """What makes an environment another one; the service adds defaults of its own to the rest."""
    python, docker = _part(document, "python"), _part(document, "docker")
    managed = bool(_part(python, "userManagedDependencies"))
    return {
        "interpreter": _part(python, "interpreterPath") if managed else None,
        "packages": None if managed else _part(_part(python, "condaDependencies"), "dependencies"),
        "image": _part(docker, "baseImage"),
        "dockerfile": _part(docker, "baseDockerfile"),
    }


def _part(value: Any, name: str) -> Any:
    """A key in any case: the client mixes them."""
    if not isinstance(value, Mapping):
        return None
    return next((found for key, found in value.items() if str(key).lower() == name.lower()), None)
