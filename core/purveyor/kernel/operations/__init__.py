"""Operations: rows of named, idempotent steps that survive a crash at any instant."""

from purveyor.kernel.operations.immediate import ImmediateOperation, Moved, Result
from purveyor.kernel.operations.operation import SECRET, OperationType, Step, Target
from purveyor.kernel.operations.plan import Plan
from purveyor.kernel.operations.runner import Runner

__all__ = [
    "SECRET",
    "ImmediateOperation",
    "Moved",
    "OperationType",
    "Plan",
    "Result",
    "Runner",
    "Step",
    "Target",
]
