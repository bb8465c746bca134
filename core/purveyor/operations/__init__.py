"""Operations: verbs as rows of named, idempotent steps that survive a crash at any instant."""

from purveyor.operations.plan import Plan
from purveyor.operations.runner import Runner
from purveyor.operations.verb import Step, Target, Verb

__all__ = ["Plan", "Runner", "Step", "Target", "Verb"]
