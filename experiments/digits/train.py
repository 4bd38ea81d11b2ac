"""Trains a classifier of handwritten digits, as in Microsoft's train-and-deploy tutorial, and exports ONNX."""

import argparse
import json
import os
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, log_loss
from sklearn.model_selection import train_test_split


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds images.npy and labels.npy")
    parser.add_argument("--output", type=Path, required=True, help="the ONNX file to write")
    parser.add_argument("--reg", type=float, default=0.01, help="strength of regularization")
    parser.add_argument("--rounds", type=int, default=20, help="how often progress is measured")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("EDGETRAIN_SEED", "42")))
    return parser.parse_args()


def read(folder):
    """Pixels from 0 to 1, one row per image, and the digits."""
    images = np.load(folder / "images.npy", allow_pickle=False)
    labels = np.load(folder / "labels.npy", allow_pickle=False)
    return images.reshape(len(images), -1).astype(np.float32) / 16, labels.astype(np.int64)


def fit(model, rounds, train_x, train_y, test_x, test_y):
    """Fit in rounds of a few iterations, and give what was measured after each."""
    history = []
    with warnings.catch_warnings():
        # A round is meant to end early; the next goes on from there.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for step in range(rounds):
            model.fit(train_x, train_y)
            loss = log_loss(train_y, model.predict_proba(train_x))
            accuracy = accuracy_score(test_y, model.predict(test_x))
            history.append({"name": "loss", "value": float(loss), "step": step})
            history.append({"name": "accuracy", "value": float(accuracy), "step": step})
    return history


def export(model, width):
    """The model as ONNX, the same bytes each time: the name is fixed, and what comes in random order is sorted."""
    exported = to_onnx(
        model,
        initial_types=[("pixels", FloatTensorType([None, width]))],
        options={"zipmap": False},
        target_opset=17,
        name="digits",
    )
    imports = sorted(exported.opset_import, key=lambda entry: entry.domain)
    del exported.opset_import[:]
    exported.opset_import.extend(imports)
    return exported.SerializeToString(deterministic=True)


def main():
    args = arguments()
    pixels, digits = read(args.data)
    train_x, test_x, train_y, test_y = train_test_split(
        pixels, digits, test_size=0.3, random_state=args.seed, stratify=digits
    )
    model = LogisticRegression(C=1 / args.reg, max_iter=5, warm_start=True)
    history = fit(model, args.rounds, train_x, train_y, test_x, test_y)
    exported = export(model, pixels.shape[1])

    # What is measured is what leaves: the exported model, which must agree with the trained one.
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    predicted, probabilities = session.run(["label", "probabilities"], {"pixels": test_x})
    np.testing.assert_allclose(probabilities, model.predict_proba(test_x), atol=1e-4)

    metrics = {
        "accuracy": float(accuracy_score(test_y, predicted)),
        "macro_f1": float(f1_score(test_y, predicted, average="macro")),
    }
    outputs = args.output.parent
    outputs.mkdir(parents=True, exist_ok=True)
    args.output.write_bytes(exported)
    (outputs / "metrics.json").write_text(json.dumps(metrics, sort_keys=True) + "\n", encoding="utf-8")
    lines = "".join(json.dumps(point, sort_keys=True) + "\n" for point in history)
    (outputs / "metrics.jsonl").write_text(lines, encoding="utf-8")
    print(f"trained on {len(train_y)} images, tested on {len(test_y)}: {metrics}")


if __name__ == "__main__":
    main()
