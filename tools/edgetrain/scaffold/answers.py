"""What must be known to make a site's repository: each answer checked, and all that lack told at once."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata, resources
from typing import Any
from urllib.parse import urlsplit

from edgetrain.core.errors import UsageError
from edgetrain.core.problem import shown
from edgetrain.scaffold.new import NAME

FORGES = ("none", "github", "ghes")
WORKSPACES = ("mlflow", "azureml")
GITHUB, GITHUB_API = "https://github.com", "https://api.github.com"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
# Folders end up in commands that people paste into a shell of the runner host.
_FOLDER = re.compile(r"(~|)(/[A-Za-z0-9._@+-]+)+/?")
_KEY = re.compile(
    r"(ssh-ed25519|ecdsa-sha2-nistp(256|384|521)|ssh-rsa|sk-ssh-ed25519@openssh\.com) [A-Za-z0-9+/]+={0,2}"
)
_PIN = re.compile(r"([^@]+)@([0-9a-f]{40})")


@dataclass(frozen=True)
class Azure:
    """An Azure ML workspace and the application that signs in to it."""

    subscription: str = ""
    resource_group: str = ""
    workspace: str = ""
    tenant: str = ""
    client: str = ""


@dataclass(frozen=True)
class Answers:
    """A site's repository in values; empty is unknown. `owners` answer for models and experiments, `platform` for
    the rules (`edgetrain.yaml`, `compute/`, `.github/`). `edgetrain` is `owner/name@sha`: whose workflows are used.
    """

    forge: str = ""
    site: str = ""
    owners: tuple[str, ...] = ()
    platform: tuple[str, ...] = ()
    repository: str = ""
    server: str = ""
    api: str = ""
    workspace: str = ""
    azure: Azure = Azure()
    edgetrain: str = ""
    app: str = ""
    signing_key: str = ""
    state: str = ""
    data: str = ""
    branch: str = "main"

    @property
    def pin(self) -> tuple[str, str]:
        """Repository and commit of edgetrain."""
        repository, _, sha = self.edgetrain.partition("@")
        return repository, sha


@dataclass(frozen=True)
class Question:
    """One thing to know: the field of `Answers`, the option that gives it, and how a person is asked for it."""

    field: str
    option: str
    asks: str
    default: str = ""


QUESTIONS = (
    Question("forge", "--forge", "Where do pull requests live: none, github or ghes", "github"),
    Question("server", "--server", "Address of the GitHub Enterprise Server, such as https://github.hosp.example"),
    Question("repository", "--repository", "Repository on the forge, as OWNER/NAME"),
    Question("site", "--site", "Name of the site whose runner trains", "main-site"),
    Question(
        "owners", "--owners", "Who answers for models and experiments: @org/team or @user, with commas between"
    ),
    Question("platform", "--platform-owners", "Who answers for the rules (edgetrain.yaml, compute/, .github/)"),
    Question("edgetrain", "--edgetrain", "Whose workflows of edgetrain are called, as OWNER/NAME@COMMIT"),
    Question("azure.subscription", "--azure-subscription", "Azure subscription (GUID)"),
    Question("azure.resource_group", "--azure-resource-group", "Resource group of the Azure ML workspace"),
    Question("azure.workspace", "--azure-workspace", "Name of the Azure ML workspace"),
    Question("azure.tenant", "--azure-tenant", "Entra tenant (GUID)"),
    Question("azure.client", "--azure-client", "Client id of the application that signs in (GUID)"),
)


def value_of(answers: Answers, field: str) -> Any:
    """An answer by its question's field, such as `azure.tenant`."""
    holder, _, name = field.rpartition(".")
    return getattr(answers.azure if holder else answers, name)


def unanswered(answers: Answers, asking: bool = False) -> Iterator[Question]:
    """What must be known and is not, in the order in which one is asked. The forge first: the rest hangs on it.
    `asking`: also what has a default that a person should see."""
    for question in QUESTIONS:
        shared = question.field == "platform" and not asking
        if not value_of(answers, question.field) and _needed(question.field, answers) and not shared:
            yield question


def _needed(field: str, answers: Answers) -> bool:
    on_forge = answers.forge in ("github", "ghes")
    if field.startswith("azure."):
        return answers.workspace == "azureml"
    needed = {
        "forge": True,
        "server": answers.forge == "ghes",
        "repository": on_forge,
        "site": True,
        "owners": True,
        "platform": on_forge,
        "edgetrain": on_forge,
    }
    return needed[field]


def require(answers: Answers) -> None:
    """UsageError that names everything that lacks, and everything that is no such value."""
    lacking = [f"{question.option} ({question.asks})" for question in unanswered(answers)]
    wrong = list(_wrong(answers))
    if not lacking and not wrong:
        return
    what = [f"missing: {'; '.join(lacking)}"] if lacking else []
    raise UsageError(
        ". ".join([*what, *wrong]),
        reason="AnswerMissing" if lacking else "BadAnswer",
        fix="give these options, or run edgetrain init in a terminal: it asks"
        if lacking
        else "mend these options; nothing was written",
    )


def _wrong(answers: Answers) -> Iterator[str]:
    for field, option, _, _ in _CHECKS:
        value = value_of(answers, field)
        for one in value if isinstance(value, tuple) else (value,):
            what = fault(field, one) if one else ""
            if what:
                yield f"{option} {shown(one)!r}: {what}"


def fault(field: str, value: str) -> str:
    """What is wrong with one answer; empty if it will do."""
    return next((wanted for name, _, check, wanted in _CHECKS if name == field and not check(value)), "")


def with_answer(answers: Answers, field: str, value: str) -> Answers:
    """The answers with one more, as a person wrote it; owners have commas or blanks between them."""
    holder, _, name = field.rpartition(".")
    if holder:
        return replace(answers, azure=replace(answers.azure, **{name: value}))
    several = name in ("owners", "platform")
    values: dict[str, Any] = {name: tuple(listed(value)) if several else value}
    return replace(answers, **values)


def listed(text: str) -> list[str]:
    """The owners in a text with commas or blanks between them."""
    return [word for word in re.split(r"[\s,]+", text) if word]


def _named(definition: str) -> Callable[[str], bool]:
    return lambda value: len(value) <= 140 and re.fullmatch(_pattern(definition), value, re.ASCII) is not None


@cache
def _pattern(definition: str) -> str:
    """The pattern of `$defs/<definition>`, or of a property below it, in the configuration's published schema."""
    text = (resources.files("edgetrain") / "schemas" / "configuration.schema.json").read_text(encoding="utf-8")
    found: Mapping[str, Any] = json.loads(text)["$defs"]
    for part in definition.split("/"):
        found = found[part] if part in found else found["properties"][part]
    return str(found["pattern"])


def secure(url: str) -> bool:
    """Whether an address is https without anything but a host and a path; http only to this machine."""
    if not _named("url")(url):
        return False
    parts = urlsplit(url)
    return bool(parts.hostname) and (parts.scheme == "https" or parts.hostname in LOOPBACK)


def is_pin(text: str) -> bool:
    """Whether it is `owner/name@` and a whole commit id."""
    found = _PIN.fullmatch(text)
    return found is not None and _named("forge/repository")(found[1])


_OWNER = "write @org/team, @user or an e-mail address"
_CHECKS: tuple[tuple[str, str, Callable[[str], bool], str], ...] = (
    ("forge", "--forge", lambda value: value in FORGES, f"one of {', '.join(FORGES)}"),
    ("workspace", "--workspace", lambda value: value in WORKSPACES, f"one of {', '.join(WORKSPACES)}"),
    ("server", "--server", secure, "an https address without user, password or query"),
    ("api", "--api", secure, "an https address without user, password or query"),
    ("repository", "--repository", _named("forge/repository"), "write OWNER/NAME"),
    ("site", "--site", lambda value: NAME.fullmatch(value) is not None, "lower-case letters, digits and dashes"),
    ("owners", "--owners", _named("owner"), _OWNER),
    ("platform", "--platform-owners", _named("owner"), _OWNER),
    ("edgetrain", "--edgetrain", is_pin, "write OWNER/NAME@ and the 40 hex digits of a commit"),
    ("app", "--app", _named("forge/app/id"), "the App's number or client id"),
    ("signing_key", "--signing-key", lambda value: _KEY.fullmatch(value) is not None, "no public SSH key"),
    ("state", "--state", lambda value: _FOLDER.fullmatch(value) is not None, "an absolute folder in plain letters"),
    ("data", "--data", lambda value: _FOLDER.fullmatch(value) is not None, "an absolute folder in plain letters"),
    ("azure.subscription", "--azure-subscription", _named("guid"), "a GUID"),
    ("azure.resource_group", "--azure-resource-group", _named("azuremlWorkspace/resourceGroup"), "no such name"),
    ("azure.workspace", "--azure-workspace", _named("azuremlWorkspace/name"), "no such name"),
    ("azure.tenant", "--azure-tenant", _named("guid"), "a GUID"),
    ("azure.client", "--azure-client", _named("guid"), "a GUID"),
)


def public_key(text: str) -> str:
    """Type and key of a public key file's text. Raises UsageError for anything else, and quotes nothing of it."""
    if "PRIVATE KEY" in text:
        raise UsageError(
            "that is the private half of the key", reason="PrivateKey", fix="give the file that ends with .pub"
        )
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    words = lines[0].split() if len(lines) == 1 else []
    key = " ".join(words[:2])
    if not _KEY.fullmatch(key):
        raise UsageError(
            "the signing key's file holds no public SSH key",
            reason="NoPublicKey",
            fix="give the file that ssh-keygen wrote with the ending .pub",
        )
    return key


def installed_pin(server: str) -> str:
    """`owner/name@sha` of the installed package, if pip noted that it came from that server; else empty."""
    try:
        text = metadata.distribution("edgetrain").read_text("direct_url.json")
        noted = json.loads(text or "{}")
    except (metadata.PackageNotFoundError, ValueError):
        return ""
    url, vcs = noted.get("url"), noted.get("vcs_info")
    if not isinstance(url, str) or not isinstance(vcs, dict) or vcs.get("vcs") != "git":
        return ""
    try:
        parts, host = urlsplit(url), urlsplit(server or GITHUB).hostname
    except ValueError:
        return ""
    pin = f"{parts.path.strip('/').removesuffix('.git')}@{vcs.get('commit_id', '')}"
    return pin if parts.hostname == host and is_pin(pin) else ""
