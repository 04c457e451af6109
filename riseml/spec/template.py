"""``{{name}}`` in commands, and parameters as variables of the environment.

A value is inserted shell-quoted, so that ``two words`` stays one argument and nothing in a value is
run. Braces around anything that cannot be a parameter's name are left alone, for commands have
templates of their own (``docker ps --format '{{.ID}}'``).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Final

from riseml.spec.errors import InvalidTemplate
from riseml.spec.model import Parameter

PLACEHOLDER: Final = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}", re.ASCII)
_SHELL_VARIABLE: Final = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)|([A-Za-z_][A-Za-z0-9_]*))")


def placeholders(command: str) -> tuple[str, ...]:
    """The names in ``{{...}}``, in order, each once."""
    return tuple(dict.fromkeys(PLACEHOLDER.findall(command)))


def shell_variables(command: str) -> frozenset[str]:
    """The names that the command takes from the environment as ``$NAME`` or ``${NAME...``."""
    return frozenset(braced or bare for braced, bare in _SHELL_VARIABLE.findall(command))


def substitute(command: str, parameters: Iterable[Parameter]) -> str:
    """The command with each ``{{name}}`` replaced by the parameter's shell-quoted value.

    Raises InvalidTemplate for a name that is no parameter.
    """
    values = {parameter.name: parameter.value for parameter in parameters}

    def value_of(match: re.Match[str]) -> str:
        name = match[1]
        if name not in values:
            raise InvalidTemplate(unknown_placeholder(name, values))
        return shlex.quote(values[name])

    return PLACEHOLDER.sub(value_of, command)


def unknown_placeholder(name: str, parameters: Mapping[str, object] | Iterable[str]) -> str:
    """What to say of ``{{name}}`` that is no parameter."""
    known = sorted(parameters)
    near = get_close_matches(name, known, n=1)
    if near:
        return f"{{{{{name}}}}} is no parameter; did you mean {{{{{near[0]}}}}}?"
    there = f"there are {', '.join(known)}" if known else "there are none"
    return f"{{{{{name}}}}} is no parameter ({there}); add it under train.parameters"


def variable_name(parameter_name: str) -> str:
    """The variable that a job finds a parameter's value in: ``num_layers`` gives ``NUM_LAYERS``."""
    return parameter_name.upper()
