"""Trains a classifier that tells malignant from benign tumours by measurements of cell nuclei, and exports ONNX."""

import argparse
import csv
import json
import os
from pathlib import Path

import numpy as np
import onnxruntime
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, recall_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds tumours.csv")
    parser.add_argument("--output", type=Path, required=True, help="the ONNX file to write")
    parser.add_argument("--model", choices=["logistic", "boosting"], default="logistic")
    parser.add_argument("--features", choices=["mean", "all"], default="all")
    parser.add_argument("--c", type=float, default=1.0, help="inverse strength of regularization (logistic)")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("EDGETRAIN_SEED", "42")))
    return parser.parse_args()


def read(path, features):
    """The measurements (the means over a tumour's nuclei, or all) and 1 for each malignant tumour."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    prefix = {"mean": "mean_", "all": ""}[features]
    names = [name for name in rows[0] if name != "diagnosis" and name.startswith(prefix)]
    measurements = np.array([[float(row[name]) for name in names] for row in rows], dtype=np.float32)
    return measurements, np.array([int(row["diagnosis"] == "malignant") for row in rows])


def classifier(args):
    if args.model == "boosting":
        return GradientBoostingClassifier(random_state=args.seed)
    return make_pipeline(StandardScaler(), LogisticRegression(C=args.c, max_iter=5000))


def export(model, width):
    """The model as ONNX, the same bytes each time: the name is fixed, and what comes in random order is sorted."""
    exported = to_onnx(
        model,
        initial_types=[("measurements", FloatTensorType([None, width]))],
        options={"zipmap": False},
        target_opset=17,
        name="breast-cancer",
    )
    imports = sorted(exported.opset_import, key=lambda entry: entry.domain)
    del exported.opset_import[:]
    exported.opset_import.extend(imports)
    return exported.SerializeToString(deterministic=True)


def main():
    args = arguments()
    measurements, malignant = read(args.data / "tumours.csv", args.features)
    train_x, test_x, train_y, test_y = train_test_split(
        measurements, malignant, test_size=0.3, random_state=args.seed, stratify=malignant
    )
    model = classifier(args).fit(train_x, train_y)
    exported = export(model, measurements.shape[1])

    # What is measured is what leaves: the exported model, which must agree with the trained one.
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    probability = session.run(["probabilities"], {"measurements": test_x})[0][:, 1]
    np.testing.assert_allclose(probability, model.predict_proba(test_x)[:, 1], atol=1e-4)

    predicted = probability >= 0.5
    metrics = {
        "auroc": float(roc_auc_score(test_y, probability)),
        "accuracy": float(accuracy_score(test_y, predicted)),
        "sensitivity": float(recall_score(test_y, predicted)),
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_bytes(exported)
    (args.output.parent / "metrics.json").write_text(json.dumps(metrics, sort_keys=True) + "\n", encoding="utf-8")
    print(f"trained on {len(train_y)} tumours, tested on {len(test_y)}: {metrics}")


if __name__ == "__main__":
    main()
