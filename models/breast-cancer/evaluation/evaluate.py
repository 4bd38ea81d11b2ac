"""Scores an exported classifier on tumours that no training saw: on all, and on small and large ones apart."""

import argparse
import csv
import json
import os
from pathlib import Path

import numpy as np
import onnxruntime
from sklearn.metrics import accuracy_score, recall_score, roc_auc_score

# Tumours whose nuclei have a larger mean radius, in micrometres, count as large.
LARGE = 14.0


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the ONNX file")
    parser.add_argument("--data", type=Path, required=True, help="folder that holds tumours.csv")
    return parser.parse_args()


def read(path, width):
    """As many measurements as the model takes (the means alone, or all), 1 for malignant, and the mean radius."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    every = [name for name in rows[0] if name != "diagnosis"]
    means = [name for name in every if name.startswith("mean_")]
    names = means if width == len(means) else every
    measurements = np.array([[float(row[name]) for name in names] for row in rows], dtype=np.float32)
    malignant = np.array([int(row["diagnosis"] == "malignant") for row in rows])
    return measurements, malignant, np.array([float(row["mean_radius"]) for row in rows])


def scores(malignant, probability):
    predicted = probability >= 0.5
    return {
        "auroc": float(roc_auc_score(malignant, probability)),
        "accuracy": float(accuracy_score(malignant, predicted)),
        "sensitivity": float(recall_score(malignant, predicted)),
    }


def main():
    args = arguments()
    session = onnxruntime.InferenceSession(str(args.model), providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    measurements, malignant, radius = read(args.data / "tumours.csv", given.shape[1])
    probability = session.run(["probabilities"], {given.name: measurements})[0][:, 1]
    slices = {"small": radius <= LARGE, "large": radius > LARGE}
    told = scores(malignant, probability)
    told["slices"] = {name: scores(malignant[rows], probability[rows]) for name, rows in slices.items()}
    file = Path(os.environ["EDGETRAIN_OUTPUTS"]) / "metrics.json"
    file.write_text(json.dumps(told, sort_keys=True) + "\n", encoding="utf-8")
    print(f"scored on {len(malignant)} tumours: {told}")


if __name__ == "__main__":
    main()
