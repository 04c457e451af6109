from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riseml.spec.errors import InvalidTemplate
from riseml.spec.model import Parameter
from riseml.spec.template import placeholders, shell_variables, substitute, variable_name


@given(st.text().filter(lambda text: "\0" not in text))
def test_a_value_stays_one_word_whatever_it_holds(value: str) -> None:
    command = substitute("train --x {{x}} end", [Parameter("x", value)])
    assert shlex.split(command) == ["train", "--x", value, "end"]


def test_each_placeholder_is_replaced_once() -> None:
    parameters = [Parameter("a", "{{b}}"), Parameter("b", "2")]
    assert substitute("{{a}} {{ b }} {{b}}", parameters) == "'{{b}}' 2 2"


@pytest.mark.parametrize(
    "command", ["docker ps --format '{{.ID}}'", "{{}}", "{a}", "${a}", "{{1}}"]
)
def test_other_braces_are_left_alone(command: str) -> None:
    assert substitute(command, []) == command
    assert placeholders(command) == ()


def test_an_unknown_placeholder_names_the_nearest_parameter() -> None:
    with pytest.raises(InvalidTemplate, match=r"did you mean \{\{lr\}\}"):
        substitute("train {{lrr}}", [Parameter("lr", "1")])
    with pytest.raises(InvalidTemplate, match="there are none"):
        substitute("train {{lr}}", [])


def test_variables_that_a_command_reads() -> None:
    assert shell_variables("a $LR ${EPOCHS:-3} $(X) $1") == {"LR", "EPOCHS"}
    assert variable_name("num_layers") == "NUM_LAYERS"
