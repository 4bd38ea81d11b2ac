"""The emulator as a server: faults, throttling, its proxy, its log, its state, and its command line."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from azureml_emulator.message import Refused
from azureml_emulator.options import Options
from azureml_emulator.requestlog import redacted, text_redacted
from azureml_emulator.server import FolderInUse, RunningEmulator, start
from azureml_emulator.tokens import Tokens
from tests.emulator import support
from tests.outputs import sound

pytestmark = pytest.mark.long(0.3)

LIST = "/subscriptions?api-version=2022-12-01"


def subscriptions(emulator: RunningEmulator) -> Any:
    return support.ask(emulator, "GET", LIST, None, Tokens(emulator.emulator).issue("owner", "arm"))


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 429, 500, 503])
def test_faults_come_as_asked_and_end(emulator: RunningEmulator, status: int) -> None:
    emulator.fault(r"^GET /subscriptions\?", status, count=2, skip=1, headers={"Retry-After": "1"})
    assert subscriptions(emulator)[0] == 200
    for _ in range(2):
        got, said, headers = subscriptions(emulator)
        assert (got, said["error"]["code"], headers["retry-after"]) == (status, "InjectedFault", "1")
    assert subscriptions(emulator)[0] == 200
    assert [entry.get("fault") for entry in emulator.requests] == [None, status, status, None]


def test_fault_has_the_body_that_was_asked_for(emulator: RunningEmulator) -> None:
    emulator.fault("subscriptions", 502, body="<html>bad gateway</html>", headers={"Content-Type": "text/html"})
    status, said, headers = subscriptions(emulator)
    assert (status, said, headers["content-type"]) == (502, b"<html>bad gateway</html>", "text/html")


def test_fault_of_the_data_plane_is_worded_as_there(emulator: RunningEmulator) -> None:
    emulator.fault("/models", 503)
    path = f"/modelmanagement/v1.0{emulator.emulator.workspace_path}/models"
    status, said, _ = support.ask(emulator, "GET", path, None, Tokens(emulator.emulator).issue("owner", "arm"))
    assert (status, said["statusCode"], said["details"]) == (503, 503, [])


@pytest.mark.parametrize("after", [False, True])
def test_connection_is_cut(emulator: RunningEmulator, after: bool) -> None:
    emulator.fault("subscriptions", reset=True, after=after)
    with pytest.raises((ConnectionError, http.client.HTTPException, OSError)):
        subscriptions(emulator)
    cut = emulator.requests[-1]
    assert (cut["fault"], cut["status"]) == ("reset", 0)
    assert cut["route"] == ("subscriptions" if after else ""), "served first, or not at all"
    assert subscriptions(emulator)[0] == 200


def test_client_sees_a_cut_connection_and_recovers(emulator: RunningEmulator) -> None:
    ws = support.connect(emulator)
    emulator.fault(r"GET /rp/.*/computes", reset=True)
    assert ws.compute_targets == {}, "it tries again"
    assert [entry["status"] for entry in emulator.requests[-2:]] == [0, 200]


@pytest.mark.parametrize(
    "wrong", [{"match": "(", "status": 500}, {"match": "x"}, {"match": "x", "status": 200},
              {"match": "x", "status": 500, "reset": True}]
)  # fmt: skip
def test_nonsense_is_no_fault(emulator: RunningEmulator, wrong: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        emulator.fault(**wrong)


def control(emulator: RunningEmulator, method: str, path: str, body: Any = None, key: str = "") -> Any:
    headers = {"X-Emulator-Key": key or emulator.emulator.control_key}
    return support.ask(emulator, method, f"/_emulator/{path}", body, headers=headers)


def test_control_api(emulator: RunningEmulator) -> None:
    assert control(emulator, "GET", "health", key="guess")[0] == 401
    assert control(emulator, "GET", "health")[1] == {"workspaceId": emulator.emulator.workspace_id}
    assert control(emulator, "POST", "faults", {"match": "subscriptions", "status": 500})[0] == 201
    assert control(emulator, "POST", "faults", {"match": "subscriptions", "why": "x"})[0] == 400
    assert [fault["status"] for fault in control(emulator, "GET", "faults")[1]] == [500]
    assert subscriptions(emulator)[0] == 500
    assert control(emulator, "POST", "faults", {"match": "subscriptions", "reset": True, "count": 9})[0] == 201
    assert control(emulator, "DELETE", "faults")[0] == 204
    assert subscriptions(emulator)[0] == 200
    assert [entry["status"] for entry in control(emulator, "GET", "requests")[1]] == [500, 200]
    assert control(emulator, "DELETE", "requests")[0] == 204
    assert control(emulator, "GET", "requests")[1] == []
    assert control(emulator, "GET", "unknown")[1] == {"routes": [], "failures": [], "hosts": []}
    assert control(emulator, "PATCH", "options", {"slow": 2, "attach_by_address": "allow"})[0] == 204
    assert (emulator.emulator.options.slow, emulator.emulator.options.attach_by_address) == (2, "allow")
    for wrong in ({"slow": "2"}, {"folder": "/"}, {"strict": 1}):
        assert control(emulator, "PATCH", "options", wrong)[0] == 400
    assert control(emulator, "POST", "runs/none/status", {"status": "Failed"})[0] == 404
    assert control(emulator, "POST", "attachments/edge1/fail", {"code": "A", "message": "b"})[0] == 204
    assert emulator.emulator.faults.attachment("EDGE1") == ("A", "b")


def test_status_of_a_run_is_forced(
    emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from azureml.core import Experiment

    monkeypatch.chdir(tmp_path)
    run = Experiment(support.connect(emulator), "exp1").start_logging(run_id="run-1", snapshot_directory=None)
    assert run.get_status() == "Running"
    assert control(emulator, "POST", "runs/run-1/status", {"status": "Canceled"})[0] == 204
    assert run.get_status() == "Canceled"
    assert control(emulator, "POST", "runs/run-1/status", {"status": "Running"})[0] >= 400, "it has ended"
    assert control(emulator, "POST", "runs/run-1/status", {"status": "Nonsense"})[0] >= 400
    assert run.get_status() == "Canceled"


def test_unknown_route_is_marked_and_answered(emulator: RunningEmulator) -> None:
    token = Tokens(emulator.emulator).issue("owner", "arm")
    status, said, _ = support.ask(emulator, "GET", "/subscriptions/x/nothing", None, token)
    assert (status, said["error"]["code"]) == (404, "NotFound")
    status, said, _ = support.ask(emulator, "GET", "/history/v1.0/nothing", None, token)
    assert (status, said["error"]["details"]) == (404, [])
    assert emulator.emulator.log.unknown_routes == ["GET /subscriptions/x/nothing", "GET /history/v1.0/nothing"]
    with pytest.raises(AssertionError):
        support.check(emulator)
    emulator.emulator.log.clear()


def test_throttling(make_emulator: Callable[..., RunningEmulator]) -> None:
    emulator = make_emulator(throttle=3)
    answers = [subscriptions(emulator) for _ in range(6)]
    assert [status for status, _, _ in answers] == [200, 200, 429, 200, 200, 429]
    assert answers[2][2]["retry-after"] == "1"


def test_slashes_are_collapsed_and_case_does_not_matter(emulator: RunningEmulator) -> None:
    token = Tokens(emulator.emulator).issue("owner", "arm")
    path = emulator.emulator.workspace_path.replace("resourceGroups", "resourcegroups").replace(
        "Microsoft", "MICROSOFT"
    )
    assert support.ask(emulator, "GET", f"/{path}?api-version=2022-05-01", None, token)[0] == 200
    assert support.ask(emulator, "GET", emulator.emulator.workspace_path, None, token)[1]["error"]["code"] == (
        "MissingApiVersionParameter"
    )


@pytest.mark.parametrize("change", ["subscriptions/0", "resourceGroups/x", "workspaces/x"])
def test_other_resources_are_not_found(emulator: RunningEmulator, change: str) -> None:
    kind = change.partition("/")[0]
    parts = emulator.emulator.workspace_path.split("/")
    parts[parts.index(kind) + 1] = "other"
    token = Tokens(emulator.emulator).issue("owner", "arm")
    status, said, _ = support.ask(emulator, "GET", "/".join(parts) + "?api-version=2022-05-01", None, token)
    assert status == 404
    assert said["error"]["code"].endswith("NotFound")


def test_ids_come_back(emulator: RunningEmulator) -> None:
    token = Tokens(emulator.emulator).issue("owner", "arm")
    _, _, headers = support.ask(emulator, "GET", LIST, None, token, {"x-ms-client-request-id": "mine"})
    assert headers["x-ms-client-request-id"] == "mine"
    assert headers["x-ms-request-id"] == emulator.requests[-1]["id"]


class Tunnel:
    """One CONNECT through the proxy."""

    def __init__(self, emulator: RunningEmulator, target: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", emulator.proxy_port), timeout=support.PATIENCE)
        self.socket.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        self.answer = self.socket.recv(4096).split(b"\r\n", 1)[0].decode()


@pytest.mark.parametrize(
    "host",
    ["management.azure.com", "login.microsoftonline.com", "local.api.azureml.ms", "a1.blob.core.windows.net"],
)
def test_service_hosts_are_tunnelled(emulator: RunningEmulator, host: str) -> None:
    tunnel = Tunnel(emulator, f"{host}:443")
    assert tunnel.answer == "HTTP/1.1 200 Connection established"
    context = ssl.create_default_context(cafile=str(emulator.certificates.authority))
    with context.wrap_socket(tunnel.socket, server_hostname=host) as wrapped:
        assert wrapped.version() is not None, "the certificate is good for that name"


@pytest.mark.parametrize(
    "target",
    [
        "example.com:443",
        "management.azure.com:80",
        "management.azure.com.example.com:443",
        "blob.core.windows.net:443",
        "127.0.0.1:22",
        "nonsense",
    ],
)
def test_other_hosts_are_refused_and_noted(emulator: RunningEmulator, target: str) -> None:
    tunnel = Tunnel(emulator, target)
    tunnel.socket.close()
    assert tunnel.answer == "HTTP/1.1 403 Forbidden"
    assert emulator.emulator.log.refused_hosts == [target]
    emulator.emulator.log.clear()


def test_proxy_forwards_nothing_in_plain(emulator: RunningEmulator) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", emulator.proxy_port, timeout=support.PATIENCE)
    connection.request("GET", "http://example.com/")
    assert connection.getresponse().status == 403
    assert emulator.emulator.log.refused_hosts == ["http://example.com/"]
    emulator.emulator.log.clear()


def test_each_host_serves_its_own(emulator: RunningEmulator) -> None:
    token = Tokens(emulator.emulator).issue("owner", "arm")
    host = {"Host": "local.api.azureml.ms"}
    assert support.ask(emulator, "GET", LIST, None, token, host)[0] == 404
    computes = f"/rp/workspaces{emulator.emulator.workspace_path}/computes"
    assert support.ask(emulator, "GET", computes, None, token, host)[0] == 200
    assert support.ask(emulator, "GET", computes, None, token, {"Host": "management.azure.com"})[0] == 404
    emulator.emulator.log.clear()


def test_state_is_kept_and_the_folder_is_one_emulators(make_emulator: Callable[..., RunningEmulator]) -> None:
    first = make_emulator()
    token = Tokens(first.emulator).issue("owner", "arm")
    owner = first.principal()
    with pytest.raises(FolderInUse):
        start(Options(first.folder))
    first.stop()
    first.stop()
    again = make_emulator(folder=first.folder)
    assert (again.port, again.proxy_port) == (first.port, first.proxy_port)
    assert again.principal() == owner
    assert support.ask(again, "GET", LIST, None, token)[0] == 200, "what was signed before is good"
    assert again.folder.stat().st_mode & 0o077 == 0
    other = make_emulator()
    assert other.emulator.workspace_id != again.emulator.workspace_id


def test_another_takes_the_port_meanwhile(make_emulator: Callable[..., RunningEmulator]) -> None:
    first = make_emulator()
    first.stop()
    with socket.create_server(("127.0.0.1", first.port)):
        again = make_emulator(folder=first.folder)
        assert again.port != first.port
        assert subscriptions(again)[0] == 200


def test_secrets_are_redacted() -> None:
    token = "eyJhbGciOiJub25lIn0.eyJhdWQiOiJ4In0xx.c2ln"
    key = "-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----"
    shown = redacted(
        {
            "administratorAccount": {"username": "u", "password": "p"},
            "azureStorageSection": {"credential": "c", "accountKey": "k", "sasToken": "s", "accountName": "a"},
            "blobUri": "https://x/y?sv=1&sig=abc%3D&se=2",
            "list": [token, {"text": f"before {key} after"}],
            "client_secret": "s",
            "client_assertion": token,
            "empty": None,
            "password": None,
        }
    )
    text = json.dumps(shown)
    assert shown["azureStorageSection"] == {
        "credential": "REDACTED",
        "accountKey": "REDACTED",
        "sasToken": "REDACTED",
        "accountName": "a",
    }
    assert shown["blobUri"] == "https://x/y?sv=1&sig=REDACTED&se=2"
    assert shown["password"] is None
    assert "eyJ" not in text
    assert "PRIVATE" not in text
    assert '"p"' not in text
    assert text_redacted("-----BEGIN OPENSSH PRIVATE KEY-----\nabc") == "REDACTED", "also one that is cut off"


def test_signatures_are_not_in_the_log_file(emulator: RunningEmulator) -> None:
    support.ask(emulator, "GET", "/nowhere?sig=verysecret&other=x%26sig%3Dverysecret")
    emulator.emulator.log.clear()
    log = (emulator.folder / "requests.jsonl").read_text()
    assert "/nowhere" in log
    assert "verysecret" not in log


@pytest.mark.parametrize("command", [["azureml_emulator"], ["edgetrain", "emulator"]])
def test_command_line(tmp_path: Path, command: list[str]) -> None:
    place = ["--folder", str(tmp_path / "data")]
    call = [sys.executable, "-m", *command]
    resource = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/v"
    arguments = ["up", *place, "--format", "json", "--host", f"{resource}=127.0.0.1:22"]
    up = subprocess.Popen([*call, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        assert up.stdout is not None
        lines: list[str] = []
        while not lines or lines[-1] != "}\n":
            line = up.stdout.readline()
            assert line, "it ended"
            lines.append(line)
        told = sound("emulator-up", "".join(lines))
        assert [who["role"] for who in told["principals"]] == ["contributor", "reader"]
        context = ssl.create_default_context(cafile=told["environment"]["B"]["SSL_CERT_FILE"])
        port = int(told["url"].rpartition(":")[2])
        connection = http.client.HTTPSConnection("localhost", port, context=context, timeout=support.PATIENCE)
        for path in ("/discovery", "/nowhere"):
            connection.request("GET", path)
            connection.getresponse().read()
        second = subprocess.run([*call, "up", *place], capture_output=True, text=True, check=False)
        assert second.returncode != 0
        assert "another emulator" in second.stderr
    finally:
        up.send_signal(signal.SIGTERM)
        assert up.wait(support.PATIENCE) == 0
    shown = subprocess.run([*call, "log", *place], capture_output=True, text=True, check=True).stdout
    assert "GET    localhost" in shown
    assert "/nowhere" in shown
    assert "no route" in shown
    failed = subprocess.run(
        [*call, "log", *place, "--failed", "--format", "json"], capture_output=True, text=True, check=True
    ).stdout
    assert [sound("emulator-log", line)["path"] for line in failed.splitlines()] == ["/nowhere"]


def test_shell_lines_set_a_client_up(tmp_path: Path) -> None:
    place = str(tmp_path / "data with space")
    call = [sys.executable, "-m", "azureml_emulator", "up", "--folder", place]
    up = subprocess.Popen(call, stdout=subprocess.PIPE, text=True)
    try:
        assert up.stdout is not None
        lines: list[str] = []
        while not lines or "stop it" not in lines[-1]:
            line = up.stdout.readline()
            assert line, "it ended"
            lines.append(line)
    finally:
        up.send_signal(signal.SIGINT)
        assert up.wait(support.PATIENCE) == 0
    shell = "".join(lines) + '\nprintf %s "$REQUESTS_CA_BUNDLE"'
    told = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True, env={"PATH": os.defpath})
    assert told.stdout == f"{place}/tls/bundle.pem"


def test_recording_and_comparing_by_command(emulator: RunningEmulator, tmp_path: Path) -> None:
    call = [sys.executable, "-m", "azureml_emulator"]
    into = tmp_path / "recording"
    arguments = ["--into", str(into), "--upstream", emulator.proxy_url]
    arguments += ["--authorities", str(emulator.certificates.authority)]
    recorder = subprocess.Popen([*call, "record", *arguments], stdout=subprocess.PIPE, text=True)
    told: dict[str, str] = {}
    try:
        assert recorder.stdout is not None
        while line := recorder.stdout.readline():
            if line.startswith("#"):
                break
            name, _, value = line.removeprefix("export ").strip().partition("=")
            told[name] = value
        host, _, port = told["HTTPS_PROXY"].removeprefix("http://").partition(":")
        context = ssl.create_default_context(cafile=told["SSL_CERT_FILE"])
        connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=support.PATIENCE)
        connection.set_tunnel("local.api.azureml.ms", 443)
        connection.request("GET", "/discovery")
        assert connection.getresponse().status == 200
        connection.close()
    finally:
        recorder.send_signal(signal.SIGTERM)
        assert recorder.wait(support.PATIENCE) == 0
    logs = [str(into / "requests.jsonl"), str(emulator.folder / "requests.jsonl")]
    same = subprocess.run([*call, "compare", *logs], capture_output=True, text=True, check=False)
    assert (same.returncode, same.stdout) == (0, "")
    other = json.loads(Path(logs[1]).read_text().splitlines()[-1])
    del other["answer"]["history"]
    Path(logs[1]).write_text(json.dumps(other) + "\n")
    differ = subprocess.run(
        [*call, "compare", "--format", "json", *logs], capture_output=True, text=True, check=False
    )
    assert differ.returncode == 1
    assert "history is left out" in json.loads(differ.stdout)[0]["what"]
