"""Limits of what one project may fill, as parameters have them, and when one is told or refused."""

from purveyor_hooks.types import Parameter, Service

SIZE = r"0|[1-9][0-9]{0,5}(?:mb|gb)"
UNITS = {"mb": 2**20, "gb": 2**30}
# of the limit; what was full is free again below the last
WARNED, FULL, FREE = 0.8, 1.0, 0.95


def size(service: Service, parameter: Parameter) -> int:
    """Bytes; 0 is no limit. A service of before the parameter has none until it is given one."""
    text = str(service.parameters.get(parameter.name, "0"))
    return 0 if text == "0" else int(text[:-2]) * UNITS[text[-2:]]


def is_full(share: float, *, was_full: bool) -> bool:
    """Whether a share of the limit is refused more."""
    return share >= (FREE if was_full else FULL)
