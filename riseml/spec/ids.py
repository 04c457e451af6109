"""Ids and names, as people write them and as everything stores them.

The canonical id is ``user.set.experiment.jobtype.jobnumber`` without the parts that do not apply:
``ana.17`` is an experiment or a set, ``ana.17.3`` a set's third child, ``ana.17.worker`` its
workers, ``ana.17.3.worker.2`` one of them, and ``ana.17.worker.2-4`` that job's attempt in
generation 4. People may leave out their own name. User names have no dots, are not all digits and
no job type's name, which is what makes every id readable in one way only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, TypeAlias

from riseml.spec.errors import InvalidId, InvalidName
from riseml.spec.model import JOB_TYPES

MAX_USER_NAME_LENGTH: Final = 32
MAX_PROJECT_NAME_LENGTH: Final = 64
MAX_QUEUE_NAME_LENGTH: Final = 63
MAX_NUMBER: Final = 2**31 - 1
MAX_ID_LENGTH: Final = 128

_USER_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?", re.ASCII)
_PROJECT_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?", re.ASCII)
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,9}", re.ASCII)
_TYPES: Final = frozenset(JOB_TYPES)

_SHAPES: Final = "write 17, 17.3, 17.worker, 17.worker.2 or ana.17.worker.2"


@dataclass(frozen=True, slots=True, order=True)
class ExperimentId:
    """An experiment or a set; with ``child`` the child at that position (from 1) of the set
    ``number``.
    """

    user: str
    number: int
    child: int | None = None

    @property
    def set_id(self) -> ExperimentId:
        """The set that a child belongs to; anything else is its own."""
        return self if self.child is None else ExperimentId(self.user, self.number)

    def with_child(self, child: int) -> ExperimentId:
        """The id of this set's child at a position (from 1)."""
        return ExperimentId(self.user, self.number, child)

    def __str__(self) -> str:
        own = f"{self.user}.{self.number}"
        return own if self.child is None else f"{own}.{self.child}"


@dataclass(frozen=True, slots=True)
class JobGroupId:
    """All jobs of one type of an experiment: ``ana.17.worker``."""

    experiment: ExperimentId
    type: str

    def __str__(self) -> str:
        return f"{self.experiment}.{self.type}"


@dataclass(frozen=True, slots=True)
class JobId:
    """One job; ``number`` counts from 1 within its type."""

    experiment: ExperimentId
    type: str
    number: int

    @property
    def group(self) -> JobGroupId:
        """All jobs of its type."""
        return JobGroupId(self.experiment, self.type)

    def __str__(self) -> str:
        return f"{self.experiment}.{self.type}.{self.number}"


@dataclass(frozen=True, slots=True)
class AttemptId:
    """One try of one job; the members of a gang share the generation, which is RISEML_ATTEMPT and
    counts from 1.
    """

    job: JobId
    generation: int

    def __str__(self) -> str:
        return f"{self.job}-{self.generation}"


AnyId: TypeAlias = ExperimentId | JobGroupId | JobId | AttemptId


def format_id(id: AnyId, *, caller: str | None = None, drop_first: bool = False) -> str:
    """The canonical text of an id, or a shorter one for people.

    ``caller`` drops that user's own name: ``17.train.1``. ``drop_first`` drops a job number of 1,
    for jobs that are the only one of their type: ``ana.17.train``; never an attempt's, whose id
    would become unreadable.
    """
    text = str(id)
    if drop_first and isinstance(id, JobId) and id.number == 1:
        text = str(id.group)
    if caller is not None and text.startswith(f"{caller}."):
        text = text[len(caller) + 1 :]
    return text


def parse_id(text: str, default_user: str | None = None) -> AnyId:
    """Read any id. Without ``default_user`` it has to be canonical, beginning with the user's name.

    Raises InvalidId.
    """
    if len(text) > MAX_ID_LENGTH:
        raise InvalidId(f"an id of {len(text)} characters is too long; {_SHAPES}")
    parts = text.split(".")
    if parts[0] and not _is_number(parts[0]) and parts[0] not in _TYPES:
        user = parts.pop(0)
        try:
            check_user_name(user)
        except InvalidName as error:
            raise InvalidId(f"{text!r} is no id: {error}") from error
    elif default_user is not None:
        user = default_user
    else:
        raise InvalidId(f"{text!r} names no user; write it like ana.17 or ana.17.worker.2")
    if not parts or not _is_number(parts[0]):
        raise InvalidId(f"{text!r} names no experiment's number; {_SHAPES}")
    number = _number(parts.pop(0), text)
    child = _number(parts.pop(0), text) if parts and _is_number(parts[0]) else None
    experiment = ExperimentId(user, number, child)
    if not parts:
        return experiment
    job_type = parts.pop(0)
    if job_type not in _TYPES:
        known = ", ".join(JOB_TYPES)
        raise InvalidId(f"{text!r}: {job_type!r} is no type of job; there are {known}")
    if not parts:
        return JobGroupId(experiment, job_type)
    last = parts.pop(0)
    if parts:
        raise InvalidId(f"{text!r} has too many parts; {_SHAPES}")
    job_number, dash, generation = last.partition("-")
    job = JobId(experiment, job_type, _number(job_number, text))
    return AttemptId(job, _number(generation, text)) if dash else job


def parse_experiment_id(text: str, default_user: str | None = None) -> ExperimentId:
    """Read the id of an experiment, a set or a set's child. Raises InvalidId."""
    id = parse_id(text, default_user)
    if not isinstance(id, ExperimentId):
        raise InvalidId(f"{text!r} is not an experiment; write it like 17, 17.3 or ana.17")
    return id


def parse_job_id(text: str, default_user: str | None = None) -> JobId:
    """Read the id of one job. Raises InvalidId."""
    id = parse_id(text, default_user)
    if not isinstance(id, JobId):
        raise InvalidId(f"{text!r} is not a job; write it like 17.train.1 or ana.17.worker.2")
    return id


def parse_attempt_id(text: str) -> AttemptId:
    """Read the canonical id of one attempt. Raises InvalidId."""
    id = parse_id(text)
    if not isinstance(id, AttemptId):
        raise InvalidId(f"{text!r} is not an attempt; write it like ana.17.train.1-1")
    return id


def experiment_of(id: AnyId) -> ExperimentId:
    """The experiment that an id belongs to, itself if it is one."""
    if isinstance(id, AttemptId):
        return id.job.experiment
    return id if isinstance(id, ExperimentId) else id.experiment


def check_user_name(name: str) -> str:
    """Return the name, or raise InvalidName.

    A user's name is also a folder's and the first part of every id.
    """
    if not name:
        raise InvalidName("a user's name may not be empty")
    if len(name) > MAX_USER_NAME_LENGTH:
        raise InvalidName(
            f"a user's name of {len(name)} characters is too long; "
            f"{MAX_USER_NAME_LENGTH} are allowed"
        )
    if not _USER_NAME.fullmatch(name):
        raise InvalidName(
            f"{name!r} is no user's name; use lower-case letters, digits, '-' and '_', "
            "with a letter or digit at both ends"
        )
    if name.isdigit():
        raise InvalidName(f"{name!r} is no user's name, for it reads as a number; add a letter")
    if name in _TYPES:
        raise InvalidName(f"{name!r} is a type of job and can be no user's name; add a letter")
    return name


def check_project_name(name: str) -> str:
    """Return the name, or raise InvalidName. A project's name is also a folder's."""
    if not name:
        raise InvalidName("a project's name may not be empty")
    if len(name) > MAX_PROJECT_NAME_LENGTH:
        raise InvalidName(
            f"a project's name of {len(name)} characters is too long; "
            f"{MAX_PROJECT_NAME_LENGTH} are allowed"
        )
    if not _PROJECT_NAME.fullmatch(name):
        raise InvalidName(
            f"{name!r} is no project's name; use letters, digits, '.', '-' and '_', "
            "with a letter or digit at both ends"
        )
    return name


def check_queue_name(name: str) -> str:
    """Return the name, or raise InvalidName."""
    if len(name) > MAX_QUEUE_NAME_LENGTH or not _PROJECT_NAME.fullmatch(name):
        raise InvalidName(
            f"{name[:80]!r} is no queue's name; use up to {MAX_QUEUE_NAME_LENGTH} letters, digits, "
            "'.', '-' and '_', with a letter or digit at both ends"
        )
    return name


def project_name_from(text: str) -> str:
    """A valid project name near any text, such as a folder's name:

    ``My Digits!`` gives ``My-Digits``.
    """
    near = re.sub(r"[^A-Za-z0-9._-]+", "-", text, flags=re.ASCII)[:MAX_PROJECT_NAME_LENGTH]
    return near.strip("._-") or "project"


def _is_number(part: str) -> bool:
    return part.isascii() and part.isdigit()


def _number(part: str, text: str) -> int:
    if not _NUMBER.fullmatch(part) or int(part) > MAX_NUMBER:
        raise InvalidId(f"{text!r}: {part!r} is no number of an experiment, job or attempt")
    return int(part)
