"""Parameters of riseml.yml as lists of values; ranges are counted in exact decimal arithmetic."""

from __future__ import annotations

from decimal import Decimal, localcontext

from riseml.spec.errors import InvalidQuantity
from riseml.spec.model import ParameterValues
from riseml.spec.reading import Reader
from riseml.spec.schema import Key
from riseml.spec.sets import MAX_CHILDREN
from riseml.spec.tree import Mapping, Node, Sequence
from riseml.spec.units import format_decimal, parse_decimal

_RANGE = Key(
    "range",
    "mapping",
    "Equally spaced numbers.",
    keys=(
        Key("min", "number", "The first.", example="3", required=True),
        Key("max", "number", "The last, if a step meets it.", example="5", required=True),
        Key("step", "number", "Between two.", "1"),
    ),
)
_GENERATOR = Key("parameter", "mapping", "Values that follow a rule.", keys=(_RANGE,))


def read_parameters(reader: Reader, node: Node | None, path: str) -> tuple[ParameterValues, ...]:
    """The parameters below a key, in the order of the file."""
    if node is None:
        return ()
    parameters = []
    for name, value in reader.entries(node, path).items():
        values = _values(reader, value, f"{path}.{name}")
        if values is not None:
            parameters.append(ParameterValues(name, values))
        else:
            # It is there, though unreadable: {{name}} in a command is no mistake of its own.
            parameters.append(ParameterValues(name, ("",)))
    return tuple(parameters)


def _values(reader: Reader, node: Node, path: str) -> tuple[str, ...] | None:
    if isinstance(node, Mapping):
        return _range(reader, node, path)
    before = len(reader.problems)
    values = reader.texts(node, path, one=True)
    return values if isinstance(node, Sequence) or len(reader.problems) == before else None


def _range(reader: Reader, node: Mapping, path: str) -> tuple[str, ...] | None:
    generator = reader.section(node, path, _GENERATOR)
    if "range" not in generator:
        if not node.entries or all(key.text == "range" for key, _ in node.entries):
            reader.problem(path, "write a list, or {range: {min: 3, max: 5, step: 1}}")
        return None
    path = f"{path}.range"
    keys = reader.section(generator["range"], path, _RANGE)
    numbers = {
        name: reader.quantity(value, f"{path}.{name}", parse_decimal)
        for name, value in keys.items()
    }
    first, last, step = numbers.get("min"), numbers.get("max"), numbers.get("step", Decimal(1))
    if first is None or last is None or step is None:
        return None
    try:
        return range_values(first, last, step)
    except InvalidQuantity as error:
        reader.problem(path, str(error))
        return None


def range_values(first: Decimal, last: Decimal, step: Decimal) -> tuple[str, ...]:
    """The numbers from ``first`` to at most ``last``, as text. Raises InvalidQuantity."""
    if step <= 0:
        raise InvalidQuantity(f"step is {step}; write one above 0")
    if first > last:
        raise InvalidQuantity(f"min is {first} and max only {last}; swap them")
    with localcontext() as context:
        # parse_decimal takes 18 digits on either side of the point.
        context.prec = 80
        count = int((last - first) / step) + 1
        if count > MAX_CHILDREN:
            raise InvalidQuantity(
                f"makes {count} values; {MAX_CHILDREN} are allowed: write a larger step"
            )
        return tuple(format_decimal(first + step * place) for place in range(count))
