"""Declared secrets: where they come from, who may have them, and that they are masked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgetrain.core.errors import Denied, NotFound, ProviderError, Unavailable
from edgetrain.core.kinds import Configuration
from edgetrain.reconcile.secrets import masked, secret_of
from tests.reconcile import builders

VALUE = "correct-horse-7741"


def configuration(**secrets: Any) -> Configuration:
    spec = {"sites": {"ward": {"state": "/state"}}, "secrets": secrets}
    return Configuration.from_document(builders.document("edgetrain.yaml", "Configuration", "edgetrain", spec))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "secret"
    made.touch(mode=0o600)
    made.write_text(VALUE + "\n")
    return made


def test_a_file_and_the_environment_give_the_value(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITE_SECRET", VALUE)
    made = configuration(a={"source": {"file": str(file)}}, b={"source": {"environment": "SITE_SECRET"}})
    assert secret_of(made, "a").reveal() == secret_of(made, "b").reveal() == VALUE


def test_it_shows_itself_nowhere(file: Path) -> None:
    secret = secret_of(configuration(a={"source": {"file": str(file)}}), "a")
    assert VALUE not in f"{secret} {secret!r} {[secret]}"


@pytest.mark.parametrize(
    ("source", "kind", "reason"),
    [
        ({"file": "/nowhere/at/all"}, NotFound, "SecretMissing"),
        ({"environment": "EDGETRAIN_NO_SUCH"}, NotFound, "SecretMissing"),
        ({"keyVault": {"vault": "https://v.example", "name": "n"}}, Unavailable, "KeyVaultNotServed"),
    ],
)
def test_what_is_not_there_is_told(source: dict[str, Any], kind: type[ProviderError], reason: str) -> None:
    with pytest.raises(kind) as caught:
        secret_of(configuration(a={"source": source}), "a")
    assert caught.value.reason == reason
    assert caught.value.fix


def test_a_file_that_others_can_read_is_refused(file: Path) -> None:
    file.chmod(0o644)
    with pytest.raises(Denied, match="read by others"):
        secret_of(configuration(a={"source": {"file": str(file)}}), "a")


def test_only_the_targets_that_are_named_may_have_it(file: Path) -> None:
    made = configuration(a={"source": {"file": str(file)}, "targets": ["gpu"]})
    assert secret_of(made, "a", target="gpu").reveal() == VALUE
    with pytest.raises(Denied, match="not for target"):
        secret_of(made, "a", target="other")


def test_what_is_said_is_masked(file: Path) -> None:
    made = configuration(a={"source": {"file": str(file)}}, gone={"source": {"file": "/nowhere"}})
    assert list(masked(made, [f"the key is {VALUE}!", "nothing here"])) == ["the key is ***!", "nothing here"]
