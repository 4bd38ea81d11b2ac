"""What the egress guard finds in an experiment's code before a run, and in waivers (codes E6xx)."""

from __future__ import annotations

from edgetrain.core.problem import Code, Severity

_WAIVE = "If it is right, waive it in the manifest: egress.waivers with code, path, reason, owner and expires."

DATA_IN_CODE = Code(
    "E601",
    "data in the code folder",
    "The code folder goes from git to every target, and git keeps it for ever. A data file, a dump or model "
    "weights beside the script is the classic way in which data leaves a site by accident.",
    "Move it to a datastore and declare it as an input, by digest. " + _WAIVE,
)
SECRET_IN_CODE = Code(
    "E602",
    "credential in the code folder",
    "A key or a password in git is known to all who can read the repository. No training needs one, for it has no "
    "network. This can't be waived.",
    "Remove the file, and replace the credential: git's history still holds it.",
)
FILE_TOO_LARGE = Code(
    "E603",
    "file in the code folder is too large",
    "One file may have a quarter of limits.codeSize. Code is small; what is large is data, whatever its name.",
    "Move it to a datastore and declare it as an input, by digest. " + _WAIVE,
)
CODE_TOO_LARGE = Code(
    "E604",
    "code folder is too large",
    "The code folder is larger than limits.codeSize of edgetrain.yaml. This can't be waived, for the "
    "limit can be set.",
    "Move what is no code to a datastore, or raise limits.codeSize in a pull request of its own.",
)
NOTEBOOK_OUTPUTS = Code(
    "E605",
    "notebook with outputs",
    "The outputs of a notebook hold what its cells printed: often rows of the data, and pictures of it.",
    "Clear all outputs before the commit: jupyter nbconvert --clear-output --inplace FILE. " + _WAIVE,
)
NOT_READABLE = Code(
    "E606",
    "script that can't be looked through",
    "The scan parses scripts without running them. What it can't parse, it can't vouch for.",
    "Mend the script, or make it smaller and less deeply nested. " + _WAIVE,
)
COMPILED = Code(
    "E607",
    "compiled code",
    "Compiled code and packages in the code folder can do anything, and nobody can review them.",
    "Put the source in its place, or declare the package in the requirements lock. " + _WAIVE,
)
OTHER_LANGUAGE = Code(
    "E608",
    "script in a language that is not looked through",
    "The scan reads Python, shell and notebooks. The sandbox holds other scripts back all the same.",
    "Review it by hand.",
    Severity.WARNING,
)
NETWORK = Code(
    "E611",
    "network module",
    "A training has no network. Code that asks for one was made for something else, or waits for the day when "
    "the sandbox fails.",
    "Remove it; declare what it fetched as an input. " + _WAIVE,
)
UPLOAD = Code(
    "E612",
    "cloud or tracking client",
    "The package's purpose is to send things to a service elsewhere.",
    "Remove it; metrics go to metrics.json or mlflow.log_*, which work without a network. " + _WAIVE,
)
PROCESS = Code(
    "E613",
    "starts another program",
    "What another program does is not seen by the scan.",
    "Use a library instead. multiprocessing and concurrent.futures are allowed. " + _WAIVE,
)
DYNAMIC = Code(
    "E614",
    "runs code that is not in the file",
    "Code that is made or fetched while it runs was reviewed by nobody.",
    "Write out what is meant: a dictionary of functions, a plain import. " + _WAIVE,
)
NATIVE = Code(
    "E615",
    "calls native code directly",
    "Through ctypes and its like a script can do anything, and nothing of it is to be seen in its text.",
    "Use a package with a reviewed interface. " + _WAIVE,
)
CREDENTIALS = Code(
    "E616",
    "looks for credentials",
    "No training needs a key, a token or another process's environment, and none is there.",
    "Remove it. " + _WAIVE,
)
REMOTE = Code(
    "E617",
    "remote address",
    "Something is to be read from or written to an address outside the site.",
    "Declare what it reads as an input, by digest, and write to EDGETRAIN_OUTPUTS. " + _WAIVE,
)
NETWORK_COMMAND = Code(
    "E618",
    "network program in a command",
    "The program's purpose is to send or fetch over a network.",
    "Remove it; declare what it fetched as an input. " + _WAIVE,
)
INSTALLS = Code(
    "E619",
    "installs packages while it runs",
    "What a run uses is fixed by its lock before the start, and there is no network to install from.",
    "Add the package to requirements.in, then: edgetrain lock EXPERIMENT. " + _WAIVE,
)
NETWORK_PACKAGE = Code(
    "E620",
    "package for a network or a cloud in the lock",
    "The package's purpose is to send things to a service elsewhere.",
    "Remove it from requirements.in, then: edgetrain lock EXPERIMENT. " + _WAIVE,
)
WAIVER_UNKNOWN = Code(
    "E641",
    "waiver of something that can't be waived",
    "Only problems of the egress guard (E6xx, E7xx) can be waived, and not all of them.",
    "Correct the code (edgetrain explain CODE says what it means), or remove the waiver.",
)
WAIVER_EXPIRED = Code(
    "E642",
    "waiver has expired",
    "Its last day is over. No new run of the experiment is started; what runs is brought to its end, and what was "
    "released stays.",
    "Remove what it waives, or renew it in a pull request: the owner says anew that it is right.",
    Severity.WARNING,
)
WAIVER_UNUSED = Code(
    "E643",
    "waiver that waives nothing",
    "Nothing in the code has the problem that it waives. A waiver that lies about is one for the next mistake.",
    "Remove it, or correct its code or path.",
    Severity.WARNING,
)
WAIVER_OWNER = Code(
    "E644",
    "waiver's owner is nobody's owner",
    "The owner answers for the waiver. It is none of the owners of the experiment, its model or edgetrain.yaml.",
    "Name one of them, or add the owner there.",
    Severity.WARNING,
)

NOT_WAIVABLE = frozenset({"E602", "E604", "E641", "E642", "E643", "E644"})
