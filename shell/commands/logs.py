"""logs"""

from __future__ import annotations

from riseml.errors import RisemlError
from riseml.follow import Follower, past_lines
from riseml.states import JobNames
from shell.command import UsageError, Values
from shell.context import Context
from shell.lines import LinePrinter
from shell.recent import canonical, last_experiment


def logs(context: Context, values: Values) -> int:
    """Print what there is, or follow to the end."""
    if context.format != "table":
        raise UsageError(
            "logs prints lines only; use --raw for what the jobs wrote, without names."
        )
    named = values.text("ID")
    id = canonical(context, named) if named else last_experiment(context, running=False).id
    tail, since = values.number("tail"), values.number("since")
    raw = values.flag("raw")
    if values.flag("follow"):
        follower = Follower(
            context.client, id, tail_lines=tail, since_ns=since, on_lost=LostNotice(context)
        )
        print_lines(context, follower, raw=raw)
        return 0
    names = JobNames()
    printer = LinePrinter(context, names, context.user, raw=raw)
    for line in past_lines(context.client, id, names=names, tail_lines=tail, since_ns=since):
        printer.print(line)
    printer.flush()
    return 0


def print_lines(context: Context, follower: Follower, *, raw: bool = False) -> None:
    """Print all that a follower gives, each line at once."""
    printer = LinePrinter(context, follower.names, context.user, raw=raw)
    for line in follower:
        printer.print(line)
        printer.flush()


class LostNotice:
    """Tells once per outage that the connection is lost and tried again."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._told = False

    def __call__(self, error: RisemlError) -> None:
        if not self._told:
            self._told = True
            self._context.say(
                f"{error.message}\nTrying again; Ctrl-C ends this, not the experiment."
            )
