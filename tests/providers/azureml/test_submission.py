"""What is submitted: exactly the guarded files, one environment per digest, no secret; and how it is seen."""

from __future__ import annotations

import json
import logging
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from azureml_emulator import runs
from edgetrain.core.errors import NotFound, ProviderError, Rejected, Unavailable
from edgetrain.providers.azureml import environment, names
from edgetrain.providers.azureml.compute_kubernetes import PROGRAMS
from edgetrain.providers.azureml.rules import check_name
from edgetrain.providers.azureml.snapshot import TASK, snapshot
from edgetrain.providers.azureml.submission import CANCELLED_TAG, FORGOTTEN_TAG, TARGET_TAG, Submissions
from edgetrain.providers.azureml.tracking import Runs
from tests.contract.azureml_target import AzuremlKubernetesTarget, check
from tests.contract.compute import code
from tests.emulator import executing

SECONDS = 600


class Workspace:
    """A workspace with a cluster on which nothing is ever started: the interpreter is not there."""

    def __init__(self, target: AzuremlKubernetesTarget) -> None:
        self.target, self.running = target, target.running
        self.submissions = Submissions(target.session, "arc1", target.state)

    def submit(self, run_id: str, source: Path, requirements: bytes = b"", **task: Any) -> None:
        """Submit the code as the provider does."""
        wanted = environment.for_pod(requirements, f"registry.example/pod@sha256:{'0' * 64}")
        with snapshot({"kind": "pod", "id": run_id, **task}, source, requirements, PROGRAMS) as folder:
            self.submissions.submit(run_id, folder, wanted, SECONDS, {TARGET_TAG: "arc1"}, use_docker=True)

    def document(self, run_id: str) -> dict[str, Any]:
        """The run as the service has it."""
        found = runs.get(self.running.emulator, run_id)
        assert found is not None
        return found

    def files(self, run_id: str) -> dict[str, bytes]:
        """What the service has of the run's code."""
        found = runs.snapshot_files(self.running.emulator, self.document(run_id)["_definition"]["SnapshotId"])
        return {path: place.read_bytes() for path, place in found.items()}

    def asked(self, method: str, part: str) -> int:
        """How many requests there were."""
        return len([one for one in self.running.requests if one["method"] == method and part in one["path"]])


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
            patch.delenv(name, raising=False)
        folder = tmp_path_factory.mktemp("azureml-submission")
        with executing.emulator(folder, python="/nowhere/python") as running:
            target = AzuremlKubernetesTarget(running, folder / "state", folder / "pods")
            with executing.workspace(running, folder) as ws:
                executing.attach_cluster(ws)
            yield Workspace(target)
            check(running)


def test_exactly_the_listed_files_are_sent(
    there: Workspace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever ignore files say that the code brings, and whatever the client leaves out elsewhere."""
    caplog.set_level(logging.NOTSET)
    source = code(tmp_path / "code", ["print", "x"])
    for name, text in {
        ".gitignore": "*\n",
        ".amlignore": "*\n",
        "outputs/kept.txt": "1",
        ".azureml/x": "2",
        "docs/a b.txt": "3",
        "deep/er/.git/config": "4",
        "__pycache__/x.pyc": "5",
    }.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    (source / "link").symlink_to("steps.py")
    there.submit("wear-000000000001-1", source)
    sent = there.files("wear-000000000001-1")
    found = {path for path in sent if path.startswith("code/")}
    assert found == {
        f"code/{p.relative_to(source).as_posix()}" for p in source.rglob("*") if p.is_file() and not p.is_symlink()
    }
    for path in found:
        assert sent[path] == (source / path.removeprefix("code/")).read_bytes()
    rest = {path.partition("/")[0] for path in sent} - {"code"}
    assert rest == {"run.py", "run.json", "requirements.lock", "programs"}
    listed = json.loads(sent[TASK])["code"]
    assert listed["link"] == {"link": "steps.py"}
    assert {f"code/{path}" for path, entry in listed.items() if "sha256" in entry} == found
    # At DEBUG the client, its blob library and urllib3 tell all of each request; uvicorn is the service's own.
    told = "\n".join(r.getMessage() for r in caplog.records if not r.name.startswith("uvicorn"))
    assert "eyJ" not in told
    assert set(re.findall(r"sig=([^&\s\"']*)", told)) <= {"***"}


def test_a_blob_store_that_fails_now_and_then_gets_one_snapshot(there: Workspace, tmp_path: Path) -> None:
    """It is hundreds of requests: to begin anew for each that fails might never end."""
    for name in ("run.json", "code/steps.json"):
        there.running.fault(f"PUT /snapshots/.*/{name}", 503)
    before = len(there.running.requests)
    there.submit("wear-000000000010-1", code(tmp_path / "code", ["print", "again"]))
    sent = [one for one in there.running.requests[before:] if "PUT /snapshots/" in f"{one['method']} {one['path']}"]
    assert len([one for one in sent if "fault" in one]) == 2
    assert len({one["path"].split("/")[2] for one in sent}) == 1
    assert "code/steps.py" in there.files("wear-000000000010-1")


def test_each_request_of_a_submission_may_be_sent_away(
    there: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client puts answers about snapshots into a text of its own."""
    waits: list[float] = []
    monkeypatch.setattr(there.target.session, "_sleep", waits.append)
    for match in ("POST .*/snapshots/getblob", "POST .*/snapshots/[0-9a-f-]{32}", "POST .*/snapshotrun"):
        there.running.fault(match, 429, headers={"Retry-After": "7"})
    there.submit("wear-000000000012-1", code(tmp_path / "code", ["print", "away"]))
    assert there.running.emulator.faults.listed() == []
    assert waits


@pytest.mark.parametrize("fault", [{"status": 503}, {"reset": True}], ids=str)
def test_a_file_that_was_stored_without_an_answer(
    there: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: dict[str, Any]
) -> None:
    """Once more it is there already: then all is sent anew."""
    monkeypatch.setattr(there.target.session, "_sleep", lambda seconds: None)
    there.running.fault("PUT /snapshots/", after=True, **fault)
    run_id = f"wear-000000000011-{1 if 'reset' in fault else 2}"
    there.submit(run_id, code(tmp_path / "code", ["print", run_id]))
    assert there.running.emulator.faults.listed() == []
    assert "code/steps.py" in there.files(run_id)


def test_a_second_snapshot_has_the_files_of_the_first_that_it_shares(there: Workspace, tmp_path: Path) -> None:
    for number in (1, 2):
        there.submit(f"wear-00000000000a-{number}", code(tmp_path / str(number), ["print", number]))
    one, two = there.files("wear-00000000000a-1"), there.files("wear-00000000000a-2")
    assert set(one) == set(two)
    assert {path for path in one if one[path] != two[path]} == {"run.json", "code/steps.json"}


def test_what_a_submission_says(there: Workspace, tmp_path: Path) -> None:
    there.submit("wear-000000000002-1", code(tmp_path / "code", ["print", "x"]))
    definition = there.document("wear-000000000002-1")["_definition"]
    settings = definition["Configuration"]
    assert (settings["script"], settings["target"], settings["arguments"]) == ("run.py", "arc1", [])
    assert settings["maxRunDurationSeconds"] > SECONDS
    assert settings["docker"]["useDocker"] is True
    assert not settings["environmentVariables"]
    assert "EXAMPLE_ENV_VAR" not in json.dumps(definition)
    properties = there.document("wear-000000000002-1")["properties"]
    assert not [name for name in properties if "git" in name]
    text = json.dumps([definition, there.document("wear-000000000002-1")], default=str)
    assert there.target.session.settings.secret("azure-secret").reveal() not in text


def test_a_git_work_tree_around_the_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client would tell Azure ML the work tree's remote, credentials and all."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(Unavailable) as caught, snapshot({}, None, b"", PROGRAMS):
        pass
    assert caught.value.reason == "StateInsideCheckout"


def test_an_environment_is_registered_once_per_digest(
    there: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(there.target.session, "_sleep", waits.append)
    there.running.fault("PUT .*/environments/", 429, headers={"Retry-After": "7"})
    before = there.asked("PUT", "/environments/")
    other = Submissions(there.target.session, "arc1", there.target.state)
    wanted = environment.for_pod(b"once==1", "")
    assert wanted == environment.for_pod(b"once==1", "")
    for _ in range(2):
        environment.ensure(there.target.session, wanted)
    # Sent away once, which the client puts into a text of its own.
    assert there.asked("PUT", "/environments/") == before + 2
    assert len(waits) == 1
    assert environment.for_pod(b"twice==2", "").name != wanted.name
    made = environment.ensure(other.session, environment.for_pod(b"twice==2", ""))
    assert made.version
    assert there.asked("PUT", "/environments/") == before + 3
    assert "bubblewrap" in made.docker.base_dockerfile
    packages = list(made.python.conda_dependencies.pip_packages)
    assert "azureml-core==1.61.0.post4" in packages
    assert not [line for line in packages if line.startswith("-") or "==" not in line]


def test_an_environment_that_somebody_changed_is_registered_again(there: Workspace) -> None:
    wanted = environment.for_machine(b"changed", "/opt/python/bin/python")
    environment.ensure(there.target.session, wanted)
    workspace = there.target.session.workspace
    theirs = wanted.made()
    theirs.python.interpreter_path = "/tmp/theirs"
    theirs.register(workspace)
    ours = environment.ensure(there.target.session, wanted)
    assert ours.python.interpreter_path == "/opt/python/bin/python"
    found = there.target.session.get(
        "experimentation",
        f"/environment/v1.0{there.target.session.scope}/environments/{wanted.name}/versions/{ours.version}",
    )
    assert environment.essence_of(found)["interpreter"] == "/opt/python/bin/python"


def test_many_runs_are_looked_at_by_one_request(there: Workspace, tmp_path: Path) -> None:
    source = code(tmp_path / "code", ["print", "x"])
    ids = [f"many-00000000000{number:x}-1" for number in range(8)]
    for run_id in ids:
        there.submit(run_id, source)
    fresh = Submissions(there.target.session, "arc1", there.target.state, fresh=600.0)
    before = len(there.running.requests)
    records = [fresh.look(run_id) for run_id in ids]
    assert all(record is not None and record.tags[TARGET_TAG] == "arc1" for record in records)
    assert len(there.running.requests) == before + 1
    assert set(ids) <= set(fresh.held())
    fresh.tag(ids[0], {FORGOTTEN_TAG: "true"})
    assert ids[0] not in fresh.held()


def test_other_peoples_experiments_are_not_asked(there: Workspace, tmp_path: Path) -> None:
    """Neither is one that is not there any more an error."""
    source = code(tmp_path / "code", ["print", "x"])
    there.submit("ours-000000000001-1", source)
    there.target.session.post("history", f"/history/v1.0{there.target.session.scope}/experiments/theirs")
    (there.submissions._notes / "gone").touch()
    assert "ours-000000000001-1" in there.submissions.held()
    assert there.asked("POST", "/experiments/ours/runs:query")
    assert not there.asked("POST", "/experiments/theirs/runs:query")
    assert not there.asked("POST", "/experiments:query")


@pytest.mark.parametrize(
    "body", [[1], "x", {"value": ["x"]}, {"value": [{"runId": "a-000000000001-1", "tags": [1]}]}], ids=str
)
def test_answers_of_another_shape_are_told_as_such(
    there: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: Any
) -> None:
    there.submit("shape-000000000001-1", code(tmp_path / "code", ["print", "x"]))
    fresh = Submissions(there.target.session, "arc1", there.target.state)
    monkeypatch.setattr(there.target.session._web, "request", lambda *_: body)
    for look in (
        lambda: fresh.look("shape-000000000001-1"),
        fresh.held,
        lambda: fresh.read("shape-000000000001-1", "dcid.shape", "outputs/x", 100),
    ):
        with pytest.raises(ProviderError) as caught:
            look()
        assert caught.value.reason == "AnswerNotUnderstood"


def test_a_run_of_another_shape_is_told_as_such(there: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    known = Runs(there.target.session)
    assert there.target.session.endpoints  # asked for before the answers are ours
    for run, experiment in (([1], {}), ({"tags": [1]}, {}), ({"properties": "x"}, {}), ({}, [1])):
        answers = iter([run, experiment])
        monkeypatch.setattr(there.target.session._web, "request", lambda *_, answers=answers: next(answers))
        with pytest.raises(ProviderError) as caught:
            known.origin("shape-000000000001-1")
        assert caught.value.reason == "AnswerNotUnderstood"


def test_lists_that_lag_hide_no_run(there: Workspace, tmp_path: Path) -> None:
    """A query that does not show a run yet is no proof that there is none."""
    there.running.change(lag=3600.0)
    try:
        there.submit("lag-000000000001-1", code(tmp_path / "code", ["print", "x"]))
        assert there.submissions.look("lag-000000000001-1") is not None
    finally:
        there.running.change(lag=0.0)
    assert there.submissions.look("lag-000000000002-1") is None


def test_a_scoring_has_a_name_that_azure_ml_takes_and_is_known_by_it_again() -> None:
    """Its id has a dot, which no name of an experiment has; nobody else's is taken for one of ours."""
    digests = f"{'a' * 12}-{'b' * 12}-2"
    mine = f"cxr-triage.score-{digests}"
    there = names.theirs(mine)
    check_name("run", there)
    assert (there, names.ours(there)) == (f"cxr-triage_score-{digests}", mine)
    assert names.experiment_of(mine) == names.experiment_of(there) == "cxr-triage_score"
    for other in (f"mean-{'a' * 12}-1", "mean.score-1", "her_1700000000_ab12", f"my_run-{'a' * 12}-1"):
        assert names.theirs(other) == names.ours(other) == other
    assert names.experiment_of(f"mean-{'a' * 12}-1") == "mean"


def test_a_scoring_is_found_cancelled_and_barred_by_its_own_id(there: Workspace, tmp_path: Path) -> None:
    ended, waits, never = (f"mean.score-{'a' * 12}-{'b' * 12}-{attempt}" for attempt in (1, 2, 3))
    submissions, known = there.submissions, names.theirs
    there.submit(ended, code(tmp_path / "code", ["print", "x"]))
    assert there.document(known(ended))["runId"] == known(ended)
    body = {"runId": known(waits), "target": "arc1"}  # submitted, and not begun
    submissions.session.patch("history", submissions._run(waits), json=body)
    assert {ended, waits} <= set(submissions.held())
    submissions.cancel(waits, "nobody waits for it")
    submissions.bar(never, "cancelled before it began")
    for run_id, why in ((waits, "nobody waits for it"), (never, "cancelled before it began")):
        assert there.document(known(run_id))["tags"][CANCELLED_TAG] == why
        found = submissions.look(run_id)
        assert found is not None and found.status in ("Canceled", "CancelRequested")
    submissions.tag(ended, {FORGOTTEN_TAG: "true"})
    assert ended not in submissions.held()


def test_names_that_azure_ml_takes_not_are_refused_before_it_is_asked(there: Workspace, tmp_path: Path) -> None:
    before = len(there.running.requests)
    with pytest.raises(Rejected) as caught:
        there.submit("bad.name-000000000001-1", code(tmp_path / "code", ["print", "x"]))
    assert caught.value.reason == "NameNotAllowed"
    assert len(there.running.requests) == before
    with pytest.raises(NotFound):
        there.submissions.read("wear-000000000001-1", "dcid.wear-000000000001-1", "outputs/absent", 100)
