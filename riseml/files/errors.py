"""What can go wrong in a file area. Each error names the status code that callers hand on."""

from __future__ import annotations

import errno


class FileAreaError(Exception):
    """Base of all; `code` is a name of google.rpc.Code."""

    code = "INTERNAL"


class InvalidPath(FileAreaError):
    """The path is not a plain relative path that stays in its tree."""

    code = "INVALID_ARGUMENT"


class NotFound(FileAreaError):
    """There is nothing of that name."""

    code = "NOT_FOUND"


class WrongKind(FileAreaError):
    """A directory where a file is needed, the other way round, or something that is neither."""

    code = "FAILED_PRECONDITION"


class OffsetMismatch(FileAreaError):
    """A write does not continue where the partial file ends; ask for its size and go on there."""

    code = "FAILED_PRECONDITION"


class ContentMismatch(FileAreaError):
    """The finished file has another size or SHA-256 than announced; it was not put in place."""

    code = "DATA_LOSS"


class NoSpace(FileAreaError):
    """The disk or a quota is full. Nothing that was there has changed."""

    code = "RESOURCE_EXHAUSTED"


class Denied(FileAreaError):
    """The operating system refuses it to the owner of the tree."""

    code = "PERMISSION_DENIED"


class StorageFailed(FileAreaError):
    """The operating system reported something else, such as an I/O error."""

    code = "UNAVAILABLE"


def from_os_error(path: str, error: OSError) -> FileAreaError:
    """The error of ours that an OSError at `path` stands for."""
    what = error.strerror or str(error)
    if error.errno in (errno.ENOENT,):
        return NotFound(f"{path}: no such file or directory")
    if error.errno == errno.ELOOP:
        return WrongKind(f"{path}: is or leads through a symbolic link, which is not followed")
    if error.errno == errno.ENOTDIR:
        return WrongKind(
            f"{path}: leads through something that is not a directory, or through a link"
        )
    if error.errno == errno.EISDIR:
        return WrongKind(f"{path}: is a directory")
    if error.errno in (errno.ENXIO, errno.ENODEV):
        return WrongKind(f"{path}: is neither a file nor a directory")
    if error.errno == errno.ENAMETOOLONG:
        return InvalidPath(f"{path[:80]}...: a name in it is too long")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"{path}: {what}: free some space (`riseml rm output://...`) and try again")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return Denied(f"{path}: {what}")
    return StorageFailed(f"{path}: {what}")
