"""Operations: verbs as rows of named, idempotent steps that survive a crash at any instant."""

from purveyor.kernel.operations.operation import SECRET, Step, Target, Verb
from purveyor.kernel.operations.plan import Plan
from purveyor.kernel.operations.runner import Runner

__all__ = ["SECRET", "Plan", "Runner", "Step", "Target", "Verb"]
