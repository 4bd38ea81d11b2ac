"""tree.py: both trees tell the same, nothing leads outside, exports and digests are exact."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgetrain.core.digest import digest_bytes, tree_digest
from edgetrain.core.errors import RepositoryError
from edgetrain.repo.digest_cache import DigestCache
from edgetrain.repo.export import export, exported, safe_path
from edgetrain.repo.opening import open_file
from edgetrain.repo.snapshot import code_digest
from edgetrain.repo.tree import CommitTree, Entry
from edgetrain.repo.work_tree import WorkTree
from tests.walk import examples

pytestmark = pytest.mark.needs("git>=2.34")


def reason(call: Callable[[], object]) -> str:
    with pytest.raises(RepositoryError) as caught:
        call()
    return caught.value.reason


@pytest.fixture
def checkout(make):
    made = make()
    made.write("experiments/x/experiment.yaml", "kind: Experiment\n")
    made.write("experiments/x/train.py", "print()\n")
    made.write("experiments/x/run me.sh", "#!/bin/sh\n", 0o755)
    made.write("experiments/x/sub/ü.txt", b"\xff\x00")
    made.write("experiments/x/runs/a-1.json", "{}")
    made.write("experiments/xy/experiment.yaml", "other")
    (made.root / "experiments/x/link").symlink_to("../../README")
    made.commit()
    return made


@pytest.fixture
def trees(checkout):
    with CommitTree(checkout.git, "HEAD") as commit:
        yield commit, WorkTree(checkout.git), WorkTree(checkout.root)


def test_all_trees_tell_the_same(trees):
    commit, *others = trees
    told = [(e.path, e.mode, e.target) for e in commit.files()]
    assert ("experiments/x/link", "120000", "../../README") in told
    assert ("experiments/x/run me.sh", "100755", None) in told
    assert told == sorted(told, key=lambda e: e[0].encode())
    for other in others:
        assert [(e.path, e.mode, e.target) for e in other.files()] == told
        for entry in other.files():
            if entry.regular:
                assert other.read(entry.path) == commit.read(entry.path)
                assert other.content_digest(entry.path) == commit.content_digest(entry.path)
        assert code_digest(other, "experiments/xy", ()) == code_digest(commit, "experiments/xy", ())


def test_prefix_is_a_folder_or_a_file(trees):
    for tree in trees:
        assert [e.path for e in tree.files("experiments/xy/")] == ["experiments/xy/experiment.yaml"]
        assert [e.path for e in tree.files("README")] == ["README"]
        assert all(e.path.startswith("experiments/x/") for e in tree.files("experiments/x"))
        assert tree.files("") == tree.files(".")
        assert tree.exists("experiments/x") and tree.exists("experiments/x/") and tree.exists("README")
        assert tree.exists("experiments/x/link")
        assert not tree.exists("experiments/z") and not tree.exists("exp")


def test_refusals_to_read(trees):
    for tree in trees:
        assert reason(lambda tree=tree: tree.read("absent")) == "NoSuchFile"
        assert reason(lambda tree=tree: tree.read("experiments/x")) == "NoSuchFile"
        assert reason(lambda tree=tree: tree.read("../site a/check out/README")) == "NoSuchFile"
        assert reason(lambda tree=tree: tree.read("experiments/x/link")) == "NotAFile"
        assert reason(lambda tree=tree: tree.read("README", limit=3)) == "FileTooLarge"
        assert tree.read("README", limit=6) == b"hello\n"


def test_the_work_tree_as_it_is_now(checkout):
    checkout.write(".gitignore", "ignored\n")
    checkout.write("ignored", "")
    checkout.write("new file", "new")
    checkout.write(".edgetrain/cache", "")
    (checkout.root / "README").unlink()
    checkout.write("experiments/xy/experiment.yaml", "edited")
    tree = WorkTree(checkout.git)
    paths = [e.path for e in tree.files()]
    assert "new file" in paths and ".gitignore" in paths
    assert not {"README", "ignored", ".edgetrain/cache"} & set(paths)
    assert tree.read("experiments/xy/experiment.yaml") == b"edited"
    with CommitTree(checkout.git, "HEAD") as commit:
        assert commit.read("experiments/xy/experiment.yaml") == b"other"


def test_a_folder_replaced_by_a_link_is_not_looked_behind(checkout, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "train.py").write_text("secret", "utf-8")
    (checkout.root / "experiments/x").rename(tmp_path / "moved")
    tree = WorkTree(checkout.git)
    assert tree.exists("experiments/xy")
    (checkout.root / "experiments/x").symlink_to(outside)
    fresh = WorkTree(checkout.git)
    assert [e.path for e in fresh.files("experiments")] == ["experiments/x", "experiments/xy/experiment.yaml"]
    assert fresh.files("experiments/x")[0].target == str(outside)
    assert reason(lambda: open_file(checkout.root, "experiments/x/train.py")) == "NotAFile"


def test_a_link_put_in_place_after_listing_is_not_followed(checkout, tmp_path):
    tree = WorkTree(checkout.git)
    assert tree.exists("README")
    secret = tmp_path / "secret"
    secret.write_text("secret", "utf-8")
    (checkout.root / "README").unlink()
    (checkout.root / "README").symlink_to(secret)
    assert reason(lambda: tree.read("README")) == "NotAFile"
    (checkout.root / "README").unlink()
    os.mkfifo(checkout.root / "README")
    assert reason(lambda: tree.read("README")) == "NotAFile"
    assert WorkTree(checkout.git).files("README") == [Entry("README", "000000")]


def test_nested_repositories_are_no_files(checkout, make):
    make("site a/check out/nested")
    assert WorkTree(checkout.git).files("nested") == [Entry("nested", "160000")]
    checkout.sh("-c", "advice.addEmbeddedRepo=false", "add", "nested")
    sha = checkout.commit()
    with CommitTree(checkout.git, sha) as tree:
        assert [e.mode for e in tree.files("nested")] == ["160000"]
        assert reason(lambda: export(tree, "", checkout.root / "out")) == "SymlinkRefused"
        assert reason(lambda: exported(tree, "nested")) == "SubmoduleRefused"


def test_export_is_exact(checkout, tmp_path):
    (checkout.root / "experiments/x/link").unlink()
    sha = checkout.commit()
    checkout.write("experiments/x/train.py", "not committed")
    checkout.write("experiments/x/runs-of-mine.txt", "kept: only the folder runs/ is left out")
    old = os.umask(0o077)
    try:
        with CommitTree(checkout.git, sha) as tree:
            size = export(tree, "experiments/x", tmp_path / "out")
            export(WorkTree(checkout.git), "experiments/x/", tmp_path / "all", exclude=())
    finally:
        os.umask(old)
    found = {
        str(p.relative_to(tmp_path / "out")): (
            stat.S_IMODE(p.stat().st_mode),
            p.read_bytes() if p.is_file() else None,
        )
        for p in (tmp_path / "out").rglob("*")
    }
    assert found == {
        "train.py": (0o644, b"print()\n"),
        "run me.sh": (0o755, b"#!/bin/sh\n"),
        "sub": (0o755, None),
        "sub/ü.txt": (0o644, b"\xff\x00"),
    }
    assert size == 20
    assert (tmp_path / "all/runs/a-1.json").read_text("utf-8") == "{}"
    assert (tmp_path / "all/train.py").read_text("utf-8") == "not committed"
    assert reason(lambda: export(WorkTree(checkout.git), "experiments/xy", tmp_path / "out")) == "NotEmpty"


def test_links_are_refused_in_code(trees, tmp_path):
    for tree in trees:
        assert reason(lambda tree=tree: export(tree, "experiments/x", tmp_path / "out")) == "SymlinkRefused"
        assert reason(lambda tree=tree: code_digest(tree, "experiments/x")) == "SymlinkRefused"
    assert not (tmp_path / "out").exists()


def test_the_code_digest(checkout):
    (checkout.root / "experiments/x/link").unlink()
    sha = checkout.commit()
    want = tree_digest(
        [
            ("train.py", digest_bytes(b"print()\n")),
            ("run me.sh\x01x", digest_bytes(b"#!/bin/sh\n")),
            ("sub/ü.txt", digest_bytes(b"\xff\x00")),
        ]
    )
    with CommitTree(checkout.git, sha) as tree:
        assert code_digest(tree, "experiments/x") == want
    assert code_digest(WorkTree(checkout.git), "experiments/x/") == want
    checkout.write("experiments/x/experiment.yaml", "changed")
    checkout.write("experiments/x/runs/b-1.json", "new")
    assert code_digest(WorkTree(checkout.git), "experiments/x") == want
    (checkout.root / "experiments/x/train.py").chmod(0o755)
    assert code_digest(WorkTree(checkout.git), "experiments/x") != want


def test_a_hostile_tree_object_gets_nowhere(checkout, tmp_path):
    blob = checkout.git.run("hash-object", "-w", "--stdin", input=b"evil").decode().strip()
    raw = b"100644 ..\0" + bytes.fromhex(blob)
    inner = (
        checkout.git.run("hash-object", "-t", "tree", "-w", "--literally", "--stdin", input=raw).decode().strip()
    )
    for name in (b"..", b".GIT", b"a\\b", b"a\x01x"):
        outer = b"40000 " + name + b"\0" + bytes.fromhex(inner)
        tree = checkout.git.run("hash-object", "-t", "tree", "-w", "--literally", "--stdin", input=outer)
        sha = checkout.sh("commit-tree", "-m", "evil", tree.decode().strip())
        with CommitTree(checkout.git, sha) as evil:
            assert reason(lambda evil=evil: export(evil, "", tmp_path / "out", ())) == "UnsafePath"


def test_the_digest_cache_is_used_and_may_be_lost(checkout):
    cache = checkout.root / ".edgetrain" / "blobs.sqlite"
    want = digest_bytes(b"hello\n")
    with CommitTree(checkout.git, "HEAD", cache) as tree:
        blob = tree.files("README")[0].blob
        assert tree.content_digest("README") == want
    kept = DigestCache(cache)
    assert kept.get(blob) == (6, want)
    marker = "sha256:" + "0" * 64
    kept.put(blob, 7, marker)
    kept.close()
    with CommitTree(checkout.git, "HEAD", cache) as tree:
        assert tree.measure("README") == (7, marker)
    cache.write_bytes(b"no database at all" * 100)
    with CommitTree(checkout.git, "HEAD", cache) as tree:
        assert tree.content_digest("README") == want
    blocked = checkout.write("file") / "below.sqlite"
    with CommitTree(checkout.git, "HEAD", blocked) as tree:
        assert tree.content_digest("README") == want


def test_a_cache_with_nonsense_in_it_is_not_believed(tmp_path):
    cache = DigestCache(tmp_path / "c")
    cache.put("a" * 40, 1, "nonsense")
    assert cache.get("a" * 40) is None
    cache.close()


def test_threads_may_share_a_commit_tree(checkout):
    data = {f"data/{n}": os.urandom(5000 + n) for n in range(40)}
    for path, content in data.items():
        checkout.write(path, content)
    checkout.commit()
    with CommitTree(checkout.git, "HEAD") as tree, ThreadPoolExecutor(8) as pool:
        digests = list(pool.map(tree.content_digest, data))
    assert digests == ["sha256:" + hashlib.sha256(content).hexdigest() for content in data.values()]


_PART = st.text(
    st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="/\\"), min_size=1, max_size=20
).filter(lambda part: part not in (".", "..") and part.lower() != ".git" and len(part.encode()) < 200)


@given(st.lists(_PART, min_size=1, max_size=4), st.binary(max_size=50))
@settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_safe_name_survives_git_and_disk(make, tmp_path_factory, parts, data):
    from edgetrain.repo.git import Git

    root = tmp_path_factory.mktemp("r")
    git = Git(root)
    git.run("init", "--quiet", "--initial-branch=main")
    path = safe_path("/".join(parts))
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    blob = git.run("hash-object", "-w", "--stdin", input=data).decode().strip()
    git.run(
        "update-index", "--add", "-z", "--index-info", input=f"100644 {blob}\t".encode() + path.encode() + b"\0"
    )
    who = {f"GIT_{role}_{part}": "x" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
    sha = git.run("commit-tree", git.text("write-tree"), input=b"m", env=who).decode().strip()
    with CommitTree(git, sha) as tree:
        assert [e.path for e in tree.files()] == [path] == [e.path for e in WorkTree(git).files()]
        assert tree.read(path) == data == WorkTree(git).read(path)
        out = tmp_path_factory.mktemp("out")
        export(tree, "", out, ())
        assert (out / path).read_bytes() == data


@given(st.text(max_size=30))
def test_unsafe_names_never_leave_their_root(name):
    try:
        safe_path(name)
    except RepositoryError as error:
        assert error.reason == "UnsafePath"
    else:
        assert Path(os.path.normpath(f"/root/{name}")).is_relative_to("/root/")
        assert os.path.normpath(name) == name


def test_what_is_read_ahead_is_what_is_read(checkout) -> None:
    checkout.write("experiments/x/large.txt", b"x" * (2**16 + 1))
    checkout.write("experiments/x/same.py", "print()\n")
    sha = checkout.commit("More")
    alone, ahead = (CommitTree(checkout.git, sha) for _ in range(2))
    with alone, ahead:
        paths = [entry.path for entry in alone.files() if entry.regular]
        ahead.ahead([*paths, "nowhere.txt", "experiments"])
        assert [ahead.read(path) for path in paths] == [alone.read(path) for path in paths]
        ahead.ahead(paths[:1])
        ahead.ahead(paths[1:])
        assert ahead.measure(paths[1]) == alone.measure(paths[1])  # another question before the answers are read
        assert [ahead.read(path) for path in (*paths, *paths[::-1])] == [
            alone.read(path) for path in (*paths, *paths[::-1])
        ]
        ahead.ahead(paths)
        assert reason(lambda: ahead.read("experiments/x/train.py", 1)) == "FileTooLarge"
        assert ahead.read("experiments/x/large.txt") == b"x" * (2**16 + 1)
