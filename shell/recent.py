"""Which experiment is meant where none is named: the last one of this folder's project."""

from __future__ import annotations

from typing import TYPE_CHECKING

from riseml.spec import ids
from riseml.spec.config import DEFAULT_FILE_NAME, read_config
from riseml.spec.errors import InvalidConfig, InvalidId
from riseml.states import LIVE
from shell.command import UsageError
from shell.context import Context

if TYPE_CHECKING:
    from riseml.v1 import experiment_pb2


def project_here(context: Context) -> str:
    """The project of the riseml.yml in this folder; empty if there is none that can be read."""
    try:
        text = (context.folder / DEFAULT_FILE_NAME).read_text("utf-8")
        return read_config(text, _AnyValue()).spec.project
    except (OSError, UnicodeDecodeError, InvalidConfig):
        return ""


class _AnyValue(dict[str, str]):
    """An environment in which every variable is set: here only the project's name is wanted."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> str:
        return ""


def last_experiment(context: Context, *, running: bool) -> experiment_pb2.Experiment:
    """The newest experiment of the project here, else of the caller. Raises UsageError if there is
    none.
    """
    project = project_here(context)
    found = next(
        context.client.experiments.list(
            project=project, states=LIVE if running else (), page_size=1
        ),
        None,
    )
    if found is None:
        what = "running experiment" if running else "experiment"
        where = f" of project {project}" if project else ""
        raise UsageError(
            f"You have no {what}{where}. 'riseml status -a' lists all; name one by its ID."
        )
    return found


def canonical(context: Context, text: str) -> str:
    """The canonical form of an id that was typed. Raises UsageError."""
    try:
        parsed = ids.parse_id(text, None if text[:1].isalpha() and "." in text else context.user)
    except InvalidId as error:
        raise UsageError(f"{error}.") from error
    return str(parsed)


def short(context: Context, id: str) -> str:
    """An id as this person would type it."""
    return id.removeprefix(f"{context.user}.")
