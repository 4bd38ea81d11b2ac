"""Main itself is judged: real git, real keys, and what people push to it by hand."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from edgetrain.core.problem import Severity
from edgetrain.reconcile import judge as judging
from edgetrain.reconcile.judge import ALLOWED_SIGNERS, Judgement, judge
from edgetrain.reconcile.validate import validate
from edgetrain.repo.ledger import Ledger, Machine
from tests.apply.site import CONFIGURATION
from tests.repo.conftest import Checkout

pytestmark = pytest.mark.needs("git>=2.34", "ssh-keygen")

EMAIL = "edgetrain@localhost"
EVE = ("Eve", "eve@example.org")
RUN = "experiments/mean/runs/0123456789ab-{}.json"


class Place(Checkout):
    """A main with a machine that writes records, signed if it has a key."""

    key: Path | None = None

    def record(self, number: int, text: str = "{}") -> str:
        """The machine writes a record."""
        ledger = Ledger(self.git, "main", Machine("edgetrain", EMAIL, self.key))
        return ledger.commit({RUN.format(number): text.encode()}, "Record")

    def by_hand(self, number: int, text: str = "{}", person: tuple[str, str] = EVE) -> str:
        """A person writes one."""
        return self.commit("By hand", person=person, **{RUN.format(number): text})

    def sign(self) -> None:
        """Give the machine a key, which main lists from now on."""
        self.key = new_key(self.root.parent / "key")
        public = self.key.with_suffix(".pub").read_text("utf-8")
        self.commit("List signers", **{ALLOWED_SIGNERS: f'{EMAIL} namespaces="git" {public}'})

    def judged(self, tip: str = "main") -> list[tuple[str, str]]:
        """Codes and paths of what is wrong."""
        return [(wrong.code.id, wrong.path) for wrong in self.judgement(tip).wrong]

    def judgement(self, tip: str = "main") -> Judgement:
        sha = self.git.resolve(tip)
        return judge(self.git, sha, self.git.show(sha, ALLOWED_SIGNERS), EMAIL)

    def remembered(self) -> Path:
        return self.git.common_dir / "edgetrain-judged.json"


def new_key(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


@pytest.fixture
def main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "none"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    root = tmp_path / "check out"
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main", str(root)], check=True)
    place = Place(root)
    settings = CONFIGURATION.replace("STATE", '"/nowhere/state"').replace("DATA", '"/nowhere/data"')
    place.commit("Start", **{"edgetrain.yaml": settings})
    return place


@pytest.fixture(params=["signed", "unsigned"])
def either(request: pytest.FixtureRequest, main: Place) -> Place:
    """Main in both regimes."""
    if request.param == "signed":
        main.sign()
    return main


def test_the_machines_commits_pass_and_a_persons_do_not_until_undone(either: Place) -> None:
    either.record(1)
    either.commit("Work", a="1")
    either.record(2)
    assert either.judged() == []
    forged = either.by_hand(3)
    either.record(4)
    assert either.judged() == [("H404", RUN.format(3))]
    either.sh("revert", "--no-edit", forged, person=EVE)
    assert either.judged() == []
    either.record(3, '{"by":"the machine"}')
    assert either.judged() == [], "the name is free again"


def test_a_genuine_record_can_be_put_back_by_anybody(either: Place) -> None:
    either.record(1, '{"a":1}')
    assert either.judged() == []
    (either.root / RUN.format(1)).unlink()
    gone = either.commit("Remove", person=EVE)
    assert either.judged() == [("H402", RUN.format(1))]
    either.by_hand(1, '{"a":2}')
    assert either.judged() == [("H402", RUN.format(1))]
    either.sh("checkout", "--quiet", f"{gone}~1", "--", RUN.format(1))
    either.commit("Put it back", person=EVE)
    assert either.judged() == []


def test_a_merge_that_slips_a_record_in_is_found(main: Place) -> None:
    main.sign()
    main.sh("checkout", "--quiet", "-b", "side")
    main.commit("Side", b="1")
    main.sh("checkout", "--quiet", "main")
    main.record(1)
    main.sh("merge", "--quiet", "--no-ff", "--no-commit", "side")
    merged = main.by_hand(2)
    assert main.judged() == [("H404", RUN.format(2))]
    main.sh("revert", "--no-edit", "-m", "1", merged)
    assert main.judged() == []


def test_a_strangers_key_and_a_machine_that_writes_more_than_records(main: Place) -> None:
    main.sign()
    listed = main.key
    main.key = new_key(main.root.parent / "other")
    main.record(1)
    main.key = listed
    ledger = Ledger(main.git, "main", Machine("edgetrain", EMAIL, main.key))
    ledger.commit({RUN.format(2): b"{}", "notes.txt": b"x"}, "Two things")
    ledger.commit({RUN.format(3): b"{}", "models/m/versions/1.yaml": b"x"}, "Release by itself")
    assert main.judged() == [("H404", RUN.format(1)), ("H405", RUN.format(2)), ("H405", RUN.format(3))]


def test_a_version_may_lie_beside_a_record_where_the_model_says_automatic(main: Place) -> None:
    model = (
        "apiVersion: edgetrain/v1\nkind: Model\nmetadata: {name: m, owners: ['@a/b']}\nspec:\n"
        "  card: {intendedPurpose: T., riskClass: low}\n  gates: [{metric: s, goal: maximize, min: 0}]\n"
        "  release: automatic\n  image: {repository: m}\n  channels: {}\n"
    )
    main.commit("Model", **{"models/m/model.yaml": model})
    ledger = Ledger(main.git, "main", Machine("edgetrain", EMAIL))
    ledger.commit({RUN.format(1): b"{}", "models/m/versions/1.yaml": b"x"}, "Release by itself")
    assert main.judged() == []
    main.commit("Review from now on", **{"models/m/model.yaml": model.replace("automatic", "review")})
    main.remembered().unlink()
    assert main.judged() == [], "it was right when it was written"


def test_a_machine_that_was_renamed_is_still_known(main: Place) -> None:
    Ledger(main.git, "main", Machine("old", "old@example.org")).commit({RUN.format(1): b"{}"}, "Record")
    assert main.judged() == [("H404", RUN.format(1))]
    settings = (main.root / "edgetrain.yaml").read_text("utf-8")
    main.commit("Old", **{"edgetrain.yaml": settings + "  machine: {name: old, email: old@example.org}\n"})
    main.commit("New", **{"edgetrain.yaml": settings})
    assert main.judged() == []


# --- since when signatures count ---------------------------------------------------------------------


def test_what_was_there_when_signers_were_listed_is_taken_as_it_was(main: Place) -> None:
    main.record(1)
    main.by_hand(2)
    main.sh("checkout", "--quiet", "-b", "list")
    main.sign()
    main.sh("checkout", "--quiet", "main")
    key, main.key = main.key, None
    main.record(3)  # before the merge, while main lists nobody
    main.sh("merge", "--quiet", "--no-ff", "--message", "List signers", "list")
    assert main.judged() == []
    main.record(4)
    main.key = key
    main.record(5)
    assert main.judged() == [("H404", RUN.format(4))]


def test_listing_the_signers_again_vouches_for_nothing(main: Place) -> None:
    main.sign()
    main.record(1)
    signers = (main.root / ALLOWED_SIGNERS).read_text("utf-8")
    (main.root / ALLOWED_SIGNERS).unlink()
    main.commit("List nobody")
    main.by_hand(2)
    main.commit("List them again", **{ALLOWED_SIGNERS: signers})
    assert main.judged() == [("H404", RUN.format(2))]


def test_a_merge_with_its_sides_swapped_vouches_for_nothing(main: Place) -> None:
    first = main.git.head()
    main.sign()
    main.record(1)
    main.sh("checkout", "--quiet", "-b", "swapped", first)
    main.by_hand(2, person=("edgetrain", EMAIL))
    main.sh("merge", "--quiet", "--no-ff", "--message", "Merge main", "main")
    assert main.judged("swapped") == [("H404", RUN.format(2))]


# --- what is remembered ------------------------------------------------------------------------------


def test_only_new_commits_are_looked_at(main: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    main.sign()
    main.record(1)
    main.record(2)
    assert main.judged() == []
    looked: list[int] = []
    real = judging.signatures
    monkeypatch.setattr(
        judging, "signatures", lambda git, shas, signers: looked.append(len(shas)) or real(git, shas, signers)
    )
    assert main.judged() == []
    assert looked == [], "the same tip"
    main.record(3)
    assert main.judged() == []
    forged = main.by_hand(4)
    assert main.judged() == [("H404", RUN.format(4))]
    assert main.judged() == [("H404", RUN.format(4))], "what is wrong is never remembered as good"
    assert looked == [1, 1, 1]
    main.sh("revert", "--no-edit", forged)
    assert main.judged() == []
    signers = (main.root / ALLOWED_SIGNERS).read_text("utf-8")
    main.commit("A comment", **{ALLOWED_SIGNERS: "# keys\n" + signers})
    assert main.judged() == []
    assert looked[-1] == 5, "other signers: all again"
    main.sh("reset", "--quiet", "--hard", "HEAD~2")
    assert main.judged() == [("H404", RUN.format(4))], "the remembered tip is no ancestor"


@pytest.mark.parametrize("junk", ["", "[]", "{", '{"rule": 1}', '{"tip": "--all", "rule": "x"}'])
def test_a_broken_memory_is_as_good_as_none(main: Place, junk: str) -> None:
    main.by_hand(1)
    main.remembered().write_text(junk, "utf-8")
    assert main.judged() == [("H404", RUN.format(1))]


# --- what cannot be told -----------------------------------------------------------------------------


def cut(main: Place, depth: int) -> Place:
    target = main.root.parent / f"cut {depth}"
    depth_ = f"--depth={depth}"
    subprocess.run(["git", "clone", "--quiet", depth_, main.root.as_uri(), str(target)], check=True)
    return Place(target)


def test_a_shallow_clone_judges_what_it_has_and_says_so(main: Place) -> None:
    main.sign()
    main.by_hand(1)
    main.record(2)
    main.record(3)
    shallow = cut(main, 2)
    found = shallow.judgement()
    assert found.wrong == ()
    assert ["shallow" in warning.what for warning in found.warnings] == [True]
    assert not shallow.remembered().exists()
    main.by_hand(4)
    assert cut(main, 3).judged() == [("H404", RUN.format(4))]


def test_without_ssh_keygen_signatures_cannot_be_told(main: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    main.sign()
    main.record(1)
    real = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, **more: None if name == "ssh-keygen" else real(name, **more))
    assert main.judged() == []
    assert [p.severity for p in validate(main.root) if p.code == "H406"] == [Severity.WARNING]
    required = validate(main.root, require_history=True)
    assert [p.severity for p in required if p.code == "H406"] == [Severity.PROBLEM]
    main.commit("Both", **{RUN.format(2): "{}", "notes.txt": "x"})
    assert main.judged() == [("H405", RUN.format(2))]


# --- validate ----------------------------------------------------------------------------------------


def history_codes(main: Place, *, required: bool = False) -> list[str]:
    return [p.code for p in validate(main.root, require_history=required) if p.code.startswith("H")]


def test_validate_judges_main_where_it_is_checked_out_or_history_is_required(either: Place) -> None:
    either.record(1)
    assert history_codes(either) == []
    forged = either.by_hand(2)
    assert history_codes(either) == ["H404"]
    either.sh("checkout", "--quiet", "-b", "feature")
    either.commit("Work", a="1")
    assert history_codes(either) == [], "a branch is not to blame for main"
    assert history_codes(either, required=True) == ["H404"]
    # The way out is open: a branch that mends main is no branch that touches records.
    either.sh("revert", "--no-edit", forged, person=EVE)
    assert history_codes(either, required=True) == []
    (either.root / RUN.format(1)).unlink()
    either.commit("And removes a genuine one", person=EVE)
    assert "H402" in history_codes(either)


def test_a_branch_may_put_a_record_back(main: Place) -> None:
    main.record(1, '{"a":1}')
    (main.root / RUN.format(1)).unlink()
    gone = main.commit("Remove")
    main.sh("checkout", "--quiet", "-b", "mend")
    main.by_hand(1, '{"a":2}')
    assert "H404" in history_codes(main)
    main.sh("reset", "--quiet", "--hard", gone)
    main.sh("revert", "--no-edit", gone)
    assert history_codes(main, required=True) == []
