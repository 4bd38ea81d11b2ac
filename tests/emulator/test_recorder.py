"""A recording is what was said, names nobody, opens nothing, and can be compared with the emulator's log."""

from __future__ import annotations

import asyncio
import copy
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from azureml_emulator import recorder
from azureml_emulator.fidelity import compare
from azureml_emulator.options import Options
from azureml_emulator.server import RunningEmulator, start

TENANT_USER = "ada.lovelace@hospital.example"
CLIENT = """
import sys
from azureml.core import Experiment, Workspace
from azureml.core.authentication import ServicePrincipalAuthentication
tenant, client, secret, subscription, group, name = sys.argv[1:]
auth = ServicePrincipalAuthentication(tenant, client, secret)
workspace = Workspace(subscription, group, name, auth=auth)
Experiment(workspace, "recorded").start_logging(run_id="recorded-1", snapshot_directory=None).complete()
print(workspace.compute_targets)
"""


@contextmanager
def recording(folder: Path, real: RunningEmulator) -> Iterator[tuple[recorder.Recorder, dict[str, str]]]:
    """A recorder whose way to the service leads through the emulator's own proxy."""
    made = recorder.Recorder(folder, real.proxy_url, str(real.certificates.authority))
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    front = socket.create_server(("127.0.0.1", 0))
    serving = threading.Thread(target=lambda: loop.run_until_complete(recorder.serve(made, front, stop)))
    serving.start()
    try:
        yield made, made.environment(front.getsockname()[1])
    finally:
        loop.call_soon_threadsafe(stop.set)
        serving.join()


def test_a_recording_of_the_unmodified_client(tmp_path: Path) -> None:
    with start(Options(folder=tmp_path / "service")) as real:
        home = tmp_path / "home" / ".azureml"
        home.mkdir(parents=True)
        options, owner = real.emulator.options, real.principal()
        named = [options.tenant, owner["clientId"], owner["clientSecret"]]
        place = [options.subscription, options.group, options.workspace]
        with recording(tmp_path / "recording", real) as (made, environment):
            done = subprocess.run(
                [sys.executable, "-c", CLIENT, *named, *place],
                env={**os.environ, **environment, "HOME": str(home.parent), "AZURE_CONFIG_DIR": str(tmp_path)},
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=False,
            )
        assert done.returncode == 0, done.stderr
        entries = recorder.read(made.log.path)
        log = [entry for entry in real.requests if entry.get("method")]
        assert [entry["route"] for entry in entries] == [entry["route"] for entry in log]
        assert all(entry["route"] for entry in entries), "the emulator knows every route that was recorded"
        text = made.log.path.read_text(encoding="utf-8")
        for secret in (owner["clientSecret"], owner["clientId"], options.tenant, options.subscription):
            assert secret not in text
        assert made.log.failures == []
        assert compare(entries, log) == []
        _differences_are_told(entries, log)


def _differences_are_told(entries: list[dict[str, Any]], log: list[dict[str, Any]]) -> None:
    changed = copy.deepcopy(entries)
    workspace = next(entry for entry in changed if entry["route"] == "workspace")
    workspace["answer"]["kind"] = "Hub"
    workspace["answer"]["properties"] = "none"
    changed.append({"method": "GET", "path": "/history/v9/runs", "route": "", "status": 200, "answer": {}})
    changed.append({**entries[0], "status": 418})
    told = {difference.what for difference in compare(changed, log)}
    assert told == {
        "kind is left out (text)",
        "properties is object and should be text",
        "properties.* is invented",
        "asked 1 times, and the emulator has no such route",
        "the emulator answered 200",
    }


def test_people_are_not_named_and_stay_apart() -> None:
    names = recorder.Pseudonyms()
    entry = {
        "createdBy": {"userName": "Ada Lovelace", "userObjectId": "7f1c3c1e-58f4-4e5b-9d54-2f5f6f1f0a11"},
        "text": f"by {TENANT_USER} in 7F1C3C1E-58F4-4E5B-9D54-2F5F6F1F0A11",
        "number": 3,
    }
    hidden = names.of(entry)
    assert "Ada" not in str(hidden)
    assert "hospital" not in str(hidden)
    guid = hidden["createdBy"]["userObjectId"]
    assert guid != entry["createdBy"]["userObjectId"]  # type: ignore[index]
    assert hidden["text"].endswith(f"in {guid}"), "the same one, whatever its case"
    assert names.of(entry) == hidden
    assert recorder.Pseudonyms().of(entry) != hidden, "another recording can't be laid beside it"
    assert hidden["number"] == 3
