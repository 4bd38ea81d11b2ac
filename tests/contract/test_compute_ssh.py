"""The ssh compute target passes the contract: over sshd, in containers, on a VM in a network of its own."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest

from testbed.base_image import Base
from testbed.vm import Vm

from .compute import ComputeContract, Target
from .misbehaviour import MisbehaviourContract, RealTarget
from .ssh_target import SshTarget

_NUMBERS = count()


@pytest.mark.long(0.4)
@pytest.mark.needs("vm", "mmdebstrap", "skopeo")
class TestSshCompute(ComputeContract):
    @pytest.fixture
    def target(self, tmp_path: Path, vm: Vm, base_image: Base) -> Target:
        return SshTarget(vm, base_image, tmp_path / "state of site", f"/srv/contract-{next(_NUMBERS)}")


@pytest.mark.long(0.15)
@pytest.mark.needs("vm", "mmdebstrap", "skopeo")
class TestSshMisbehaviour(MisbehaviourContract):
    @pytest.fixture
    def target(self, tmp_path: Path, vm: Vm, base_image: Base) -> RealTarget:
        return SshTarget(vm, base_image, tmp_path / "state of site", f"/srv/contract-{next(_NUMBERS)}")
