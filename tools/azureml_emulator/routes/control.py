"""The control API: what a test or a person may ask of the emulator, and the stand-in for GitHub's issuer.

Every path but GitHub's wants the header `X-Emulator-Key`.
"""

from __future__ import annotations

import dataclasses
import importlib
from functools import partial
from typing import Any

from azureml_emulator import assertions, principals
from azureml_emulator.emulator import Emulator
from azureml_emulator.faults import Fault
from azureml_emulator.message import Answer, Refused, Request
from azureml_emulator.routing import route

control = partial(route, audience="anyone", shape="arm")
CHANGEABLE = {
    "attach_by_address",
    "hosts",
    "lag",
    "page_size",
    "sas_life",
    "slow",
    "strict",
    "throttle",
    "token_life",
}


def _object(request: Request) -> dict[str, Any]:
    body = request.json()
    if not isinstance(body, dict):
        raise Refused(400, "UserError", "the body must be an object")
    return body


@control("GET", "/_emulator/health")
def health(emulator: Emulator, request: Request) -> Answer:
    """That it is up."""
    return Answer(200, {"workspaceId": emulator.workspace_id})


@control("GET", "/_emulator/faults")
def faults(emulator: Emulator, request: Request) -> Answer:
    """Faults still to come."""
    return Answer(200, emulator.faults.listed())


@control("POST", "/_emulator/faults")
def add_fault(emulator: Emulator, request: Request) -> Answer:
    """One more: the keys are those of `faults.Fault`."""
    try:
        fault = Fault(**_object(request))
        emulator.faults.add(fault)
    except TypeError:
        raise Refused(
            400, "UserError", "a fault has match, status or reset, count, skip, after, headers, body"
        ) from None
    return Answer(201, dataclasses.asdict(fault))


@control("DELETE", "/_emulator/faults")
def clear_faults(emulator: Emulator, request: Request) -> Answer:
    """No more faults."""
    emulator.faults.clear()
    return Answer(204)


@control("POST", "/_emulator/attachments/{name}/fail")
def fail_attachment(emulator: Emulator, request: Request, name: str) -> Answer:
    """Let the next attachment of this name fail: `{"code", "message"}`."""
    body = _object(request)
    emulator.faults.fail_attachment(name, str(body.get("code", "Failed")), str(body.get("message", "")))
    return Answer(204)


@control("POST", "/_emulator/runs/{run_id}/status")
def force_status(emulator: Emulator, request: Request, run_id: str) -> Answer:
    """Give a run another status, as the portal or the service itself would: `{"status", ...fields}`."""
    body = _object(request)
    status = str(body.pop("status", ""))
    runs = importlib.import_module("azureml_emulator.runs")
    if runs.get(emulator, run_id) is None:
        raise Refused(404, "NotFound", f"there is no run {run_id[:64]}")
    runs.set_status(emulator, run_id, status, **body)
    return Answer(204)


@control("GET", "/_emulator/requests")
def requests(emulator: Emulator, request: Request) -> Answer:
    """The last requests."""
    return Answer(200, emulator.log.requests)


@control("DELETE", "/_emulator/requests")
def clear_requests(emulator: Emulator, request: Request) -> Answer:
    """Forget them; the file stays."""
    emulator.log.clear()
    return Answer(204)


@control("GET", "/_emulator/unknown")
def unknown(emulator: Emulator, request: Request) -> Answer:
    """Requests without a route, faults of the emulator itself, and hosts that the proxy refused."""
    log = emulator.log
    return Answer(200, {"routes": log.unknown_routes, "failures": log.failures, "hosts": log.refused_hosts})


@control("PATCH", "/_emulator/options")
def change_options(emulator: Emulator, request: Request) -> Answer:
    """Other options from now on."""
    body = _object(request)
    if set(body) - CHANGEABLE:
        raise Refused(400, "UserError", f"what can be changed: {', '.join(sorted(CHANGEABLE))}")
    for key, value in body.items():
        now = getattr(emulator.options, key)
        number = isinstance(now, int | float) and not isinstance(now, bool)
        fits = (
            isinstance(value, int | float) and not isinstance(value, bool) if number else type(value) is type(now)
        )
        if not fits:
            raise Refused(400, "UserError", f"{key} is not of the right type")
    emulator.options = dataclasses.replace(emulator.options, **body)
    return Answer(204)


@control("POST", "/_emulator/principals/{name}/certificates")
def add_certificate(emulator: Emulator, request: Request, name: str) -> Answer:
    """Let the application sign in by a certificate: `{"certificate": "<PEM>"}`."""
    principals.trust_certificate(emulator, name, str(_object(request).get("certificate", "")))
    return Answer(204)


@control("POST", "/_emulator/principals/{name}/federated")
def add_federated(emulator: Emulator, request: Request, name: str) -> Answer:
    """Let the application sign in by an issuer's tokens: `{"issuer", "subject", "audience", "jwks"}`."""
    principals.trust_issuer(emulator, name, _object(request))
    return Answer(204)


@control("GET", "/_emulator/github/token")
def github_token(emulator: Emulator, request: Request) -> Answer:
    """A job's identity token, for whoever holds the job's request token (here the control key), as GitHub's
    service answers it; `subject` and `life` (seconds) may be chosen for tests."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or key != emulator.control_key:
        raise Refused(401, "Unauthorized", "the request token is wrong")
    life = request.query.get("life", "")
    token = assertions.job_token(
        emulator,
        request.query.get("audience", "https://github.com/edge"),
        request.query.get("subject", assertions.SUBJECT),
        float(life) if life.removeprefix("-").isdecimal() else assertions.LIFE,
    )
    return Answer(200, {"count": len(token), "value": token})
