"""The answers to requests that fail: a status, and one line that says why."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any

import fastapi
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from hrnn_jax.errors import InputError, StorageError

from . import schemas
from .batcher import BusyError

logger = logging.getLogger("hrnn_jax")  # a command shows what it gets
_MAX_REASON = 300  # characters
_DESCRIPTIONS = {
    400: "The body cannot be read.",
    401: "The service needs a token, and the request has none or a wrong one.",
    404: "Nothing is stored under this id.",
    409: "Another one is under way.",
    413: "The body is too large.",
    415: "The body is not sent as application/json.",
    422: "A value of the request is invalid.",
    503: "The state file cannot be written or is lost, or too many requests are waiting: nothing "
    "was changed.",
}


def describe_errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of a route's errors."""
    return {
        status: {"model": schemas.Error, "description": _DESCRIPTIONS[status]}
        for status in statuses
    }


def error_response(
    status: int, reason: object, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Make the answer to a request that failed.

    Args:
        status: of the response.
        reason: what is wrong. It may quote the client; line breaks and length are cut.
        headers: of the response.

    Returns:
        The response: JSON as `schemas.Error` describes it.
    """
    line = " ".join(str(reason).split())[:_MAX_REASON]
    return JSONResponse({"detail": line}, status, headers)


def add_error_handlers(app: fastapi.FastAPI) -> Callable[[Exception], JSONResponse]:
    """Make an application answer invalid requests by 4xx, and 503 where nothing was changed.

    Paths of this machine are logged, and in no answer.

    Returns:
        A function from an InputError, StorageError or BusyError to the answer.
    """
    logged = ""

    def log(error: StorageError) -> None:
        nonlocal logged
        if str(error) != logged:  # a full disk fails every request alike
            logged = str(error)
            logger.error(logged)

    def answer_of_library(error: Exception) -> JSONResponse:
        if isinstance(error, StorageError):
            log(error)
        public = getattr(error, "public", None) or error
        if isinstance(error, InputError):
            return error_response(422, public)
        return error_response(503, public, {"Retry-After": "1"})

    @app.exception_handler(400)
    @app.exception_handler(InputError)
    @app.exception_handler(RequestValidationError)
    @app.exception_handler(StorageError)
    @app.exception_handler(BusyError)
    async def answer(request: fastapi.Request, error: Exception) -> JSONResponse:
        if isinstance(error, InputError | StorageError | BusyError):
            return answer_of_library(error)
        if not isinstance(error, RequestValidationError):
            reason = "send JSON in UTF-8, with whole numbers of at most 64 bits"
            return error_response(400, f"the body cannot be read: {reason}")
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part not in schemas.TAGS)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        is_json = kind == "application/json" or re.fullmatch(r"application/.*\+json", kind)
        if place == "body" and not is_json:
            return error_response(415, "send the body as JSON, with Content-Type: application/json")
        reason = first.get("ctx", {}).get("error", first["msg"])
        return error_response(422, f"{place}: {reason}")

    return answer_of_library
