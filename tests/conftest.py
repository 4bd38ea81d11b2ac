"""Shared test machinery: golden files, and suites that need a part this machine may lack."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from edgetrain.onsite import sandbox
from testbed import azurite as blob_store
from testbed import base_image as base_images
from testbed import registry as image_registry
from testbed import vm as virtual_machine
from tests.testbed_fixtures import (  # noqa: F401
    azurite,
    base_image,
    registry_basic,
    registry_open,
    registry_token,
    serve_image,
    vm,
)
from tests.walk import SEED, WALK_ALL, sample

# Some tests import MLflow and ONNX Runtime themselves: nothing is sent from here, as from edgetrain.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# A loaded machine is no fault of a test: nothing here is judged by its time.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# `make test-all` is the fuzzing run: each property is tried with so many examples that it takes minutes.
settings.register_profile("fuzzing", settings.get_profile("any machine"), max_examples=5000)
settings.load_profile("fuzzing" if WALK_ALL else "any machine")

ENVIRONMENT = dict(os.environ)
PARTS = (
    "azurite",
    "bubblewrap",
    "buildah",
    "git>=2.34",
    "mmdebstrap",
    "mount",
    "podman",
    "registry",
    "skopeo",
    "ssh-keygen",
    "umoci",
    "vm",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write what the code gives now into the golden files; review the difference as code",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", f"needs(part): leave the test out where the part is absent; one of {', '.join(PARTS)}"
    )
    config.addinivalue_line(
        "markers", "long(share): of these tests a run takes a share, another one each day (0: none)"
    )


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """A workspace session sets this process's proxy and authorities: they go with the module that opened it."""
    if nextitem is None or nextitem.path != item.path:
        current = {name: value for name, value in os.environ.items() if name.startswith("PYTEST_")}
        os.environ.clear()
        os.environ.update({**ENVIRONMENT, **current})


def pytest_report_header() -> str:
    return "every long test" if WALK_ALL else f"long tests and walks sampled by EDGETRAIN_SEED={SEED}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what today's seed does not choose of suites that are marked as long; each keeps one at least,
    but those of which the share is 0: they are for `make test-all`."""
    suites: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("long"):
            suites.setdefault(item.nodeid.rpartition("::")[0], []).append(item)
    left: set[pytest.Item] = set()
    for suite in suites.values():
        share = suite[0].get_closest_marker("long").args[0]  # type: ignore[union-attr]
        kept = sample(len(suite), max(share > 0, round(share * len(suite))))
        left |= {item for number, item in enumerate(suite) if number not in kept}
    # A test that was asked for by its name is run.
    if left and not any("::" in argument for argument in config.args):
        items[:] = [item for item in items if item not in left]
        config.hook.pytest_deselected(items=list(left))


@cache
def present(part: str) -> bool:
    """Whether the part is on this machine and works here. Raises ValueError for a part not in PARTS."""
    if part not in PARTS:
        raise ValueError(f"unknown part {part!r}; known: {', '.join(PARTS)}")
    if part == "azurite":
        return blob_store.installed()
    if part == "registry":
        return image_registry.installed()
    if part == "mmdebstrap":
        return base_images.buildable()
    if part == "mount":
        # File systems of a test's own, to be filled or made read-only: for root, and where that may mount.
        return _runs("unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt") is not None and os.geteuid() == 0
    if part in ("podman", "vm"):
        # Tests use podman on a VM: rootful, with storage of its own. Once more, for a busy machine may be late.
        return not (virtual_machine.works() and virtual_machine.works())
    if part == "bubblewrap":
        # The provider's own probe: being installed is not enough, and the two must not disagree.
        return isinstance(sandbox.find(shutil.which("bwrap")), sandbox.Sandbox)
    if part == "git>=2.34":
        version = re.search(r"(\d+)\.(\d+)", _runs("git", "--version") or "")
        return version is not None and (int(version[1]), int(version[2])) >= (2, 34)
    return shutil.which(part) is not None


def _runs(*command: str) -> str | None:
    """The command's output, or None if it is absent or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs"):
        for part in marker.args:
            if present(part):
                continue
            module = item.nodeid.partition("::")[0]
            reason = f"left out: suite {module} needs {part}"
            # On CI a suite that was silently left out would look like one that passed.
            if os.environ.get("CI") == "true":
                pytest.fail(reason, pytrace=False)
            pytest.skip(reason)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[Path, str], None]:
    """`golden(path, text)`: the file at `path` must hold `text`; `--update-golden` writes it."""

    def check(path: Path, text: str) -> None:
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.is_file(), f"no golden file {path}; run pytest --update-golden and review it"
        assert text == path.read_text(encoding="utf-8")

    return check
