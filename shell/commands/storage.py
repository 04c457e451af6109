"""ls, cp, rm, pull"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from riseml.client import Client
from riseml.errors import NotFound, TransferError
from riseml.revisions import download_revision
from riseml.spec.units import format_memory
from riseml.storage import Copier, RemotePlace, is_remote, parse_place
from riseml.v1 import experiment_pb2
from riseml.v1 import storage_service_pb2 as pb
from shell.command import UsageError, Values
from shell.context import Context
from shell.progress import Bar
from shell.recent import canonical, short
from shell.render import Column, local_time, show_list


def ls(context: Context, values: Values) -> int:
    """The files of a folder; folders end with a slash."""
    place = _remote(context, values.text("PLACE"))
    recursive = values.flag("recursive")
    prefix = f"{place.path}/" if place.path else ""
    children = _children(context, place)
    show_list(
        context,
        _list_set(context, children, recursive)
        if children
        else context.client.storage.list(place.uri, recursive=recursive),
        [
            Column[pb.FileInfo]("SIZE", _size, right=True),
            Column("MODIFIED", lambda info: local_time(info.modify_time)),
            Column(
                "NAME",
                lambda info: info.path.removeprefix(prefix) + ("/" if info.directory else ""),
            ),
        ],
        empty=f"{place.uri} is empty.",
    )
    return 0


def cp(context: Context, values: Values) -> int:
    """From here to there, or from there to here."""
    source, target = values.text("FROM"), values.text("TO")
    recursive = values.flag("recursive")
    if is_remote(source) and not is_remote(target):
        with Bar(context) as bar:
            copier = Copier(context.client, progress=bar.show)
            count = _download(context, copier, source, target, recursive)
    elif is_remote(target) and not is_remote(source):
        with Bar(context) as bar:
            copier = Copier(context.client, progress=bar.show)
            count = _upload(context, copier, source, target, recursive)
    else:
        raise UsageError(
            "One side is here and the other there: cp FILE data://PATH, or the reverse."
        )
    context.say(f"Copied {count} file{'' if count == 1 else 's'}.")
    return 0


def rm(context: Context, values: Values) -> int:
    """Remove, after asking for folders."""
    recursive, force = values.flag("recursive"), values.flag("force")
    places = [_remote(context, text) for text in values.words("PLACE")]
    names = ", ".join(place.uri for place in places)
    if recursive and not force:
        question = f"Remove {names} with all in it?"
        if not context.ask(question, instead="add -f"):
            context.say("Nothing was removed.")
            return 1
    removed = 0
    for place in places:
        if not place.path:
            raise UsageError(f"{place.uri} as a whole is not removed; name what lies in it.")
        removed += context.client.storage.remove(place.uri, recursive=recursive)
    context.say(f"Removed {removed} {'file' if removed == 1 else 'files and folders'}.")
    return 0


def pull(context: Context, values: Values) -> int:
    """Output or code of an experiment, or of all children of a set."""
    id = canonical(context, values.text("ID"))
    client = context.client
    experiment = client.experiments.get(id).experiment
    folder = context.folder / (values.text("to") or short(context, experiment.id))
    if values.flag("code"):
        if not experiment.revision_id:
            raise UsageError(f"{id} was started without code.")
        with Bar(context) as bar:
            count = download_revision(
                client,
                experiment.revision_id,
                folder,
                user_name=experiment.user_name,
                progress=bar.show,
            )
    elif experiment.HasField("set"):
        count = _pull_set(context, client.experiments.list(set_id=id), folder)
    else:
        count = _pull_output(context, client, experiment.id, folder)
    context.say(
        f"{count} file{'' if count == 1 else 's'} in {os.path.relpath(folder, context.folder)}."
    )
    return 0


def _pull_set(context: Context, children: Iterable[experiment_pb2.Experiment], folder: Path) -> int:
    return sum(
        _pull_output(context, context.client, child.id, folder / str(child.child_number))
        for child in children
    )


def _pull_output(context: Context, client: Client, id: str, folder: Path) -> int:
    with Bar(context) as bar:
        try:
            return Copier(client, progress=bar.show).download_tree(
                parse_place(f"output://{id}"), folder
            )
        except NotFound as error:
            context.say(error.message)
            return 0


def _remote(context: Context, text: str) -> RemotePlace:
    place = parse_place(text)
    first, _, rest = place.path.partition("/")
    if place.tree == "data://" or not first.isdigit():
        return place
    # output://17/3 of a set is its third child; one name for it, so that paths fit listings.
    id = place.tree.removeprefix("output://").rstrip("/")
    if context.client.experiments.get(id).experiment.HasField("set"):
        return RemotePlace(f"output://{id}.{first}/", rest)
    return place


def _children(context: Context, place: RemotePlace) -> list[experiment_pb2.Experiment]:
    """The children whose outputs make up that of a set; empty for any other place."""
    if place.path or place.tree == "data://":
        return []
    id = canonical(context, place.tree.removeprefix("output://").rstrip("/"))
    experiment = context.client.experiments.get(id).experiment
    if not experiment.HasField("set"):
        return []
    found = context.client.experiments.list(set_id=experiment.id)
    return sorted(found, key=lambda child: child.child_number)


def _list_set(
    context: Context, children: Iterable[experiment_pb2.Experiment], recursive: bool
) -> Iterator[pb.FileInfo]:
    """A set's output: a folder for each child, named by its number."""
    for child in children:
        folder = str(child.child_number)
        changed = child.end_time if child.HasField("end_time") else child.create_time
        yield pb.FileInfo(path=folder, directory=True, modify_time=changed)
        if not recursive:
            continue
        # A child that has not run has no output yet.
        with contextlib.suppress(NotFound):
            for info in context.client.storage.list(f"output://{child.id}/", recursive=True):
                info.path = f"{folder}/{info.path}"
                yield info


def _download(context: Context, copier: Copier, source: str, target: str, recursive: bool) -> int:
    place = _remote(context, source)
    local = context.folder / target
    info = None
    if place.path:
        found = context.client.storage.stat(place.uri)
        if not found.HasField("file"):
            raise UsageError(f"{source} is not there yet: its upload is unfinished.")
        info = found.file
    if info is not None and not info.directory:
        into = local / place.name if local.is_dir() or target.endswith("/") else local
        copier.download(place, into, info)
        return 1
    if not recursive:
        raise UsageError(f"{source} is a folder; copy it with cp -r.")
    into = local / place.name if _names_folder(target) else local
    children = _children(context, place)
    return _pull_set(context, children, into) if children else copier.download_tree(place, into)


def _names_folder(target: str) -> bool:
    """Whether a copied folder goes into the target; else it becomes the target. Whether that is
    there does not matter, or else an interrupted copy would not go on where it stopped.
    """
    return target.endswith("/") or target.rpartition("/")[2] in (".", "..")


def _upload(context: Context, copier: Copier, source: str, target: str, recursive: bool) -> int:
    local = context.folder / source
    place = _remote(context, target)
    if not local.exists():
        raise TransferError(f"{source}: no such file or folder.")
    into_folder = target.endswith("/") or not place.path or _is_folder(context, place)
    name = local.resolve().name
    if not local.is_dir():
        copier.upload(local, place.below(name) if into_folder else place)
        return 1
    if not recursive:
        raise UsageError(f"{source} is a folder; copy it with cp -r.")
    whole = not place.path or _names_folder(target)
    return copier.upload_tree(local, place.below(name) if whole else place)


def _is_folder(context: Context, place: RemotePlace) -> bool:
    if not place.path:
        return True
    try:
        return context.client.storage.stat(place.uri).file.directory
    except NotFound:
        return False


def _size(info: pb.FileInfo) -> str:
    return "" if info.directory else format_memory(info.size_bytes)
