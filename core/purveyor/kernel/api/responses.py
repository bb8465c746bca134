"""What routes share: their request, and lists that are told in parts."""

from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

from litestar import Request, Response
from litestar.params import Parameter

Req = Request[Any, Any, Any]
T = TypeVar("T")
Limit = Annotated[int, Parameter(ge=1, le=1000)]
Offset = Annotated[int, Parameter(ge=0)]


def page(items: Sequence[T], total: int) -> Response[list[T]]:
    """A part of a list, its whole length in ``X-Total-Count``."""
    return Response(list(items), headers={"X-Total-Count": str(total)})
