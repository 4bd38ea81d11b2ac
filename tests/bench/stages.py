"""A DVC project with as many stages as a sample site has experiments: same scripts and data, all up to date."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from tests.apply.site import SCRIPT
from tests.bench.runner import environment

MEMORY = (".dvc/site", ".dvc/tmp")
_STAGE = """\
stages:
  train:
    cmd: {cmd}
    deps:
    - ../../data/{name}/numbers.txt
    - train.py
    outs:
    - model.json:
        cache: false
"""
_LOCK = """\
schema: '2.0'
stages:
  train:
    cmd: {cmd}
    deps:
{data}{script}    outs:
{model}"""


def make_stages(dvc: str, folder: Path, count: int) -> Path:
    """Each stage in a folder with files of its own, as experiments have them; locked as a run leaves it."""
    folder.mkdir()
    settings = {"core.analytics": "false", "core.site_cache_dir": str(folder / MEMORY[0])}
    for line in (
        ["git", "init", "--quiet"],
        [dvc, "init", "--quiet"],
        *([dvc, "config", key, value] for key, value in settings.items()),
    ):
        subprocess.run(line, cwd=folder, env=environment(), check=True, stdout=subprocess.DEVNULL)
    for number in range(count):
        name = f"sample-{number:05}"
        stage = folder / "experiments" / name
        cmd = "python train.py --data ../../data --shift 0.5"
        lock = _LOCK.format(
            cmd=cmd,
            data=_written(folder / "data" / name / "numbers.txt", f"{number}\n", f"../../data/{name}/numbers.txt"),
            script=_written(stage / "train.py", SCRIPT, "train.py"),
            model=_written(stage / "model.json", f'{{"mean": {number}}}', "model.json"),
        )
        (stage / "dvc.lock").write_text(lock)
        (stage / "dvc.yaml").write_text(_STAGE.format(cmd=cmd, name=name))
    return folder


def forget_stages(folder: Path) -> None:
    """Remove what DVC remembers of the project."""
    for name in MEMORY:
        shutil.rmtree(folder / name, ignore_errors=True)


def _written(file: Path, text: str, path: str) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    digest = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
    return f"    - path: {path}\n      hash: md5\n      md5: {digest}\n      size: {len(text)}\n"
