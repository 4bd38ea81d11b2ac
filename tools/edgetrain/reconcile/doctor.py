"""Looks at everything that a site needs before anything is submitted; changes nothing."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from edgetrain.core.desired import Desired
from edgetrain.core.errors import Denied, EdgetrainError, ProviderError, RepositoryError, UsageError
from edgetrain.core.kinds import ComputeTarget, Experiment
from edgetrain.core.kinds.configuration import Configuration
from edgetrain.core.observation import Attached, Observation
from edgetrain.core.plan import Operation
from edgetrain.core.planner.attachments import standing
from edgetrain.core.planner.datastores import plan_datastores, references
from edgetrain.core.ports import Check, CheckStatus, DataSource
from edgetrain.core.problem import did_you_mean, shown
from edgetrain.providers.durable import storage_error
from edgetrain.reconcile.doctor_scoring import read_there, scoring_checks
from edgetrain.reconcile.judge import ALLOWED_SIGNERS
from edgetrain.reconcile.observe import look_at_attachments
from edgetrain.reconcile.planning import checked, open_site
from edgetrain.reconcile.remote import connect
from edgetrain.reconcile.report import Event, Report
from edgetrain.reconcile.secrets import secret_of
from edgetrain.reconcile.site import Site
from edgetrain.reconcile.state import State, read_work_tree, secret_file
from edgetrain.reconcile.workers import Workers
from edgetrain.render.doctor import Diagnosis, Part
from edgetrain.repo.command import without_credentials
from edgetrain.repo.git import REMOTE, Git

SIDE_BY_SIDE = 8
SECONDS = 60


def examine(
    root: Path, target: str | None, asked: str | None, report: Report, live: bool = False, quick: bool = False
) -> Diagnosis:
    """Look at a site's parts, and at one of its targets or all. `asked` is the site where that is not clear.
    `live`: afterwards rehearse in the workspace what apply does there, under names of doctor's own. `quick`: only
    at what is looked at in seconds, and without which nothing works.

    Raises InvalidFiles, UsageError, RepositoryError; what a provider says or raises is a check.
    """
    state = checked(read_work_tree(Git.find(root)))
    desired = state.desired
    if target is not None and target not in desired.targets:
        raise UsageError(
            f"no compute target {shown(target)!r}{did_you_mean(target, desired.targets)}",
            fix=f"one of: {', '.join(sorted(desired.targets)) or 'make one: edgetrain new compute NAME'}",
        )
    if target is not None:
        asked = asked or desired.targets[target].site
    site = open_site(state, asked)
    if target is not None and desired.targets[target].site != site.name:
        raise UsageError(
            f"{target} is at site {desired.targets[target].site}, not {site.name}", fix="leave --site out"
        )
    connect(state.git, site)
    targets = [t for n, t in sorted(desired.targets.items()) if t.site == site.name and target in (None, n)]
    looks = [*_first(state, site, report, quick)]
    if not quick:
        looks += [*_common(state, site, report), *_targets(state, site, targets, report)]
    with Workers(SIDE_BY_SIDE, thread_name_prefix="doctor") as pool:
        parts = tuple(pool.map(lambda look: look(), looks))
    if live:
        # Only after all that is looked at without a trace: what fails there says why this would.
        parts += (_part("rehearsal", "workspace", report, lambda: site.workspace.rehearse())(),)  # noqa: PLW0108
    return Diagnosis(site.name, parts)


def _part(kind: str, name: str, report: Report, look: Callable[[], Iterable[Check]]) -> Callable[[], Part]:
    def looked() -> Part:
        report(Event("Examining", f"{kind} {name}".strip()))
        part = Part(kind, name, tuple(guarded(kind, look)))
        bad = sum(check.status is CheckStatus.FAIL for check in part.checks)
        report(Event("Examined", part.title, f"{bad} failed" if bad else "good"))
        return part

    return looked


def guarded(name: str, look: Callable[[], Iterable[Check]]) -> list[Check]:
    """The checks; what raises is one that failed, after those that were told before."""
    found: list[Check] = []

    def failed(message: str, reason: str, fix: str) -> None:
        found.append(Check(name, CheckStatus.FAIL, message, reason, fix))

    try:
        found.extend(look())
    except EdgetrainError as error:
        failed(error.message, error.reason, error.fix)
    except OSError as error:
        told = storage_error(error, "looking at it")
        failed(told.message, told.reason, told.fix)
    except Exception as error:
        # A fault of the provider's is told like any other: the rest of the site is worth knowing.
        what = f"the provider failed in a way that it should not ({type(error).__name__})"
        failed(what, "Unexpected", "report it as a fault of edgetrain")
    return found


def _first(state: State, site: Site, report: Report, quick: bool) -> Iterator[Callable[[], Part]]:
    """What everything else needs."""
    configuration = state.desired.configuration
    yield _part("git", "", report, lambda: git_checks(state.git, configuration))
    if set(configuration.secrets) - {configuration.machine.signing_key}:
        yield _part("secrets", "", report, lambda: secret_checks(configuration))
    if configuration.forge is not None:
        yield _part("forge", "", report, lambda: site.forge.diagnose() if site.forge else ())
    # Opening them may fail, so that is part of the look.
    yield _part("artifacts", "", report, lambda: site.artifacts.diagnose())  # noqa: PLW0108
    for name in sorted(site.settings.datastores) if quick else ():
        look = lambda name=name: site.datastore(name).diagnose([])  # noqa: E731
        yield _part("datastore", name, report, look)


def _common(state: State, site: Site, report: Report) -> Iterator[Callable[[], Part]]:
    desired, configuration = state.desired, state.desired.configuration
    yield _part("workspace", "", report, lambda: site.workspace.diagnose())  # noqa: PLW0108
    told = references(configuration, site.name)
    if told.wanted or any(target.attached and target.site == site.name for target in desired.targets.values()):
        yield _part("attachments", "", report, lambda: _attachments(desired, site))
    if (cloud := site.settings.cloud) is not None and configuration.attaches:
        yield _part("cloud", cloud, report, lambda: site.diagnose_cloud(cloud))
    for name in sorted(configuration.registries):
        repositories = sorted(
            {
                model.image.repository
                for model in desired.models.values()
                if not model.metadata.retired and configuration.registry(model.image.registry) == name
            }
        )
        look = lambda name=name, wanted=repositories: site.registry(name).diagnose(wanted)  # noqa: E731
        yield _part("registry", name, report, look)
    for name in sorted(site.settings.datastores):
        paths = sorted(
            {
                data.path
                for experiment in _experiments(desired, site)
                for data in read_there(desired, experiment)
                if data.datastore == name
            }
        )
        look = lambda name=name, wanted=paths: site.datastore(name).diagnose(wanted)  # noqa: E731
        yield _part("datastore", name, report, look)


def _attachments(desired: Desired, site: Site) -> Iterator[Check]:
    """Whether each target that Azure ML must reach is attached as its manifest says, and each datastore that it is
    told of registered so."""
    seen = look_at_attachments(desired, site)
    if seen is None:
        fix = "name an Azure ML workspace in edgetrain.yaml, or use a target of type ssh"
        yield Check("attached", CheckStatus.FAIL, "the workspace attaches no targets", "NotServed", fix)
        return
    for name in sorted({*seen.wanted, *seen.faults}):
        found = standing(desired.targets[name], Observation(attachments=seen))
        if found.problem is not None:
            yield Check(
                "attached", CheckStatus.FAIL, f"{name}: {found.problem.what}", found.problem.code, found.problem.fix
            )
        elif found.change is not None:
            differs = ", ".join(difference.path for difference in found.change.differences)
            what = f"{name}: {found.message} ({differs})"
            yield Check("attached", CheckStatus.WARN, what, found.change.reason, "edgetrain apply attaches it")
        elif found.waits:
            yield Check(
                "attached", CheckStatus.WARN, f"{name}: {found.message}", found.waits, "look again in a minute"
            )
        else:
            yield Check("attached", CheckStatus.PASS, f"{name} is attached as its manifest says")
    yield from registered(desired, seen)


def registered(desired: Desired, seen: Attached) -> Iterator[Check]:
    """Whether each datastore that the workspace is to know is there as declared, and none of ours beside them."""
    changes, problems = plan_datastores(desired, Observation(attachments=seen))
    for problem in problems:
        yield Check("registered", CheckStatus.FAIL, problem.what, problem.code, problem.fix)
    for change in changes:
        name, differs = change.subject["name"], ", ".join(one.path for one in change.differences)
        if change.operation is Operation.DETACH:
            what, fix = f"datastore {name} is registered, and wanted no more", "edgetrain apply unregisters it"
        else:
            what, fix = (
                f"datastore {name} is not registered as declared ({differs})",
                "edgetrain apply registers it",
            )
        if change.reason == "AttachmentDrifted":
            fix = "edgetrain plan --refresh --out FILE, a review, then edgetrain apply --plan FILE"
        yield Check("registered", CheckStatus.WARN, what, change.reason, fix)
    for wanted in references(desired.configuration, seen.site).wanted.values():
        held = seen.datastores.get(wanted.name)
        if held is not None and held.owner == seen.owner and not wanted.drift(held):
            yield Check("registered", CheckStatus.PASS, f"datastore {wanted.name} is registered as declared")


def _experiments(desired: Desired, site: Site) -> list[Experiment]:
    """The experiments that may run at the site."""
    return [
        experiment
        for _, experiment in sorted(desired.experiments.items())
        if not experiment.metadata.retired
        and any(target.site == site.name for target in desired.targets_for(experiment))
    ]


def _targets(
    state: State, site: Site, targets: Sequence[ComputeTarget], report: Report
) -> Iterator[Callable[[], Part]]:
    for target in targets:
        look = lambda target=target: _target(state, site, target)  # noqa: E731
        yield _part("target", target.metadata.name, report, look)


def _target(state: State, site: Site, target: ComputeTarget) -> list[Check]:
    """The target's own checks, with every data input that its experiments and their evaluations read."""
    desired = state.desired
    mine = [one for one in _experiments(desired, site) if target in desired.targets_for(one)]
    wanted = sorted({(data.datastore, data.path) for one in mine for data in read_there(desired, one)})
    sources: list[DataSource] = []
    found: list[Check] = []
    for store, path in wanted:
        try:
            sources.append(site.datastore(store).source(path))
        except EdgetrainError as error:
            what = f"{store}:{path}: {error.message}"
            found.append(Check("data-source", CheckStatus.FAIL, what, error.reason, error.fix))
    found += scoring_checks(desired, state.recorded, site.state, target, mine)
    return [*site.compute(target).diagnose(sources), *found]


def secret_checks(configuration: Configuration) -> Iterator[Check]:
    """Whether each declared secret is on this machine, and for us alone. One that is not here is a warning: who
    needs it fails by itself, and some are only for other machines. The signing key is git's matter."""
    for name in sorted(set(configuration.secrets) - {configuration.machine.signing_key}):
        try:
            secret_of(configuration, name)
        except Denied as error:
            yield Check("secret", CheckStatus.FAIL, error.message, error.reason, error.fix)
        except ProviderError as error:
            yield Check("secret", CheckStatus.WARN, error.message, error.reason, error.fix)
        else:
            yield Check("secret", CheckStatus.PASS, f"{name} is here")


def git_checks(git: Git, configuration: Configuration) -> Iterator[Check]:
    """Whether main can be read and pushed to, and records be signed so that others believe them."""
    branch = configuration.branch
    tip: str | None = None
    try:
        tip = git.tip(branch)
    except RepositoryError as error:
        yield Check("git-branch", CheckStatus.FAIL, error.message, error.reason, error.fix)
    else:
        yield Check("git-branch", CheckStatus.PASS, f"{branch} can be read")
    if not git.has_remote():
        yield Check("git-push", CheckStatus.PASS, "there is no remote: records are committed here")
    elif tip is not None:
        yield _push(git, branch, tip)
    if git.is_shallow():
        fix = "git fetch --unshallow; in a workflow: fetch-depth: 0"
        yield Check("git-history", CheckStatus.WARN, "the clone is shallow", "Shallow", fix)
    yield from _signing(git, configuration, tip)


def _push(git: Git, branch: str, tip: str) -> Check:
    """Offer the remote what it has: it asks for our credentials and changes nothing."""
    options = ("--dry-run", "--porcelain", "--no-verify", "--end-of-options")
    done = git.attempt_remote("push", *options, REMOTE, f"{tip}:refs/heads/{branch}", timeout=SECONDS)
    if done.code == 0:
        return Check("git-push", CheckStatus.PASS, f"{REMOTE} lets us push (branch protection is seen only then)")
    fix = f"let the machine push to {branch} and edgetrain/*: a deploy key or token with write access"
    return Check("git-push", CheckStatus.FAIL, shown(without_credentials(done.err), 300), "PushRefused", fix)


def _signing(git: Git, configuration: Configuration, tip: str | None) -> Iterator[Check]:
    name = configuration.machine.signing_key
    if name is None:
        fix = "name a key in edgetrain.yaml (spec.machine.signingKey), and list it in .github/allowed_signers"
        yield Check("signing-key", CheckStatus.WARN, "records are not signed", "Unsigned", fix)
        return
    key = secret_file(configuration.secrets, name)
    if key.stat().st_mode & 0o077:
        what = f"the key of secret {name} can be read by others on this machine"
        yield Check("signing-key", CheckStatus.FAIL, what, "KeyNotPrivate", "chmod 600 the key's file")
        return
    program = shutil.which("ssh-keygen")
    if program is None:
        fix = "Install OpenSSH's ssh-keygen (package openssh-client)."
        yield Check("signing-key", CheckStatus.FAIL, "there is no ssh-keygen here", "ProgramMissing", fix)
        return
    command = [program, "-y", "-P", "", "-f", str(key)]
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=SECONDS, check=False)
    public = done.stdout.decode("utf-8", "replace").split()[:2]
    if done.returncode != 0 or len(public) != 2:
        what = f"the key of secret {name} can't be read by ssh-keygen"
        fix = "make one: ssh-keygen -t ed25519 -N '' -f FILE"
        yield Check("signing-key", CheckStatus.FAIL, what, "KeyNotReadable", fix)
        return
    signers = git.show(tip, ALLOWED_SIGNERS) if tip else None
    email = configuration.machine.email
    lines = [line.split() for line in (signers or b"").decode("utf-8", "replace").splitlines()]
    if any(public[1] in words and email in words[0].split(",") for words in lines):
        yield Check("signing-key", CheckStatus.PASS, f"records are signed, and {ALLOWED_SIGNERS} lists the key")
    else:
        what = f"{configuration.branch}'s {ALLOWED_SIGNERS} does not list the key for {email}"
        fix = f"add the line: {email} {' '.join(public)}"
        yield Check("signing-key", CheckStatus.FAIL, what, "SignerMissing", fix)
