"""The training contract: what a script sees wherever it runs. For the compute providers that run it themselves."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from edgetrain.core.errors import Rejected
from edgetrain.core.ports import RunSpec
from edgetrain.onsite import sandbox

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
ROOT, TMP, SHM = sandbox.ROOT, sandbox.TMP, sandbox.SHM
NOBODY, HOME_SIZE = sandbox.NOBODY, sandbox.HOME_SIZE
MAX_FILES = 10_000
MAX_WORDS = 100_000
OPEN_FILES = 4096
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
_MARKER = re.compile(r"\{\{(?:inputs\.([A-Za-z][A-Za-z0-9_-]*)|outputs)\}\}")
_INPUT_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True)
class Places:
    """The paths that the script sees. `read` and `write` map host paths to them (the same without a sandbox)."""

    code: str
    outputs: str
    home: str
    tmp: str
    environment: str
    inputs: Mapping[str, str]
    read: Mapping[str, str] = field(default_factory=dict)
    write: Mapping[str, str] = field(default_factory=dict)


def inside(inputs: Mapping[str, str], read: Mapping[str, str], write: Mapping[str, str]) -> Places:
    """The places of a run that sees nothing of its host."""
    folders = (f"{ROOT}/code", f"{ROOT}/outputs", f"{ROOT}/home", TMP, f"{ROOT}/environment")
    return Places(*folders, inputs, read, write)


def input_path(name: str, file: str = "") -> str:
    """Where an input lies for a script that sees nothing of its host; `file` is a single file's base name."""
    return f"{ROOT}/inputs/{name}" + (f"/{file}" if file else "")


def check_words(spec: RunSpec) -> None:
    """Raises Rejected for an id, an input's name or a length that no target takes."""
    if not ID.fullmatch(spec.id):
        raise Rejected(
            "the run's id is not fit for a file name",
            reason="InvalidRunId",
            fix="report this: it is a fault of edgetrain",
        )
    if len(spec.command) + len(json.dumps(dict(spec.parameters))) > MAX_WORDS:
        raise Rejected("command and parameters are too long", reason="CommandTooLong", fix="put them into a file")
    for mount in spec.inputs:
        if not _INPUT_NAME.fullmatch(mount.name):
            raise Rejected(
                f"input {mount.name[:64]!r} can't be given to a script",
                reason="InvalidInput",
                fix="report this: it is a fault of edgetrain",
            )


# Packages of the field that tell their makers of models and their use, unless they are told not to. Where a target
# can't hold a script back from the network, that would leave the site.
SILENT = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "ORT_DISABLE_TELEMETRY": "1",
}


def variables(spec: RunSpec, places: Places, path: str = SYSTEM_PATH) -> dict[str, str]:
    """The whole environment of the script: nothing of the host's own is in it. `path` follows the
    environment's own programs."""
    found = {
        "PATH": f"{places.environment}/bin:{path}",
        "HOME": places.home,
        "USER": "edgetrain",
        "LOGNAME": "edgetrain",
        "LANG": "C.UTF-8",
        "TMPDIR": places.tmp,
        "PYTHONHASHSEED": str((spec.seed or 0) % 2**32),
        "PYTHONUNBUFFERED": "1",
        **SILENT,
        "EDGETRAIN_OUTPUTS": places.outputs,
        "EDGETRAIN_PARAMS": json.dumps(dict(spec.parameters), sort_keys=True),
        "MLFLOW_TRACKING_URI": f"sqlite:///{places.outputs}/mlflow.db",
    }
    if spec.seed is not None:
        found["EDGETRAIN_SEED"] = str(spec.seed)
    if spec.limits.cpus:
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            found[name] = str(spec.limits.cpus)
    for name, place in places.inputs.items():
        found["EDGETRAIN_INPUT_" + name.upper().replace("-", "_")] = place
    return found


def command_of(spec: RunSpec, places: Places) -> str:
    """The command with the shell-quoted paths where the markers stand."""

    def path(found: re.Match[str]) -> str:
        name = found[1]
        if name is None:
            return shlex.quote(places.outputs)
        if name not in places.inputs:
            raise Rejected(
                f"the command names input {name}, which the run does not have",
                reason="InvalidInput",
                fix="declare the input in the experiment, or mend its command",
            )
        return shlex.quote(places.inputs[name])

    return _MARKER.sub(path, spec.command)
