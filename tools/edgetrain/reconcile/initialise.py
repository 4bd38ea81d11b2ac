"""Makes a site's repository, or adds to one what it lacks: files, git, and what people must do then."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgetrain.core.errors import InvalidFiles, RepositoryError, UsageError
from edgetrain.core.kinds import Configuration
from edgetrain.core.problem import Severity, shown
from edgetrain.reconcile.judge import ALLOWED_SIGNERS, CONFIGURATION
from edgetrain.render.init import Made
from edgetrain.repo.command import without_credentials
from edgetrain.repo.git import REMOTE, Git
from edgetrain.repo.reader import MAX_BYTES, read
from edgetrain.repo.schema import check
from edgetrain.scaffold import site as scaffold
from edgetrain.scaffold.answers import GITHUB, Answers, Azure, installed_pin, is_pin, require
from edgetrain.scaffold.checklist import MACHINE
from edgetrain.scaffold.place import place, present, refuse_others

FIRST_COMMIT = "Start a site's repository"
CODEOWNERS = ".github/CODEOWNERS"
_CALL = re.compile(r"uses:\s*([A-Za-z0-9-]+/[A-Za-z0-9._-]+)/\.github/workflows/[a-z-]+\.yml@([0-9a-f]{40})\b")


def known(folder: Path) -> Answers | None:
    """What the repository in the folder says of itself; None if it has no `edgetrain.yaml`. Raises InvalidFiles."""
    found = configuration_of(folder)
    return None if found is None else _from_configuration(found, folder)


def configuration_of(folder: Path) -> Configuration | None:
    """The folder's `edgetrain.yaml`, None if there is none. Raises InvalidFiles."""
    text = text_of(folder / CONFIGURATION)
    if text is None:
        return None
    document, problems = read(text.encode(), CONFIGURATION)
    problems = problems if document is None else [*problems, *check(document, Configuration.__name__)]
    if document is None or any(found.severity is Severity.PROBLEM for found in problems):
        raise InvalidFiles(problems)
    return Configuration.from_document(document)


def _from_configuration(found: Configuration, folder: Path) -> Answers:
    platform: list[str] = found.document.data.get("metadata", {}).get("owners", [])
    block: dict[str, Any] = dict(found.forge.block) if found.forge else {}
    server = block.get("server", GITHUB)
    workspace = found.workspace
    auth = workspace.get("auth", {})
    site = next(iter(found.sites))
    default = re.search(r"(?m)^\*[ \t]+(\S.*)$", text_of(folder / CODEOWNERS) or "")
    pin = _called(folder)
    return Answers(
        forge="none" if found.forge is None else "github" if server == GITHUB else "ghes",
        site=site,
        owners=tuple(default[1].split("#")[0].split()) if default else tuple(platform),
        platform=tuple(platform),
        repository=block.get("repository", ""),
        server=server if found.forge else "",
        api=block.get("api", ""),
        workspace=workspace["type"],
        azure=Azure(
            workspace.get("subscription", ""),
            workspace.get("resourceGroup", ""),
            workspace.get("name", ""),
            auth.get("tenant", ""),
            auth.get("clientId", ""),
        ),
        edgetrain=pin,
        app=block.get("app", {}).get("id", ""),
        state=found.sites[site].state,
        data=found.sites[site].datastores.get(scaffold.DATASTORE, {}).get("path", ""),
        branch=found.branch,
    )


def _called(folder: Path) -> str:
    """Whose workflows those of the folder call, as `owner/name@sha`."""
    for file in sorted((folder / ".github/workflows").glob("*.yml"))[:100]:
        call = _CALL.search(text_of(file) or "")
        if call and is_pin(f"{call[1]}@{call[2]}"):
            return f"{call[1]}@{call[2]}"
    return ""


def text_of(file: Path) -> str | None:
    """The text of a plain file, bounded; None if there is none."""
    if file.is_symlink() or not file.is_file():
        return None
    try:
        with file.open("rb") as opened:
            return opened.read(MAX_BYTES + 1).decode("utf-8", "replace")
    except OSError as error:
        raise RepositoryError(
            f"{shown(file)} can't be read: {error.strerror}", fix="give this user the right to read it"
        ) from None


def merged(given: Answers, there: Answers | None) -> Answers:
    """The answers given, completed by what the repository says and by what pip noted of this very package.

    UsageError that names all of them that the repository contradicts: it is not edited here.
    """
    both = given if there is None else _under(given, there)
    if not both.edgetrain and both.forge not in ("", "none"):
        both = replace(both, edgetrain=installed_pin(both.server))
    return both


def _under(given: Answers, there: Answers) -> Answers:
    fixed = ["site", "workspace"]
    if there.forge != "none":
        fixed += ["forge", "server", "repository", "app", "edgetrain"]
    wrong = [
        f"{name} is {shown(getattr(there, name))} there, not {shown(getattr(given, name))}"
        for name in fixed
        if getattr(given, name) and getattr(there, name) and getattr(given, name) != getattr(there, name)
    ]
    if wrong:
        raise UsageError(
            f"the repository is another: {'; '.join(wrong)}",
            reason="OtherRepository",
            fix=f"edit {CONFIGURATION}, or leave these options out; nothing was written",
        )
    values = {name: getattr(given, name) or getattr(there, name) for name in vars(there)}
    return Answers(**{**values, "azure": there.azure if there.workspace == "azureml" else given.azure})


def initialise(folder: Path, given: Answers) -> Made:
    """Make the repository in the folder, or add what is missing. Nothing that is there is changed.

    Raises UsageError for answers that lack or are none, and for a folder with other contents, before anything is
    written; RepositoryError where git can't do its part. Killed anywhere, the same call again completes it.
    """
    there = known(folder)
    answers = merged(given, there)
    require(answers)
    vendored = (folder / "tools/edgetrain/schemas").is_dir()
    files = scaffold.files(answers, vendored=vendored)
    if there is None:
        refuse_others(folder, files)
    else:
        files = _without_examples(folder, files)
    _check_outside(folder)
    # The configuration comes last: until it is there, the same call is a first one still.
    ordered = {path: files[path] for path in sorted(files, key=lambda path: path == CONFIGURATION)}
    written = place(folder, ordered)
    kept = [path for path in files if path not in written and text_of(folder / path) != files[path]]
    git = _git(folder, scaffold.completed(answers))
    commit, note = _first_commit(git, files)
    if written and not commit and not note:
        note = "the new files are not committed: git add --all && git commit"
    notes = [note] if note else []
    notes += _notes(folder, answers, there)
    return Made(folder, tuple(sorted(written)), tuple(sorted(kept)), commit, tuple(notes), scaffold.steps(answers))


def _without_examples(folder: Path, files: dict[str, str]) -> dict[str, str]:
    """The files, without examples of kinds that the repository has manifests of."""
    has = {
        "experiments": any(folder.glob("experiments/*/experiment.yaml")),
        "models": any(folder.glob("models/*/model.yaml")) or any(folder.glob("experiments/*/experiment.yaml")),
        "compute": any(folder.glob("compute/*.yaml")),
    }
    whole = {path for path in files if has.get(path.partition("/")[0])}
    # An example that a kill left incomplete is completed.
    partly = {path for path in whole if path.startswith(f"experiments/{scaffold.EXAMPLE}/")}
    begun = partly and (folder / f"experiments/{scaffold.EXAMPLE}").is_dir()
    return {path: text for path, text in files.items() if path not in whole or (begun and path in partly)}


def _check_outside(folder: Path) -> None:
    """UsageError if the folder lies in somebody else's repository."""
    if (folder / ".git").exists():
        return
    above = next((parent for parent in folder.parents if (parent / ".git").exists()), None)
    if above is not None:
        raise UsageError(
            f"{shown(folder, 300)} lies in the repository {shown(above, 300)}",
            reason="InsideRepository",
            fix="a site has a repository of its own: choose a folder outside; nothing was written",
        )


def _git(folder: Path, answers: Answers) -> Git:
    git = Git(folder)
    if not (folder / ".git").exists():
        git.run("init", "--quiet", f"--initial-branch={answers.branch}")
    if answers.forge != "none" and not git.has_remote():
        git.run("remote", "add", REMOTE, f"{answers.server}/{answers.repository}.git")
    return git


def _first_commit(git: Git, files: dict[str, str]) -> tuple[str, str]:
    """The first commit of a repository that has none; else a word on why there is none."""
    try:
        git.head()
    except RepositoryError:
        pass
    else:
        return "", ""
    paths = [path for path in files if present(git.root, path)]
    git.run("add", "--", *paths)
    done = git.attempt("commit", "--quiet", "-m", FIRST_COMMIT, "--", *paths, config=("user.useConfigOnly=true",))
    if done.code != 0:
        return "", f"not committed yet (git: {without_credentials(done.err, 200)}): git add --all && git commit"
    return git.head(), ""


def _notes(folder: Path, answers: Answers, there: Answers | None) -> Iterator[str]:
    if there is not None and there.forge == "none" and answers.forge != "none":
        yield f"{CONFIGURATION} is left as it is: add spec.forge (type github, repository {answers.repository})"
    if answers.forge != "none" and set(answers.platform or answers.owners) == set(answers.owners):
        yield "the rules have the same owners as the models: name others for the rules in .github/CODEOWNERS"
    signers = text_of(folder / ALLOWED_SIGNERS) or ""
    if answers.signing_key and answers.signing_key not in signers:
        yield f"{ALLOWED_SIGNERS} is left as it is: add the line {MACHINE} {answers.signing_key}"
