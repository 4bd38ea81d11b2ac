"""What is wrong with how a model is evaluated (codes R36x)."""

from __future__ import annotations

from edgetrain.core.problem import Code, Severity

HELD_OUT_IN_TRAINING = Code(
    "R360",
    "a training reads held-out data",
    "Scores on data that a training has seen say nothing about new data, and every model looks better than it is. "
    "So no experiment may read what any model's evaluation holds out: neither data of the same digest, nor a place "
    "that has it in it or lies in it.",
    "Keep held-out data in a place of its own, and give the experiment the rest.",
)
NO_MODEL = Code(
    "R361",
    "which output is evaluated is not clear",
    "The evaluation finds the model under `EDGETRAIN_INPUT_MODEL`: the output that is called `model`, or the only "
    "one.",
    "Call the output that holds the model `model`.",
)
NOTHING_MEASURED = Code(
    "R363",
    "the evaluation measures nothing",
    "Only metrics that the evaluation declares, or else those that a gate names, are kept.",
    "Declare them: `evaluation: {metrics: [auroc], ...}`.",
)
SLICE_UNKNOWN = Code(
    "R362",
    "the evaluation does not declare the gate's slice",
    "Slices that are not declared are not kept, and a slice that is missing fails its gate.",
    "Add the slice to the evaluation's `slices`, or mend the name.",
    Severity.WARNING,
)
