"""The scoring server of an image: serves one ONNX model over the Open Inference Protocol v2 and plain JSON.

It stands alone: standard library, onnxruntime and its NumPy, which the base image brings.

    GET  /v2  /v2/health/live  /v2/health/ready  /metadata
    GET  /v2/models/NAME[/versions/N][/ready]
    POST /v2/models/NAME[/versions/N]/infer   {"inputs": [{"name", "shape", "datatype", "data"}]}
    POST /score                               {"rows": [[...], ...]}
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import re
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

CONNECTIONS = 64
METADATA_SIZE = 2**20
# Datatype of the protocol: ONNX Runtime's name of it, NumPy's name of it.
DATATYPES = {
    "BOOL": ("bool", "bool"),
    **{f"{sign}INT{bits}".upper(): (f"{sign}int{bits}",) * 2 for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "FP16": ("float16", "float16"),
    "FP32": ("float", "float32"),
    "FP64": ("double", "float64"),
    "BYTES": ("string", "object"),
}
OF_ONNX = {f"tensor({onnx})": name for name, (onnx, _) in DATATYPES.items()}
MODEL_PATH = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?(?:/(ready|infer))?")


class Refused(Exception):
    """What is wrong with a request: a status and a sentence for its sender."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Model:
    """The model of the image: `metadata` as in /app/metadata.json, and the session once it is loaded."""

    def __init__(self, metadata: dict[str, Any], folder: Path) -> None:
        self.metadata = metadata
        self.name = str(metadata["model"])
        self.version = str(metadata["version"])
        self._folder = folder
        self._session: Any = None
        self._numpy: Any = None
        self._signature: dict[str, Any] = metadata.get("signature") or {}

    @property
    def ready(self) -> bool:
        """Whether the model is loaded."""
        return self._session is not None

    def load(self) -> None:
        """Load the one .onnx file. Raises whatever ONNX Runtime raises; ValueError if there is not one."""
        found = sorted(self._folder.glob("*.onnx"))
        if len(found) != 1:
            raise ValueError(f"{self._folder} holds {len(found)} .onnx files; it must hold one")
        # Before the import: it reads this once, and has told of itself by the time that it can be asked not to.
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
        runtime = importlib.import_module("onnxruntime")
        self._numpy = importlib.import_module("numpy")
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        session = runtime.InferenceSession(str(found[0]), options, providers=["CPUExecutionProvider"])
        _tensors(session, self._signature)  # Of another model: not one request is answered.
        self._session = session

    def describe(self) -> dict[str, Any]:
        """The protocol's model metadata, and the recorded signature as it stands."""
        told = {"name": self.name, "versions": [self.version], "platform": "onnx_onnxv1"}
        recorded = {"signature": self._signature} if self._signature else {}
        return {**told, **_tensors(self._session, self._signature), **recorded}

    def infer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer an inference request of the protocol."""
        feed = {}
        for tensor in _list_of(dict, request.get("inputs"), "inputs"):
            wanted = self._input(tensor.get("name"))
            datatype = OF_ONNX.get(wanted.type)
            if datatype is None or tensor.get("datatype") != datatype:
                raise Refused(400, f"input {wanted.name} has the datatype {datatype}")
            shape = _list_of(int, tensor.get("shape"), "shape")
            feed[wanted.name] = self._array(wanted, tensor.get("data"), shape)
        asked = [str(one.get("name")) for one in _list_of(dict, request.get("outputs", []), "outputs")]
        types = {one.name: OF_ONNX[one.type] for one in self._session.get_outputs() if one.type in OF_ONNX}
        if unknown := [name for name in asked if name not in types]:
            raise Refused(400, f"no output {unknown[0][:80]!r}; there are: {', '.join(types)}")
        names = asked or list(types)
        answer: dict[str, Any] = {"model_name": self.name, "model_version": self.version}
        if "id" in request:
            answer["id"] = str(request["id"])[:200]
        answer["outputs"] = [
            {"name": n, "datatype": types[n], "shape": list(value.shape), "data": _plain(value.ravel().tolist())}
            for n, value in zip(names, self._run(names, feed), strict=True)
        ]
        return answer

    def score(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer rows: all columns to the one input, or a column to each of several inputs."""
        rows = _list_of(list, request.get("rows"), "rows")
        inputs = self._session.get_inputs()
        if len(inputs) == 1:
            feed = {inputs[0].name: self._array(inputs[0], rows, [len(rows), *_shape(rows[0] if rows else [])])}
        else:
            if any(len(row) != len(inputs) for row in rows):
                raise Refused(400, f"each row must have {len(inputs)} values: {', '.join(i.name for i in inputs)}")
            columns = ([row[n] for row in rows] for n in range(len(inputs)))
            feed = {one.name: self._array(one, next(columns), [len(rows), 1]) for one in inputs}
        names = [one.name for one in self._session.get_outputs()]
        outputs = {name: _plain(value) for name, value in zip(names, self._run(names, feed), strict=True)}
        return {"model": self.name, "version": self.version, "outputs": outputs}

    def _input(self, name: object) -> Any:
        inputs = {one.name: one for one in self._session.get_inputs()}
        if not isinstance(name, str) or name not in inputs:
            raise Refused(400, f"no input {str(name)[:80]!r}; there are: {', '.join(inputs)}")
        return inputs[name]

    def _array(self, wanted: Any, data: object, shape: list[int]) -> Any:
        datatype = OF_ONNX.get(wanted.type)
        if datatype is None:
            raise Refused(400, f"input {wanted.name} is no tensor")
        flat = _flat(data, datatype, wanted.name)
        if any(side < 0 for side in shape) or math.prod(shape) != len(flat):
            raise Refused(400, f"input {wanted.name}: the data do not have the shape {shape}")
        fixed = _dims(wanted.shape)
        if len(fixed) != len(shape) or any(f not in (-1, s) for f, s in zip(fixed, shape, strict=True)):
            raise Refused(400, f"input {wanted.name} has the shape {fixed}, the data {shape}")
        try:
            array = self._numpy.array(flat, dtype=DATATYPES[datatype][1])
        except (OverflowError, ValueError):
            raise Refused(400, f"input {wanted.name}: a value does not fit {datatype}") from None
        if datatype.startswith("FP") and not self._numpy.isfinite(array).all():
            raise Refused(400, f"input {wanted.name}: a value does not fit {datatype}")
        return array.reshape(shape)

    def _run(self, names: list[str], feed: dict[str, Any]) -> list[Any]:
        if missing := [one.name for one in self._session.get_inputs() if one.name not in feed]:
            raise Refused(400, f"input {missing[0]} is missing")
        return list(self._session.run(names, feed))


class Handler(BaseHTTPRequestHandler):
    """One connection. Every answer is JSON; an error is `{"error": "..."}` and nothing of our inside."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "edgetrain-score"
    sys_version = ""
    timeout = 30

    def do_GET(self) -> None:
        """Health, metadata, model metadata."""
        self._handle(self._get)

    def do_POST(self) -> None:
        """Inference."""
        self._handle(self._post)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """The base class's own refusals (a bad request line, an unknown method), as JSON."""
        self.close_connection = True
        self._answer(code, {"error": message or self.responses.get(code, ("refused", ""))[0]})

    def _handle(self, work: Any) -> None:
        try:
            status, value = work(self.path.partition("?")[0])
        except Refused as refusal:
            status, value = refusal.status, {"error": str(refusal)}
        except OSError:  # the client went away or was too slow
            self.close_connection = True
            return
        except Exception as error:
            # ONNX Runtime's text can hold values of the request: the log gets the kind only.
            self.log_error("failed: %s", type(error).__name__)
            status, value = 500, {"error": "the model failed on this request"}
        self._answer(status, value)

    def _get(self, path: str) -> tuple[int, Any]:
        model = self.server.model
        if path == "/v2":
            return 200, {"name": "edgetrain-score", "version": "1", "extensions": []}
        if path == "/v2/health/live":
            return 200, {"live": True}
        ready = 200 if model.ready else 503
        if path == "/v2/health/ready":
            return ready, {"ready": model.ready}
        if path == "/metadata":
            return 200, model.metadata
        verb = "infer" if path == "/score" else self._verb(path)
        if verb == "ready":
            return ready, {"name": model.name, "ready": model.ready}
        if verb:
            raise Refused(405, "use POST")
        self._need_ready()
        return 200, model.describe()

    def _post(self, path: str) -> tuple[int, Any]:
        body = self._body()
        model = self.server.model
        if path == "/score":
            self._need_ready()
            return 200, model.score(body)
        if self._verb(path) != "infer":
            raise Refused(405, "use GET")
        self._need_ready()
        return 200, model.infer(body)

    def _verb(self, path: str) -> str:
        """`infer`, `ready` or nothing, of a path under this very model."""
        found = MODEL_PATH.fullmatch(path)
        model = self.server.model
        if not found:
            raise Refused(404, "no such path")
        if found[1] != model.name or found[2] not in (None, model.version):
            raise Refused(404, f"this image serves {model.name}, version {model.version}")
        return found[3] or ""

    def _need_ready(self) -> None:
        if not self.server.model.ready:
            raise Refused(503, "the model is still loading")

    def _body(self) -> dict[str, Any]:
        length = self.headers.get("Content-Length", "")
        self.close_connection = True  # until the whole body is read, what follows is no request
        if "Transfer-Encoding" in self.headers or not re.fullmatch(r"[0-9]{1,15}", length):
            raise Refused(411, "give a Content-Length")
        if int(length) > self.server.max_body:
            raise Refused(413, f"the body is over {self.server.max_body} bytes")
        data = self.rfile.read(int(length))
        if len(data) < int(length):
            raise Refused(400, "the body is shorter than its Content-Length")
        self.close_connection = self.headers.get("Connection", "").lower() == "close"
        try:
            body = json.loads(data, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            raise Refused(400, "the body is not JSON") from None
        if not isinstance(body, dict):
            raise Refused(400, "the body is not a JSON object")
        return body

    def _answer(self, status: int, value: Any) -> None:
        data = json.dumps(value, allow_nan=False).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)


class Server(ThreadingHTTPServer):
    """A bounded number of connections, each in a thread."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], model: Model, max_body: int) -> None:
        super().__init__(address, Handler)
        self.model = model
        self.max_body = max_body
        self._slots = threading.BoundedSemaphore(CONNECTIONS)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Go on in a thread; without a free slot, hang up."""
        if self._slots.acquire(timeout=1):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve the connection and free its slot."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke; no traceback."""
        print(f"connection ended: {type(sys.exc_info()[1]).__name__}", file=sys.stderr, flush=True)


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _described(one: Any) -> dict[str, Any]:
    return {"name": one.name, "datatype": OF_ONNX.get(one.type, one.type), "shape": _dims(one.shape)}


def _tensors(session: Any, signature: dict[str, Any]) -> dict[str, Any]:
    """Inputs and outputs, in the recorded shapes. Raises ValueError if the record is of another model."""
    outputs = [one for one in session.get_outputs() if one.type in OF_ONNX]
    sides = {"inputs": [*map(_described, session.get_inputs())], "outputs": [*map(_described, outputs)]}
    for side, tensors in sides.items():
        said = {one["name"]: one for one in signature.get(side, []) if one.get("type") == "tensor"}
        for own in tensors:
            told = {**own, **said.pop(own["name"], {})}
            if told["datatype"] != own["datatype"] or len(told["shape"]) != len(own["shape"]):
                raise ValueError(f"the recorded signature of {own['name']} is not the model's")
            own["shape"] = told["shape"]
        if said:
            raise ValueError(f"the model has no {', '.join(sorted(said))}, which its recorded signature names")
    return sides


def _dims(shape: list[Any]) -> list[int]:
    return [side if isinstance(side, int) else -1 for side in shape]


def _list_of(kind: type, value: object, name: str) -> list[Any]:
    if not isinstance(value, list) or not all(type(item) is kind for item in value):
        raise Refused(400, f"{name} must be a list of {'numbers' if kind is int else kind.__name__ + 's'}")
    return value


def _shape(value: object) -> list[int]:
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    return shape


def _flat(data: object, datatype: str, name: str) -> list[Any]:
    """The values in row-major order. Raises Refused for ragged lists or a value of another type."""
    level = data
    while isinstance(level, list) and level and isinstance(level[0], list):
        if any(not isinstance(item, list) or len(item) != len(level[0]) for item in level):
            raise Refused(400, f"input {name}: the rows differ in length")
        level = [item for inner in level for item in inner]
    kinds = {"BOOL": (bool,), "BYTES": (str,)}.get(datatype, (int, float) if datatype.startswith("FP") else (int,))
    if not isinstance(level, list) or any(type(item) not in kinds for item in level):
        raise Refused(400, f"input {name}: give {datatype} values")
    return level


def _plain(value: Any) -> Any:
    """As JSON can tell it: what is not finite becomes null."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; 1 if the model can't be loaded."""
    parser = argparse.ArgumentParser(description="serve the model of this image")
    parser.add_argument("--host", default="0.0.0.0")  # noqa: S104  a container is reached from outside
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free one")
    parser.add_argument("--metadata", type=Path, default=Path("/app/metadata.json"))
    parser.add_argument("--model", type=Path, default=Path("/model"), help="the folder of the .onnx file")
    parser.add_argument("--max-body", type=int, default=16 * 2**20, help="bytes")
    chosen = parser.parse_args(arguments)
    with chosen.metadata.open("rb") as file:
        metadata = json.loads(file.read(METADATA_SIZE))
    server = Server((chosen.host, chosen.port), Model(metadata, chosen.model), chosen.max_body)
    failed = threading.Event()

    def stop(*_: object) -> None:
        threading.Thread(target=server.shutdown).start()

    def load() -> None:
        try:
            server.model.load()
        except Exception as error:
            print(f"can't load the model: {error}", file=sys.stderr, flush=True)
            failed.set()
            server.shutdown()

    for number in (signal.SIGTERM, signal.SIGINT):  # as process 1 of a container we get no default action
        signal.signal(number, stop)
    print(f"listening on port {server.server_address[1]}", flush=True)
    threading.Thread(target=load, daemon=True).start()
    server.serve_forever()
    return 1 if failed.is_set() else 0


if __name__ == "__main__":
    os._exit(main())  # not waiting for idle connections; all that is printed is flushed
