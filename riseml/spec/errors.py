"""What can be wrong with an id, a name, a quantity or a riseml.yml; every message says what would
do.
"""

from __future__ import annotations

from dataclasses import dataclass


class SpecError(ValueError):
    """Root of everything that ``riseml.spec`` refuses."""


class InvalidId(SpecError):
    """Not the id of an experiment, a job or an attempt."""


class InvalidName(SpecError):
    """Not a name that a user, a project or a queue can have, or no taint."""


class InvalidQuantity(SpecError):
    """Not an amount of memory, CPUs, GPUs or time."""


class InvalidTemplate(SpecError):
    """A command names a parameter that does not exist."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing that is wrong with a TrainSpec, under the name that riseml.yml has for it."""

    path: str
    """Such as ``train.resources.gpus``, ``train.run[0]`` or ``train.parameters.lr``."""
    message: str
    """What was found and what would do."""

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, or odd, in a file."""

    file_name: str
    line: int
    """From 1."""
    path: str
    """The key, such as ``train.resources.gpus``; empty for the file as a whole."""
    message: str
    """What was found and what would do."""

    def __str__(self) -> str:
        key = f"{self.path}: " if self.path else ""
        return f"{self.file_name}:{self.line}: {key}{self.message}"


class InvalidConfig(SpecError):
    """A riseml.yml that is refused, with everything that is wrong with it in the order of its
    lines.
    """

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems
