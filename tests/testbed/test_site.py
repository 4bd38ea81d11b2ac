"""A site's manifests are valid, and say where its parts really are."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from testbed.site import Testbed
from tests.cli.command import edgetrain

pytestmark = [pytest.mark.needs(part) for part in ("azurite", "mmdebstrap", "registry", "skopeo", "vm")]


def test_writes_manifests_that_name_its_parts(tmp_path: Path) -> None:
    with Testbed(vms=2) as site:
        site.seed(Path(__file__).parent)
        spec = site.configuration(tmp_path / "state", image=site.base())
        head = {"apiVersion": "edgetrain/v1"}
        manifest = {**head, "kind": "Configuration", "metadata": {"name": "site"}, "spec": spec}
        (tmp_path / "edgetrain.yaml").write_text(yaml.safe_dump(manifest))
        (tmp_path / "compute").mkdir()
        for vm in site.vms:
            target = {**head, "kind": "ComputeTarget", "metadata": {"name": vm.name}, "spec": site.compute(vm)}
            (tmp_path / "compute" / f"{vm.name}.yaml").write_text(yaml.safe_dump(target))
        subprocess.run(["git", "init", "-q", "-b", "main", str(tmp_path)], check=True)
        done = edgetrain("validate", cwd=tmp_path)
        assert done.code == 0, done.out + done.err

        fetch = (
            "import ssl, sys, urllib.request, urllib.error\n"
            "context = ssl.create_default_context(cadata=sys.stdin.read())\n"
            "try: print(urllib.request.urlopen(sys.argv[1], timeout=5, context=context).status)\n"
            "except urllib.error.HTTPError as error: print(error.code)\n"
        )
        second = site.vms[1]
        registry = f"https://{spec['registries']['site']['host']}/v2/"
        blobs = f"{spec['artifacts']['endpoint']}/site-data/test_site.py"
        for url, bundle, status in (
            (registry, site.registry.ca_bundle, "401"),
            (blobs, str(site.azurite.ca_bundle), "403"),
        ):
            answer = second.run(["python3", "-c", fetch, url], input=Path(bundle).read_text())
            assert answer.stdout.strip() == status
