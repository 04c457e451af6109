"""system info, version"""

from __future__ import annotations

import time

from riseml.errors import RisemlError
from riseml.spec.units import format_memory, format_milli
from riseml.transport import client_version
from riseml.v1 import node_pb2
from shell.command import Values
from shell.commands.nodes import list_nodes, node_facts
from shell.context import Context
from shell.nodes import foreign_use, gpu_health, gpu_place
from shell.render import as_mapping, json_text, local_time, show_facts, show_rows, span


def info(context: Context, values: Values) -> int:
    """The control plane, then its nodes or their GPUs."""
    client = context.client
    found = client.system.info()
    nodes = list(client.nodes.list())
    if context.format == "json":
        context.out(
            json_text({"system": as_mapping(found), "nodes": [as_mapping(node) for node in nodes]})
        )
        return 0
    if context.format == "table":
        up = span(time.time() - found.start_time.seconds)
        show_facts(
            context,
            [
                ("server", client.credentials.server),
                ("version", found.version),
                ("cluster", found.cluster_id),
                ("up since", f"{local_time(found.start_time)} ({up})"),
                ("launchers", ", ".join(found.launchers)),
                ("store", found.store),
                ("encrypted", "TLS" if found.tls else "no (loopback only)"),
                ("nodes", f"{found.ready_node_count} of {found.node_count} ready"),
                (
                    "experiments",
                    f"{found.running_experiment_count} running, "
                    f"{found.pending_experiment_count} waiting",
                ),
                ("warnings", "\n".join(found.warnings)),
            ],
        )
        context.out()
    if values.flag("gpu"):
        _show_gpus(context, nodes)
    elif values.flag("long"):
        for node in nodes:
            show_facts(context, node_facts(node))
            context.out()
    else:
        list_nodes(context, values)
    return 0


def _show_gpus(context: Context, nodes: list[node_pb2.Node]) -> None:
    titles = ["NODE", "GPU", "MODEL", "MEMORY", "HEALTH", "GIVEN TO", "FOREIGN", "CLOSE TO", "UUID"]
    # Only where the GPUs of pods are known.
    with_pods = any(gpu.pod for node in nodes for gpu in node.gpus)
    if with_pods:
        titles.append("POD")
    rows = []
    for node in nodes:
        for gpu in node.gpus:
            given = [
                f"{a.attempt_id} ({format_milli(a.milli)})"
                for a in node.gpu_allocations
                if a.gpu_uuid == gpu.uuid
            ]
            model = f"{gpu.model or gpu.name}{' (simulated)' if gpu.simulated else ''}"
            rows.append(
                [
                    node.name,
                    str(gpu.index),
                    model,
                    format_memory(gpu.memory_bytes),
                    gpu_health(gpu),
                    ", ".join(given),
                    foreign_use(gpu),
                    gpu_place(gpu),
                    gpu.uuid,
                    *([gpu.pod] if with_pods else []),
                ]
            )
    show_rows(context, titles, rows, right=("GPU", "MEMORY"), empty="No node has a GPU.")


def version(context: Context, values: Values) -> int:
    """Of this client and, where one can be reached, of the server."""
    server, problem = "", ""
    try:
        server = context.client.system.info().version
    except RisemlError as error:
        problem = error.message
    if context.format == "json":
        context.out(json_text({"client": client_version(), "server": server}))
        return 0
    show_facts(context, [("client", client_version()), ("server", server)])
    if problem:
        context.say(problem)
    return 0
