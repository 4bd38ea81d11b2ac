"""The scoring server of an image, run as its own process and asked over HTTP."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgetrain.image import assembly
from edgetrain.image.layer import LayerFile

PROGRAM = Path(assembly.__file__).with_name("score.py")
FIXTURES = Path(__file__).parent / "fixtures"
METADATA = {"model": "cxr-triage", "version": 3, "identity": "sha256:" + "a" * 64, "labels": {"ward": "x"}}
INFER = "/v2/models/cxr-triage/infer"
FEATURES = {"name": "features", "shape": [2, 3], "datatype": "FP32", "data": [1, 0, 0, 0, 1, 0]}


@dataclass
class Served:
    """A running server."""

    process: subprocess.Popen[str]
    port: int

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            link.request(method, path, data, headers or {})
            answer = link.getresponse()
            assert answer.headers["Content-Type"] == "application/json"
            return answer.status, json.loads(answer.read())
        finally:
            link.close()

    def raw(self, data: bytes) -> bytes:
        """All that the server sends on a connection that got `data` and then no more."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as link:
            link.sendall(data)
            link.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: link.recv(65536), b""))


def start(folder: Path, *more: str, metadata: dict[str, Any] = METADATA) -> Served:
    (folder / "metadata.json").write_text(json.dumps(metadata))
    return launch(PROGRAM, folder / "metadata.json", folder, *more)


def launch(program: Path, metadata: Path, model: Path, *more: str) -> Served:
    arguments = ["--host", "127.0.0.1", "--port", "0", "--metadata", str(metadata), "--model", str(model)]
    process = subprocess.Popen(
        [sys.executable, "-I", str(program), *arguments, *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    said = process.stdout.readline()
    assert said.startswith("listening on port "), said
    return Served(process, int(said.split()[-1]))


def until_ready(served: Served) -> None:
    never = threading.Event()
    for _ in range(600):
        if served.ask("GET", "/v2/health/ready")[0] == 200:
            return
        never.wait(0.05)
    raise AssertionError("not ready after 30 s")


def serve(folder: Path, model: str, *more: str, metadata: dict[str, Any] = METADATA) -> Iterator[Served]:
    shutil.copy(FIXTURES / f"{model}.onnx", folder)
    yield from while_running(start(folder, *more, metadata=metadata))


def while_running(served: Served) -> Iterator[Served]:
    try:
        until_ready(served)
        yield served
    finally:
        served.process.kill()
        served.process.communicate()


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    yield from serve(tmp_path_factory.mktemp("classes"), "classes", "--max-body", "4096")


@pytest.fixture(scope="module")
def columns(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    yield from serve(tmp_path_factory.mktemp("columns"), "columns")


def test_health_and_metadata(classes: Served) -> None:
    assert classes.ask("GET", "/v2/health/live") == (200, {"live": True})
    assert classes.ask("GET", "/v2/health/ready") == (200, {"ready": True})
    assert classes.ask("GET", "/metadata") == (200, METADATA)
    assert classes.ask("GET", "/v2")[1]["name"] == "edgetrain-score"


@pytest.mark.parametrize("path", ["/v2/models/cxr-triage", "/v2/models/cxr-triage/versions/3?x=1"])
def test_the_model_describes_itself(classes: Served, path: str) -> None:
    status, told = classes.ask("GET", path)
    assert status == 200
    assert (told["name"], told["versions"]) == ("cxr-triage", ["3"])
    assert told["inputs"] == [{"name": "features", "datatype": "FP32", "shape": [-1, 3]}]
    assert {"name": "scores", "datatype": "FP32", "shape": [-1, 2]} in told["outputs"]
    assert classes.ask("GET", path.partition("?")[0] + "/ready")[1]["ready"] is True


SIGNATURE: dict[str, Any] = {
    "inputs": [{"name": "features", "type": "tensor", "datatype": "FP32", "shape": [8, 3]}],
    "outputs": [
        {"name": "label", "type": "tensor", "datatype": "INT64", "shape": [8]},
        {"name": "ward", "type": "string"},
    ],
}


def test_the_recorded_signature_is_told(tmp_path: Path) -> None:
    for served in serve(tmp_path, "classes", metadata={**METADATA, "signature": SIGNATURE}):
        told = served.ask("GET", "/v2/models/cxr-triage")[1]
        assert told["signature"] == SIGNATURE
        assert told["inputs"] == [{"name": "features", "datatype": "FP32", "shape": [8, 3]}]
        assert {"name": "label", "datatype": "INT64", "shape": [8]} in told["outputs"]
        assert {"name": "scores", "datatype": "FP32", "shape": [-1, 2]} in told["outputs"]


@pytest.mark.parametrize("change", [{"name": "other"}, {"datatype": "FP64"}, {"shape": [3]}])
def test_a_signature_of_another_model_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    shutil.copy(FIXTURES / "classes.onnx", tmp_path)
    wrong = {**SIGNATURE, "inputs": [{**SIGNATURE["inputs"][0], **change}]}
    served = start(tmp_path, metadata={**METADATA, "signature": wrong})
    _, said = served.process.communicate(timeout=30)
    assert served.process.returncode == 1
    assert "recorded signature" in said


@pytest.mark.parametrize("path", [INFER, "/v2/models/cxr-triage/versions/3/infer"])
def test_inference_by_the_protocol(classes: Served, path: str) -> None:
    status, told = classes.ask("POST", path, {"id": "7", "inputs": [FEATURES]})
    assert status == 200
    assert (told["model_name"], told["model_version"], told["id"]) == ("cxr-triage", "3", "7")
    outputs = {one["name"]: one for one in told["outputs"]}
    assert set(outputs) == {"label", "scores", "log"}  # the sequence of maps is no tensor
    assert outputs["label"] == {"name": "label", "datatype": "INT64", "shape": [2], "data": [0, 1]}
    assert outputs["scores"]["shape"] == [2, 2]
    # logits (1, 0) and (0, 3)
    assert outputs["scores"]["data"] == pytest.approx([0.7310586, 0.2689414, 0.0474259, 0.9525741], rel=1e-5)


def test_only_the_outputs_asked_for(classes: Served) -> None:
    nested = {**FEATURES, "data": [[1, 0, 0], [0, 1, 0]]}
    status, told = classes.ask("POST", INFER, {"inputs": [nested], "outputs": [{"name": "label"}]})
    assert status == 200
    assert [(one["name"], one["data"]) for one in told["outputs"]] == [("label", [0, 1])]


def test_rows_to_one_input(classes: Served) -> None:
    status, told = classes.ask("POST", "/score", {"rows": [[1, 0, 0], [0, 1, 0.0]]})
    assert status == 200
    assert (told["model"], told["version"]) == ("cxr-triage", "3")
    assert told["outputs"]["label"] == [0, 1]
    assert told["outputs"]["by_class"][1]["1"] == pytest.approx(0.9525741, rel=1e-5)
    assert told["outputs"]["log"][0][1] is None  # the logarithm of 0 is no JSON number


def test_rows_to_a_column_each(columns: Served) -> None:
    status, told = columns.ask("POST", "/score", {"rows": [[40.5, "müde", True, 255], [1, "", False, 0]]})
    assert status == 200
    assert told["outputs"] == {
        "twice": [[81.0], [2.0]],
        "same_ward": [["müde"], [""]],
        "outpatient": [[False], [True]],
        "same_tests": [[255], [0]],
    }


def test_text_by_the_protocol(columns: Served) -> None:
    data = {"age": [1], "ward": ["a"], "inpatient": [True], "tests": [1]}
    types = {"age": "FP64", "ward": "BYTES", "inpatient": "BOOL", "tests": "UINT8"}
    inputs = [{"name": n, "shape": [1, 1], "datatype": types[n], "data": d} for n, d in data.items()]
    status, told = columns.ask("POST", INFER, {"inputs": inputs})
    assert status == 200
    assert {"name": "same_ward", "datatype": "BYTES", "shape": [1, 1], "data": ["a"]} in told["outputs"]
    assert columns.ask("POST", INFER, {"inputs": inputs[:3]}) == (400, {"error": "input tests is missing"})


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/etc/passwd", 404),
        ("GET", "/v2/models/another", 404),
        ("GET", "/v2/models/cxr-triage/versions/2", 404),
        ("GET", INFER, 405),
        ("GET", "/score", 405),
        ("POST", "/v2/models/cxr-triage", 405),
        ("POST", "/v2/models/cxr-triage/versions/4/infer", 404),
        ("DELETE", "/score", 501),
    ],
)
def test_other_paths_are_refused(classes: Served, method: str, path: str, status: int) -> None:
    found, told = classes.ask(method, path, {} if method == "POST" else None)
    assert found == status
    assert list(told) == ["error"]


BAD_INPUTS = [
    {"name": "other"},
    {"datatype": "FP64"},
    {"shape": [3, 2]},
    {"shape": [2, -3]},
    {"shape": [6]},
    {"shape": "2,3"},
    {"shape": [2, True]},
    {"shape": [10**9, 10**9]},
    {"data": [1, 2, 3]},
    {"data": [[1, 2, 3], [4, 5]]},
    {"data": [[1, 2, 3], 4]},
    {"data": ["1", "0", "0", "0", "1", "0"]},
    {"data": [True] * 6},
    {"data": [None] * 6},
    {"data": [1e39] * 6},
    {"data": [1, 0, 0, 0, 1, 10**400]},
    {"data": {}},
    {"data": None},
]


@pytest.mark.parametrize("fault", BAD_INPUTS, ids=lambda fault: str(fault)[:40])
def test_a_bad_tensor_is_told_cleanly(classes: Served, fault: dict[str, Any]) -> None:
    status, told = classes.ask("POST", INFER, {"inputs": [{**FEATURES, **fault}]})
    assert status == 400
    assert list(told) == ["error"]
    assert "Traceback" not in told["error"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 4000,
        b'{"rows": NaN}',
        b'{"rows": [[1, 2, Infinity]]}',
        b'{"rows": [[1, 2, 1e999]]}',
        b'{"rows": [[1, 2]]}',
        b'{"rows": [[1, 2, 3], [1, 2]]}',
        b'{"rows": []}',
        b'{"rows": "x"}',
        b"{}",
    ],
)
def test_bad_rows_are_told_cleanly(classes: Served, body: bytes) -> None:
    status, told = classes.ask("POST", "/score", body)
    assert status == 400
    assert list(told) == ["error"]


@pytest.mark.parametrize("value", [-1, 256, 1.5, "1"])
def test_an_integer_that_does_not_fit_is_refused(columns: Served, value: object) -> None:
    assert columns.ask("POST", "/score", {"rows": [[1, "a", True, value]]})[0] == 400


def test_the_body_is_bounded_before_it_is_read(classes: Served) -> None:
    assert classes.ask("POST", "/score", b" " * 4097)[0] == 413
    head = b"POST /score HTTP/1.1\r\nHost: x\r\n"
    assert classes.raw(head + b"Content-Length: 999999999999\r\n\r\n").startswith(b"HTTP/1.1 413")
    assert classes.raw(head + b"Content-Length: -1\r\n\r\n").startswith(b"HTTP/1.1 411")
    assert classes.raw(head + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n").startswith(b"HTTP/1.1 411")
    assert classes.raw(head + b"\r\n").startswith(b"HTTP/1.1 411")
    assert classes.raw(head + b"Content-Length: 10\r\n\r\n{").startswith(b"HTTP/1.1 400")


def test_what_follows_an_unread_body_is_no_request(classes: Served) -> None:
    smuggled = b"GET /metadata HTTP/1.1\r\nHost: x\r\n\r\n"
    head = b"POST /score HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"
    answer = classes.raw(head + smuggled)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"sha256" not in answer


@pytest.mark.parametrize(
    "line", [b"\0\0\0\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET /" + b"a" * 70000]
)
def test_a_bad_request_line_is_answered_in_json_or_not_at_all(classes: Served, line: bytes) -> None:
    answer = classes.raw(line)
    assert b"<html" not in answer.lower()
    assert b"Python" not in answer
    assert classes.ask("GET", "/v2/health/live")[0] == 200


def test_a_connection_serves_several_requests(classes: Served) -> None:
    link = http.client.HTTPConnection("127.0.0.1", classes.port, timeout=20)
    for _ in range(3):
        link.request("POST", "/score", json.dumps({"rows": [[1, 0, 0]]}))
        answer = link.getresponse()
        assert json.loads(answer.read())["outputs"]["label"] == [0]
    link.close()


def test_it_ends_well_on_sigterm_even_with_an_idle_connection(tmp_path: Path) -> None:
    shutil.copy(FIXTURES / "classes.onnx", tmp_path)
    served = start(tmp_path)
    until_ready(served)
    with socket.create_connection(("127.0.0.1", served.port)):
        served.process.send_signal(signal.SIGTERM)
        _, errors = served.process.communicate(timeout=20)
    assert served.process.returncode == 0
    assert "Traceback" not in errors


@pytest.mark.parametrize("content", [None, b"not a model"])
def test_without_a_model_it_says_so_and_ends(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "bad.onnx").write_bytes(content)
    served = start(tmp_path)
    _, errors = served.process.communicate(timeout=30)
    assert served.process.returncode == 1
    assert "can't load the model" in errors
    assert "Traceback" not in errors


def test_a_failing_model_tells_nothing_of_its_inside(tmp_path: Path) -> None:
    # Loads, and fails when it runs: the reshape that its graph asks for can't be.
    for served in serve(tmp_path, "fails"):
        status, told = served.ask("POST", "/score", {"rows": [[1.0, 2.0, 3.0]]})
        assert (status, told) == (500, {"error": "the model failed on this request"})
        assert served.ask("GET", "/v2/health/live")[0] == 200


LOADS = """\
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import score
model = score.Model({"model": "m", "version": "1"}, Path(sys.argv[2]))
model.load()
sys.exit(not model.ready)
"""


def test_onnx_runtime_is_told_to_be_silent_before_it_can_speak(tmp_path: Path) -> None:
    """Else, where CI is not set, it makes the machine an identity as it is loaded, and sends it to its makers."""
    home, model = tmp_path / "home", tmp_path / "model"
    for folder in (home, model):
        folder.mkdir()
    shutil.copy(FIXTURES / "classes.onnx", model)
    line = [sys.executable, "-I", "-c", LOADS, str(PROGRAM.parent), str(model)]
    subprocess.run(line, env={"HOME": str(home)}, check=True)
    assert list(home.rglob("*")) == []


def test_what_an_image_holds_serves(tmp_path: Path) -> None:
    onnx = (FIXTURES / "classes.onnx").read_bytes()
    image = assembly.assemble(
        about=assembly.About("cxr-triage", "3", "5" * 40, "2026-10-01T12:00:00Z"),
        scoring=assembly.scoring_files("cxr-triage", 3, {"identity": "sha256:" + "a" * 64}),
        model=[LayerFile.of_bytes("model/model.onnx", onnx)],
    )
    for layer in image.layers:
        with layer.open() as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            tar.extractall(tmp_path, filter="data")
    app = tmp_path / "app"
    for served in while_running(launch(app / "score.py", app / "metadata.json", tmp_path / "model")):
        assert served.ask("GET", "/metadata")[1]["identity"] == "sha256:" + "a" * 64
        assert served.ask("POST", "/score", {"rows": [[1, 0, 0]]})[1]["outputs"]["label"] == [0]
