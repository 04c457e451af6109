"""train"""

from __future__ import annotations

import time
from pathlib import Path

from riseml.client import new_request_id
from riseml.errors import InvalidRequest
from riseml.follow import Follower
from riseml.spec.config import Config, read_config
from riseml.spec.errors import FieldError, InvalidConfig
from riseml.spec.units import format_memory
from riseml.states import deciding_attempt, has_ended, how_it_ended, state_name, why_briefly
from riseml.sync import Progress, sync_tree
from riseml.v1 import experiment_pb2, experiment_service_pb2, project_pb2, state_pb2
from shell.command import UsageError, Values
from shell.commands.logs import LostNotice, print_lines
from shell.context import Context
from shell.explanation import told
from shell.progress import Bar
from shell.recent import short
from shell.render import as_mapping, json_text, plain


def train(context: Context, values: Values) -> int:
    """Read riseml.yml, send the code, create the experiment, follow it."""
    file = context.folder / values.text("file")
    config = read_file(context, file, values.text("file"))
    if values.flag("plan"):
        return _plan(context, config)
    revision = _send_code(context, _root(context, file), config.spec.project)
    created = _create(context, config, revision.id)
    experiment = created.experiment
    for warning in created.warnings:
        context.say(f"Note: {warning}")
    id = short(context, experiment.id)
    what = (
        f"{experiment.set.child_count} children" if experiment.HasField("set") else "1 experiment"
    )
    context.say(f"{id} is accepted: project {experiment.project}, {what}.")
    if values.flag("detach") and not values.flag("wait"):
        context.out(
            json_text(as_mapping(experiment)) if context.format == "json" else experiment.id
        )
        return 0
    return _follow(context, experiment.id, quiet=values.flag("detach") or context.format == "json")


def read_file(context: Context, file: Path, shown: str) -> Config:
    """The experiment that a file describes. Raises InvalidConfig, UsageError."""
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError as error:
        raise UsageError(
            f"There is no {shown} here. 'riseml init' writes one, or name another with -f FILE."
        ) from error
    except IsADirectoryError as error:
        raise UsageError(
            f"{shown} is a folder. Name the file in it: -f {shown}/riseml.yml."
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{shown} is not UTF-8 text. Save it as UTF-8.") from error
    config = read_config(text, context.environ, shown)
    for warning in config.warnings:
        context.say(f"Note: {warning}")
    return config


def _root(context: Context, file: Path) -> Path:
    """The code is the current folder if the file lies in it, else the file's own folder."""
    here = context.folder.resolve()
    return here if file.resolve().is_relative_to(here) else file.resolve().parent


def _send_code(context: Context, root: Path, project: str) -> project_pb2.Revision:
    sent_bytes = 0

    def tell(progress: Progress) -> None:
        nonlocal sent_bytes
        name = "Reading files" if progress.phase == "hash" else "Sending code"
        if progress.phase == "send":
            sent_bytes = progress.total_bytes
        bar.show(name, progress.done_bytes, progress.total_bytes)

    with Bar(context) as bar:
        revision = sync_tree(context.client, root, project, progress=tell)
    new = f"{format_memory(sent_bytes)} of them new" if sent_bytes else "nothing new"
    files = "file" if revision.file_count == 1 else "files"
    context.say(
        f"Code: {revision.file_count} {files}, {format_memory(revision.size_bytes)}, {new} "
        f"(revision {revision.id[:12]})."
    )
    return revision


def _plan(context: Context, config: Config) -> int:
    """What would happen; no code is sent, nothing is created."""
    try:
        planned = context.client.scheduler.plan(config.spec)
    except InvalidRequest as error:
        raise _located(config, error) from error
    if context.format == "json":
        context.out(json_text(as_mapping(planned)))
        return 0
    for warning in planned.warnings:
        context.say(f"Note: {warning}")
    for line in told(planned.explanation, time.time()):
        context.out(plain(line))
    return 0


def _create(
    context: Context, config: Config, revision_id: str
) -> experiment_service_pb2.CreateExperimentResponse:
    try:
        return context.client.experiments.create(
            config.spec, revision_id=revision_id, request_id=new_request_id()
        )
    except InvalidRequest as error:
        raise _located(config, error) from error


def _located(config: Config, error: InvalidRequest) -> InvalidRequest | InvalidConfig:
    """The refusal with the lines of the file that it is about, where it names fields."""
    if not error.violations:
        return error
    fields = [FieldError(v.path.removeprefix("spec."), v.message) for v in error.violations]
    return InvalidConfig(config.locate(fields))


def _follow(context: Context, id: str, *, quiet: bool) -> int:
    follower = Follower(context.client, id, on_lost=LostNotice(context))
    try:
        if quiet:
            for _ in follower:
                pass
        else:
            print_lines(context, follower)
    except KeyboardInterrupt:
        name = short(context, id)
        context.say(
            f"\n{name} goes on. See it again with 'riseml logs {name} -f', "
            f"stop it with 'riseml kill {name}'."
        )
        raise
    experiment = context.client.experiments.get(id).experiment
    if context.format == "json":
        context.out(json_text(as_mapping(experiment)))
    else:
        context.say(outcome(context, experiment))
    finished = has_ended(experiment) and experiment.state == state_pb2.STATE_FINISHED
    return 0 if finished else 1


def outcome(context: Context, experiment: experiment_pb2.Experiment) -> str:
    """How it ended and where to look, in a line."""
    name = short(context, experiment.id)
    attempt = deciding_attempt(experiment)
    ended = why_briefly(experiment.reason, experiment.message)
    if not ended and attempt is not None:
        ended = how_it_ended(attempt)
    text = f"{name} is {state_name(experiment.state)}{f' ({ended})' if ended else ''}."
    if experiment.HasField("set"):
        counts = experiment.set
        text = (
            f"{name} is {state_name(experiment.state)}: {counts.finished_count} children finished, "
            f"{counts.failed_count} failed, {counts.killed_count} killed."
        )
    return f"{text} Its output: 'riseml ls output://{name}', 'riseml pull {name}'."
