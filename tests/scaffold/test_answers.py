"""The answers a new site is made from: what is refused, what lacks, and where a pin comes from."""

from __future__ import annotations

import json

import pytest

from edgetrain.core.errors import UsageError
from edgetrain.scaffold.answers import (
    Answers,
    fault,
    installed_pin,
    is_pin,
    listed,
    public_key,
    require,
    secure,
    unanswered,
)
from tests.scaffold.samples import ALL, GHES, GITHUB, GUID, KEY, LONE, SHA

HOSTILE = {
    "repository": ["a/b/c", "a", "../x", "a/..", "a/b\nc", "a b/c", "$(id)/x", "-a/x", "a/" + "b" * 200],
    "site": ["Main", "a b", "a\n", "-a", "a;id", "a" * 64, "${{ x }}"],
    "owners": ["ada", "@", "@a b", "@a\n* @evil", "@a/b/c", "@a #", "*", "a@b@c"],
    "platform": ["@hosp/platform\n/.github/ @evil", ""],
    "server": [
        "http://git.example",
        "https://",
        "https://u:p@git.example",
        "https://git.example?x=1",
        "https://git.example/\n",
        "file:///etc",
        "https://a b",
        'https://x"y',
    ],
    "edgetrain": ["acme/edgetrain@main", f"acme@{SHA}", f"acme/edgetrain@{SHA}0", f"../x@{SHA}", f"a/b@{SHA}\n"],
    "app": ["12 3", "1\n2", "a" * 41, "$(id)"],
    "signing_key": ["ssh-ed25519", "ssh-ed25519 !", f"{KEY}\nroot@x {KEY}", "none AAAA"],
    "state": ["relative", "/a b", "/a;id", "/a$(id)", "/a\n", "~user/x", "/a'b"],
    "azure.tenant": ["x", f"{GUID}\n", GUID[:-1]],
    "azure.resource_group": ["a b", "$(id)", "a\n"],
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in HOSTILE.items() for value in values]
)
def test_hostile_values_are_refused(field: str, value: str) -> None:
    assert fault(field, value)


@pytest.mark.parametrize("field", ["owners", "repository", "server", "site", "edgetrain", "signing_key", "app"])
def test_values_of_the_samples_will_do(field: str) -> None:
    value = getattr(ALL["github-azureml"] if field != "server" else GHES, field)
    for one in value if isinstance(value, tuple) else (value,):
        assert one
        assert fault(field, one) == ""


def test_all_that_lacks_and_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(UsageError) as found:
        require(Answers(forge="ghes", workspace="azureml", owners=("ada",)))
    assert found.value.reason == "AnswerMissing"
    for option in ("--server", "--repository", "--site", "--edgetrain", "--azure-subscription", "--azure-client"):
        assert option in found.value.message
    assert "'ada'" in found.value.message
    assert [question.field for question in unanswered(Answers(forge="none"))] == ["site", "owners"]
    require(GITHUB)
    require(LONE)


def test_owners_are_listed_with_commas_or_blanks() -> None:
    assert listed("@a, @b/c  d@e.f,") == ["@a", "@b/c", "d@e.f"]


@pytest.mark.parametrize(
    "url", ["https://git.hosp.example", "https://git.hosp.example:8443/x", "http://127.0.0.1:80"]
)
def test_addresses_that_will_do(url: str) -> None:
    assert secure(url)


def test_a_private_key_is_not_taken_and_not_quoted() -> None:
    secret = "b3BlbnNzaC1rZXktdjEAAAAA"
    with pytest.raises(UsageError) as found:
        public_key(f"-----BEGIN OPENSSH PRIVATE KEY-----\n{secret}\n")
    assert found.value.reason == "PrivateKey"
    assert secret not in found.value.message + found.value.fix
    with pytest.raises(UsageError):
        public_key(f"{KEY}\n{KEY}\n")
    assert public_key(f"# mine\n{KEY} me@here\n") == KEY


class Installed:
    """A distribution as pip notes it."""

    def __init__(self, noted: object) -> None:
        self.noted = noted

    def read_text(self, _: str) -> str | None:
        return None if self.noted is None else json.dumps(self.noted)


@pytest.mark.parametrize(
    ("noted", "server", "pin"),
    [
        (None, "", ""),
        ({"url": "file:///x", "dir_info": {}}, "", ""),
        (
            {"url": "https://github.com/acme/edgetrain.git", "vcs_info": {"vcs": "git", "commit_id": SHA}},
            "",
            "acme",
        ),
        ({"url": "https://github.com/acme/edgetrain", "vcs_info": {"vcs": "git", "commit_id": "main"}}, "", ""),
        (
            {"url": "https://github.com/a/b", "vcs_info": {"vcs": "git", "commit_id": SHA}},
            "https://ghe.example",
            "",
        ),
        ({"url": ["x"], "vcs_info": "x"}, "", ""),
    ],
)
def test_the_pin_comes_from_what_pip_noted(
    noted: object, server: str, pin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgetrain.scaffold.answers.metadata.distribution", lambda _: Installed(noted))
    assert installed_pin(server) == (f"acme/edgetrain@{SHA}" if pin else "")


def test_a_pin_is_a_whole_commit() -> None:
    assert is_pin(f"acme/edgetrain@{SHA}")
    assert not is_pin(f"acme/edgetrain@{SHA[:12]}")
