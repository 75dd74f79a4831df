"""The query of a request: each parameter is known here, and given once unless it may be repeated.

A misspelt filter would list everything, and of two limits two readers could take different ones.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from starlette.requests import Request

from bursar.api.errors import first_fault


def parameters_of(endpoint: Callable[..., Any]) -> Mapping[str, bool]:
    """The parameters that an endpoint's `query` model has, each with whether it may be repeated."""
    asked = signature(endpoint, eval_str=True).parameters.get("query")
    if asked is None:
        return {}
    model = next(one for one in (asked.annotation, *get_args(asked.annotation)) if _is_model(one))
    return {
        name: get_origin(field.annotation) is list for name, field in model.model_fields.items()
    }


def check_query(request: Request, known: Mapping[str, bool]) -> None:
    """Raise `InvalidParameter` for parameters that are not `known` or are given too often."""
    if not request.scope["query_string"]:
        return
    given = Counter(name for name, _ in request.query_params.multi_items())
    faults = [
        {"loc": ("query", name), "type": kind, "msg": "This may be given only once."}
        for name, times in given.items()
        if (kind := _fault(name, times, known)) is not None
    ]
    if faults:
        raise first_fault(faults)


def _fault(name: str, times: int, known: Mapping[str, bool]) -> str | None:
    if name not in known:
        return "extra_forbidden"
    return "repeated" if times > 1 and not known[name] else None


def _is_model(one: object) -> bool:
    return isinstance(one, type) and issubclass(one, BaseModel)
