"""What a kind's schema refuses (codes M2xx)."""

from __future__ import annotations

from edgetrain.core.problem import Code

UNKNOWN_VERSION = Code(
    "M201",
    "unknown apiVersion",
    "The version says by which rules the manifest is read.",
    "Write `apiVersion: edgetrain/v1`.",
)
UNKNOWN_KIND = Code(
    "M202",
    "unknown kind",
    "The kind says which schema holds for the manifest.",
    "Use one of ComputeTarget, Configuration, Experiment, Model, ModelVersion.",
)
MISPLACED_KIND = Code(
    "M203",
    "kind does not belong here",
    "Each kind has its own place in the repository, so that people and tools find it.",
    "Move the file to its kind's place, or mend the kind.",
)
UNKNOWN_KEY = Code(
    "M204",
    "unknown key",
    "A misspelt key would be ignored silently, and the setting would not hold.",
    "Mend the spelling or remove the key; `edgetrain schema KIND` lists the keys.",
)
MISSING_KEY = Code(
    "M205",
    "missing key",
    "The manifest has no meaning without this value, and no default would be safe.",
    "Add the key.",
)
WRONG_TYPE = Code(
    "M206",
    "wrong type of value",
    "Text, numbers, true/false, lists and mappings are not exchanged for each other silently.",
    "Write a value of the type named; put numbers, versions and dates in quotes where text is meant.",
)
NOT_ALLOWED = Code(
    "M207",
    "value is not one of those allowed",
    "Only these values have a meaning here.",
    "Use one of the values named.",
)
MALFORMED = Code(
    "M208",
    "text is not of the form needed",
    "The text is used as a name, a path, a size, a duration, a digest or an address, and must be one.",
    "Write it in the form shown.",
)
OUT_OF_RANGE = Code(
    "M209",
    "number out of range",
    "A number outside these bounds can't be meant, or would exhaust the machine.",
    "Use a number within the bounds.",
)
WRONG_SIZE = Code(
    "M210",
    "too long, too short, too many or too few",
    "Bounds on texts and lists keep manifests reviewable, and an empty one would have no effect.",
    "Keep within the bounds named.",
)
REPEATED = Code(
    "M211",
    "list item given twice",
    "A repeated item has no effect, and is mostly a slip for another one.",
    "Remove the repetition.",
)
UNFIT_KEY = Code(
    "M212",
    "key does not fit the others",
    "The key has no meaning together with the type or the settings chosen beside it.",
    "Remove the key, or choose the type that it belongs to.",
)
BAD_KEY_NAME = Code(
    "M213",
    "name is not of the form needed",
    "The key is a name that appears in paths, variables, tags or commands.",
    "Rename it to the form shown.",
)
BAD_ORDER = Code(
    "M214",
    "lower bound above upper bound",
    "No value can lie between the two.",
    "Exchange or mend the bounds.",
)
