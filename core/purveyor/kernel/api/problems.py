"""Errors as problem details (RFC 9457): never a stack trace, never a secret."""

from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.openapi.datastructures import ResponseSpec
from litestar.response import Response as BaseResponse

from purveyor_hooks import BadInput, NotFound, PurveyorError, TooMany, Unauthorized

MEDIA_TYPE = "application/problem+json"
TYPE = "urn:purveyor:error:"


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of every error answer; `errors` says what is wrong with each field, `remedy` what to
    do next."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    remedy: str = ""
    errors: dict[str, str] = {}


# what every call may be answered with instead, for the API's description
REFUSALS = {
    status: ResponseSpec(Problem, False, HTTPStatus(status).phrase, MEDIA_TYPE)
    for status in (400, 401, 403, 404, 409, 410, 413, 429, 500, 502, 503, 504, 507)
}


def render(request: Request[Any, Any, Any], error: PurveyorError) -> BaseResponse[Any]:
    problem = Problem(
        type=f"{TYPE}{error.code}",
        title=error.title,
        status=error.status,
        detail=error.detail,
        instance=request.url.path,
        remedy=error.remedy,
        errors=error.errors,
    )
    headers = {"WWW-Authenticate": "Bearer"} if isinstance(error, Unauthorized) else {}
    if isinstance(error, TooMany):
        headers["Retry-After"] = "30"
    return Response(problem, status_code=error.status, media_type=MEDIA_TYPE, headers=headers)


def on_purveyor_error(request: Request[Any, Any, Any], error: PurveyorError) -> BaseResponse[Any]:
    return render(request, error)


def on_http_error(request: Request[Any, Any, Any], error: HTTPException) -> BaseResponse[Any]:
    """Litestar's own errors: unknown paths, methods, malformed bodies."""
    if isinstance(error, ValidationException):
        return render(request, _validation(error))
    if error.status_code == 404:
        remedy = "The API is described at /api/schema/openapi.json"
        return render(request, NotFound(f"There is nothing at {request.url.path}.", remedy=remedy))
    if error.status_code == 400:
        return render(
            request,
            BadInput(
                "The body is not what this call takes: send JSON.",
                remedy="See /api/schema/openapi.json",
            ),
        )
    problem = Problem(
        type="about:blank",
        title=error.detail or "Refused",
        status=error.status_code,
        detail=error.detail or "Refused.",
        instance=request.url.path,
    )
    return Response(
        problem, status_code=error.status_code, media_type=MEDIA_TYPE, headers=error.headers
    )


def _validation(error: ValidationException) -> BadInput:
    errors = {}
    for item in error.extra if isinstance(error.extra, list) else []:
        if isinstance(item, dict):
            errors[str(item.get("key") or "body")] = str(item.get("message", "not valid"))
    if not errors:
        errors["body"] = "not the JSON that this call takes"
    listed = "; ".join(f"{name}: {why}" for name, why in errors.items())
    return BadInput(f"The request cannot be used: {listed}.", errors=errors)


def on_deep_body(request: Request[Any, Any, Any], error: Exception) -> BaseResponse[Any]:
    """JSON that is nested too deep to be read, or holds a number too long to be one; anything else
    is a fault of ours."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or "serialization" not in trace.tb_frame.f_globals.get("__name__", ""):
        return on_fault(request, error)
    why = (
        "nested too deep"
        if isinstance(error, RecursionError)
        else "it holds a value that cannot be read"
    )
    return render(request, BadInput(f"The body cannot be used: {why}.", errors={"body": why}))


def on_fault(request: Request[Any, Any, Any], error: Exception) -> BaseResponse[Any]:
    """A fault of ours: logged whole, told without its text."""
    core = request.app.state.get("core")
    if core is not None:
        # the route's pattern: what stands in its place may be a secret
        route = request.scope.get("path_template", "")
        core.context.logger.warning(
            "api.fault", path=route, error=type(error).__name__, exc_info=error
        )
    return render(
        request,
        PurveyorError(
            "Purveyor made a mistake; the daemon's log says which.", remedy="Please report it."
        ),
    )
