"""The way to the package index: what builds of environments may know of the runner."""

from __future__ import annotations

from collections.abc import Mapping

_BUILD_ENV = ("PATH", "HOME", "TMPDIR", "XDG_CACHE_HOME", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
_PIP = {"PIP_INDEX_URL": "UV_DEFAULT_INDEX", "PIP_EXTRA_INDEX_URL": "UV_INDEX", "PIP_FIND_LINKS": "UV_FIND_LINKS"}


def build_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of the supervisor and of builds; `RUNNER_TRACKING_ID` is left out, for a CI runner
    kills at the job's end whatever has it."""
    names = {*_BUILD_ENV, *_PROXIES, *(name.lower() for name in _PROXIES)}
    found = {name: value for name, value in environ.items() if name in names or name.startswith("UV_")}
    for theirs, ours in _PIP.items():
        if theirs in environ:
            found.setdefault(ours, environ[theirs])
    if not {"HOME", "XDG_CACHE_HOME", "UV_CACHE_DIR"} & set(found):
        found["UV_NO_CACHE"] = "1"
    # Behind a proxy that opens connections, the site's own authority is in the system's store.
    found.setdefault("UV_SYSTEM_CERTS", "true")
    return {**found, "LANG": "C.UTF-8", "PATH": found.get("PATH", "/usr/bin:/bin")}
