"""The root command: speed by laziness, exit codes, streams, and every sort of failure in words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import click
import pytest
from click.testing import CliRunner

from edgetrain.cli import app as app_module
from edgetrain.cli.app import app
from edgetrain.cli.session import Session, format_option, pass_session
from edgetrain.cli.table import VERBS, Verb
from edgetrain.core.errors import (
    Denied,
    EdgetrainError,
    InvalidFiles,
    RepositoryError,
    StalePlan,
    UnsafePlan,
    UsageError,
)
from edgetrain.core.problem import Problem
from tests.cli.command import edgetrain, environment
from tests.core.test_planner_attachments import files as azure_files

FORGE = ("cryptography", "httpx", "jwt")
SDKS = ("azure", "azureml", "mlflow", "sqlalchemy", "alembic", "sklearn", "onnxruntime", "numpy", *FORGE)
HEAVY = (*SDKS, "yaml", "jsonschema", "rich", "jinja2", "filelock", "tenacity", "rfc8785")


def imported_by(*arguments: str, cwd: Path) -> set[str]:
    """The top-level modules that a call of the command line has imported when it ends."""
    script = (
        "import sys\n"
        "from edgetrain.cli.app import app\n"
        "app.main(sys.argv[1:], standalone_mode=False)\n"
        "print('\\n' + ' '.join({name.partition('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split())


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    imported = imported_by("--help", cwd=tmp_path)
    assert "click" in imported
    assert not imported & set(HEAVY)


def test_validate_imports_no_sdk(repository: Path) -> None:
    imported = imported_by("validate", cwd=repository)
    assert "edgetrain" in imported
    # Plain and sound manifests need neither the strict reader nor the schemas' validator.
    assert not imported & {*SDKS, "yaml", "jsonschema", "rfc8785"}


def test_a_forge_is_validated_and_planned_without_its_packages(repository: Path) -> None:
    settings = repository / "edgetrain.yaml"
    declared = "  forge: {type: github, repository: hosp/models, app: {id: '1', privateKey: {secret: app-key}}}\n"
    secret = "  secrets: {app-key: {source: {file: /etc/edgetrain/app.pem}}}\n"
    settings.write_text(settings.read_text().replace("spec:\n", "spec:\n" + declared + secret, 1))
    for verb in ("validate", "plan"):
        assert not imported_by(verb, cwd=repository) & set(FORGE), verb


def test_an_azure_workspace_is_validated_and_planned_without_an_azure_package(repository: Path) -> None:
    for path, text in azure_files("hub").items():
        (repository / path).parent.mkdir(parents=True, exist_ok=True)
        (repository / path).write_text(text)
    for verb in ("validate", "plan"):
        imported = imported_by(verb, cwd=repository)
        assert "yaml" in imported
        assert not imported & {*SDKS, "msal", "msrest", "asyncssh"}, verb


def test_every_verb_of_the_table_is_a_command_and_is_listed() -> None:
    help_text = CliRunner().invoke(app, ["--help"]).output
    for name, verb in VERBS.items():
        assert f"  {name} " in help_text
        assert verb.help in help_text
        command = app.get_command(click.Context(app), name)
        assert isinstance(command, click.Command)
        assert command.name == name
        assert command.help


def leaves(command: click.Command) -> list[click.Command]:
    """The command, or those of a group, whether it imports them when they are called or not."""
    if not isinstance(command, click.Group):
        return [command]
    context = click.Context(command)
    found = [command.get_command(context, name) for name in command.list_commands(context)]
    return [leaf for leaf in found if leaf is not None]


def test_every_verb_has_json_and_help(tmp_path: Path) -> None:
    for name in VERBS:
        command = app.get_command(click.Context(app), name)
        assert isinstance(command, click.Command)
        for leaf in leaves(command):
            assert leaf.help
            formats = [p.type for p in leaf.params if p.name == "format"]
            assert formats, f"{leaf.name} has no --format"
            assert isinstance(formats[0], click.Choice)
            assert "json" in formats[0].choices


def test_unknown_verb_suggests_the_nearest(tmp_path: Path) -> None:
    ended = edgetrain("plam", cwd=tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert 'no verb "plam"; did you mean "plan"?' in ended.err


def test_wrong_option_is_usage_also_in_json(tmp_path: Path) -> None:
    assert edgetrain("plan", "--nonsense", cwd=tmp_path).code == 2
    ended = edgetrain("plan", "--format", "json", "--nonsense", cwd=tmp_path)
    assert (ended.code, ended.json["error"]["reason"]) == (2, "Usage")


def test_outside_a_repository(tmp_path: Path) -> None:
    ended = edgetrain("validate", cwd=tmp_path)
    assert (ended.code, ended.out) == (3, "")
    assert "reason: NotARepository" in ended.err
    assert "fix: " in ended.err


def test_the_repository_is_found_upward_and_by_option(repository: Path, tmp_path: Path) -> None:
    below = repository / "a" / "b"
    below.mkdir(parents=True)
    assert edgetrain("validate", cwd=below).code == 0
    assert edgetrain("-C", repository, "validate", cwd=tmp_path).code == 0
    assert edgetrain("-C", tmp_path / "missing", "validate", cwd=tmp_path).code == 2


def _raising(error: BaseException) -> click.Command:
    @click.command()
    @format_option("text", "json", "github")
    @pass_session
    def verb(session: Session) -> NoReturn:
        session.show("data so far")
        raise error

    return verb


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch) -> object:
    """`raising(error, *arguments)`: call a verb that raises the error."""

    def call(error: BaseException, *arguments: str) -> object:
        monkeypatch.setattr(sys.modules[__name__], "failing", _raising(error), raising=False)
        monkeypatch.setitem(app_module.VERBS, "failing", Verb(f"{__name__}:failing", "Fail."))
        return CliRunner().invoke(app, ["failing", *arguments])

    return call


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("no", fix="do"), 2),
        (InvalidFiles([Problem("a.yaml", 1, 1, "M204", "unknown key", "remove it")]), 1),
        (RepositoryError("no git"), 3),
        (StalePlan("old"), 3),
        (UnsafePlan("many"), 3),
        (Denied("no right"), 3),
        (EdgetrainError("bad"), 3),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_code_of_each_error(raising, error: BaseException, code: int) -> None:  # type: ignore[no-untyped-def]
    assert raising(error).exit_code == code


def test_an_error_in_words_goes_to_standard_error(raising) -> None:  # type: ignore[no-untyped-def]
    result = raising(Denied("the key was refused", reason="KeyRefused", fix="put the right key there"))
    assert result.stdout == "data so far\n"
    assert result.stderr == ("error: the key was refused\n  reason: KeyRefused\n  fix: put the right key there\n")


def test_an_error_as_json_and_as_annotation_goes_to_standard_output(raising) -> None:  # type: ignore[no-untyped-def]
    error = Denied("the key: refused", reason="KeyRefused", fix="mend\nit")
    as_json = raising(error, "--format", "json")
    assert json.loads(as_json.stdout.removeprefix("data so far\n")) == {
        "error": {"reason": "KeyRefused", "message": "the key: refused", "fix": "mend\nit"}
    }
    assert "::error title=KeyRefused::the key: refused%0Amend%0Ait\n" in raising(error, "--format", "github").stdout


def test_all_problems_are_printed(raising) -> None:  # type: ignore[no-untyped-def]
    problems = [Problem(f"{name}.yaml", 2, 3, "M204", "unknown key", "remove it") for name in "ab"]
    result = raising(InvalidFiles(problems))
    assert "a.yaml:2:3: M204 unknown key; remove it" in result.stdout
    assert "b.yaml:2:3: M204" in result.stdout
    assert "2 problems in 2 files." in result.stdout


def test_a_fault_of_ours_is_an_apology_with_a_private_file(raising, monkeypatch, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = raising(ZeroDivisionError("secret detail"))
    assert result.exit_code == 3
    assert "sorry" in result.stderr
    assert "secret detail" not in result.output
    assert "Traceback" not in result.output
    (log,) = tmp_path.glob("edgetrain-error-*.log")
    assert "ZeroDivisionError: secret detail" in log.read_text()
    assert log.stat().st_mode & 0o077 == 0


def test_debug_shows_the_traceback(raising, monkeypatch, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("EDGETRAIN_DEBUG", "1")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = raising(ZeroDivisionError("detail"))
    assert result.exit_code == 3
    assert "Traceback" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_colour_only_where_it_is_wanted() -> None:
    runner = CliRunner()
    coloured = runner.invoke(app, ["-C", "/", "validate"], color=True)
    assert "\x1b[" in coloured.stderr
    for plain in (
        runner.invoke(app, ["-C", "/", "--no-color", "validate"], color=True),
        runner.invoke(app, ["-C", "/", "validate"], color=True, env={"NO_COLOR": "1"}),
    ):
        assert "\x1b[" not in plain.output
        assert "error:" in plain.stderr


def test_a_closed_pipe_is_quiet(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "edgetrain", "explain"],
            cwd=tmp_path,
            env=environment(),
            stdout=closed,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.stderr == b""
    assert done.returncode == 141


def test_version(tmp_path: Path) -> None:
    ended = edgetrain("--version", cwd=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("edgetrain ")
