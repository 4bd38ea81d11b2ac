"""The azureml-vm compute target passes the contract: the unmodified client, an emulator, a VM that it reaches."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from testbed.base_image import Base
from testbed.vm import Vm
from tests.emulator import executing
from tests.providers.azureml.fixtures import own_environment  # noqa: F401

from .azureml_target import AzuremlVmTarget, check
from .compute import ComputeContract, Step, Target
from .misbehaviour import MisbehaviourContract

_NUMBERS = count()


@pytest.fixture
def target(tmp_path: Path, vm: Vm, base_image: Base) -> Iterator[AzuremlVmTarget]:
    with executing.emulator(tmp_path, hosts=executing.hosts(vm)) as running:
        work = f"/srv/azureml-{next(_NUMBERS)}"
        target = AzuremlVmTarget(running, vm, base_image, tmp_path / "state of site", work)
        target.attach()
        yield target
        check(running)


@pytest.mark.long(0.25)
@pytest.mark.needs("vm", "mmdebstrap", "skopeo")
class TestAzuremlVmCompute(ComputeContract):
    # What follows is ssh's own part, which has its own tests: one case of each shows that it is reached.

    @pytest.mark.parametrize(("steps", "fault"), [([["write", "patients.csv", "doe"]], "not declared")])
    def test_what_can_not_be_accepted_is_a_fault(
        self, target: Target, tmp_path: Path, steps: list[Step], fault: str
    ) -> None:
        super().test_what_can_not_be_accepted_is_a_fault(target, tmp_path, steps, fault)

    @pytest.mark.parametrize("path", ["../spec.json"])
    def test_only_outputs_are_fetched(self, target: Target, tmp_path: Path, path: str) -> None:
        super().test_only_outputs_are_fetched(target, tmp_path, path)


@pytest.mark.long(0.1)
@pytest.mark.needs("vm", "mmdebstrap", "skopeo")
class TestAzuremlVmMisbehaviour(MisbehaviourContract):
    """The run is ssh's own, but Azure ML begins it and tells its end: each misdeed ends as it does there."""
