"""What the plan refuses (codes P5xx). The rest of the plan goes on."""

from __future__ import annotations

from edgetrain.core.problem import Code

NOT_SERVED = Code(
    "P501",
    "no provider serves this type",
    "The manifest is valid, but this installation has no provider for the type that it names.",
    "Use a type that is served, or install the version of edgetrain that brings the provider.",
)
TARGET_NOT_READY = Code(
    "P503",
    "no target is ready",
    "None of the compute targets that the experiment may use can take a run now.",
    "Do what the reason says; the next apply starts the run.",
)
EGRESS_NOT_ENFORCED = Code(
    "P504",
    "the datastore requires enforced egress",
    "The datastore may only be read where the script is kept from the network and the host, and the target's "
    "egress level was observed to be advisory.",
    "Choose a target whose egress level is enforced, or install the sandbox on this one.",
)
PYTHON_NOT_THERE = Code(
    "P505",
    "the target has another Python",
    "The experiment declares a Python minor version or a platform that no ready target has.",
    "Declare what the target has, or leave it out to take what the target has.",
)
TOO_LARGE_FOR_TARGETS = Code(
    "P506",
    "no target is large enough",
    "The experiment asks for more than any of its targets declares as capacity, so it would wait for ever.",
    "Ask for less, or choose a larger target.",
)
BASE_NOT_ALLOWED = Code(
    "P507",
    "the base image is not allowed",
    "Images stand only on bases that `edgetrain.yaml` lists in `allowedBases`, by digest.",
    "Add the reference to `allowedBases` in a pull request of its own, or use a base that is listed.",
)
IMAGE_NOT_SERVED = Code(
    "P508",
    "the target runs no images",
    "The experiment's environment has a base image, and targets of type `local` run processes, not containers.",
    "Leave `environment.image` out, or choose a target with a container engine.",
)
FEATURE_NOT_SERVED = Code(
    "P509",
    "a declared restriction or waiver is not served",
    "The manifest asks for something that this version can't hold to; going on would break its word.",
    "Remove the field until a version that serves it is installed.",
)
IMAGE_NEEDED = Code(
    "P510",
    "the target runs containers and no image is named",
    "Targets of this type run each experiment in a container, and the manifest names no base image for it.",
    "Name one of `allowedBases`: environment: {image: registry.example/train@sha256:..., python: '3.11'}.",
)
PYTHON_OF_IMAGE = Code(
    "P511",
    "the Python of the image is not declared",
    "The Python minor version is part of a run's identity, and which one an image has shows only when it runs.",
    "Declare it beside the image: environment: {python: '3.11'}; the run is refused if the image has another.",
)
DATA_NOT_REACHED = Code(
    "P512",
    "the target can't read the datastore",
    "Targets of type `local` read folders in place; data in a blob store is pulled by targets of type `ssh`.",
    "Choose a target of type ssh, or a datastore of type folder.",
)
ATTACHMENT_HELD = Code(
    "P513",
    "the workspace has another compute target of this name",
    "Only what carries our owner tag is changed or detached; a compute target of this name is somebody else's, or "
    "was attached by another repository, site or machine address.",
    "Give the target another name, or detach the other one by hand; the next apply attaches ours.",
)
ATTACHMENT_UNCLEAR = Code(
    "P514",
    "the target can't be attached as declared",
    "Something that the attachment needs, mostly the private key, can't be read on the site's runner; or the key "
    "is one that an ssh block of the site uses too, perhaps in another file: such a key is never sent to Azure.",
    "Do what the reason says; the next apply attaches the target.",
)
ADVISORY_TARGET = Code(
    "P515",
    "the Azure ML target does not enforce egress",
    "On this target a script can't be kept from the network and the host. Where Azure ML runs the script, that is "
    "refused unless someone answers for it by name and for a time.",
    "Install the sandbox on the target, choose another one, or waive it in the manifest: egress.waivers with code "
    "P515, reason, owner and expires.",
)
DATASTORE_HELD = Code(
    "P516",
    "the workspace has another datastore of this name",
    "Only what carries our owner tag is changed or unregistered; a datastore of this name is somebody else's, or "
    "one of the workspace's own.",
    "Give the datastore another name, unregister the other one by hand, or write `azureml: none` on ours.",
)
DATASTORES_COLLIDE = Code(
    "P517",
    "two datastores would have one name in the workspace",
    "Datastores are registered in the workspace under their own names, with '_' for '-'. Sites share the "
    "workspace, so a name can stand for one site's datastore only.",
    "Rename one of them, or write `azureml: none` on all but one.",
)
RELEASE_UNREVIEWED = Code(
    "P518",
    "a model of high risk is released without a review",
    "With `release: automatic` the machine commits a version as soon as its gates pass, and no person looks at it. "
    "A model whose card says `riskClass: high` needs somebody who does.",
    "Write `release: review`, or correct the card's `riskClass` in a pull request of its own.",
)
TOO_MANY_METRICS = Code(
    "P519",
    "the workspace takes fewer metrics of a run",
    "Azure ML keeps at most 50 metrics of a run: those of the script, and as `evaluated/<metric>` those of the "
    "model's evaluation. A run with more could be trained and never be recorded.",
    "Declare fewer metrics in the experiment, or in the model's evaluation.",
)
