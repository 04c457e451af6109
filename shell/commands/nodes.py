"""node ..."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from riseml.spec.errors import InvalidName
from riseml.spec.taints import Taint, format_taint, parse_taint
from riseml.spec.units import format_memory, format_milli
from riseml.v1 import node_pb2
from shell.command import UsageError, Values
from shell.context import Context
from shell.nodes import foreign_use, gpu_health, gpu_kinds, gpu_place, node_state, node_taints
from shell.render import Column, age, as_mapping, json_text, local_time, show_list, show_one


def list_nodes(context: Context, values: Values) -> int:
    """A table of nodes with what is given out."""
    now = time.time()
    show_list(
        context,
        context.client.nodes.list(),
        [
            Column[node_pb2.Node]("NAME", lambda node: node.name),
            Column("STATE", node_state),
            Column("CPUS", _cpus, right=True),
            Column("MEMORY", _memory, right=True),
            Column("GPUS", gpu_kinds),
            Column("GPUS USED", _gpus_used, right=True),
            Column("TAINTS", lambda node: ",".join(node_taints(node))),
            Column("JOBS", lambda node: str(len(node.attempt_ids)), right=True),
            Column("SEEN", lambda node: age(node.last_seen_time, now), right=True),
        ],
        empty="There are no nodes. 'riseml node token create NAME' makes the token for one.",
    )
    return 0


def _cpus(node: node_pb2.Node) -> str:
    return f"{format_milli(node.allocated_cpu_milli)}/{format_milli(node.cpu_milli)}"


def _memory(node: node_pb2.Node) -> str:
    return f"{format_memory(node.allocated_memory_bytes)}/{format_memory(node.memory_bytes)}"


def _gpus_used(node: node_pb2.Node) -> str:
    if not node.gpus:
        return ""
    used = sum(allocation.milli for allocation in node.gpu_allocations)
    return f"{format_milli(used)}/{len(node.gpus)}"


def show(context: Context, values: Values) -> int:
    """One node with its GPUs and what it can do."""
    node = context.client.nodes.get(values.text("NAME"))
    show_one(context, node, node_facts(node))
    return 0


def node_facts(node: node_pb2.Node) -> list[tuple[str, str]]:
    """A node as names and values for people."""
    can = node.capabilities
    return [
        ("node", node.name),
        ("state", f"{node_state(node)} ({node.message})" if node.message else node_state(node)),
        ("address", node.address),
        ("labels", "\n".join(f"{key}={value}" for key, value in sorted(node.labels.items()))),
        ("taints", "\n".join(node_taints(node))),
        ("cpus", f"{_cpus(node)} given to jobs"),
        ("memory", f"{_memory(node)} given to jobs"),
        ("gpus", "\n".join(_gpu(node, gpu) for gpu in node.gpus) or "none"),
        ("jobs", "\n".join(node.attempt_ids)),
        ("runs", _runs(can)),
        ("users", _users(can)),
        ("limits", can.limits),
        ("output", can.output_root),
        ("notes", "\n".join(can.notes)),
        ("version", node.daemon_version),
        ("connected", local_time(node.connect_time)),
        ("last seen", local_time(node.last_seen_time)),
    ]


def _runs(can: node_pb2.NodeCapabilities) -> str:
    what = ["pods" if can.pod_network else "processes"]
    if can.runs_images:
        what.append("images")
    if can.whole_gpus:
        what.append("whole GPUs only")
    return ", ".join(what)


def _users(can: node_pb2.NodeCapabilities) -> str:
    if can.only_user:
        return f"only {can.only_user}"
    return "all, in pods of their own" if can.pod_network else "each under a uid of its own"


def _gpu(node: node_pb2.Node, gpu: node_pb2.Gpu) -> str:
    used = [a for a in node.gpu_allocations if a.gpu_uuid == gpu.uuid]
    parts = [f"{gpu.index}: {gpu.name or gpu.model}, {format_memory(gpu.memory_bytes)}"]
    if gpu.simulated:
        parts.append("simulated")
    sick = gpu.health != node_pb2.GPU_HEALTH_HEALTHY and gpu.HasField("health_time")
    since = f" since {local_time(gpu.health_time)}" if sick else ""
    parts.append(f"{gpu_health(gpu).lower()}{since}")
    if gpu.health_message or gpu.health_reason:
        parts.append(gpu.health_message or gpu.health_reason)
    if gpu.withheld:
        parts.append("not offered by the device plugin")
    parts += [f"{format_milli(a.milli)} to {a.attempt_id}" for a in used]
    if used and gpu.pod:
        parts.append(f"in pod {gpu.pod}")
    if foreign := foreign_use(gpu):
        parts.append(f"used by others: {foreign}")
    if place := gpu_place(gpu):
        parts.append(place)
    return ", ".join(parts)


def cordon(context: Context, values: Values) -> int:
    """No new jobs."""
    return _changed(context, context.client.nodes.cordon(values.text("NAME")))


def uncordon(context: Context, values: Values) -> int:
    """New jobs again."""
    return _changed(context, context.client.nodes.uncordon(values.text("NAME")))


def drain(context: Context, values: Values) -> int:
    """Cordon, and move the jobs elsewhere, after asking."""
    name = values.text("NAME")
    node = context.client.nodes.get(name)
    jobs = len(node.attempt_ids)
    if jobs and not values.flag("force"):
        question = (
            f"{jobs} running job{'' if jobs == 1 else 's'} on {name} will start anew. Drain it?"
        )
        if not context.ask(question, instead="add -f"):
            context.say("Nothing was changed.")
            return 1
    return _changed(context, context.client.nodes.drain(name))


def release_gpu(context: Context, values: Values) -> int:
    """Let jobs have a GPU that is healthy again."""
    name, wanted = values.text("NAME"), values.text("GPU")
    node = context.client.nodes.get(name)
    found = [gpu for gpu in node.gpus if wanted in (gpu.uuid, str(gpu.index))]
    if not found:
        numbers = ", ".join(str(gpu.index) for gpu in node.gpus) or "none"
        raise UsageError(f"{name} has no GPU {wanted}; it has {numbers}.")
    node = context.client.nodes.release_gpu(name, found[0].uuid)
    (gpu,) = [gpu for gpu in node.gpus if gpu.uuid == found[0].uuid]
    if context.format == "json":
        context.out(json_text(as_mapping(node)))
    context.say(f"GPU {gpu.index} of {name} is {gpu_health(gpu)}.")
    return 0


def forget(context: Context, values: Values) -> int:
    """Declare a node gone, after asking."""
    name = values.text("NAME")
    question = f"If {name} still runs jobs, they would run twice. Is it gone for good?"
    if not values.flag("force") and not context.ask(question, instead="add -f"):
        context.say("Nothing was changed.")
        return 1
    context.client.nodes.forget(name)
    context.say(f"{name} is forgotten; its jobs may start elsewhere.")
    return 0


def taint(context: Context, values: Values) -> int:
    """Add taints, or give those that are there another value."""
    name = values.text("NAME")
    new = dict(_taint(text) for text in values.words("TAINT"))
    node = context.client.nodes.get(name)
    kept = {old.key: old.value for old in node.taints}
    return _tainted(context, context.client.nodes.set_taints(name, {**kept, **new}.items()))


def untaint(context: Context, values: Values) -> int:
    """Take taints away, by key or as they are written."""
    name = values.text("NAME")
    gone = [_taint(text) for text in values.words("TAINT")]
    node = context.client.nodes.get(name)
    kept = {old.key: old.value for old in node.taints}
    for key, value in gone:
        if key not in kept and any(taint.key == key for taint in node.external_taints):
            raise UsageError(
                f"{name} has the taint {key} where it comes from: remove it there "
                f"(kubectl taint node {name} {key}-)."
            )
        if key not in kept or (value and kept[key] != value):
            there = ", ".join(node_taints(node)) or "none"
            raise UsageError(f"{name} has no taint {format_taint((key, value))}; it has {there}.")
    for key, _ in gone:
        kept.pop(key, None)
    return _tainted(context, context.client.nodes.set_taints(name, kept.items()))


def _taint(text: str) -> Taint:
    try:
        return parse_taint(text)
    except InvalidName as error:
        raise UsageError(f"{error}.") from error


def _tainted(context: Context, node: node_pb2.Node) -> int:
    if context.format == "json":
        context.out(json_text(as_mapping(node)))
    taints = node_taints(node)
    if taints:
        context.say(
            f"{node.name} takes only jobs that tolerate {' and '.join(taints)}; what runs goes on."
        )
    else:
        context.say(f"{node.name} has no taints.")
    return 0


def _changed(context: Context, node: node_pb2.Node) -> int:
    if context.format == "json":
        context.out(json_text(as_mapping(node)))
    context.say(f"{node.name} is {node_state(node)}.")
    return 0


def create_token(context: Context, values: Values) -> int:
    """Make the token file of a node: what riseml-noded takes as --token-file."""
    name = values.text("NAME")
    made = context.client.nodes.create_token(name)
    credentials = context.client.credentials
    content = json.dumps(
        {
            "node_name": name,
            "token": made.token,
            "server": credentials.server,
            "ca_pem": credentials.ca_pem,
            "ca_fingerprint": made.ca_fingerprint,
        },
        indent=2,
    )
    if credentials.loopback:
        context.say(
            f"Note: this file names {credentials.server}, which only this machine reaches. "
            "For another one change 'server' to an address that it reaches."
        )
    if not values.text("output"):
        context.out(content)
        return 0
    file = context.folder / values.text("output")
    _write_private(file, content + "\n")
    context.say(f"Wrote {file}. On the node: riseml-noded --token-file {file.name}")
    return 0


def _write_private(file: Path, content: str) -> None:
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise UsageError(f"{file} is there already. Remove it first, or name another.") from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        opened.write(content)
