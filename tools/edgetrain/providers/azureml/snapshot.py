"""The folder that a run is submitted from: exactly the files listed, and nothing that lay around."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edgetrain.core.errors import Rejected, Unavailable
from edgetrain.onsite import ONSITE
from edgetrain.onsite.azureml.listing import listing

SCRIPT = "run.py"
TASK = "run.json"
CODE = "code"
PROGRAMS = "programs/onsite"
LOCK = "requirements.lock"
# What the client refuses to take in one snapshot.
MOST_FILES = 2000
MOST_BYTES = 300 * 2**20


@contextmanager
def snapshot(
    task: Mapping[str, Any], code: Path | None, requirements: bytes, packages: tuple[str, ...]
) -> Iterator[Path]:
    """A fresh folder with the wrapper, `task` as `run.json` (with the listing of `code` added), the code and the
    lock. `packages` are those of the on-site programs that go along. It is gone afterwards.

    Raises Rejected for code that a snapshot can't hold as it is.
    """
    with TemporaryDirectory(prefix="edgetrain-submit-") as name:
        folder = Path(name)
        if any((place / ".git").exists() for place in (folder, *folder.parents)):
            raise Unavailable(
                "the folder for temporary files lies in a git work tree, whose remote would be told to Azure ML",
                reason="StateInsideCheckout",
                fix="set TMPDIR to a folder outside any git work tree",
            )
        listed = _code(code, folder) if code is not None else {}
        shutil.copyfile(ONSITE / "azureml" / "entry.py", folder / SCRIPT)
        (folder / PROGRAMS).mkdir(parents=True)
        for source in sorted(ONSITE.glob("*.py")):
            shutil.copyfile(source, folder / PROGRAMS / source.name)
        for package in packages:
            for source in sorted((ONSITE / package).rglob("*.py")):
                place = folder / PROGRAMS / source.relative_to(ONSITE)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, place)
        (folder / LOCK).write_bytes(requirements)
        text = json.dumps({**task, "code": listed}, sort_keys=True, separators=(",", ":"))
        (folder / TASK).write_text(text, encoding="utf-8")
        found = [path for path in folder.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in found)
        if len(found) > MOST_FILES or size > MOST_BYTES:
            raise Rejected(
                f"the code has {len(found)} files and {size} bytes with the programs that go along",
                reason="CodeTooLarge",
                fix=f"Azure ML takes {MOST_FILES} files and {MOST_BYTES} bytes in a snapshot",
            )
        _same(folder, {path.relative_to(folder).as_posix() for path in found})
        yield folder


def _code(code: Path, folder: Path) -> dict[str, dict[str, Any]]:
    """Copy the code's regular files; its listing. Links are listed only: the client would follow them."""
    listed = listing(code)
    special = [name for name, entry in listed.items() if "special" in entry]
    if special:
        raise Rejected(
            f"the code holds something special: {special[0][:100]}",
            reason="InvalidCode",
            fix="leave links, devices and sockets out of the code's folder",
        )
    (folder / CODE).mkdir()
    for name, entry in listed.items():
        if "sha256" in entry:
            (folder / CODE / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(code / name, folder / CODE / name)
    return listed


def _same(folder: Path, wanted: set[str]) -> None:
    """Raises Rejected if the client, by its own listing, would send other files than these."""
    from azureml._base_sdk_common.merkle_tree import create_merkletree
    from azureml._project.ignore_file import get_project_ignore_file

    def walk(node: Any, prefix: str) -> Iterator[str]:
        for child in node.children:
            if child.is_file():
                yield prefix + child.name
            else:
                yield from walk(child, f"{prefix}{child.name}/")

    tree = create_merkletree(str(folder), get_project_ignore_file(str(folder)).is_file_excluded)
    if set(walk(tree, "")) != wanted:
        raise Rejected(
            "the client of Azure ML would send other files than those that the guard looked at",
            reason="SnapshotDiffers",
            fix="report this, with the version of azureml-core",
        )
