"""The one table of verbs: where each command lies, so that `--help` needs to import none of them."""

from __future__ import annotations

from edgetrain.cli.lazy import Verb

__all__ = ["VERBS", "Verb"]

VERBS: dict[str, Verb] = {
    "validate": Verb("edgetrain.cli.validate:validate", "Check every manifest, reference and record."),
    "plan": Verb("edgetrain.cli.plan:plan", "Show what apply would do."),
    "apply": Verb("edgetrain.cli.apply:apply", "Bring the world to what main says."),
    "doctor": Verb("edgetrain.cli.doctor:doctor", "Look at everything that a site needs."),
    "drift": Verb("edgetrain.cli.drift:drift", "Show what is not as git says."),
    "run": Verb("edgetrain.cli.runs:run", "Try an experiment here, uncommitted code and all."),
    "runs": Verb("edgetrain.cli.runs:runs", "List runs and how they ended."),
    "logs": Verb("edgetrain.cli.runs:logs", "Show what a run's script printed, at the site."),
    "cancel": Verb("edgetrain.cli.runs:cancel", "Stop a run that is under way."),
    "retry": Verb("edgetrain.cli.runs:retry", "Ask for another attempt of a run."),
    "propose": Verb("edgetrain.cli.propose:propose", "Propose a run's model, or changed data."),
    "gc": Verb("edgetrain.cli.runs:gc", "Remove stored files that nothing names any more."),
    "models": Verb("edgetrain.cli.history:models", "List models, versions and channels."),
    "audit": Verb("edgetrain.cli.audit:audit", "Tell the story of a version, or of a span of time."),
    "log": Verb("edgetrain.cli.history:log", "Show a model's versions and channel moves."),
    "verify": Verb("edgetrain.cli.verify:verify", "Recompute what records and versions claim."),
    "reproduce": Verb("edgetrain.cli.reproduce:reproduce", "Train a version again, and compare."),
    "compare": Verb("edgetrain.cli.history:compare", "Compare two runs or versions."),
    "init": Verb("edgetrain.cli.init:init", "Make a new site's repository, or say what one lacks."),
    "new": Verb("edgetrain.cli.new:new", "Write a new manifest, ready to edit."),
    "lock": Verb("edgetrain.cli.lock:lock", "Pin an experiment's packages, with hashes."),
    "emulator": Verb("edgetrain.cli.emulator:emulator", "Run a stand-in for Azure ML on this machine."),
    "github": Verb("edgetrain.cli.github:github", "Do one step of a workflow on GitHub."),
    "explain": Verb("edgetrain.cli.explain:explain", "Say what a problem code means and how to mend it."),
    "completion": Verb("edgetrain.cli.completion:completion", "Print what a shell needs to complete names."),
    "schema": Verb("edgetrain.cli.schema:schema", "Print the JSON Schema of a manifest, or of an answer."),
}
