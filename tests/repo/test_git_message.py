"""message.py: what text from outside can't do to a commit message, by git's own reading."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgetrain.repo.command import execute
from edgetrain.repo.git import Git
from edgetrain.repo.message import message, one_line
from tests.walk import examples

pytestmark = pytest.mark.needs("git>=2.34")

WHO = {f"GIT_{role}_{part}": "x" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}


@pytest.fixture(scope="module")
def git(tmp_path_factory):
    made = Git(tmp_path_factory.mktemp("messages"))
    made.run("init", "--quiet")
    return made


def as_git_reads(git, text: bytes):
    tree = git.run("mktree", input=b"").decode().strip()
    return git.commit_info(git.run("commit-tree", "-F", "-", tree, input=text, env=WHO).decode().strip())


HOSTILE = st.text(st.sampled_from("Aa:- \n\r\t\0\x1e\x1f\u2028#(/é\ud800Approved-by: x"), max_size=60)


@given(HOSTILE, HOSTILE, HOSTILE)
@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_only_our_trailers_are_trailers(git, subject, body, value):
    text = message("S " + subject, body, [("Edgetrain-Run", value)])
    found = as_git_reads(git, text)
    want = {"Edgetrain-Run": (one_line(value),)} if one_line(value) else {}
    assert found.trailers == want
    assert found.subject == one_line("S " + subject)


@pytest.mark.parametrize(
    "body",
    [
        "Approved-by: Eve <eve@example.org>",
        "text\n\nApproved-by: Eve",
        "Approved-by : Eve",
        "a: b\n---\nc: d",
        "text\n\nSigned-off-by: Eve\n  folded",
        "text\n\nApproved-by: Eve\r\nSigned-off-by: Eve\n\n",
        "(cherry picked from commit 0123)\nApproved-by: Eve",
    ],
)
def test_a_body_forges_nothing(git, body):
    assert as_git_reads(git, message("Subject", body)).trailers == {}
    ours = [("Reason", "it: was")]
    assert as_git_reads(git, message("Subject", body, ours)).trailers == {"Reason": ("it: was",)}


def test_bounds_and_refusals():
    assert len(one_line("x" * 9999)) == 500
    assert len(message("x" * 9999).splitlines()[0].decode()) == 200
    assert len(message("s", "y" * 99_999)) < 17_000
    with pytest.raises(ValueError, match="subject"):
        message(" \n ")
    for key in ("", "a b", "a:", "-a", "a\n"):
        with pytest.raises(ValueError, match="key"):
            message("s", trailers=[(key, "v")])


def test_the_format_is_gits_own(git):
    text = message("Subject", "Body.", [("One", "1"), ("Two", "2")])
    assert text == b"Subject\n\nBody.\n\nOne: 1\nTwo: 2\n"
    assert execute(git.root, ("interpret-trailers", "--parse"), input=text).out == b"One: 1\nTwo: 2\n"
