"""Runs one command and puts into words whatever goes wrong; never a traceback unless
``--debug``.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Final

from riseml.errors import RisemlError
from riseml.spec.errors import InvalidConfig, SpecError
from shell.command import UsageError
from shell.context import Context
from shell.parser import Invocation, parse
from shell.table import TABLE

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130


def run_words(words: Sequence[str], context: Context) -> int:
    """Run the command that these words make; returns the exit status."""
    try:
        invocation = parse(words, TABLE)
    except UsageError as error:
        context.say(str(error))
        return USAGE
    return run_invocation(invocation, context)


def run_invocation(invocation: Invocation, context: Context) -> int:
    """Run a parsed command; returns the exit status."""
    values = invocation.values
    before = context.format, context.debug
    context.format = values.text("format")
    context.debug = context.debug or values.flag("debug")
    try:
        if values.flag("help"):
            from shell.help import command_help

            context.out(command_help(invocation.command))
            return OK
        status = invocation.command.load()(context, values)
        context.stdout.flush()
        return status
    except KeyboardInterrupt:
        context.say("")
        return INTERRUPTED
    except BrokenPipeError:
        return _pipe_closed(context)
    except Exception as error:
        if context.debug:
            context.say(traceback.format_exc().rstrip())
        return explain(error, context)
    finally:
        context.format, context.debug = before


def explain(error: Exception, context: Context) -> int:
    """Tell a person what went wrong and what to do; returns the exit status."""
    match error:
        case UsageError():
            context.say(str(error))
            return USAGE
        case InvalidConfig():
            for problem in error.problems:
                context.say(str(problem))
        case RisemlError():
            context.say(error.message)
            for violation in error.violations:
                if violation.message not in error.message:
                    context.say(f"  {violation}")
        case SpecError():
            context.say(str(error))
        case OSError():
            place = f"{error.filename}: " if error.filename else ""
            context.say(f"{place}{error.strerror or error}")
        case ModuleNotFoundError():
            context.say(
                f"The Python package {error.name} is missing. Install riseml-platform[shell], "
                "or riseml-platform[all] for 'riseml up'."
            )
        case _:
            context.say(
                f"This is an error in riseml itself: {type(error).__name__}: {error}\n"
                "Run the command again with --debug to see where, and report it."
            )
    return FAILED


def _pipe_closed(context: Context) -> int:
    """The reader, such as ``head``, has enough: end quietly, also when Python closes standard
    output.
    """
    if context.stdout is sys.stdout:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return FAILED
