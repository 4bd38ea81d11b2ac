"""What a site's repository still lacks: its files, git, and the forge as far as that tells. Changes nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from edgetrain.core.codeowners import PLACES, owners_of, parse
from edgetrain.core.errors import RepositoryError, UsageError
from edgetrain.core.kinds import Configuration
from edgetrain.core.ports import Check, CheckStatus
from edgetrain.core.problem import Severity, shown
from edgetrain.reconcile.doctor import guarded
from edgetrain.reconcile.initialise import configuration_of, known, merged, text_of
from edgetrain.reconcile.judge import ALLOWED_SIGNERS, CONFIGURATION
from edgetrain.reconcile.remote import connect
from edgetrain.reconcile.site import Site, choose_site
from edgetrain.reconcile.validate import validate
from edgetrain.render.doctor import Diagnosis, Part
from edgetrain.repo.command import without_credentials
from edgetrain.repo.git import REMOTE, Git
from edgetrain.scaffold import site as scaffold
from edgetrain.scaffold.answers import Answers, unanswered

NEEDED = ("pull-request", "comment", "apply")
SECONDS = 60.0
AGAIN = "edgetrain init writes what is missing"
_PINNED = re.compile(r"\./.*|docker://[^@]+@sha256:[0-9a-f]{64}|[^@]+@[0-9a-f]{40}")
_LINKED = re.compile(r"(?:ssh://)?(?:[^@/]+@)?([^/:]+)(?::\d+)?[:/](.+)")


def look(root: Path, asked: str | None) -> Diagnosis:
    """Look at everything. `asked` is the site where there are several.

    Raises InvalidFiles for an `edgetrain.yaml` that can't be read; RepositoryError if there is none.
    """
    configuration = configuration_of(root)
    if configuration is None:
        raise RepositoryError(
            f"there is no {CONFIGURATION} here", reason="NoConfiguration", fix="make a repository: edgetrain init"
        )
    name = choose_site(configuration, asked)
    parts = [
        Part("files", "", tuple(guarded("files", lambda: _files(root, configuration)))),
        Part("git", "", tuple(guarded("git", lambda: _git(Site(configuration, name, root), Git(root))))),
        Part("forge", "", tuple(guarded("forge", lambda: _forge(configuration, name, root)))),
        Part("machine", "", tuple(guarded("machine", lambda: _machine(configuration)))),
    ]
    return Diagnosis(name, tuple(parts))


def _good(name: str, message: str) -> Check:
    return Check(name, CheckStatus.PASS, message)


def _bad(name: str, message: str, reason: str, fix: str) -> Check:
    return Check(name, CheckStatus.FAIL, message, reason, fix)


def _doubt(name: str, message: str, reason: str, fix: str) -> Check:
    return Check(name, CheckStatus.WARN, message, reason, fix)


def _files(root: Path, configuration: Configuration) -> Iterator[Check]:
    count = sum(found.severity is Severity.PROBLEM for found in validate(root))
    if count:
        yield _bad("validate", f"{count} problems in files", "InvalidFiles", "edgetrain validate")
    else:
        yield _good("validate", "no problems in files")
    if configuration.forge is not None:
        yield from _workflows(root)
        yield from _owners(root)
    yield _signers(root, configuration)
    yield _schemas(root)
    yield from _others(root)


def _workflows(root: Path) -> Iterator[Check]:
    folder = root / ".github/workflows"
    names = [*scaffold.WORKFLOWS, *(name for name, _, _ in scaffold.SITE_WORKFLOWS)]
    for name in names:
        if not (folder / f"{name}.yml").is_file():
            tell = _bad if name in NEEDED else _doubt
            yield tell("workflows", f"there is no .github/workflows/{name}.yml", "WorkflowMissing", AGAIN)
    loose: list[str] = []
    for file in sorted(
        [*folder.glob("*.yml"), *folder.glob("*.yaml"), *root.glob(".github/actions/*/action.y*ml")]
    ):
        path = file.relative_to(root).as_posix()
        try:
            used = list(_used(text_of(file) or ""))
        except (yaml.YAMLError, RecursionError):
            yield _bad("pinned", f"{shown(path)} is no YAML", "BadWorkflow", "mend it, or take it out")
            continue
        loose += [f"{shown(one)} in {shown(path)}" for one in used if not _PINNED.fullmatch(one)]
    if loose:
        more = f" and {len(loose) - 5} more" if len(loose) > 5 else ""
        fix = "name each by the 40 digits of a commit: tags and branches can be moved"
        yield _bad("pinned", f"not pinned: {', '.join(loose[:5])}{more}", "NotPinned", fix)
    else:
        yield _good("pinned", "every action and workflow that is used is pinned by its commit")
    yield from _commits(root, [text_of(file) or "" for file in sorted(folder.glob("*.yml"))])


def _commits(root: Path, texts: Sequence[str]) -> Iterator[Check]:
    """Whether one commit of edgetrain stands in all its places: calls, their input, checkouts of it."""
    there = known(root)
    repository = re.escape(there.pin[0]) if there and there.edgetrain else "(?!)"
    places = (
        rf"{repository}/\.github/workflows/[a-z-]+\.yml@|edgetrain-ref:\s*|\srepository:\s*{repository}\s+ref:\s*"
    )
    commits = {commit for text in texts for commit in re.findall(rf"(?:{places})([0-9a-f]{{40}})\b", text)}
    if len(commits) > 1:
        told = ", ".join(sorted(commit[:12] for commit in commits))
        fix = "name one in all `uses`, `edgetrain-ref` and `ref` of edgetrain: README.md says how"
        yield _bad("edgetrain", f"several commits of edgetrain are used: {told}", "PinsDiffer", fix)


def _used(text: str) -> Iterator[str]:
    """The values of all keys `uses`, at any depth, each node once: an alias costs nothing."""
    seen: set[int] = set()
    waiting = [yaml.compose(text, Loader=yaml.SafeLoader)]
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == "uses" and isinstance(value, yaml.ScalarNode):
                    yield value.value
                waiting.append(value)


def _owners(root: Path) -> Iterator[Check]:
    place = next((place for place in PLACES if (root / place).is_file()), None)
    if place is None:
        yield _bad("code-owners", "there is no .github/CODEOWNERS", "NoCodeOwners", AGAIN)
        return
    rules = parse(text_of(root / place) or "")
    paths = [CONFIGURATION, "compute/any.yaml", ".github/workflows/any.yml", ".github/CODEOWNERS", ALLOWED_SIGNERS]
    if (root / "tools").is_dir():
        paths.append("tools/any.py")
    without = [path for path in paths if not owners_of(rules, path)]
    if without:
        fix = f"give them owners in {place}; the last line that fits a path counts"
        yield _bad("code-owners", f"nobody owns {', '.join(without)}", "Unowned", fix)
    elif any(owners_of(rules, path) == owners_of(rules, "experiments/any/train.py") for path in paths):
        fix = f"name others for edgetrain.yaml, compute/, .github/ and tools/ in {place}"
        yield _doubt("code-owners", "who owns the experiments owns the rules too", "SameOwners", fix)
    else:
        yield _good("code-owners", "the rules have owners of their own")


def _signers(root: Path, configuration: Configuration) -> Check:
    machine = configuration.machine
    lines = [line.split() for line in (text_of(root / ALLOWED_SIGNERS) or "").splitlines() if line[:1] != "#"]
    listed = any(machine.email in words[0].split(",") for words in lines if len(words) > 2)
    if listed and machine.signing_key:
        return _good("allowed-signers", f"{ALLOWED_SIGNERS} lists a key of {machine.email}")
    if machine.signing_key is None:
        fix = f"make a key, name it in {CONFIGURATION} (spec.machine.signingKey), and list it in {ALLOWED_SIGNERS}"
        return _doubt("allowed-signers", "records are not signed", "Unsigned", fix)
    fix = "edgetrain init --signing-key FILE.pub"
    return _bad("allowed-signers", f"{ALLOWED_SIGNERS} lists no key of {machine.email}", "SignerMissing", fix)


def _schemas(root: Path) -> Check:
    if (root / "tools/edgetrain/schemas").is_dir():
        return _good("schemas", "editors find the schemas of the package itself")
    wanted = scaffold.schemas()
    other = sorted(path for path, text in wanted.items() if text_of(root / path) != text)
    if not other:
        return _good("schemas", "editors find the schemas of this edgetrain")
    fix = f"remove them and run edgetrain init again: rm {' '.join(other)}"
    return _doubt("schemas", f"missing, or of another edgetrain: {', '.join(other)}", "SchemasOutdated", fix)


def _others(root: Path) -> Iterator[Check]:
    """What init writes beside all that: templates, settings of editors, hooks."""
    answers = merged(Answers(), known(root))
    if any(unanswered(answers)):
        return
    told = (".github/workflows/", ".vscode/schemas/", "experiments/", "models/", "compute/", "README.md")
    vendored = (root / "tools/edgetrain/schemas").is_dir()
    missing = [
        path
        for path in scaffold.files(answers, vendored=vendored)
        if not path.startswith(told) and not (root / path).exists()
    ]
    if missing:
        yield _doubt("others", f"not there: {', '.join(missing)}", "FileMissing", AGAIN)
    else:
        yield _good("others", "templates, settings of editors and hooks are there")


def _git(site: Site, git: Git) -> Iterator[Check]:
    configuration, branch = site.configuration, site.configuration.branch
    try:
        git.tip(branch, refresh=False)
    except RepositoryError as error:
        yield _bad("branch", error.message, error.reason, error.fix)
    else:
        yield _good("branch", f"{branch} is there")
    if configuration.forge is None:
        return
    if not git.has_remote():
        url = f"{_server(configuration)}/{configuration.forge.block['repository']}.git"
        yield _bad("remote", f"there is no remote {REMOTE}", "NoRemote", f"git remote add {REMOTE} {url}")
        return
    yield _remote(git.text("remote", "get-url", REMOTE), configuration)
    # On the runner host git has no credential of its own: it is the App's, as when records are pushed.
    connect(git, site)
    done = git.attempt_remote("ls-remote", "--exit-code", "--", REMOTE, f"refs/heads/{branch}", timeout=SECONDS)
    if done.code == 0:
        yield _good("pushed", f"{REMOTE} has {branch}")
    elif done.code == 2:
        yield _bad("pushed", f"{REMOTE} has no {branch}", "NotPushed", f"git push --set-upstream {REMOTE} {branch}")
    else:
        fix = "check the remote's address, and your credential for it"
        yield _bad("pushed", without_credentials(done.err, 300), "RemoteUnreachable", fix)


def _machine(configuration: Configuration) -> Iterator[Check]:
    """What lies on the runner host and in Azure, where no forge tells of it. At a desk these are doubts."""
    absent = [name for name, secret in sorted(configuration.secrets.items()) if not _there(secret["source"])]
    if absent:
        fix = "on the runner host put each where spec.secrets says; workflows give what is of the environment"
        yield _doubt("secrets", f"not on this machine: {', '.join(absent)}", "SecretMissing", fix)
    elif configuration.secrets:
        yield _good("secrets", "every declared secret is on this machine, or in a key vault")
    auth = configuration.workspace.get("auth", {})
    if auth.get("type") == "oidc":
        fix = f"start the workflow doctor, or: az ad app federated-credential list --id {auth['clientId']}"
        what = "whether Entra believes this repository's jobs is seen in a job only"
        yield _doubt("federated-credential", what, "NotSeenHere", fix)


def _there(source: Mapping[str, Any]) -> bool:
    if "file" in source:
        return Path(source["file"]).expanduser().is_file()
    return "environment" not in source or bool(os.environ.get(source["environment"]))


def _server(configuration: Configuration) -> str:
    block = configuration.forge.block if configuration.forge else {}
    return str(block.get("server", "https://github.com")).rstrip("/")


def _remote(url: str, configuration: Configuration) -> Check:
    repository = configuration.forge.block["repository"] if configuration.forge else ""
    server = _server(configuration)
    if is_remote_of(url, server, repository):
        return _good("remote", f"{REMOTE} is {repository}")
    told = without_credentials(url, 200)
    fix = f"git remote set-url {REMOTE} {server}/{repository}.git, or mend spec.forge"
    return _doubt("remote", f"{REMOTE} is {told}, not {repository}", "OtherRemote", fix)


def is_remote_of(url: str, server: str, repository: str) -> bool:
    """Whether a remote's address, in any form that git takes, is that of the repository on the server."""
    if url.startswith(("http://", "https://")):
        parts = urlsplit(url)
        host, path = parts.hostname or "", parts.path
    else:
        linked = _LINKED.fullmatch(url)
        host, path = (linked[1], linked[2]) if linked else ("", url)
    wanted = urlsplit(server).hostname
    same = path.strip("/").removesuffix(".git").lower() == repository.lower()
    return same and host.lower() in (wanted, f"ssh.{wanted}")


def _forge(configuration: Configuration, name: str, root: Path) -> Iterator[Check]:
    if configuration.forge is None:
        fix = f"declare it in {CONFIGURATION}: spec.forge"
        yield _doubt("forge", "no forge is declared: proposals are branches", "NoForge", fix)
        return
    forge = Site(configuration, name, root).forge
    if forge is None:
        raise UsageError("the site has no forge", fix="declare it in edgetrain.yaml: spec.forge")
    found = forge.diagnose()
    yield from found
    # What can't be reached would only say the same of every setting.
    if all(check.status is not CheckStatus.FAIL for check in found):
        yield from forge.settings()
