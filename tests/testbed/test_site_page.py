"""What docs/site.md and docs/cloud-init.yaml tell people to write is valid."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "site.md").read_text(encoding="utf-8")
CLOUD = (ROOT / "docs" / "cloud-init.yaml").read_text(encoding="utf-8")
KINDS = {"Configuration": "configuration", "ComputeTarget": "computetarget"}


def manifests() -> list[dict[str, Any]]:
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
    target = next(block for block in blocks if block.get("kind") == "ComputeTarget")
    (jump,) = (block for block in blocks if "kind" not in block)
    behind = {**target, "spec": {**target["spec"], "ssh": {**target["spec"]["ssh"], **jump}}}
    return [*(block for block in blocks if "kind" in block), behind]


@pytest.mark.parametrize("manifest", manifests(), ids=lambda manifest: str(manifest["kind"]))
def test_its_manifests_are_valid(manifest: dict[str, Any]) -> None:
    file = ROOT / "tools" / "edgetrain" / "schemas" / f"{KINDS[manifest['kind']]}.schema.json"
    jsonschema.Draft202012Validator(json.loads(file.read_bytes())).validate(manifest)


def written(path: str) -> str:
    """A file of the cloud-init page, with its blanks filled in."""
    content = next(file["content"] for file in yaml.safe_load(CLOUD)["write_files"] if file["path"] == path)
    return re.sub(r"<[^>]+>", "192.0.2.1", content)


def test_its_engine_settings_are_json() -> None:
    assert json.loads(written("/etc/docker/daemon.json"))["no-new-privileges"] is True


@pytest.mark.needs("vm")
def test_sshd_takes_its_settings(tmp_path: Path) -> None:
    key, config = tmp_path / "key", tmp_path / "sshd_config"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    config.write_text(written("/etc/ssh/sshd_config.d/10-edgetrain.conf"))
    # `-T` says what holds: a misspelt or overridden setting would not.
    command = [shutil.which("sshd") or "/usr/sbin/sshd", "-T", "-f", str(config), "-h", str(key)]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", f"mount -t tmpfs t /run && mkdir /run/sshd && {shlex.join(command)}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for line in ("passwordauthentication no", "permitrootlogin no", "allowtcpforwarding no", "maxsessions 100"):
        assert line in done.stdout.splitlines()


def test_its_firewall_lets_nothing_out_by_default() -> None:
    rules = written("/etc/nftables.conf")
    chains = dict(re.findall(r"chain (\w+) \{\n\s+type filter hook \w+ priority [^;]+; policy (\w+);", rules))
    assert chains == {"input": "drop", "forward": "drop", "output": "drop"}
