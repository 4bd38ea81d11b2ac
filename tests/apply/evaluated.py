"""The small site with an evaluation: held-out numbers in two wards, and a model that knows one mean."""

from __future__ import annotations

import json
from pathlib import Path

from edgetrain.core.digest import digest_bytes, tree_digest
from tests.apply.site import MODEL, SmallSite

WARDS = {"north.txt": "2 2 2\n", "south.txt": "3 3 3\n"}
EVALUATE = """\
import json, os, pathlib, sys
model = json.loads(pathlib.Path(os.environ["EDGETRAIN_INPUT_MODEL"]).read_text())
guess = model["mean"] + model["shift"]
wards = {}
for file in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    numbers = [float(word) for word in file.read_text().split()]
    wards[file.stem] = {"error": sum(abs(number - guess) for number in numbers) / len(numbers)}
told = {"error": sum(ward["error"] for ward in wards.values()) / len(wards), "undeclared": 1.0, "slices": wards}
pathlib.Path(os.environ["EDGETRAIN_OUTPUTS"], "metrics.json").write_text(json.dumps(told))
print("evaluated", guess)
"""
EVALUATION = """\
  evaluation:
    code: evaluation/
    command: python evaluate.py ${{inputs.heldout}}
    inputs: {heldout: {datastore: store, path: heldout/, digest: "DIGEST"}}
    metrics: [error]
"""
GATES = """\
  gates:
    - {metric: error, goal: minimize, max: 2}
    - {metric: error, goal: minimize, notWorseThan: production, slice: "*"}
"""


class EvaluatedSite(SmallSite):
    """People's steps of a site whose model is evaluated."""

    def make(self) -> EvaluatedSite:
        """As the small site, with an evaluation from the first commit on."""
        super().make()
        self.hold_out(WARDS)
        own = "  gates:\n    - {metric: score, goal: maximize, min: 0.1, notWorseThan: production}\n"
        assert own in MODEL
        self.write("models/mean/model.yaml", MODEL.replace(own, EVALUATION.replace("DIGEST", self.held) + GATES))
        self.write("models/mean/evaluation/evaluate.py", EVALUATE)
        self.push("Evaluate on held-out wards")
        return self

    def hold_out(self, wards: dict[str, str]) -> None:
        """Put the held-out data in place."""
        folder = self.data / "heldout"
        folder.mkdir(exist_ok=True)
        for name, text in wards.items():
            (folder / name).write_text(text)

    @property
    def held(self) -> str:
        """The digest of the held-out data."""
        files = sorted((self.data / "heldout").iterdir())
        return tree_digest((file.name, digest_bytes(file.read_bytes())) for file in files)

    def scored(self) -> list[str]:
        """The logs of all scorings that were ever made."""
        return sorted(path.name for path in Path(self.state, "logs").glob("mean.score-*.log"))

    def runs(self) -> dict[str, dict[str, object]]:
        """The run and evaluation records by file name."""
        found = self.records()
        return {path.rpartition("/")[2]: data for path, data in found.items() if path.startswith("experiments/")}

    def shift(self, old: str, new: str) -> None:
        """Propose another model."""
        self.edit("experiments/mean/experiment.yaml", f"shift: {old}", f"shift: {new}")


def shown(value: object) -> str:
    """For failures."""
    return json.dumps(value, indent=1, default=str)
