"""Clouds; and in processes of their own: what is read and written where, what is imported before it is needed."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from azureml_emulator.server import RunningEmulator
from edgetrain.core.errors import NotFound, Rejected
from edgetrain.providers import azureml
from edgetrain.providers.azureml.clouds import BUILT_IN, METADATA, cloud_of
from tests.cli.command import edgetrain, environment
from tests.cli.conftest import git
from tests.providers.azureml.support import asked, settings

pytestmark = pytest.mark.long(0.3)

AZURE = ("adal", "azure", "azureml", "knack", "msal", "msrest")
_PRELUDE = """
import json, pathlib, sys
from edgetrain.core.ports import Outbound, Settings
from edgetrain.core.secret import Secret
from edgetrain.providers.azureml.session import Session
given = json.loads(sys.stdin.read())
session = Session(Settings(
    "workspace", given["block"], pathlib.Path(given["state"]), outbound=Outbound(**given["outbound"]),
    secret=lambda name: Secret(given["secret"]), clouds=given["clouds"]))
"""


def outside(
    emulator: RunningEmulator,
    folder: Path,
    code: str,
    topology: str = "A",
    variables: Mapping[str, str] = {},
    **more: Any,
) -> Any:
    """What code prints (JSON) that has a `session`, in a process with a home of its own below `folder`."""
    made = settings(emulator, folder / "state", topology, **more)
    given = {
        "block": made.block,
        "state": str(made.state),
        "outbound": vars(made.outbound),
        "secret": made.secret("sp").reveal(),
        "clouds": made.clouds,
    }
    home = folder / "home"
    home.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", _PRELUDE + code],
        input=json.dumps(given),
        env={**environment(), "HOME": str(home), **variables},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def asks(answers: Mapping[str, Any]) -> Any:
    """Answers for the metadata by version; others are not known."""

    def ask(url: str, params: Mapping[str, str]) -> Any:
        assert url.endswith(METADATA)
        if params["api-version"] not in answers:
            raise NotFound("no such version")
        return answers[params["api-version"]]

    return ask


def test_the_built_in_clouds_are_those_of_the_sdk() -> None:
    from azureml._vendor.azure_cli_core.cloud import HARD_CODED_CLOUD_LIST

    known = {cloud.name: cloud for cloud in HARD_CODED_CLOUD_LIST}
    for name in BUILT_IN:
        ours, theirs = cloud_of(name, {}, asks({})), known[name]
        assert ours.resource_manager == theirs.endpoints.resource_manager.rstrip("/")
        assert ours.authority == theirs.endpoints.active_directory
        assert ours.audience == theirs.endpoints.active_directory_resource_id
        assert ours.portal == theirs.endpoints.portal
        assert f".{ours.registry_suffix}" == theirs.suffixes.acr_login_server_endpoint
        assert ours.storage_suffix == theirs.suffixes.storage_endpoint
        assert f".{ours.vault_suffix}" == theirs.suffixes.keyvault_dns
    assert cloud_of("AzureCloud", {}, asks({})).ml_audience == "https://ml.azure.com"
    assert cloud_of("AzureChinaCloud", {}, asks({})).ml_audience == "https://ml.azure.cn"


def test_an_unknown_cloud_is_named() -> None:
    with pytest.raises(NotFound) as caught:
        cloud_of("AzureClod", {"hub": {}}, asks({}))
    assert "AzureCloud" in caught.value.message


HUB = {"resourceManager": "https://management.hub.example/"}
NEW = {
    "name": "other",
    "resourceManager": "https://management.hub.example",
    "portal": "https://portal.hub.example",
    "authentication": {"loginEndpoint": "https://login.hub.example/", "audiences": ["https://m.hub.example/x"]},
    "suffixes": {
        "storage": "hub.example",
        "acrLoginServer": ".acr.hub.example",
        "keyVaultDns": "vault.hub.example",
    },
}
OLD = {
    "galleryEndpoint": "https://gallery.hub.example",
    "portalEndpoint": "https://portal.hub.example",
    "authentication": {"loginEndpoint": "https://adfs.hub.example/adfs/", "audiences": ["https://m.hub.example/x"]},
}


def test_a_cloud_describes_itself_in_both_shapes() -> None:
    new = cloud_of("hub", {"hub": HUB}, asks({"2019-05-01": [{"name": "AzureCloud"}, NEW]}))
    assert (new.authority, new.audience) == ("https://login.hub.example", "https://m.hub.example/x")
    assert (new.registry_suffix, new.storage_suffix) == ("acr.hub.example", "hub.example")
    assert new.authority_of("t") == "https://login.hub.example/t"
    assert not new.adfs
    old = cloud_of("hub", {"hub": HUB}, asks({"2015-01-01": OLD}))
    assert (old.authority, old.portal) == ("https://adfs.hub.example/adfs", "https://portal.hub.example")
    assert old.authority_of("t") == "https://adfs.hub.example/adfs"
    assert old.adfs


def test_what_is_declared_goes_first_and_may_be_all() -> None:
    declared = {
        **HUB,
        "activeDirectory": "https://adfs.hub.example/adfs",
        "activeDirectoryResourceId": "https://mine/",
        "registrySuffix": "mine.example",
    }
    found = cloud_of("hub", {"hub": declared}, asks({}))
    assert (found.authority, found.audience) == ("https://adfs.hub.example/adfs", "https://mine/")
    del declared["activeDirectory"]
    found = cloud_of("hub", {"hub": declared}, asks({"2019-05-01": [NEW]}))
    assert (found.authority, found.audience) == ("https://login.hub.example", "https://mine/")
    assert found.registry_suffix == "mine.example"


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        {},
        "x",
        [1],
        [{}, {}],
        {"authentication": {"audiences": []}},
        {"authentication": {"audiences": ["a"], "loginEndpoint": "http://plain.example"}},
    ],
)
def test_a_cloud_that_describes_itself_badly_is_refused(answer: Any) -> None:
    with pytest.raises(Rejected) as caught:
        cloud_of("hub", {"hub": HUB}, asks({"2019-05-01": answer, "2015-01-01": answer}))
    assert caught.value.reason == "CloudUnusable"


@pytest.mark.parametrize(
    ("host", "held"),
    [
        ("x.azurecr.io", True),
        ("x.AzureCR.io:443", True),
        ("azurecr.io.evil.example", False),
        ("evilazurecr.io", False),
        ("[::1]:5000", False),
        ("", False),
    ],
)
def test_which_registries_are_of_a_cloud(host: str, held: bool) -> None:
    assert cloud_of("AzureCloud", {}, asks({})).holds_registry(host) is held


def files(folder: Path) -> set[str]:
    """What lies below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_nothing_is_read_from_or_left_in_the_users_profile(
    workspace_emulator: RunningEmulator, tmp_path: Path, topology: str
) -> None:
    home = tmp_path / "home"
    (home / ".azure").mkdir(parents=True)
    # A profile that would mislead: another cloud, and a password for every host.
    (home / ".azure" / "config").write_text("[cloud]\nname = AzureChinaCloud\n")
    (home / ".azure" / "azureProfile.json").write_text("{broken")
    (home / ".netrc").write_text("default login evil password evil\n")
    (home / ".netrc").chmod(0o600)
    before = files(home)
    told = outside(
        workspace_emulator,
        tmp_path,
        """
import os
home, opened = os.environ["HOME"], set()

def watch(event, given):
    if event == "open" and str(given[0]).startswith(home):
        opened.add(str(given[0]))

sys.addaudithook(watch)
from edgetrain.providers.azureml.environment import ensure, for_machine
ensure(session, for_machine(b"", "python"))  # what uses the SDK first is not always what opens the workspace
found = session.workspace.get_details()["name"]
from azureml.core import Experiment, Model
session.call(lambda: Experiment(session.workspace, "kept-apart"), "making it")
session.call(lambda: Model.list(session.workspace), "listing")
list(session.pages("models", "/modelmanagement/v1.0{WS}/models"))
session.edge_token("Emulated") if given["clouds"] else None
print(json.dumps([found, os.environ["HOME"], os.path.expanduser("~"), sorted(opened)]))
""",
        topology,
    )
    assert told == [workspace_emulator.emulator.options.workspace, str(home), str(home), []]
    assert files(home) == before
    kept = files(tmp_path / "state")
    assert "azureml/home/.azureml/.discovery" in kept
    assert ("azureml/azure/clouds.config" in kept) == (topology == "B")
    for path in (tmp_path / "state" / "azureml").rglob("*"):
        if path.is_file():
            text = path.read_bytes()
            assert not re.search(rb"eyJ[\w-]+\.eyJ", text)
            assert workspace_emulator.principal("owner")["clientSecret"].encode() not in text
    assert (tmp_path / "state" / "azureml").stat().st_mode & 0o077 == 0


def test_whatever_imports_the_sdk_has_it_opened_before() -> None:
    """Importing it reads the home folder, and may ask a cloud: `open_sdk` keeps it from both."""
    opened = {"_adapt", "made", "sdk_cloud"}  # called where it is open: by `open_sdk`, `ensure`, `open_workspace`
    harmless = {"_same"}  # of what it imports nothing reads anything
    for path in Path(azureml.__file__).parent.glob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        handed = {
            call.args[0].id
            for call in ast.walk(tree)
            if isinstance(call, ast.Call)
            and isinstance(call.func, ast.Attribute)
            and call.func.attr == "with_sdk"
            and isinstance(call.args[0], ast.Name)
        }
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef):
                modules = [one.module or "" for one in function.body if isinstance(one, ast.ImportFrom)]
                if any(module.partition(".")[0] == "azureml" for module in modules):
                    assert function.name in handed | opened | harmless, f"{path.name}: {function.name}"


def test_the_profile_of_a_signed_in_cli(workspace_emulator: RunningEmulator, tmp_path: Path) -> None:
    """`az login` as azure-cli-core does it, then a session of type `cli` in another process that finds it."""
    folder = tmp_path / "profile"
    profile = {"AZURE_CONFIG_DIR": str(folder), "AZURE_CORE_INSTANCE_DISCOVERY": "false"}
    login = """
import os
session.surroundings.use()
from azure.cli.core import get_default_cli
from azure.cli.core._profile import Profile
from azure.cli.core.cloud import add_cloud, switch_active_cloud, Cloud, CloudEndpoints, CloudSuffixes
cli = get_default_cli()
cloud = session.cloud
add_cloud(cli, Cloud(cloud.name, endpoints=CloudEndpoints(management=cloud.audience,
    resource_manager=cloud.resource_manager, active_directory=cloud.authority,
    active_directory_resource_id=cloud.audience), suffixes=CloudSuffixes()))
switch_active_cloud(cli, cloud.name)
auth = given["block"]["auth"]
Profile(cli_ctx=cli).login(False, auth["clientId"], {"client_secret": given["secret"]}, True, auth["tenant"])
print(json.dumps(True))
"""
    folder.mkdir()
    (folder / "versionCheck.json").write_text(
        json.dumps({"versions": {"core": {"local": _cli_version()}}, "update_time": "2030-01-01 00:00:00.0"})
    )
    assert outside(workspace_emulator, tmp_path, login, "B", profile) is True
    opened = "print(json.dumps([session.workspace.name, session.tokens.get(session.cloud.audience).reveal()[:3]]))"
    cli = {"type": "cli", "tenant": workspace_emulator.emulator.options.tenant}
    name = workspace_emulator.emulator.options.workspace
    assert outside(workspace_emulator, tmp_path, opened, "B", profile, auth=cli) == [name, "eyJ"]
    refused = """
from edgetrain.core.errors import Denied
try:
    session.workspace
except Denied as error:
    print(json.dumps([error.reason, error.message, error.fix]))
"""
    nobody = tmp_path / "nobody"
    nobody.mkdir()
    (nobody / "versionCheck.json").write_text((folder / "versionCheck.json").read_text())
    reason, message, fix = outside(
        workspace_emulator, tmp_path, refused, "A", {"AZURE_CONFIG_DIR": str(nobody)}, auth=cli
    )
    assert reason == "SignInRefused", message
    assert "az login" in fix
    reason, _, fix = outside(workspace_emulator, tmp_path, refused, "A", profile, auth=cli)
    assert (reason, "az cloud set" in fix) == ("OtherCloud", True)


def _cli_version() -> str:
    from importlib.metadata import version

    return version("azure-cli-core")


def test_no_package_of_azure_is_imported_to_validate_or_plan(
    repository: Path,
    workspace_emulator: RunningEmulator,
) -> None:
    text, netrc = (repository / "edgetrain.yaml").read_text(), os.environ.get("NETRC")
    guid = "0b1f6471-1bf0-4dda-aec3-cb9272f09590"
    workspace = {
        "type": "azureml",
        "subscription": guid,
        "resourceGroup": "rg",
        "name": "ws-1",
        "auth": {"type": "oidc", "tenant": guid, "clientId": guid},
    }
    registries = {"acr": {"type": "oci", "host": "x.azurecr.io", "credential": {"workspace": True}}}
    block = f"spec:\n  workspace: {json.dumps(workspace)}\n  registries: {json.dumps(registries)}\n"
    (repository / "edgetrain.yaml").write_text(text.replace("spec:\n", block))
    git(repository, "commit", "--quiet", "-am", "Move to Azure ML")
    for arguments in (["--help"], ["validate"], ["plan"]):
        code = (
            "import sys\nfrom edgetrain.__main__ import main\nsys.argv[1:] = " + repr(arguments) + "\n"
            "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code or end.code == 2, end.code\n"
            f"found = sorted({{n for n in sys.modules if n.partition('.')[0] in {AZURE!r}}})\n"
            "print('\\nIMPORTED', found)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=repository,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert "IMPORTED []" in done.stdout, (arguments, done.stdout[-2000:], done.stderr[-2000:])
    assert edgetrain("validate", cwd=repository).code == 0
    assert not asked(workspace_emulator, "")
    assert os.environ.get("NETRC") == netrc


def test_only_the_thread_that_imports_the_sdk_has_another_home(
    workspace_emulator: RunningEmulator, tmp_path: Path
) -> None:
    """Git is started by other threads meanwhile: its credentials and settings lie in the user's home."""
    told = outside(
        workspace_emulator,
        tmp_path,
        """
import os, sys, threading
seen = set()

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("azureml", "azure", "knack"):
            look = lambda: seen.add((os.environ["HOME"], os.path.expanduser("~")))
            other = threading.Thread(target=look)
            other.start()
            other.join()

sys.meta_path.insert(0, Watch())
session.workspace
from azureml._base_sdk_common import common
print(json.dumps([sorted(seen), common.CREDENTIALS_PATH]))
""",
    )
    home = str(tmp_path / "home")
    assert told == [[[home, home]], str(tmp_path / "state" / "azureml" / "home" / ".azureml")]
