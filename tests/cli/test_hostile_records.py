"""Records that hold anything in any place: every verb that reads them answers in words, whatever they say."""

from __future__ import annotations

import copy
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edgetrain.cli import failure
from edgetrain.cli.app import app
from edgetrain.core.digest import digest_of
from edgetrain.core.record import parse_record, serialise
from tests.core import build
from tests.core.case import MACHINE, Case, base_files
from tests.walk import examples

VERBS = (
    "validate", "plan", "plan --format json", "runs", "models", "models mean", "log mean", "log searched",
    "audit mean@1", "audit --since 2020-01-01 --format json", "audit --since 2020-01-01 --format csv",
    "compare mean@1 mean@2", "compare mean@production mean@1 --format json", "verify",
)  # fmt: skip


def records() -> dict[str, dict[str, Any]]:
    """One record of each kind and event, by path: what lies in the base repository, and more."""
    found = {path: json.loads(data) for path, data in base_files().items() if path.endswith(".json")}
    path = min(path for path in found if "/runs/" in path)
    run = parse_record(path, base_files()[path])
    more = [
        build.evaluation(run, "not_better"),  # type: ignore[arg-type]
        build.proposal(run, 3),  # type: ignore[arg-type]
        build.moved("mean", "production", None, 2, 2),
        build.withdrawal("mean", 1, 2),
    ]
    return found | {record.path: dict(record.data) for record in more}


RECORDS = records()
RELEASE = "models/mean/versions/1.release-1.json"
TEXT = st.text(max_size=8) | st.sampled_from(
    ["mean", "candidate", "released", "channel", "sha256:" + "0" * 64, "2026-01-01T00:00:00Z", "\x1b[31m"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-1e300, 1e300) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def spoilt(draw: st.DrawFn) -> dict[str, dict[str, Any]]:
    """Some records, each with something else in a place or two; identities are made to fit again."""
    found = {}
    for path in draw(st.lists(st.sampled_from(sorted(RECORDS)), min_size=1, max_size=3, unique=True)):
        data = copy.deepcopy(RECORDS[path])
        for _ in range(draw(st.integers(1, 2))):
            at = data
            while inner := [key for key, value in at.items() if isinstance(value, dict) and value]:
                if draw(st.booleans()):
                    break
                at = at[draw(st.sampled_from(inner))]
            key = draw(st.sampled_from(sorted(at)) | TEXT)
            if key in at and draw(st.integers(0, 3)) == 0:
                del at[key]
            else:
                at[key] = draw(VALUES)
        if isinstance(data.get("identityOf"), dict):
            data["identity"] = digest_of(data["identityOf"])
            found[f"{path.rpartition('/')[0]}/{data['identity'][7:19]}-1.json"] = data
        else:
            found[path] = data
    return found


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sound repository, on main."""
    case = Case(tmp_path_factory.mktemp("hostile") / "repository")
    case.root.mkdir()
    case.make().play("@ main\n@ git dana@example.org checkout --quiet main\n")
    return case.root


def git(root: Path, *arguments: str) -> None:
    who = {f"GIT_{role}_{key}": MACHINE for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
    environment = {**os.environ, **who, "GIT_CONFIG_GLOBAL": os.devnull}
    subprocess.run(["git", *arguments], cwd=root, env=environment, check=True, capture_output=True)


def said_of(root: Path, files: Mapping[str, bytes], capsys: pytest.CaptureFixture[str]) -> None:
    """Let the machine commit the records, and call every verb."""
    git(root, "reset", "--quiet", "--hard", "change")
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    git(root, "add", "--all", "--force", "experiments", "models")
    git(root, "commit", "--quiet", "--allow-empty", "--message", "records")
    for verb in VERBS:
        code = app.main(["-C", str(root), *verb.split()], standalone_mode=False)
        told = capsys.readouterr()
        assert code in (0, 1, 2, 3), verb
        assert "\x1b" not in told.out + told.err, verb


@settings(max_examples=examples(3), suppress_health_check=list(HealthCheck))
@given(files=spoilt())
@example(files={RELEASE: {**RECORDS[RELEASE], "metrics": [1]}})
def test_any_json_in_records_is_answered_in_words(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], files: dict[str, Any]
) -> None:
    def unexpected(error: Exception, session: Any) -> int:
        raise error

    monkeypatch.setattr(failure, "_unexpected", unexpected)
    written = {}
    for path, data in files.items():
        try:
            written[path] = serialise(data)
        except ValueError:
            written[path] = json.dumps(data).encode()
    said_of(root, written, capsys)
