"""Paths that users give: relative, with `/`, normalised. Checked before the file system is asked
anything."""

from __future__ import annotations

from typing import Final

from riseml.files.errors import InvalidPath

MAX_DEPTH: Final = 100
"""Most parts of a path, and the deepest level that a walk enters."""

MAX_PATH_BYTES: Final = 4000

PARTIAL_SUFFIX: Final = ".riseml-partial"
"""An unfinished upload of `name` is `.name.riseml-partial` beside it. Such names are hidden and
refused."""


def partial_name(name: str) -> str:
    """Name of the partial file of `name`."""
    return f".{name}{PARTIAL_SUFFIX}"


def is_partial(name: str) -> bool:
    """Whether `name` is that of a partial file."""
    return name.startswith(".") and name.endswith(PARTIAL_SUFFIX)


def parse_path(path: str) -> tuple[str, ...]:
    """The parts of a relative path; `""` is the tree's root and has none.

    Raises InvalidPath for whatever is absolute, has empty parts, `.` or `..`, holds a NUL, cannot
    be encoded, names a partial file, or is too long or too deep. One trailing `/` is allowed.
    """
    if path.endswith("/") and path != "/":
        path = path[:-1]
    if not path:
        return ()
    if path.startswith("/"):
        raise InvalidPath(f"{path!r}: must be relative, without a leading /")
    if "\0" in path:
        raise InvalidPath(f"{path!r}: must not contain a NUL")
    try:
        encoded = path.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidPath(f"{path!r}: is not valid Unicode text") from error
    if len(encoded) > MAX_PATH_BYTES:
        raise InvalidPath(f"{path[:80]!r}...: is longer than {MAX_PATH_BYTES} bytes")
    parts = tuple(path.split("/"))
    if len(parts) > MAX_DEPTH:
        raise InvalidPath(f"{path[:80]!r}...: has more than {MAX_DEPTH} parts")
    for part in parts:
        if part in ("", ".", ".."):
            raise InvalidPath(f"{path!r}: {part or 'an empty part'!r} is not allowed in a path")
        if is_partial(part):
            raise InvalidPath(f"{path!r}: names like {part!r} are kept for unfinished uploads")
    return parts
