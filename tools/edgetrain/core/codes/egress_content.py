"""What the egress guard finds in what would leave after a run (codes E7xx)."""

from __future__ import annotations

from edgetrain.core.problem import Code

_WAIVE = "If it is right, waive it in the manifest: egress.waivers with code, path, reason, owner and expires."

ROWS = Code(
    "E701",
    "rows of the training data",
    "Several consecutive values of the training data, which together are too rare to be there by chance, stand in "
    "what would leave: as text, as numbers, or in an encoding of them.",
    "Write only what the model needs: no rows, examples, predictions by row or fitted tables. " + _WAIVE,
)
COPIES = Code(
    "E702",
    "a file of the training data, or pieces of one",
    "The bytes of a training file, or at least three pieces of one, stand in what would leave.",
    "Write no copy of an input, also not packed or inside another file. " + _WAIVE,
)
EXTERNAL = Code(
    "E703",
    "ONNX model with external data",
    "The tensors of the model lie in other files, so what is checked and what is served may differ.",
    "Save the model as one file: onnx.save(model, path) without save_as_external_data. " + _WAIVE,
)
CUSTOM = Code(
    "E704",
    "ONNX model with custom operators",
    "An operator that is not of ONNX's own domains can hold and do anything, and needs foreign code to be served.",
    "Export with standard operators, or put the operator into the model as a function. " + _WAIVE,
)
VALUES = Code(
    "E705",
    "rare values of the training data",
    "At least 25 words that only few rows have, in columns of short text, are in what would leave: names, mostly.",
    "Group rare categories before training, and keep no vocabulary of a column of names. " + _WAIVE,
)
KEEPS_ROWS = Code(
    "E706",
    "model that keeps rows",
    "Models of this kind keep rows of their training data to predict: nearest neighbours, support vectors, "
    "Gaussian processes and their like. Scaling hides the rows from a comparison, so the kind itself is told.",
    "Choose another kind of model, or answer for it. " + _WAIVE,
)
OPAQUE = Code(
    "E707",
    "output that can't be looked into",
    "It is encrypted, packed in a way that can't be opened here (zstd, 7z, rar, lz4), or not what its name says. "
    "What can't be looked at can't be vouched for.",
    "Write it plainly, or packed by zip, gzip, bzip2 or xz. " + _WAIVE,
)
INCOMPLETE = Code(
    "E708",
    "content check not completed",
    "A limit on time, memory, size or nesting cut the check short, an archive is built as a bomb is, or the "
    "check's answer was not sound. Then nothing leaves. This can't be waived.",
    "Write smaller outputs, packed less deeply and not a hundred times smaller than they are; then: "
    "edgetrain retry RUN --reason.",
)

NOT_WAIVABLE = frozenset({"E708"})
