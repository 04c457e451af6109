"""Rights: one table names every RPC, and nothing else is let in."""

from __future__ import annotations

import importlib
import pkgutil

import riseml.v1
from controlplane.core.cluster import Cluster
from controlplane.domain.errors import Unauthenticated
from controlplane.job_tokens import JobTokens
from controlplane.rpc.access import ACCESS, Access
from controlplane.rpc.caller import Caller, identify
from controlplane.rpc.server import SERVICE_NAMES


def services_of_the_contract() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for module in pkgutil.iter_modules(riseml.v1.__path__):
        if not module.name.endswith("_pb2"):
            continue
        descriptor = importlib.import_module(f"riseml.v1.{module.name}").DESCRIPTOR
        for service in descriptor.services_by_name.values():
            found[service.full_name] = {method.name for method in service.methods}
    return found


def test_every_rpc_of_the_contract_is_in_the_table_and_nothing_else_of_ours() -> None:
    wanted = {f"/{s}/{m}" for s, methods in services_of_the_contract().items() for m in methods}
    ours = {method for method in ACCESS if method.startswith("/riseml.")}
    assert ours == wanted


def test_every_service_of_the_contract_is_served() -> None:
    assert set(SERVICE_NAMES) == set(services_of_the_contract())


def test_only_health_is_open_to_anyone() -> None:
    open_methods = {method for method, access in ACCESS.items() if access is Access.ANYONE}
    assert all(m.startswith("/grpc.health.") for m in open_methods)


def test_daemons_and_users_have_apart_apis() -> None:
    for method, access in ACCESS.items():
        of_daemons = access in (Access.NODE, Access.DAEMON, Access.NODE_OR_JOB)
        assert of_daemons == method.startswith("/riseml.v1.DaemonService/")


def test_a_jobs_token_opens_its_code_and_nothing_else() -> None:
    tokens = JobTokens(bytes(32))
    header = f"Bearer {tokens.issue('ana.17.train.1-1', 100.0)}"
    opened = set()
    for method, access in ACCESS.items():
        if access is Access.ANYONE:
            continue
        try:
            caller = identify(Cluster(), tokens, header, access, now=50.0)
        except Unauthenticated:
            continue
        assert caller == Caller(attempt_id="ana.17.train.1-1")
        opened.add(method)
    assert opened == {"/riseml.v1.DaemonService/FetchRevision"}
