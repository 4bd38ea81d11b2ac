"""Predicts which hospital tests will be positive from how a patient came to be tested, and exports ONNX.

The data holds names and numbers of patients and names of clinics. None of them is a feature, and what the
model may know of a text column is a list in this file: nothing of the data's text can get into the model.
"""

import argparse
import csv
import json
import os
from pathlib import Path

import numpy as np
import onnxruntime
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import make_column_transformer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import GroupShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

# The result's threshold cycle (ct_result) and turnaround times are known only after the test.
NUMBERS = ["age", "drive_thru_ind", "orderset"]
TEXTS = {
    "gender": ["female", "male"],
    "demo_group": ["client", "misc adult", "other adult", "patient"],
    "payor_group": ["charity care", "commercial", "government", "medical assistance", "self pay", "unassigned"],
    "patient_class": [
        *("day surgery", "emergency", "inpatient", "not applicable"),
        *("observation", "outpatient", "recurring outpatient"),
    ],
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds tests.csv")
    parser.add_argument("--output", type=Path, required=True, help="the ONNX file to write")
    parser.add_argument("--model", choices=["logistic", "boosting"], default="logistic")
    parser.add_argument("--c", type=float, default=1.0, help="inverse strength of regularization (logistic)")
    parser.add_argument("--trees", type=int, default=100, help="number of trees (boosting)")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("EDGETRAIN_SEED", "42")))
    return parser.parse_args()


def read(path):
    """Numbers, texts, 1 for each positive test, and the patients; invalid tests are left out."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["result"] in {"negative", "positive"}]
    numbers = np.array([[float(row[name]) for name in NUMBERS] for row in rows], dtype=np.float32)
    texts = np.array([[row[name] for name in TEXTS] for row in rows], dtype=object)
    positive = np.array([int(row["result"] == "positive") for row in rows])
    return numbers, texts, positive, np.array([row["subject_id"] for row in rows])


def classifier(args):
    first = len(NUMBERS)
    columns = make_column_transformer(
        # Trees split between the values as they are; scaled ones round differently in ONNX's 32 bits.
        ("passthrough" if args.model == "boosting" else StandardScaler(), list(range(first))),
        (
            OneHotEncoder(categories=list(TEXTS.values()), handle_unknown="ignore", sparse_output=False),
            list(range(first, first + len(TEXTS))),
        ),
    )
    if args.model == "boosting":
        return make_pipeline(columns, GradientBoostingClassifier(n_estimators=args.trees, random_state=args.seed))
    return make_pipeline(columns, LogisticRegression(C=args.c, max_iter=5000))


def export(model):
    """The model as ONNX, the same bytes each time: the name is fixed, and what comes in random order is sorted."""
    exported = to_onnx(
        model,
        initial_types=[
            ("numbers", FloatTensorType([None, len(NUMBERS)])),
            ("texts", StringTensorType([None, len(TEXTS)])),
        ],
        options={"zipmap": False},
        target_opset=17,
        name="hospital-tests",
    )
    imports = sorted(exported.opset_import, key=lambda entry: entry.domain)
    del exported.opset_import[:]
    exported.opset_import.extend(imports)
    return exported.SerializeToString(deterministic=True)


def main():
    args = arguments()
    numbers, texts, positive, patients = read(args.data / "tests.csv")
    # All tests of a patient lie on one side, else the model would be tested on people it has seen.
    split = GroupShuffleSplit(n_splits=1, test_size=0.3, random_state=args.seed)
    train, test = next(split.split(numbers, positive, patients))
    table = np.concatenate([numbers.astype(object), texts], axis=1)
    model = classifier(args).fit(table[train], positive[train])
    exported = export(model)

    # What is measured is what leaves: the exported model, which must agree with the trained one.
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    probability = session.run(["probabilities"], {"numbers": numbers[test], "texts": texts[test]})[0][:, 1]
    np.testing.assert_allclose(probability, model.predict_proba(table[test])[:, 1], atol=1e-4)

    metrics = {
        "auroc": float(roc_auc_score(positive[test], probability)),
        "average_precision": float(average_precision_score(positive[test], probability)),
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_bytes(exported)
    (args.output.parent / "metrics.json").write_text(json.dumps(metrics, sort_keys=True) + "\n", encoding="utf-8")
    print(f"trained on {len(train)} tests, tested on {len(test)}: {metrics}")


if __name__ == "__main__":
    main()
