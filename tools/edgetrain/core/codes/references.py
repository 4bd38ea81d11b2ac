"""Names, paths and templates that point nowhere or outside, and settings at odds (codes R3xx)."""

from __future__ import annotations

from edgetrain.core.problem import Code, Severity

# --- files and places ---------------------------------------------------------------------------------

MISPLACED_FILE = Code(
    "R301",
    "file where only manifests and records lie",
    "A file with another name or ending is not read, so what it says would silently not hold.",
    "Move it, rename it, or remove it.",
)
NAME_DIFFERS = Code(
    "R302",
    "name is not that of its place",
    "Each object has one name, and its path says it; two names for one thing are soon confused.",
    "Make the name in the manifest and the name of the file or folder equal.",
)
NOT_A_FILE = Code(
    "R303",
    "not a regular file",
    "Links and devices are never followed, for they may lead out of the repository.",
    "Put the file itself in its place.",
)
BAD_RECORD = Code(
    "R304",
    "record can't be read",
    "Records are written by the runner in one exact form; other bytes prove that the file was altered.",
    "Restore the record from git history; nobody but the runner writes records.",
)
NO_CONFIGURATION = Code(
    "R305",
    "no configuration",
    "`edgetrain.yaml` says which sites, workspace and registries there are; without it nothing can be checked.",
    "Add `edgetrain.yaml` to the repository's root, or mend it; `edgetrain init` writes one.",
)
NO_MANIFEST = Code(
    "R306",
    "folder without a manifest",
    "Code or records without their manifest belong to nothing.",
    "Add the manifest (`edgetrain new` writes one), or remove the folder.",
)
CASE_ONLY = Code(
    "R307",
    "names differ only in case",
    "Some file systems and registries can't tell them apart.",
    "Rename one of them.",
)

# --- names --------------------------------------------------------------------------------------------

UNKNOWN_TARGET = Code(
    "R310",
    "unknown compute target",
    "An experiment can train only on targets that are declared in `compute/`.",
    "Use the name of a declared target, or declare it: `edgetrain new compute NAME`.",
)
NO_TARGET = Code(
    "R311",
    "selector matches no target",
    "The experiment would wait for ever.",
    "Use labels that a target in `compute/` has, or label the target.",
)
UNKNOWN_MODEL = Code(
    "R312",
    "unknown model",
    "The gates of a model decide about an experiment's result.",
    "Use the name of a declared model, or declare it: `edgetrain new model NAME`.",
)
UNKNOWN_DATASTORE = Code(
    "R313",
    "unknown datastore",
    "Data is read where it lies: in a datastore of the site of the target that trains.",
    "Use a datastore of the target's site, or declare it in `edgetrain.yaml`.",
)
UNKNOWN_SECRET = Code(
    "R314",
    "unknown secret",
    "Secrets are declared only in `edgetrain.yaml`, with their source and who may use them.",
    "Declare the secret under `spec.secrets` in `edgetrain.yaml`, or mend the name.",
)
SECRET_NOT_ALLOWED = Code(
    "R315",
    "secret is not for this target",
    "The secret's `targets` say who may use it, and this target is not among them.",
    "Add the target to the secret's `targets` in `edgetrain.yaml`, or use another secret.",
)
UNKNOWN_SITE = Code(
    "R316",
    "unknown site",
    "A site has the networks, the state and the datastores that a target needs.",
    "Use a site that `edgetrain.yaml` declares.",
)
UNKNOWN_REGISTRY = Code(
    "R317",
    "unknown registry",
    "Images go only to registries that `edgetrain.yaml` declares.",
    "Use a declared registry, or declare this one.",
)
UNKNOWN_CLOUD = Code(
    "R318",
    "unknown cloud",
    "A cloud's addresses and API profile come from `spec.clouds` or are one of the public ones.",
    "Use a declared or public cloud (AzureCloud, AzureChinaCloud, AzureUSGovernment).",
)

# --- code and environment -----------------------------------------------------------------------------

OUTSIDE_FOLDER = Code(
    "R320",
    "path leaves its folder",
    "The identity of a run covers its own folder; what lies elsewhere could change unseen.",
    "Move the files into the folder and use a relative path without `..`.",
)
CODE_MISSING = Code(
    "R321",
    "code folder missing",
    "Without code there is nothing to run.",
    "Add the folder, or mend `code`.",
)
LOCK_MISSING = Code(
    "R322",
    "lock file missing",
    "An environment is built only from a lock file with hashes, so that it is the same everywhere.",
    "Make it with `edgetrain lock EXPERIMENT` and commit it.",
)
LINK = Code(
    "R323",
    "link or submodule in the code",
    "Code has to mean the same on every machine, and a link may lead out of the repository.",
    "Copy the files that are needed into the folder.",
)
LOCK_LINE = Code(
    "R324",
    "requirement is not pinned with a hash",
    "Without an exact version and a hash, the same lock file could install something else tomorrow.",
    "Write the file with `edgetrain lock EXPERIMENT`.",
)
LOCK_OPTION = Code(
    "R325",
    "lock file asks for more than packages",
    "Options, addresses and paths can bring in code from anywhere.",
    "Remove the line; write the file with `edgetrain lock EXPERIMENT`.",
)

# --- the training contract ----------------------------------------------------------------------------

BAD_EXPRESSION = Code(
    "R330",
    "malformed expression",
    "Only `${{inputs.NAME}}` and `${{outputs.NAME}}` are replaced in a command.",
    "Write one of the two forms.",
)
UNKNOWN_EXPRESSION_NAME = Code(
    "R331",
    "expression names nothing declared",
    "Nothing could be put in its place.",
    "Declare the input or output, or mend the name.",
)
UNUSED_INPUT = Code(
    "R332",
    "input is not used in the command",
    "The script sees it only if it reads the environment variable; most often it was forgotten.",
    "Use it as `${{inputs.NAME}}`, read `EDGETRAIN_INPUT_<NAME>` in the script, or remove it.",
    Severity.WARNING,
)
NAMES_COLLIDE = Code(
    "R333",
    "inputs share an environment variable",
    "`EDGETRAIN_INPUT_<NAME>` is in capitals, so names that differ only in case give one variable.",
    "Rename one of them.",
)
OUTPUT_RESERVED = Code(
    "R334",
    "output path is reserved",
    "This file of the outputs folder has a meaning of its own: metrics, or MLflow's records.",
    "Write the output somewhere else in the outputs folder.",
)
OUTPUTS_OVERLAP = Code(
    "R335",
    "outputs overlap",
    "Two outputs at one place, or one inside the other, can't be told apart.",
    "Give each output a path of its own.",
)
METRIC_NOT_DECLARED = Code(
    "R336",
    "objective is not a declared metric",
    "Trials are compared by the objective, and only declared metrics are recorded.",
    "Add the metric to `metrics`, or mend the name.",
)
SWEPT_AND_FIXED = Code(
    "R337",
    "parameter is both fixed and swept",
    "It is not clear which of the two values is meant.",
    "Remove it from `inputs`, or from the sweep.",
)
TRIALS_UNLIKE = Code(
    "R338",
    "trials have different parameters",
    "Each trial must set every swept parameter, or the command lacks a value for some.",
    "Give each trial the same parameters; what never changes belongs in `inputs`.",
)
QUOTED_EXPRESSION = Code(
    "R339",
    "expression inside quotation marks",
    "Paths and values are put in with their own quotation marks; a second pair around them undoes the first.",
    "Remove the quotation marks around the expression.",
)

# --- models and versions ------------------------------------------------------------------------------

GATE_METRIC_UNKNOWN = Code(
    "R340",
    "no experiment declares the gate's metric",
    "A metric that nobody reports fails its gate.",
    "Add the metric to the experiment's `metrics`, or mend the name.",
    Severity.WARNING,
)
UNKNOWN_CHANNEL = Code(
    "R343",
    "gate compares with an undeclared channel",
    "With nothing in the channel there is nothing to beat, so the gate lets every candidate through.",
    "Declare the channel under `channels`, or mend the name.",
    Severity.WARNING,
)
CHANNEL_TO_NOTHING = Code(
    "R344",
    "channel points to a version that is not there",
    "A channel can point only to a version whose manifest is in git.",
    "Point it to an existing version, or remove the channel.",
)
CHANNEL_TO_WITHDRAWN = Code(
    "R345",
    "channel points to a withdrawn version",
    "A withdrawn version is barred from channels.",
    "Point the channel to another version in the same pull request.",
)
WITHDRAWN_MISSING = Code(
    "R346",
    "withdrawn version is not there",
    "Only versions whose manifests are in git can be withdrawn.",
    "Mend the number, or remove the entry.",
)
VERSION_GAP = Code(
    "R347",
    "version numbers have a gap",
    "Numbers follow each other, so that a missing one shows that something was removed.",
    "Number the version as the highest merged plus one; restore a version that was removed.",
)
RUN_MISSING = Code(
    "R348",
    "version cites no record",
    "A version is worth its run record; without it nobody can tell where the model came from.",
    "Cite the run record by its digest; `edgetrain propose RUN` writes the version.",
)
NOT_A_CANDIDATE = Code(
    "R349",
    "version's run is no candidate",
    "Only a run that passed the model's gates becomes a version.",
    "Propose a run whose outcome is `candidate`.",
)
VERSION_DIFFERS = Code(
    "R350",
    "version does not equal its run record",
    "Everything that a version repeats of its run is proof only if it equals the record.",
    "Write the value of the record; `edgetrain propose RUN` writes the whole version.",
)
RUN_OF_OTHER_MODEL = Code(
    "R351",
    "version's run was for another model",
    "A run was judged by the gates of its own model.",
    "Cite a run of an experiment for this model.",
)
MODEL_RETIRED = Code(
    "R352",
    "model is retired",
    "Nothing is trained for, or proposed to, a retired model.",
    "Retire the experiment too, or choose another model.",
    Severity.WARNING,
)
IMAGE_SHARED = Code(
    "R353",
    "two models share an image repository",
    "Both would tag version 1 as `1`, and one would take the other's place.",
    "Give each model a repository of its own.",
)
KEY_SENT_TO_AZURE = Code(
    "R354",
    "a key that is sent to Azure is used elsewhere",
    "Attaching a machine gives its private key to Azure ML. Whoever holds that key there must be able to do "
    "nothing with it but what Azure ML does: neither reach the machine as the site's runner does, nor any other.",
    "Make a key of its own for azuremlVm.privateKey, with a secret of its own from a source of its own.",
)
WORKSPACE_ATTACHES_NOTHING = Code(
    "R355",
    "target needs an Azure ML workspace",
    "Runs on a target of this type are submitted to Azure ML, which knows of it only in a workspace of its own.",
    "Name the workspace in edgetrain.yaml: workspace: {type: azureml, ...}; or use a target of type ssh.",
)
ACCOUNT_DIFFERS = Code(
    "R356",
    "Azure ML signs in to the machine as another account",
    "The runner brings each run to the machine into folders of its account, which nobody else may read; Azure ML "
    "begins the run there. As another account it finds nothing, and every run fails.",
    "Name one account in azuremlVm.username and ssh.username; the two keys stay two.",
)
RECORD_OF_NO_RUN = Code(
    "R357",
    "record follows from no run",
    "Evaluations, proposals and releases name the run record that they follow from by its digest; with none of "
    "that digest nobody can tell what was judged, proposed or released.",
    "Restore the run record from git history, byte for byte; if there never was one, remove the record that names "
    "it.",
)
