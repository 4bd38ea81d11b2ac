"""Answers for sites' repositories, and a repository made of them in a folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgetrain.scaffold.answers import Answers, Azure

SHA = "5f0c9d2e" * 5
GUID = "0b1f6471-1bf0-4dda-aec3-cb9272f09590"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGXRsqztShGFD/b2MDEVkNrgzH+Us6dBi3JbCve1hYU1"
LONE = Answers(forge="none", site="here", owners=("ada@hosp.example",))
GITHUB = Answers(
    forge="github",
    site="st-anna",
    owners=("@hosp/ds", "@ada"),
    platform=("@hosp/platform",),
    repository="hosp/models",
    edgetrain=f"acme/edgetrain@{SHA}",
)
GHES = replace(GITHUB, forge="ghes", server="https://git.hosp.example")
AZURE = Azure(GUID, "rg-ml", "ws-radiology", GUID, GUID)
ALL = {
    "none": LONE,
    "github": GITHUB,
    "github-azureml": replace(GITHUB, workspace="azureml", azure=AZURE, app="123456", signing_key=KEY),
    "ghes": GHES,
    "ghes-azureml": replace(GHES, workspace="azureml", azure=AZURE, api="https://api.git.hosp.example/v3"),
}


def below(folder: Path, answers: Answers) -> Answers:
    """The answers, with the site's folders in this folder."""
    return replace(answers, state=str(folder / "state"), data=str(folder / "data"))
