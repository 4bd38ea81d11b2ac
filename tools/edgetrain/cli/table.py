"""The one table of verbs: where each command lies, so that `--help` needs to import none of them."""

from __future__ import annotations

from edgetrain.cli.lazy import Verb

__all__ = ["VERBS", "Verb"]

# What Ctrl-C leaves behind.
GOES_ON = "what is done is recorded and runs go on; the next apply takes them up"
LOOKED = "nothing of the site was changed"
PERHAPS = "the run may go on; edgetrain runs tells"
AS_IT_WAS = "the lock file is as it was"
WATCHED = "nothing was changed; a run that is under way goes on"
AGAIN = "call it again; what was done by now is not done twice"
GONE = "what was deleted by now is gone, the rest is left; call it again to go on"
WHOLE = "each file that was written is whole; call it again, it adds what is missing"

VERBS: dict[str, Verb] = {
    "validate": Verb("edgetrain.cli.validate:validate", "Check every manifest, reference and record."),
    "plan": Verb("edgetrain.cli.plan:plan", "Show what apply would do."),
    "apply": Verb("edgetrain.cli.apply:apply", "Bring the world to what main says.", GOES_ON),
    "doctor": Verb(
        "edgetrain.cli.doctor:doctor", "Look at everything that a site needs.", "nothing of the site was changed"
    ),
    "drift": Verb("edgetrain.cli.drift:drift", "Show what is not as git says."),
    "run": Verb("edgetrain.cli.runs:run", "Try an experiment here, uncommitted code and all."),
    "runs": Verb("edgetrain.cli.runs:runs", "List runs and how they ended.", WATCHED),
    "logs": Verb("edgetrain.cli.runs:logs", "Show what a run's script printed, at the site.", WATCHED),
    "cancel": Verb(
        "edgetrain.cli.runs:cancel", "Stop a run that is under way.", "the run may go on; edgetrain runs tells"
    ),
    "retry": Verb("edgetrain.cli.runs:retry", "Ask for another attempt of a run.", AGAIN),
    "propose": Verb("edgetrain.cli.propose:propose", "Propose a run's model, or changed data.", AGAIN),
    "gc": Verb("edgetrain.cli.runs:gc", "Remove stored files that nothing names any more.", GONE),
    "models": Verb("edgetrain.cli.history:models", "List models, versions and channels."),
    "audit": Verb("edgetrain.cli.audit:audit", "Tell the story of a version, or of a span of time."),
    "log": Verb("edgetrain.cli.history:log", "Show a model's versions and channel moves."),
    "verify": Verb("edgetrain.cli.verify:verify", "Recompute what records and versions claim."),
    "reproduce": Verb("edgetrain.cli.reproduce:reproduce", "Train a version again, and compare."),
    "compare": Verb("edgetrain.cli.history:compare", "Compare two runs or versions."),
    "init": Verb("edgetrain.cli.init:init", "Make a new site's repository, or say what one lacks.", WHOLE),
    "new": Verb("edgetrain.cli.new:new", "Write a new manifest, ready to edit.", "nothing was written"),
    "lock": Verb(
        "edgetrain.cli.lock:lock", "Pin an experiment's packages, with hashes.", "the lock file is as it was"
    ),
    "emulator": Verb("edgetrain.cli.emulator:emulator", "Run a stand-in for Azure ML on this machine."),
    "github": Verb("edgetrain.cli.github:github", "Do one step of a workflow on GitHub.", AGAIN),
    "explain": Verb("edgetrain.cli.explain:explain", "Say what a problem code means and how to mend it."),
    "completion": Verb("edgetrain.cli.completion:completion", "Print what a shell needs to complete names."),
    "schema": Verb("edgetrain.cli.schema:schema", "Print the JSON Schema of a manifest, or of an answer."),
}
