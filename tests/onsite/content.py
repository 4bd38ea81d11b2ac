"""The content check, started as on a target: a program of its own over two folders."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgetrain.core.ports import EgressRules
from edgetrain.onsite import ONSITE

NAMES = [first + "a" + second + "e" for first in "kmrtl" for second in "bdgnp"]
ROWS = [
    f"{1000 + at * 37},{NAMES[at % 25]}{at % 97:02},{at * 7919 % 9973 / 7:.3f},{at * 104729 % 9967 / 3:.2f},"
    f"{at * 31 % 89},{at * 1299709 % 99991 / 11:.4f},unit {at % 4}"
    for at in range(1, 400)
]
TABLE = "id,name,dose,pulse,age,level,unit\n" + "\n".join(ROWS) + "\n"


def run(
    outputs: Path,
    inputs: Path,
    *,
    python: str = sys.executable,
    logged: Path | None = None,
    limits: Mapping[str, int] | None = None,
    **rules: Any,
) -> Any:
    """The report on all files of `outputs` unless the rules name others."""
    found = [str(path.relative_to(outputs)) for path in outputs.rglob("*") if path.is_file()]
    given = asdict(EgressRules(**{"files": dict.fromkeys(found, "custom_model"), "seconds": 120, **rules}))
    config = {
        "outputs": str(outputs),
        "inputs": {"data": str(inputs)},
        "rules": given,
        "log": str(logged) if logged else None,
        "limits": dict(limits or {}),
    }
    done = subprocess.run(
        [python, "-I", "-S", str(ONSITE / "content")],
        input=json.dumps(config).encode(),
        capture_output=True,
        check=False,
        env={"PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr == b""
    return json.loads(done.stdout)


def codes(report: Any) -> set[tuple[str, str]]:
    """What was found, and where."""
    assert report["complete"], report["reason"]
    return {(found["code"], found["where"]) for found in report["findings"]}
