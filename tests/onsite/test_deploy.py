"""Programs come to a machine whole, and those of other versions go when nothing there needs them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from edgetrain.providers.ssh import deploy


def deliver(work: Path) -> int:
    argv, data = deploy.delivery(str(work))
    return subprocess.run(argv, input=data, check=False).returncode


def test_programs_of_other_versions_go_unless_a_run_names_them(tmp_path: Path) -> None:
    work, mine = tmp_path / "work", deploy.bundle()[0]
    gone, named, young, broken = "a" * 64, "b" * 64, "c" * 64, ".new-0011"
    for name in (gone, named, young, broken):
        (work / "tools" / name / "onsite").mkdir(parents=True)
        if name != young:
            os.utime(work / "tools" / name, (0, 0))
    run = work / "runs" / "wear-000000000001-1"
    run.mkdir(parents=True)
    (run / "spec.json").write_text(f'{{"argv": ["{work}/tools/{named}/onsite/supervisor/launch.py"]}}')
    work.chmod(0o700)
    assert deliver(work) == 0
    assert {path.name for path in (work / "tools").iterdir()} == {mine, named, young}
    assert (work / "tools" / mine / "onsite" / "vm" / "main.py").is_file()
    os.utime(work / "tools" / mine, (0, 0))
    assert deliver(work) == 0, "what is there is brought again, and stays"
    assert (work / "tools" / mine / "onsite" / "vm" / "main.py").is_file()


def test_nothing_goes_where_runs_can_not_be_read(tmp_path: Path) -> None:
    work, old = tmp_path / "work", "a" * 64
    (work / "tools" / old).mkdir(parents=True)
    os.utime(work / "tools" / old, (0, 0))
    (work / "runs" / "wear-000000000001-1" / "spec.json").mkdir(parents=True)  # no file, whatever it is
    work.chmod(0o700)
    assert deliver(work) == 0
    assert (work / "tools" / old).is_dir()
