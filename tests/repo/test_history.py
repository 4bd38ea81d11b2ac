"""history.py: who added, changed, proposed and approved what; the writer rule's facts; shallow clones."""

from __future__ import annotations

import subprocess

import pytest

from edgetrain.repo.history import Additions, changed_since, last_change, provenance, versions_of
from edgetrain.repo.ledger import Ledger, Machine
from edgetrain.repo.record_history import record_commits
from edgetrain.repo.tree import CommitTree
from edgetrain.repo.work_tree import WorkTree

pytestmark = pytest.mark.needs("git>=2.34")

BOT = ("edgetrain", "edgetrain@st-anna.example")
BO = ("Bo", "bo@example.org")
RUN = "experiments/x/runs/0123456789ab-{}.json"
RUNS = ["experiments/*/runs/*.json"]


def merge(checkout, branch, message="merge") -> str:
    checkout.sh("merge", "--quiet", "--no-ff", "--message", message, branch)
    return checkout.git.head()


def added(git, tip, patterns):
    with Additions(git, tip, patterns) as additions:
        return list(additions.by_path.values())


# --- added -------------------------------------------------------------------------------------------


def test_additions_in_mains_order(make):
    checkout = make()
    one = checkout.commit("one", **{RUN.format(1): "1"})
    checkout.sh("checkout", "--quiet", "-b", "side")
    checkout.commit("on the side", **{RUN.format(2): "2", RUN.format(3): "3"})
    checkout.sh("checkout", "--quiet", "main")
    four = checkout.commit("four", **{RUN.format(4): "4"})
    merged = merge(checkout, "side")
    (checkout.root / RUN.format(1)).unlink()
    checkout.commit("removed")
    checkout.commit("again, and a change", **{RUN.format(1): "1", RUN.format(4): "changed"})
    found = added(checkout.git, "main", RUNS)
    assert [(a.path, a.commit, a.ordinal) for a in found] == [
        (RUN.format(1), one, 0),
        (RUN.format(4), four, 1),
        (RUN.format(2), merged, 2),
        (RUN.format(3), merged, 2),
    ]
    assert all(a.certain and a.time.endswith("Z") for a in found)


def test_additions_match_within_a_folder(make):
    checkout = make()
    files = ["experiments/a b/runs/1.json", "experiments/x/y/runs/1.json", "models/m/versions/1.yaml", "ü/1.json"]
    checkout.commit("all", **dict.fromkeys(files, "x"))
    assert [a.path for a in added(checkout.git, "main", RUNS)] == [files[0]]
    assert [a.path for a in added(checkout.git, "main", ["models/*/versions/*.yaml", "ü/*"])] == files[2:]
    assert added(checkout.git, "main", ["absent/*"]) == []


def test_additions_in_a_shallow_clone_are_uncertain_at_its_edge(make, remote):
    full = make("full", remote)
    full.commit("one", **{RUN.format(1): "1"})
    full.commit("two", **{RUN.format(2): "2"})
    three = full.commit("three", **{RUN.format(3): "3"})
    full.sh("push", "--quiet", "origin", "main")
    cut = make("cut", remote, "--depth=2")
    found = {a.path: a for a in added(cut.git, "main", RUNS)}
    assert found[RUN.format(3)].commit == three and found[RUN.format(3)].certain
    assert not found[RUN.format(1)].certain and not found[RUN.format(2)].certain


# --- last change -------------------------------------------------------------------------------------


def test_last_change_without_the_runs(make):
    checkout = make()
    checkout.commit("code", **{"experiments/x/train.py": "1", "experiments/xy/train.py": "1"})
    checkout.sh("checkout", "--quiet", "-b", "side")
    checkout.commit("code", person=BO, **{"experiments/x/train.py": "2"})
    checkout.sh("checkout", "--quiet", "main")
    merged = merge(checkout, "side")
    checkout.commit("record", **{RUN.format(1): "1"})
    checkout.commit("other", **{"experiments/xy/train.py": "2", "experiments/x*": "odd"})
    found = last_change(checkout.git, "main", "experiments/x", ["runs/"])
    assert (found.commit, found.certain) == (merged, True)
    assert last_change(checkout.git, "main", "experiments/x").commit != merged
    assert last_change(checkout.git, "main", "experiments/nothing") is None


def test_last_change_at_the_edge_of_a_shallow_clone(make, remote):
    full = make("full", remote)
    full.commit("code", **{"experiments/x/train.py": "1"})
    full.commit("other")
    full.sh("push", "--quiet", "origin", "main")
    cut = make("cut", remote, "--depth=1")
    assert last_change(cut.git, "main", "experiments/x").certain is False


# --- provenance --------------------------------------------------------------------------------------


def test_provenance_of_a_merge(make):
    checkout = make()
    checkout.sh("checkout", "--quiet", "-b", "side")
    checkout.commit("early", a="1")
    checkout.commit("late\n\nApproved-by: Cy <cy@example.org>", person=BO, a="2")
    checkout.commit("by the machine", person=BOT, b="3")
    checkout.sh("checkout", "--quiet", "main")
    checkout.commit("meanwhile", person=("Eve", "eve@example.org"), c="1")
    checkout.sh("checkout", "--quiet", "side")
    merge(checkout, "main", "update from main\n\nApproved-by: Cy <cy@example.org>")
    checkout.sh("checkout", "--quiet", "main")
    sha = merge(checkout, "side", "Merge pull request #12 from x/side\n\nApproved-by: Di <di@example.org>")
    found = provenance(checkout.git, sha, {BOT[1]})
    assert found.merge_commit == sha
    assert found.proposer == "Bo <bo@example.org>"
    assert found.approvers == ("Di <di@example.org>", "Cy <cy@example.org>")
    assert found.pull_request == "#12" and found.certain
    assert found.time == checkout.git.commit_info(sha).committer.time
    assert provenance(checkout.git, sha).proposer == "edgetrain <edgetrain@st-anna.example>"


def test_provenance_of_the_machines_own_proposal(make):
    checkout = make()
    checkout.sh("checkout", "--quiet", "-b", "side")
    checkout.commit("Propose", person=BOT, a="1")
    checkout.sh("checkout", "--quiet", "main")
    found = provenance(checkout.git, merge(checkout, "side"), {BOT[1]})
    assert found.proposer == "edgetrain <edgetrain@st-anna.example>"
    assert found.approvers == () and found.pull_request is None


def test_what_a_machines_commit_says_approves_nothing_else(make):
    """A proposal names who approved its run: they did not approve the version."""
    checkout = make()
    checkout.sh("checkout", "--quiet", "-b", "side")
    checkout.commit("Propose\n\nRun: mean-1\nPull-Request: #3\nApproved-by: Cy <cy@example.org>", person=BOT, a="1")
    checkout.sh("checkout", "--quiet", "main")
    found = provenance(checkout.git, merge(checkout, "side"), {BOT[1]})
    assert found.approvers == () and found.pull_request is None
    alone = checkout.commit("Release\n\nApproved-by: Cy <cy@example.org>", person=BOT, b="1")
    assert provenance(checkout.git, alone, {BOT[1]}).approvers == ()


def test_where_a_forge_knows_trailers_of_people_count_for_nothing(make):
    checkout = make()
    sha = checkout.commit("x (#31)\n\nPull-Request: #7\nApproved-by: Cy <cy@example.org>")
    found = provenance(checkout.git, sha, trailers=False)
    assert found.approvers == () and found.pull_request == "#31"


def test_provenance_of_a_plain_or_squashed_commit(make):
    checkout = make()
    sha = checkout.commit("Train longer (#31)\n\nApproved-by: Cy", person=BO)
    found = provenance(checkout.git, sha)
    assert (found.proposer, found.approvers, found.pull_request) == ("Bo <bo@example.org>", ("Cy",), "#31")
    sha = checkout.commit("x (#31)\n\nPull-Request: https://forge.example/pull/7")
    assert provenance(checkout.git, sha).pull_request == "https://forge.example/pull/7"


def test_provenance_where_the_merged_commits_are_cut_off(make, remote):
    full = make("full", remote)
    full.sh("checkout", "--quiet", "-b", "side")
    full.commit("side", person=BO, a="1")
    full.sh("checkout", "--quiet", "main")
    sha = merge(full, "side")
    assert provenance(full.git, sha).certain
    full.sh("push", "--quiet", "origin", "main")
    for depth in (1, 2):
        cut = make(f"cut {depth}", remote, f"--depth={depth}")
        assert not provenance(cut.git, sha).certain


# --- versions of a file ------------------------------------------------------------------------------


def test_versions_of_a_file(make):
    checkout = make()
    path = "models/m m/model.yaml"
    one = checkout.commit("one", **{path: "1", "models/m m/model.yaml.bak": "x"})
    checkout.sh("checkout", "--quiet", "-b", "side")
    checkout.commit("draft", **{path: "draft"})
    checkout.commit("two", **{path: "2"})
    checkout.sh("checkout", "--quiet", "main")
    merged = merge(checkout, "side")
    (checkout.root / path).unlink()
    gone = checkout.commit("gone", person=BO)
    (checkout.root / path).symlink_to("elsewhere")
    link = checkout.commit("link")
    (checkout.root / path).unlink()
    large = checkout.commit("large", **{path: "x" * 100})
    found = versions_of(checkout.git, "main", path, limit=50)
    assert [(v.commit, v.data) for v in found] == [
        (one, b"1"),
        (merged, b"2"),
        (gone, None),
        (link, None),
        (large, None),
    ]
    assert str(found[2].author) == "Bo <bo@example.org>"
    checkout.sh("config", "log.follow", "true")
    assert versions_of(checkout.git, "main", path, limit=50) == found
    assert versions_of(checkout.git, "main", "absent") == []


# --- changes since -----------------------------------------------------------------------------------


def test_changes_between_commits_and_in_the_work_tree(make):
    checkout = make()
    base = checkout.commit("base", kept="1", edited="1", removed="1", **{"un indexed": "1", "re made": "1"})
    assert changed_since(checkout.git, base, WorkTree(checkout.git)) == []
    checkout.write("edited", "2")
    (checkout.root / "removed").unlink()
    checkout.write("new ü", "1")
    checkout.write(".gitignore", "ignored\n.edgetrain/\n")
    checkout.write("ignored", "1")
    checkout.write(".edgetrain/cache", "1")
    checkout.sh("rm", "--quiet", "--cached", "un indexed", "re made")
    checkout.write("re made", "2")
    want = [("A", ".gitignore"), ("M", "edited"), ("A", "new ü"), ("M", "re made"), ("D", "removed")]
    assert changed_since(checkout.git, base, WorkTree(checkout.git)) == want
    checkout.commit("done")
    assert changed_since(checkout.git, base, WorkTree(checkout.git)) == want
    with CommitTree(checkout.git, "HEAD") as tree:
        assert changed_since(checkout.git, base, tree) == want
    (checkout.root / "kept").unlink()
    (checkout.root / "kept").symlink_to("edited")
    assert ("M", "kept") in changed_since(checkout.git, base, WorkTree(checkout.git))


# --- the writer rule ---------------------------------------------------------------------------------


def summary(history):
    return [(c.commit, c.record_paths, c.other_paths) for c in history.commits]


def test_record_commits_are_found_wherever_they_hide(make):
    checkout = make()
    first = checkout.commit("record", person=BOT, **{RUN.format(1): "1"})
    checkout.commit("no record", **{"experiments/x/runs/notes.txt": "x", "experiments/x/train.py": "x"})
    checkout.sh("checkout", "--quiet", "-b", "side")
    both = checkout.commit(
        "both", **{RUN.format(2): "2", "README": "x", "models/m/versions/1.release-1.json": "{}"}
    )
    # What a side branch did and undid is not on main's own line, nor in its result.
    undone = checkout.commit("undone", **{"models/m/proposals/1-a-1.json": "{}"})
    (checkout.root / "models/m/proposals/1-a-1.json").unlink()
    redone = checkout.commit("redone")
    checkout.sh("checkout", "--quiet", "main")
    checkout.commit("meanwhile", other="x")
    merge(checkout, "side")
    found = record_commits(checkout.git, "main")
    assert found.complete
    assert summary(found) == [
        (first, (RUN.format(1),), ()),
        (both, (RUN.format(2), "models/m/versions/1.release-1.json"), ("README",)),
        (undone, ("models/m/proposals/1-a-1.json",), ()),
        (redone, ("models/m/proposals/1-a-1.json",), ()),
    ]
    assert found.commits[0].author.email == BOT[1] == found.commits[0].committer.email
    assert found.commits[3].changes == (("models/m/proposals/1-a-1.json", "D"),)
    assert {c.signature for c in found.commits} == {"unknown"}
    assert summary(record_commits(checkout.git, "main", since=first)) == summary(found)[1:]
    assert record_commits(checkout.git, "main", since="main").commits == ()


def test_merges_count_only_for_what_they_did(make):
    checkout = make()
    checkout.commit("record", **{RUN.format(1): "1"})
    checkout.sh("branch", "old")
    checkout.commit("record", **{RUN.format(2): "2"})
    checkout.sh("checkout", "--quiet", "old")
    checkout.commit("side", a="1")
    checkout.sh("branch", "honest")
    seen = {c.commit for c in record_commits(checkout.git, "main").commits}

    # Takes the side's whole tree, and so drops main's newest record without a commit that says so.
    checkout.sh("checkout", "--quiet", "-B", "dropping", "honest")
    checkout.sh("merge", "--quiet", "--strategy=ours", "--message", "drop", "main")
    drop = checkout.git.head()
    assert [
        (c.commit, c.changes) for c in record_commits(checkout.git, "dropping").commits if c.commit not in seen
    ] == [(drop, ((RUN.format(2), "D"),))]
    # Slips a record of its own into the merge.
    checkout.sh("checkout", "--quiet", "-B", "slipping", "main")
    checkout.sh("merge", "--quiet", "--no-ff", "--no-commit", "honest")
    slip = checkout.commit("slip", **{RUN.format(3): "3", RUN.format(1): "edited"})
    new = [c for c in record_commits(checkout.git, "slipping").commits if c.commit not in seen]
    assert [(c.commit, c.changes, c.other_paths) for c in new] == [
        (slip, ((RUN.format(1), "M"), (RUN.format(3), "A")), ())
    ]
    # An honest merge, both ways round, does nothing of its own.
    for here, there in (("main", "honest"), ("honest", "main")):
        checkout.sh("checkout", "--quiet", "-B", "both", here)
        merge(checkout, there)
        assert {c.commit for c in record_commits(checkout.git, "both").commits} == seen


def test_the_first_commit_counts_too(make):
    checkout = make()
    checkout.sh("checkout", "--quiet", "--orphan", "island")
    sha = checkout.commit("island", **{RUN.format(1): "1"})
    assert summary(record_commits(checkout.git, "island")) == [(sha, (RUN.format(1),), ("README",))]


def test_a_shallow_clone_is_not_complete(make, remote):
    full = make("full", remote)
    full.commit("record", **{RUN.format(1): "1"})
    base = full.commit("other", a="1")
    last = full.commit("record", **{RUN.format(2): "2"})
    full.sh("push", "--quiet", "origin", "main")
    cut = make("cut", remote, "--depth=2")
    found = record_commits(cut.git, "main")
    assert not found.complete
    assert [c.commit for c in found.commits] == [last]
    assert record_commits(cut.git, "main", since=base).complete


@pytest.mark.needs("ssh-keygen")
def test_signatures(make, ssh_key, tmp_path):
    checkout = make()
    (good, public), (stranger, _) = ssh_key("machine"), ssh_key("stranger")
    numbers = iter(range(1, 9))

    def record(key) -> str:
        me = Machine(*BOT, key)
        return Ledger(checkout.git, "main", me).commit({RUN.format(next(numbers)): b"{}"}, "Record")

    commits = {record(good): "good", record(stranger): "unknown", record(None): "none"}
    forged = checkout.git.run("cat-file", "commit", next(iter(commits))).replace(b"\n\nRecord", b"\n\nForged")
    sha = checkout.git.run("hash-object", "-t", "commit", "-w", "--stdin", input=forged).decode().strip()
    checkout.sh("merge", "--quiet", "--no-edit", sha)
    commits[sha] = "bad"
    signers = f'{BOT[1]} namespaces="git" {public}\n'.encode()
    found = record_commits(checkout.git, "main", allowed_signers=signers)
    assert {c.commit: c.signature for c in found.commits} == commits
    assert {c.signer for c in found.commits if c.signature == "good"} == {BOT[1]}
    assert {c.signer for c in found.commits if c.signature != "good"} == {""}
    nobody = record_commits(checkout.git, "main", allowed_signers=b"")
    assert {c.signature for c in nobody.commits} <= {"unknown", "none", "bad"}
    assert {c.signature for c in record_commits(checkout.git, "main").commits} == {"unknown"}


@pytest.mark.needs("ssh-keygen")
def test_settings_of_the_checkout_do_not_make_a_signature_good(make, ssh_key, tmp_path):
    checkout = make()
    key, public = ssh_key("stranger")
    Ledger(checkout.git, "main", Machine(*BOT, key)).commit({RUN.format(1): b"{}"}, "Record")
    mine = tmp_path / "mine"
    mine.write_text(f"{BOT[1]} {public}\n", "utf-8")
    yes = checkout.write("yes", "#!/bin/sh\nexit 0\n", 0o755)
    checkout.sh("config", "gpg.ssh.allowedSignersFile", str(mine))
    checkout.sh("config", "gpg.ssh.program", str(yes))
    assert checkout.sh("log", "-1", "--format=%H", "main")
    found = record_commits(checkout.git, "main", allowed_signers=b"other@example.org ssh-ed25519 AAAA\n")
    assert [c.signature for c in found.commits] == ["unknown"]


def test_names_that_are_not_text(make):
    checkout = make()
    blob = checkout.git.run("hash-object", "-w", "--stdin", input=b"{}").decode().strip()
    name = b"experiments/\xff\x02:/runs/1.json"
    checkout.git.run(
        "update-index", "--add", "-z", "--index-info", input=f"100644 {blob}\t".encode() + name + b"\0"
    )
    checkout.sh("commit", "--quiet", "--message", "odd\n\n\x02:100644 \x1e")
    path = name.decode("utf-8", "surrogateescape")
    assert [a.path for a in added(checkout.git, "main", RUNS)] == [path]
    assert record_commits(checkout.git, "main").commits[0].record_paths == (path,)
    assert versions_of(checkout.git, "main", path)[0].data == b"{}"


def test_a_long_history_is_asked_in_few_commands(make, monkeypatch):
    """The number of git commands must not grow with history."""
    checkout = make()
    lines = []
    for n in range(2000):
        lines.append(
            f"commit refs/heads/main\ncommitter Bot <b@x> {1_700_000_000 + n} +0000\ndata 1\nm\n"
            + (f"from {checkout.git.head()}\n" if n == 0 else "")
            + f"M 100644 inline experiments/x/runs/{n:012x}-1.json\ndata 2\n{{}}\n"
        )
    subprocess.run(["git", "fast-import", "--quiet"], cwd=checkout.root, input="".join(lines).encode(), check=True)
    count = 0
    real = type(checkout.git).attempt

    def counted(self, *args, **options):
        nonlocal count
        count += 1
        return real(self, *args, **options)

    monkeypatch.setattr(type(checkout.git), "attempt", counted)
    found = added(checkout.git, "main", RUNS)
    assert [a.ordinal for a in found] == list(range(2000))
    assert len(record_commits(checkout.git, "main").commits) == 2000
    assert count < 12
