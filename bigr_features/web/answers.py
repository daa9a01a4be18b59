"""Questions and answers in JSON: values of a request, checked; errors in one sentence."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Mapping
from typing import Any

from PIL import Image
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..functional.printing import one_line

log = logging.getLogger(__name__)

KEPT = {"Cache-Control": "private, max-age=86400, immutable"}  # of what an id of pixels names


class Refused(Exception):
    """A request that cannot be answered: a status and a sentence."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status, self.message = status, message


def problem(status: int, message: str) -> JSONResponse:
    """An error as JSON."""
    return JSONResponse({"error": one_line(message)[:2000]}, status)


async def on_error(request: Request, error: Exception) -> Response:
    """What the page says of an error; nothing of the inside of the program goes out."""
    if isinstance(error, Refused):
        return problem(error.status, error.message)
    if isinstance(error, HTTPException):
        return problem(error.status_code, error.detail)
    if isinstance(error, FileNotFoundError):
        return problem(404, str(error))
    if isinstance(error, ValueError | TypeError | OSError | ImportError):
        return problem(400, str(error))
    log.error("%s failed", one_line(request.url.path), exc_info=error)
    return problem(500, f"the server failed ({type(error).__name__}); its terminal says more.")


def text_of(given: Mapping, name: str, most: int, default: str = "") -> str:
    """A text of a request."""
    value = given.get(name, default)
    if not isinstance(value, str):
        raise Refused(400, f"{name} is a {type(value).__name__}; expected a text.")
    if len(value) > most:
        raise Refused(400, f"{name} has {len(value):,} characters; at most {most:,} are taken.")
    return value


def number_of(given: Mapping, name: str, low: int, high: int, default: int) -> int:
    """A whole number of a request."""
    value = given.get(name, default)
    try:
        number = int(value)
        whole = not isinstance(value, bool | float) or float(value) == number
    except (TypeError, ValueError, OverflowError):
        whole, number = False, low
    if not whole or isinstance(value, bool) or not low <= number <= high:
        raise Refused(400, f"{name}={str(value)[:40]!r}; expected a whole number of {low}..{high}.")
    return number


async def json_of(request: Request) -> dict:
    """The JSON object that a request carries."""
    try:
        content = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise Refused(400, "the request is no valid JSON.") from None
    if not isinstance(content, dict):
        raise Refused(400, f"the request is a {type(content).__name__}; expected a JSON object.")
    return content


def png_of(image: Image.Image) -> bytes:
    """A picture as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def picture(content: bytes, headers: Mapping[str, str] | None = None) -> Response:
    """An encoded PNG or JPEG."""
    kind: Any = "image/png" if content[:4] == b"\x89PNG" else "image/jpeg"
    return Response(content, media_type=kind, headers=dict(headers or {}))
