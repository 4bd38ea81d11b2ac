"""What is said in an Actions log: nothing but a meant annotation is a command to the runner."""

from __future__ import annotations

import pytest

from edgetrain.cli.session import FORMATS, Session

# GitHub's runner reads `::` at the beginning of a line, and `##[` anywhere in it, of both streams.
HOSTILE = "12:00:00  Note  x ##[stop-commands]a\n  ::add-mask::b\n::error::c"
TAMED = "12:00:00  Note  x ## [stop-commands]a\n  : :add-mask::b\n: :error::c\n"


@pytest.mark.parametrize("form", FORMATS)
def test_talk_is_no_command(form: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    Session(format=form).say(HOSTILE)
    assert capsys.readouterr() == ("", TAMED)


@pytest.mark.parametrize("form", FORMATS)
def test_data_is_a_command_only_as_annotations(
    form: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    Session(format=form).show(HOSTILE)
    assert capsys.readouterr() == ((f"{HOSTILE}\n" if form == "github" else TAMED), "")


def test_elsewhere_all_is_said_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    Session().say(HOSTILE)
    assert capsys.readouterr() == ("", f"{HOSTILE}\n")
