"""Trains several kinds of models on a table and writes them as people do; run by the experiments' own Python.

`python models.py TABLE FOLDER`: TABLE is a CSV file whose last column is the target; one folder a kind.
"""

from __future__ import annotations

import csv
import json
import pickle
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from skl2onnx import to_onnx
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

KINDS: dict[str, Any] = {
    "logistic regression": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)),
    "random forest": lambda: RandomForestClassifier(n_estimators=30, random_state=0),
    "gradient boosting": lambda: GradientBoostingClassifier(n_estimators=20, random_state=0),
    "nearest neighbours": KNeighborsClassifier,
    "nearest neighbours, scaled": lambda: make_pipeline(StandardScaler(), KNeighborsClassifier()),
    "support vectors": SVC,
}


def main(table: Path, folder: Path) -> None:
    with table.open(encoding="utf-8", newline="") as file:
        names, *rows = csv.reader(file)
    kept = [row for row in rows if all(row)]
    numeric = [at for at in range(len(names) - 1) if all(_number(row[at]) for row in kept)]
    features = np.array([[float(row[at]) for at in numeric] for row in kept])
    target = np.array([row[-1] for row in kept])
    if len(set(target)) > 20:
        target = np.where(target.astype(float) > np.median(target.astype(float)), "high", "low")
    train = np.random.default_rng(0).permutation(len(kept))[: min(2000, len(kept) * 3 // 4)]
    for kind, make in KINDS.items():
        model = make().fit(features[train], target[train])
        out = folder / kind
        out.mkdir(parents=True)
        score = float(model.score(features, target))
        (out / "metrics.json").write_text(json.dumps({"accuracy": score, "rows": len(train)}))
        (out / "model.pkl").write_bytes(pickle.dumps(model))
        joblib.dump(model, out / "model.joblib", compress=3 if kind == "random forest" else 0)
        exported = to_onnx(model, features[:1].astype("f4"), options={"zipmap": False}, target_opset=17)
        (out / "model.onnx").write_bytes(exported.SerializeToString())


def _number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
