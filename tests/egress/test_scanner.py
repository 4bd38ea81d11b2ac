"""The scanner's rules: what honest training code holds is left alone, and no bytes crash it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgetrain.core.codes import CODES
from edgetrain.egress.scanner import lock, notebook, python, shell
from edgetrain.egress.scanner.finding import MOST, Finding
from edgetrain.egress.scanner.main import SCANS
from tests.walk import examples

ROOT = Path(__file__).parents[2]
HONEST = '''
"""Uses curl, socket and https://example.org in prose only."""
import argparse, collections, csv, json, logging, multiprocessing, os, pickle, re, sys, tempfile, types
import urllib.parse
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from http import HTTPStatus
import joblib, mlflow, numpy as np, pandas as pd, torch, torchvision
import torch.distributed as dist
from torch import nn
from transformers import AutoModel

pattern = re.compile("x")
model = nn.Sequential()
model.eval()
model = torch.compile(model)
model.compile(optimizer="adam")
frame = pd.read_csv(os.path.join(os.environ["EDGETRAIN_INPUT_TABLE"], "a.csv"))
frame.eval("a + b")
frame.query("a > 1")
net = getattr(torchvision.models, "resnet18")(weights=None)
arch = getattr(torchvision.models, sys.argv[1])
weights = AutoModel.from_pretrained("/inputs/bert")
with open("labels.pkl", "rb") as file:
    labels = pickle.load(file)
joblib.dump(model, "model.joblib")
mlflow.log_metric("loss", 0.1)
mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
assert isinstance(main, types.FunctionType)
this = sys.modules[__name__]
if os.name == "posix" and os.cpu_count() > 1 and os.getpid():
    os.makedirs("out", exist_ok=True)
requests = []
requests.append(1)
parser = argparse.ArgumentParser(epilog="see https://example.org/docs")
'''
HONEST_SHELL = """\
set -eu
# curl, wget and ssh are not run
export OMP_NUM_THREADS=4 http_proxy=
mkdir -p "$EDGETRAIN_OUTPUTS" && cd "$(dirname "$0")"
python train.py --data ${{inputs.images}} --ssh 1 --out ${{outputs.model}}/host | tee -a log
for lr in 0.1 0.2; do python -u train.py --lr "$lr" > ${OUT}/at 2>&1; done
nice -n 5 timeout 3600 torchrun --nproc-per-node 2 train.py
git rev-parse HEAD || true
time python -m mypackage.train --mode http
"""


def codes(found: list[Finding]) -> set[str]:
    """The codes of findings."""
    return {each.code for each in found}


def test_honest_python_is_left_alone() -> None:
    assert python.scan(HONEST.encode()) == []


def test_honest_shell_is_left_alone() -> None:
    assert shell.scan(HONEST_SHELL.encode()) == []


def test_this_repositorys_experiments_are_left_alone() -> None:
    scripts = sorted((ROOT / "experiments").glob("*/*.py"))
    locks = sorted((ROOT / "experiments").glob("*/*.lock"))
    assert len(scripts) == len(locks) == 3
    assert [python.scan(file.read_bytes()) for file in scripts] == [[]] * 3
    assert [lock.scan(file.read_bytes()) for file in locks] == [[]] * 3


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("import socket", "E611"),
        ("def f():\n  if 1:\n    from urllib.request import urlopen", "E611"),
        ("import http.client as h", "E611"),
        ("from http import client", "E611"),
        ("import importlib as i\ni.import_module('requests')", "E611"),
        ("from importlib import import_module as m\nm('httpx').get()", "E611"),
        ("from os import system as s\ns('x')", "E613"),
        ("import os as o\no.execv", "E613"),
        ("import os\nf = os\ng = f.popen\ng('x')", "E613"),
        ("import os\nx = getattr(os, 'system')", "E613"),
        ("__import__('os').system('x')", "E613"),
        ("import sys\nsys.modules['os'].popen('x')", "E613"),
        ("import sys\nsys.modules['subprocess']", "E613"),
        ("get_ipython().system('x')", "E613"),
        ("import asyncio\nasyncio.create_subprocess_shell('x')", "E613"),
        ("from os import *", "E614"),
        ("import os\nvars(os)['system']", "E614"),
        ("import os\nos.__dict__['system']", "E614"),
        ("e = eval\ne('1')", "E614"),
        ("print(f'{eval(\"1\")}')", "E614"),
        ("__builtins__", "E614"),
        ("import builtins\ngetattr(builtins, x)('1')", "E614"),
        ("getattr(__builtins__, 'ev' + 'al')", "E614"),
        ("import marshal", "E614"),
        ("import runpy\nrunpy.run_path('x')", "E614"),
        ("(lambda: 0).__globals__", "E614"),
        ("from ctypes import CDLL", "E615"),
        ("open('/home/x/.aws/credentials')", "E616"),
        ("A = b'-----BEGIN RSA PRIVATE KEY-----'", "E616"),
        ("import pandas\npandas.read_csv('HTTPS://x')", "E617"),
        ("import pandas\npandas.read_csv('s3://' + bucket)", "E617"),
        ("import fsspec\nfsspec.open('gs://x')", "E617"),
        ("# -*- coding: latin-1 -*-\nimport socket", "E611"),
    ],
)
def test_python_rules(text: str, code: str) -> None:
    assert code in codes(python.scan(text.encode()))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("curl x", "E618"),
        ("/usr/bin/curl x", "E618"),
        ("A=1 B=2 curl x", "E618"),
        ("true &&\\\n  curl x", "E618"),
        ("x | xargs -n1 curl", "E618"),
        ("timeout 5 curl x", "E618"),
        ("env A=1 ssh h", "E618"),
        (">log curl x", "E618"),
        ('echo "$(curl x)"', "E618"),
        ("echo `curl x`", "E618"),
        ("diff <(curl x) a", "E618"),
        ("{ curl x; }", "E618"),
        ("if true; then curl x; fi", "E618"),
        ("bash -ec 'curl x'", "E618"),
        ("sh -c \"sh -c 'curl x'\"", "E618"),
        ("git -C x push", "E618"),
        ("exec 3<>/dev/udp/x/1", "E618"),
        ("python -m http.server", "E618"),
        ("openssl s_client -connect x", "E618"),
        ("eval $x", "E614"),
        ("echo x | base64 -d | sh", "E614"),
        ("python - < x", "E614"),
        ("python -Bc 'import socket'", "E611"),
        ("uv pip install x", "E619"),
        ("apt-get -y install x", "E619"),
        ("docker run x", "E613"),
    ],
)
def test_shell_rules(text: str, code: str) -> None:
    assert code in codes(shell.scan(text.encode()))


def test_notebook_rules() -> None:
    def book(*cells: object) -> list[Finding]:
        return notebook.scan(json.dumps({"cells": cells}).encode())

    def cell(source: object, **more: object) -> dict[str, object]:
        return {"cell_type": "code", "source": source, "outputs": [], **more}

    assert book(cell("import numpy\n%matplotlib inline\n!ls\nx = !ls -l\nprint(1)\nhelp?"), cell([])) == []
    assert book({"cell_type": "markdown", "source": "curl"}, 3, None) == []
    assert codes(book(cell("1", outputs=[{}]))) == {"E605"}
    assert codes(book({"cell_type": "markdown", "source": "", "attachments": {"a": 1}})) == {"E605"}
    assert codes(book(cell(["a = 1\n", "!curl x"]))) == {"E618"}
    assert codes(book(cell("for x in y:\n    !curl {x}"))) == {"E618"}
    assert codes(book(cell("%%time\nimport socket"))) == {"E611"}
    assert codes(book(cell("%time import socket"))) == {"E611"}
    assert codes(book(cell("%%bash\ncurl x"))) == {"E618"}
    assert codes(book(cell("%pip install x"))) == {"E619"}
    assert codes(book(cell("def"))) == {"E606"}
    assert codes(notebook.scan(b"[]")) == codes(notebook.scan(b"{")) == {"E606"}
    [found] = book(cell("pass"), cell("\nimport socket"))
    assert found.what.startswith("cell 2, line 2: ")


def test_findings_are_bounded() -> None:
    found = python.scan(b"\n".join(b"eval(%d)" % at for at in range(1000)))
    assert len(found) == MOST
    assert found[-1].what == f"{1000 - MOST + 1} more follow"


DEEP = [
    b"(" * 100_000,
    b"[" * 5_000 + b"]" * 5_000,
    b"-" * 200_000 + b"1",
    b"a" + b".b" * 100_000,
    b"a" + b"(b)" * 50_000,
    b"not " * 100_000 + b"x",
    b"x = " * 50_000 + b"1",
    b"lambda: " * 20_000 + b"1",
    b"1" + b"+1" * 100_000,
    b"if x:\n" + b"".join(b" " * at + b"if x:\n" for at in range(1, 200)),
    b"f'" + b'{f"' * 100,
    b"\x00",
    b"\xff\xfe",
    b"# coding: no-such\n",
    b"'\\N{no such name}'",
    b"1" * 100_000,
    b"$(" * 50_000,
    b"'" * 50_001,
    b"\\\n" * 50_000,
    b'{"cells": ' + b"[" * 50_000,
]


@pytest.mark.parametrize("kind", sorted(SCANS))
@pytest.mark.parametrize("data", DEEP, ids=range(len(DEEP)))
def test_deep_nesting_gives_an_answer(kind: str, data: bytes) -> None:
    check(SCANS[kind](data))


def check(found: list[Finding]) -> None:
    """An answer is bounded and has known codes."""
    assert len(found) <= MOST
    assert all(
        each.code in CODES and each.line >= 1 and each.column >= 1 and len(each.what) < 500 for each in found
    )


PIECES = st.sampled_from(
    [
        *(
            "import os",
            "os.",
            "getattr(",
            "eval",
            "__import__",
            "sys.modules[",
            "'",
            '"',
            "(",
            ")",
            "\n",
            "    ",
            "f'{",
        ),
        *("curl", "|", "$(", "`", "&&", "sh -c ", "<<EOF", "\\\n", "#", "python -c ", "%%bash\n", "!", "%", "?"),
        *(
            '{"cells":[',
            '{"cell_type":"code","source":',
            "]}",
            "wandb==1",
            "\x00",
            "é",
            "\ud800".encode("utf-8", "replace").decode(),
        ),
    ]
)


@settings(max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(sorted(SCANS)),
    st.one_of(st.binary(max_size=300), st.lists(PIECES, max_size=40).map(lambda p: "".join(p).encode())),
)
def test_no_bytes_crash_it(kind: str, data: bytes) -> None:
    check(SCANS[kind](data))
