"""Runs the content check over an ended run: in the sandbox, with everything read-only, or as a limited process."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from edgetrain.core.ports import EgressLevel, EgressRules, Examination
from edgetrain.onsite import ONSITE
from edgetrain.onsite.sandbox import Sandbox, arguments, bare, python
from edgetrain.providers.answers import examination_of, not_examined
from edgetrain.providers.contract import ROOT

CONTENT = ONSITE / "content"
SCRATCH = 64 * 2**20
MAX_REPORT = 2**20
SPARE_SECONDS = 60


def examine(run: Path, inputs: Mapping[str, str], rules: EgressRules, sandbox: Sandbox | None) -> Examination:
    """Compare the run's outputs (and its log, if that would leave) with its inputs (name to place)."""
    outputs, log = str(run / "outputs"), str(run / "log")
    program, places = str(CONTENT), dict(inputs)
    command: list[str] = []
    level = EgressLevel.ADVISORY
    if sandbox:
        level = EgressLevel.ENFORCED
        inside = {name: f"{ROOT}/inputs/{number}" for number, name in enumerate(inputs)}
        read = {outputs: f"{ROOT}/outputs", log: f"{ROOT}/log", program: f"{ROOT}/content"}
        read |= {place: inside[name] for name, place in inputs.items()}
        # One place may be two inputs; it is bound once.
        places = {name: read[place] for name, place in inputs.items()}
        outputs, log, program = read[outputs], read[log], read[program]
        command = arguments(
            sandbox.program, sandbox.flags, read=read, write={}, chdir="/", tmp=SCRATCH, shm=SCRATCH
        )
    config = {"outputs": outputs, "inputs": places, "log": log, "rules": asdict(rules)}
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as answer:
        given.write(json.dumps(config).encode())
        given.seek(0)
        try:
            done = subprocess.run(
                [*command, python(), "-I", "-S", program],
                stdin=given,
                stdout=answer,
                stderr=subprocess.DEVNULL,
                env=bare(),
                cwd="/",
                timeout=rules.seconds + SPARE_SECONDS,
                start_new_session=True,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return not_examined("it took longer than the time allowed", level)
        size = answer.seek(0, os.SEEK_END)
        if done.returncode != 0 or size > MAX_REPORT:
            return not_examined("it could not be done within the limits", level)
        answer.seek(0)
        return examination_of(answer.read(), level)
