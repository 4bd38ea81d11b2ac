"""How each of the services words a refusal. Shapes: those that the client's own parsers demand."""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import escape

from azureml_emulator import sas
from azureml_emulator.message import Answer, Refused, Request


def refusal(shape: str, refused: Refused, request: Request, time: str) -> Answer:
    """The answer. `shape` is one of `worded`, or `blob`: the blob service speaks XML, and to HEAD not at all."""
    if shape != "blob":
        return Answer(refused.status, worded(shape, refused, request.id, time), refused.headers)
    said = f"<Error><Code>{refused.code}</Code><Message>{escape(refused.message)}</Message></Error>"
    body = b"" if request.method == "HEAD" else f'<?xml version="1.0" encoding="utf-8"?>{said}'.encode()
    headers = {"x-ms-error-code": refused.code, "Content-Type": "application/xml", **refused.headers}
    return Answer(refused.status, body, headers | {"x-ms-version": sas.VERSION})


def worded(shape: str, refused: Refused, request_id: str, time: str) -> dict[str, Any]:
    """The JSON body. `arm`: Resource Manager and compute; `history`: run history, artifacts, metrics, content,
    execution, environments, datastores; `models`: model management; `oauth`: sign-in; `registry`: OCI."""
    if shape == "arm":
        return {"error": {"code": refused.code, "message": refused.message}}
    if shape == "models":
        return {
            "code": refused.code,
            "statusCode": refused.status,
            "message": refused.message,
            "details": [],
            "correlation": {"RequestId": request_id},
        }
    if shape == "oauth":
        return {"error": refused.code, "error_description": refused.message, "correlation_id": request_id}
    if shape == "registry":
        return {"errors": [{"code": refused.code, "message": refused.message}]}
    return {
        "error": {"code": refused.code, "message": refused.message, "details": []},
        "correlation": {"operation": request_id, "request": request_id},
        "environment": "local",
        "location": "local",
        "time": time,
        "componentName": "emulator",
    }
