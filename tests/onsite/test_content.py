"""The content check as a program: what it tells, its bounds, and what it never does."""

from __future__ import annotations

import ast
import gzip
import io
import json
import os
import pickle
import random
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import pytest

from edgetrain.onsite import ONSITE

from .content import ROWS, TABLE, codes, run

SOME = "\n".join(ROWS[50:60])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "private"
    folder.mkdir()
    (folder / "table.csv").write_text(TABLE)
    return folder


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    folder = tmp_path / "outputs"
    folder.mkdir()
    return folder


def test_the_report_is_whole_and_tells_nothing_of_the_data(data: Path, outputs: Path) -> None:
    (outputs / "model").write_text("weights\n" + SOME)
    report = run(outputs, data)
    assert set(report) == {
        *("complete", "reason", "findings", "files", "bytes", "fingerprints", "coverage", "data", "seconds"),
    }
    assert codes(report) == {("E701", "model")}
    assert (report["files"], report["coverage"], report["data"]) == (1, 1.0, len(TABLE))
    assert report["bytes"] >= len(SOME)
    assert report["fingerprints"] > len(ROWS)
    said = json.dumps(report)
    assert not [cell for row in ROWS for cell in row.split(",")[:2] if cell in said and not cell.isdigit()]
    assert "table.csv" not in said


def test_the_report_is_the_same_each_time_but_for_its_seconds(data: Path, outputs: Path) -> None:
    (outputs / "a").write_text(SOME)
    (outputs / "b").write_bytes(random.Random(1).randbytes(20_000) + SOME.encode())
    first, second = (run(outputs, data) for _ in range(2))
    assert {**first, "seconds": 0} == {**second, "seconds": 0}


@pytest.mark.parametrize("at", [0, 4096 - 8 * 30, 4096, 4096 + 8 * 30, 2 * 4096 - 5])
@pytest.mark.parametrize("kind", ["d", "f"])
def test_rows_between_empty_weights_are_found(data: Path, outputs: Path, at: int, kind: str) -> None:
    rows = [float(cell) for row in ROWS[50:200] for cell in row.split(",")[2:6]]
    (outputs / "model.bin").write_bytes(bytes(at) + struct.pack(f"<{len(rows)}{kind}", *rows) + bytes(3 * 4096))
    assert codes(run(outputs, data)) == {("E701", "model.bin")}


def test_of_empty_weights_there_is_little_to_look_at(data: Path, outputs: Path) -> None:
    """What is read as numbers is looked at several times over: so a bomb of zeros is none."""
    size = 16 * 2**20
    with zipfile.ZipFile(outputs / "model.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("weights", bytes(size))
    report = run(outputs, data)
    assert codes(report) == set()
    assert size < report["bytes"] < 1.1 * size


@pytest.mark.parametrize(
    "clean",
    [
        b"",
        b"id,name,dose,pulse,age,level,unit",
        b"mean dose 514.2, mean pulse 1602.1, classes unit 0, unit 1, unit 2, unit 3",
        "\n".join(map(str, range(5000))).encode(),
        b"0 1 0 1 " * 4000,
        struct.pack("<9999d", *(at / 7 for at in range(9999))),
        random.Random(2).randbytes(300_000),
        json.dumps({"confusion": [[120, 3], [7, 269]], "classes": ["unit 0", "unit 1"]}).encode(),
    ],
    ids=["empty", "header", "summary", "counting", "alternating", "even steps", "noise", "json"],
)
def test_what_is_no_row_passes(data: Path, outputs: Path, clean: bytes) -> None:
    (outputs / "model").write_bytes(clean)
    assert codes(run(outputs, data)) == set()


def test_where_it_shows_is_told(data: Path, outputs: Path, tmp_path: Path) -> None:
    (outputs / "model").write_bytes(b"weights")
    log = tmp_path / "log"
    log.write_text("epoch 1\n" + SOME)
    values = [float(cell) for row in ROWS[:6] for cell in row.split(",")[2:6]]
    assert codes(run(outputs, data, logged=log)) == set()
    found = run(
        outputs,
        data,
        logged=log,
        log=True,
        texts={"message": ROWS[3]},
        metrics={f"m{at}": value for at, value in enumerate(values)},
        history=[("loss", value) for value in values],
    )
    assert codes(found) == {("E701", "log"), ("E701", "message"), ("E701", "metrics"), ("E701", "metric history")}


def test_waivers_hold_for_their_code_and_place(data: Path, outputs: Path) -> None:
    (outputs / "a").mkdir()
    (outputs / "a" / "m").write_text(SOME)
    (outputs / "ab").write_text(SOME)

    def waived(*waivers: tuple[str, str]) -> dict[str, bool]:
        return {one["where"]: one["waived"] for one in run(outputs, data, waived=waivers)["findings"]}

    assert waived() == {"a/m": False, "ab": False}
    assert waived(("E701", "a")) == {"a/m": True, "ab": False}
    assert waived(("E701", "a/m")) == {"a/m": True, "ab": False}
    assert waived(("E701", "")) == {"a/m": True, "ab": True}
    assert waived(("E702", "")) == {"a/m": False, "ab": False}


def bomb() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a", "w") as file:
        for _ in range(250):
            file.write(bytes(2**20))
    return packed.getvalue()


def nested() -> bytes:
    content = SOME.encode()
    for _ in range(20):
        content = gzip.compress(content)
    return content


@pytest.mark.parametrize("content", [bomb(), nested(), gzip.compress(bytes(2**28))], ids=["zip", "nested", "gzip"])
def test_bombs_end_the_check_and_nothing_leaves(data: Path, outputs: Path, content: bytes) -> None:
    (outputs / "model").write_bytes(content)
    report = run(outputs, data)
    assert not report["complete"]
    assert report["reason"]


@pytest.mark.parametrize("rules", [{"max_expanded": 1000}, {"seconds": 0}])
def test_limits_end_the_check(data: Path, outputs: Path, rules: dict[str, int]) -> None:
    (outputs / "model").write_bytes(random.Random(3).randbytes(100_000))
    report = run(outputs, data, **rules)
    assert not report["complete"]
    assert report["reason"]


def test_an_output_that_changed_into_a_link_ends_the_check(data: Path, outputs: Path) -> None:
    (outputs / "model").symlink_to(data / "table.csv")
    report = run(outputs, data, files={"model": "custom_model"})
    assert (report["complete"], report["findings"]) == (False, [])


def test_nothing_is_unpickled(data: Path, outputs: Path, tmp_path: Path) -> None:
    class Called:
        def __reduce__(self) -> object:
            return (os.mkdir, (str(tmp_path / "called"),))

    (outputs / "model.pkl").write_bytes(pickle.dumps([Called(), ROWS[:9]]))
    assert codes(run(outputs, data)) == {("E701", "model.pkl")}
    assert not (tmp_path / "called").exists()


def test_hostile_bytes_end_nothing(data: Path, outputs: Path) -> None:
    dice = random.Random(5)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a", "clean")
    starts = {
        "zip": packed.getvalue(),
        "gz": gzip.compress(b"clean" * 99),
        "npy": b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (9, 9)}\n" + bytes(700),
        "pkl": pickle.dumps({"a": [1.5, "b", b"c" * 50]}),
        "onnx": b"\x08\x08\x3a\x10\x0a\x0e\x0a\x01x\x12\x01y\x22\x06Concat",
        "png": b"\x89PNG\r\n\x1a\n\0\0\0\x09IDAT" + zlib.compress(bytes(50)),
        "tar": b"a".ljust(257, b"\0") + b"ustar\0" + bytes(900),
    }
    for kind, start in starts.items():
        for number in range(25):
            content = bytearray(start)
            for _ in range(dice.randrange(1, 6)):
                content[dice.randrange(len(content))] = dice.randrange(256)
            (outputs / f"{number}.{kind}").write_bytes(content[: dice.randrange(1, len(content) + 1)])
    report = run(outputs, data)
    assert report["complete"], report["reason"]
    assert report["files"] == 25 * len(starts)
    assert {found["code"] for found in report["findings"]} <= {"E703", "E704", "E706", "E707"}


def test_large_data_is_compared_in_bounded_memory(tmp_path: Path, outputs: Path) -> None:
    data = tmp_path / "large"
    data.mkdir()
    dice = random.Random(6)
    with (data / "t.csv").open("w") as file:
        for _ in range(40_000):
            file.write(",".join(f"{dice.gauss(50, 20):.4f}" for _ in range(20)) + "\n")
    lines = (data / "t.csv").read_text().splitlines()
    (outputs / "model").write_text("\n".join(lines[777:877]))
    report = run(outputs, data)
    assert codes(report) == {("E701", "model")}
    assert report["coverage"] < 1


def test_of_very_large_data_a_share_of_the_rows_is_learned(tmp_path: Path, outputs: Path) -> None:
    data = tmp_path / "large"
    data.mkdir()
    dice = random.Random(7)
    rows = [",".join(f"{dice.gauss(50, 20):.4f}" for _ in range(12)) for _ in range(20_000)]
    (data / "t.csv").write_text("\n".join(rows))
    (outputs / "model").write_text("\n".join(rows[5_000:7_000]))
    (outputs / "clean").write_text(
        "\n".join(",".join(f"{dice.gauss(50, 20):.4f}" for _ in range(12)) for _ in range(2_000))
    )
    report = run(outputs, data, limits={"learn": 200_000})
    assert codes(report) == {("E701", "model")}
    assert 0 < report["coverage"] < 0.2
    assert report["complete"]


def test_it_runs_as_one_folder_on_the_oldest_python(data: Path, outputs: Path, tmp_path: Path) -> None:
    for path in (ONSITE / "content").glob("*.py"):
        ast.parse(path.read_text(), feature_version=(3, 9))
    elsewhere = tmp_path / "elsewhere" / "check"
    shutil.copytree(ONSITE / "content", elsewhere)
    (outputs / "model").write_text(SOME)
    rules = {"files": {"model": ""}, "texts": {}, "metrics": {}, "history": [], "log": False, "waived": []}
    config = {
        "outputs": str(outputs),
        "inputs": {"data": str(data)},
        "rules": {**rules, "max_expanded": 2**30, "seconds": 60},
        "log": None,
    }
    command = [sys.executable, "-I", "-S", str(elsewhere)]
    done = subprocess.run(command, input=json.dumps(config).encode(), capture_output=True, check=True, cwd="/")
    assert codes(json.loads(done.stdout)) == {("E701", "model")}
    plain = subprocess.run([sys.executable, str(elsewhere)], input=b"{}", capture_output=True, check=False)
    assert plain.returncode != 0
    assert b"-I" in plain.stderr
