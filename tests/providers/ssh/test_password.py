"""Which passwords are strong enough, and that a refusal does not show them."""

from __future__ import annotations

import pytest

from edgetrain.core.errors import Denied
from edgetrain.core.secret import Secret
from edgetrain.providers.ssh.password import check


@pytest.mark.parametrize(
    "word",
    [
        "short-Kx9",
        "Password123456",
        "P@ssw0rd2024!!",
        "edgetrainedgetrain",
        "qwertyuiop12345",
        "aaaaaaaaaaaaaaaaaaaaaaaa",
        "abcabcabcabcabcabc",
        "Summer2024Winter2025",
        "st-anna-vm-st-anna-vm",
        "12345678901234567890",
        "correcthorsebatterystaple",
    ],
)
def test_weak_ones_are_refused(word: str) -> None:
    with pytest.raises(Denied) as caught:
        check(Secret(word), "edgetrain", "st-anna-vm")
    assert caught.value.reason == "WeakPassword"
    assert caught.value.fix
    assert word not in caught.value.message


@pytest.mark.parametrize("word", ["vK7-quill-Orbit-93-fjord-Tamber", "q8Zr1x!fWm0Gd4Tn", "mtqzvgkwyhrdxnbcfj"])
def test_strong_ones_pass(word: str) -> None:
    check(Secret(word), "edgetrain", "st-anna-vm")
