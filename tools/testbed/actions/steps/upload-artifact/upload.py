"""Uploads one file as an artifact, by the protocol of actions/upload-artifact v4 and later."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

SERVICE = "twirp/github.actions.results.api.v1.ArtifactService"


def main() -> None:
    """Upload it, or say that there is none."""
    file = Path(os.environ["FILE"])
    if not file.is_file():
        level = {"error": "error", "warn": "warning"}.get(os.environ["ABSENT"], "notice")
        print(f"::{level}::No files were found with the provided path: {file}")
        sys.exit(level == "error")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(file, file.name)
    data, run = packed.getvalue(), os.environ["GITHUB_RUN_ID"]
    asked = {"workflowRunBackendId": run, "workflowJobRunBackendId": run, "name": os.environ["NAME"]}
    address = call("CreateArtifact", {**asked, "version": 4})["signedUploadUrl"]
    put = urllib.request.Request(f"{address}&comp=block", data=data, method="PUT")  # noqa: S310
    with urllib.request.urlopen(put, timeout=60):  # noqa: S310
        pass
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if not call("FinalizeArtifact", {**asked, "size": str(len(data)), "hash": digest})["ok"]:
        sys.exit("the artifact was not stored")
    print(f"{os.environ['NAME']}: {len(data)} bytes")


def call(name: str, body: dict[str, Any]) -> Any:
    """What the service answers."""
    request = urllib.request.Request(  # noqa: S310
        f"{os.environ['ACTIONS_RESULTS_URL']}{SERVICE}/{name}",
        data=json.dumps(body).encode(),
        headers={
            "Authorization": f"Bearer {os.environ['ACTIONS_RUNTIME_TOKEN']}",
            "Content-Type": "application/json",
        },
    )
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        return json.load(answer)


if __name__ == "__main__":
    main()
