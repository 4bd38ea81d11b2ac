"""`make demo`: the main job on real data, from a proposal with a mistake to a rollback and its audit."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from shlex import quote

from rich.console import Console
from rich.markup import escape

sys.path.insert(0, str(Path(__file__).parent))
from left import hospital_names, released_files
from seed import seed

ROOT = Path(__file__).resolve().parents[2]
PEOPLE = {"dana": "Dana Scientist", "ravi": "Ravi Reviewer", "petra": "Petra Platform"}
MODEL = "breast-cancer"
OWN = (MODEL, "digits", "hospital-tests")
RECORDED = ("runs", "versions", "proposals")
EXPERIMENT = f"experiments/{MODEL}/experiment.yaml"
MANIFEST = f"models/{MODEL}/model.yaml"


class Demo:
    """A scratch site: a bare remote, a clone where people work, a data folder, and the site's state."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.remote = folder / "remote.git"
        self.clone = folder / "clone"
        self.data = folder / "site" / "data"
        self.state = folder / "site" / "state"
        self.console = Console(highlight=False, soft_wrap=True)
        self.step = 0

    def title(self, text: str) -> None:
        """A numbered step of the story."""
        self.step += 1
        self.console.print(f"\n[bold cyan]{self.step}. {escape(text)}[/]")

    def say(self, text: str) -> None:
        """A sentence of the story."""
        self.console.print(f"   {escape(text)}")

    def git(self, *arguments: str, who: str = "dana") -> str:
        """Run git in the clone as one of the people."""
        return self._run(["git", *arguments], who, show=False)

    def edgetrain(self, *arguments: str, expect: int = 0) -> str:
        """Run a verb as the reader would, show it, and insist on its exit code."""
        self.console.print(f"   [green]$ edgetrain {escape(' '.join(arguments))}[/]")
        return self._run([sys.executable, "-m", "edgetrain", *arguments], "petra", show=True, expect=expect)

    def _run(self, command: list[str], who: str, *, show: bool, expect: int = 0) -> str:
        name = PEOPLE[who]
        identity = {
            f"GIT_{role}_{key}": value
            for role in ("AUTHOR", "COMMITTER")
            for key, value in (("NAME", name), ("EMAIL", f"{who}@example.org"))
        }
        environment = {**os.environ, **identity, "GIT_CONFIG_GLOBAL": os.devnull, "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(
            command,
            cwd=self.clone,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        lines = []
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if show:
                self.console.print(f"     [dim]|[/] {escape(line.rstrip())}")
        code = process.wait()
        if code != expect:
            if not show:
                self.console.print(escape("".join(lines)))
            raise SystemExit(f"the demo expected exit code {expect} of {' '.join(command[:4])} and got {code}")
        return "".join(lines)

    def edit(self, path: str, replacements: Mapping[str, str]) -> None:
        """Edit a file as a person would; every replacement must find its place."""
        file = self.clone / path
        text = file.read_text(encoding="utf-8")
        for old, new in replacements.items():
            if text.count(old) != 1:
                raise SystemExit(f"the demo's edit of {path} finds {old!r} {text.count(old)} times")
            text = text.replace(old, new)
        file.write_text(text, encoding="utf-8")

    def branch(self, name: str) -> None:
        """A fresh branch from main's tip."""
        self.git("fetch", "--quiet", "origin")
        self.git("checkout", "--quiet", "-B", name, "origin/main")

    def commit(self, message: str, who: str = "dana") -> None:
        """Commit everything on the branch."""
        self.git("add", "--all", who=who)
        self.git("commit", "--quiet", "-m", message, who=who)

    def merge(self, branch: str, message: str) -> None:
        """What the forge does when Ravi approves: a merge commit on main that names its approver."""
        self.git("fetch", "--quiet", "origin")
        self.git("checkout", "--quiet", "-B", "main", "origin/main")
        body = f"{message}\n\nApproved-by: {PEOPLE['ravi']} <ravi@example.org>"
        self.git("merge", "--quiet", "--no-ff", "-m", body, branch, who="ravi")
        self.git("push", "--quiet", "origin", "main", who="ravi")
        self.say(f"Ravi approves and merges {branch}.")


def prepare(demo: Demo) -> None:
    """Seed the site, make the remote and the clone, and configure the site."""
    demo.title("A site with private data, and a repository that steers it")
    seed(demo.data)
    files = [file for file in demo.data.rglob("*") if file.is_file()]
    demo.say(f"{len(files)} files of real data lie in {demo.data}; they never leave it.")
    clone(demo)
    key = make_key(demo)
    demo.edit(
        "edgetrain.yaml",
        {
            "~/.local/state/edgetrain/demo-site": json.dumps(str(demo.state)),
            "~/.local/share/edgetrain/site-data": json.dumps(str(demo.data)),
            **sandbox_setting(demo),
            **key,
        },
    )
    demo.commit("Start a site repository", who="petra")
    demo.git("push", "--quiet", "origin", "main", who="petra")
    demo.say(f"The clone is {demo.clone}, its remote {demo.remote}.")


def clone(demo: Demo) -> None:
    """A bare remote and a clone of this repository; of its files alone if its history is not at hand, or tells of
    runs already: their models lie in another state."""
    quietly("git", "init", "--quiet", "--bare", "-b", "main", str(demo.remote))
    asked = subprocess.run(
        ["git", "rev-parse", "--is-shallow-repository"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if asked.stdout.strip() == "false" and not any(recorded(ROOT)):
        quietly("git", "clone", "--quiet", "--no-local", str(ROOT), str(demo.clone))
        demo.git("checkout", "--quiet", "-B", "main", "HEAD")
        demo.git("remote", "set-url", "origin", str(demo.remote))
    else:
        ignore = shutil.ignore_patterns(".git", ".venv", ".edgetrain", "__pycache__", ".*_cache", ".hypothesis")
        shutil.copytree(ROOT, demo.clone, ignore=ignore)
        for folder in [*recorded(demo.clone), *others(demo.clone)]:
            shutil.rmtree(folder)
        quietly("git", "init", "--quiet", "-b", "main", str(demo.clone))
        demo.git("remote", "add", "origin", str(demo.remote))


def recorded(root: Path) -> list[Path]:
    """The folders of records and versions."""
    return [
        folder for name in RECORDED for top in ("experiments", "models") for folder in root.glob(f"{top}/*/{name}")
    ]


def others(root: Path) -> list[Path]:
    """The experiments and models that somebody added to this repository's own."""
    return [
        folder for top in ("experiments", "models") for folder in root.glob(f"{top}/*") if folder.name not in OWN
    ]


def quietly(*command: str) -> None:
    """Run it; what it says is shown only if it fails."""
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def make_key(demo: Demo) -> dict[str, str]:
    """A machine key, so that every record is signed; without ssh-keygen records stay unsigned."""
    if shutil.which("ssh-keygen") is None:
        demo.say("There is no ssh-keygen here, so records will not be signed.")
        return {}
    key = demo.folder / "site" / "machine-key"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "edgetrain", "-f", str(key)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    public = " ".join(key.with_suffix(".pub").read_text().split()[:2])
    allowed = demo.clone / ".github" / "allowed_signers"
    allowed.parent.mkdir(exist_ok=True)
    allowed.write_text(f'edgetrain@example.org namespaces="git" {public}\n')
    demo.say("The site's machine key signs every record; main lists it in .github/allowed_signers.")
    return {
        "  secrets: {}\n": "  secrets:\n    machine-key: {source: {file: " + json.dumps(str(key)) + "}}\n"
        "  machine: {name: edgetrain, email: edgetrain@example.org, signingKey: {secret: machine-key}}\n",
    }


def sandbox_setting(demo: Demo) -> dict[str, str]:
    """Whether this machine can keep a script from network and host; asked of the provider itself."""
    from edgetrain.providers.local.provider import LocalCompute

    status = LocalCompute(name="probe", state=demo.state, allow_unsandboxed=False, capacity={}).observe()
    if status.ready:
        demo.say("This machine has a working sandbox (bubblewrap): training has no network and sees no host.")
        return {}
    demo.say(f"THIS MACHINE HAS NO WORKING SANDBOX: {status.message}")
    demo.say("The demo goes on with allowUnsandboxed: true. Training is NOT kept from the network here, and")
    demo.say("every plan, record and audit will say `advisory` instead of `enforced`.")
    return {"allowUnsandboxed: false": "allowUnsandboxed: true"}


def first_version(demo: Demo) -> None:
    """A proposal with a mistake, mended, merged, trained, released."""
    demo.title("Dana proposes an experiment on a branch, with a mistake in it")
    demo.branch("less-regularisation")
    demo.edit(EXPERIMENT, {"compute: runner": "compute: runer", **FIRST})
    demo.commit("Regularise less")
    demo.edgetrain("validate", expect=1)
    demo.title("The message says what to mend; the plan says what the merge will do")
    demo.edit(EXPERIMENT, {"compute: runer": "compute: runner"})
    demo.commit("Name the target rightly")
    demo.edgetrain("validate")
    demo.edgetrain("plan")
    demo.title("Merge: the site's runner reconciles main")
    demo.merge("less-regularisation", "Merge: regularise less")
    demo.say("(The first run also installs the pinned packages, once for all three experiments.)")
    demo.say("The model is then evaluated on tumours that no training reads; the gates look at nothing else.")
    demo.edgetrain("apply")
    demo.title("The candidate is a branch with a model version; people decide")
    show_proposal(demo, 1)
    merge_version(demo, 1, production=1)
    demo.edgetrain("apply")
    demo.edgetrain("models")


def show_proposal(demo: Demo, number: int) -> None:
    """The head of the proposed manifest."""
    demo.git("fetch", "--quiet", "origin")
    branch = f"origin/edgetrain/proposal/{MODEL}-{number}"
    text = demo.git("show", f"{branch}:models/{MODEL}/versions/{number}.yaml")
    for line in text.splitlines()[:16]:
        demo.console.print(f"     [dim]|[/] {escape(line)}")
    demo.say(f"... {len(text.splitlines())} lines in {branch}")


def merge_version(demo: Demo, number: int, production: int | None = None) -> None:
    """Merge the proposal; the channel may move in the same pull request."""
    name = f"release-{number}"
    demo.git("fetch", "--quiet", "origin")
    demo.git("checkout", "--quiet", "-B", name, f"origin/edgetrain/proposal/{MODEL}-{number}")
    if production is not None:
        point(demo, production)
    demo.edgetrain("validate")
    demo.merge(name, f"Merge {MODEL}@{number}")
    demo.git("push", "--quiet", "origin", "--delete", f"edgetrain/proposal/{MODEL}-{number}", who="ravi")


def point(demo: Demo, number: int) -> None:
    """Edit the channel in the model's manifest."""
    text = (demo.clone / MANIFEST).read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.strip().startswith("channels:"))
    demo.edit(MANIFEST, {line: f"  channels: {{production: {number}}}"})
    demo.commit(f"Point production to {MODEL}@{number}")


def not_better_then_better(demo: Demo) -> None:
    """One experiment that the gates hold back, and one that passes."""
    demo.title("An experiment that is not better: the gates hold it back, and nothing is proposed")
    demo.branch("too-much-regularisation")
    demo.edit(EXPERIMENT, WORSE)
    demo.commit("Regularise far more")
    demo.merge("too-much-regularisation", "Merge: regularise far more")
    demo.edgetrain("apply")
    demo.title("A better one becomes version 2")
    demo.branch("all-measurements")
    demo.edit(EXPERIMENT, BETTER)
    demo.commit("Train on all measurements")
    demo.edgetrain("plan")
    demo.merge("all-measurements", "Merge: train on all measurements")
    demo.edgetrain("apply")
    demo.edgetrain("compare", f"{MODEL}@1", f"{MODEL}-{_run_of(demo)}")
    merge_version(demo, 2)
    demo.edgetrain("apply")


def _run_of(demo: Demo) -> str:
    """The identity and attempt of the proposed version 2, from its manifest's file."""
    demo.git("fetch", "--quiet", "origin")
    listed = json.loads(
        demo._run([sys.executable, "-m", "edgetrain", "runs", "--format", "json"], "petra", show=False)
    )
    runs = listed["runs"] if isinstance(listed, dict) else listed
    newest = [run for run in runs if run["experiment"] == MODEL and run["outcome"] == "candidate"][-1]
    return str(newest["id"]).removeprefix(f"{MODEL}-")


def promote_and_roll_back(demo: Demo) -> None:
    """Production moves to version 2, and back by a revert."""
    demo.title("Production moves to version 2 by a one-line pull request")
    demo.branch("promote-2")
    point(demo, 2)
    demo.edgetrain("plan")
    demo.merge("promote-2", f"Merge: production to {MODEL}@2")
    demo.edgetrain("apply")
    demo.title("Second thoughts: rollback is a revert")
    demo.branch("rollback")
    merged = demo.git("log", "-1", "--format=%H", "--merges", "--grep", "production to", "origin/main").strip()
    demo.git("revert", "--no-edit", "-m", "1", merged)
    demo.merge("rollback", f"Merge: production back to {MODEL}@1")
    demo.edgetrain("apply")


def audit(demo: Demo) -> None:
    """The story from git alone; and proof that no name of the hospital's data left."""
    demo.title("Audit: the whole story of a version, from git alone")
    demo.edgetrain("audit", f"{MODEL}@2")
    demo.edgetrain("log", MODEL)
    demo.title("What left the site?")
    names = hospital_names(demo.data)
    demo.git("fetch", "--quiet", "origin")
    left = released_files(demo.clone, demo.state, demo.folder / "left")
    found = [file for file in left if any(name in file.read_bytes() for name in names)]
    demo.say(
        f"{len(names)} patients' names of the hospital's table were searched in {len(left)} files that left the"
    )
    demo.say(f"site (git's records and proposals, images): {len(found)} found.")
    if found:
        raise SystemExit("a patient's name left the site")


def closing(demo: Demo, seconds: float) -> None:
    """What was made, where to look, what to try."""
    records = [
        path
        for path in demo.git("ls-tree", "-r", "--name-only", "origin/main").split()
        if path.endswith(".json") and path.startswith(("experiments/", "models/"))
    ]
    demo.title(f"Done in {seconds:.0f} s")
    demo.say(f"Made: {len(records)} records on main, two released versions of {MODEL}, their images and tags.")
    demo.say("Look:")
    demo.say(f"  records and versions   {demo.clone}   (git log --show-signature, models/, experiments/*/runs/)")
    images = demo.state / "images"
    tagged = quote(f"oci:{images}/{MODEL}:production")
    demo.say(f"  images (OCI layout)    {images}   (skopeo inspect {tagged})")
    demo.say(f"  runs and models        {demo.state / 'mlflow.db'}   (mlflow ui --backend-store-uri sqlite:///...)")
    demo.say(f"  logs of the runs       {demo.state / 'logs'}")
    demo.say("Try:")
    demo.say(f'  cd {quote(str(demo.clone))} && export PATH={quote(f"{ROOT}/.venv/bin")}:"$PATH"')
    demo.say("  edgetrain run digits                      # a try-out under the same contract; git stays untouched")
    demo.say(f"  edgetrain audit {MODEL}@1 --format markdown")
    demo.say("  edgetrain new experiment my-first         # then: edgetrain validate && edgetrain plan")
    demo.say(f"Throw it away:  rm -rf {quote(str(demo.folder))}")


# The parameters' lines in the experiment's manifest, as the story edits them.
FIRST = {"c: 1.0": "c: 2.0"}
WORSE = {"c: 2.0": "c: 0.0001"}
BETTER = {"features: mean": "features: all", "c: 0.0001": "c: 1.0"}


def main() -> None:
    """Run the demo in a scratch folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="an empty folder to work in (default: a new temporary one)")
    folder = parser.parse_args().folder or Path(tempfile.mkdtemp(prefix="edgetrain-demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    demo = Demo(folder.resolve())
    demo.console.print(f"[bold]edgetrain demo[/] in {escape(str(demo.folder))}")
    started = time.monotonic()
    prepare(demo)
    first_version(demo)
    not_better_then_better(demo)
    promote_and_roll_back(demo)
    audit(demo)
    closing(demo, time.monotonic() - started)


if __name__ == "__main__":
    main()
