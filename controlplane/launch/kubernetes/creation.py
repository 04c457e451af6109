"""Makes the pods of one gang, and gives them their nodes: all of them or none.

Names come from the attempts, so whatever was created before a crash is found under its name again
and taken over; it is ours if it bears this cluster's id and the attempt's. Pods wait unbound (or
behind a scheduling gate) until the last of the gang is there.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Final

from controlplane.domain.model import AttemptOrder
from controlplane.launch.kubernetes.api import (
    Api,
    ApiError,
    Conflict,
    Kind,
    NotFound,
    Object,
    Refused,
    Unavailable,
)
from controlplane.launch.kubernetes.containers import NoImage
from controlplane.launch.kubernetes.job_secrets import JobSecret, job_secret, secret_manifest
from controlplane.launch.kubernetes.manifest import (
    PodContext,
    owner_manifest,
    pod_manifest,
    service_manifest,
)
from controlplane.launch.kubernetes.names import ATTEMPT, CLUSTER_LABEL, owner_name, pod_name
from controlplane.launch.kubernetes.ports import Facts
from controlplane.launch.kubernetes.settings import KubernetesSettings

_log = logging.getLogger(__name__)

# What the API server says when a later try may succeed without any change of the pod.
_PASSING: Final = ("exceeded quota", "cannot create resource", "is being terminated")


class NotNow(Exception):
    """The pods cannot be made at present; the message says why, for people."""


class NotEver(Exception):
    """Kubernetes does not take such a pod; the message says why, for people."""


class PodCreator:
    """Creates and binds in one namespace."""

    def __init__(
        self, api: Api, settings: KubernetesSettings, cluster_id: str, ca_pem: str, facts: Facts
    ) -> None:
        self._api = api
        self._settings = settings
        self._cluster_id = cluster_id
        self._ca_pem = ca_pem
        self._facts = facts
        self._namespace = settings.namespace

    async def create(
        self,
        placed: Sequence[tuple[AttemptOrder, str]],
        existing: Sequence[Object],
        discarded: Callable[[Object], None],
    ) -> list[Object]:
        """The pods of a gang that are missing, each for its node; `existing` are those of it there.

        Raises NotNow, NotEver and NoImage, and ApiError where nobody knows what became of it. After
        the first three none of those that have no node is left, `existing` ones included:
        `discarded` hears of each before it is deleted.
        """
        made: list[Object] = []
        try:
            if placed:
                orders = [order for order, _ in placed]
                owner_uid = await self._owner(orders[0])
                secret = await self._secret(orders, owner_uid)
                for order, node_name in placed:
                    made.append(await self._pod(order, node_name, owner_uid, secret))
        except (NotNow, NotEver, NoImage):
            await self._discard([*existing, *made], discarded)
            raise
        return made

    async def bind(self, pod: Object, node_name: str) -> None:
        """Gives a pod its node. Raises NotNow if it has another, which is for its end to tell."""
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        if self._settings.scheduling == "gates":
            # Taking gates away is allowed, and harmless when it is done already.
            await self._api.patch(
                Kind.POD, self._namespace, name, {"spec": {"schedulingGates": []}}
            )
            return
        try:
            await self._api.bind_pod(self._namespace, name, uid, node_name)
        except Conflict as conflict:
            found = await self._api.get(Kind.POD, self._namespace, name)
            if found["metadata"]["uid"] != uid or found["spec"].get("nodeName") != node_name:
                raise NotNow(f"pod {name} has got another node: {conflict.message}") from conflict

    async def remove_owner(self, experiment_id: str) -> None:
        """With it goes what is left of the experiment, by Kubernetes' garbage collection."""
        name = owner_name(experiment_id)
        try:
            owner = await self._api.get(Kind.CONFIG_MAP, self._namespace, name)
            if owner["metadata"].get("labels", {}).get(CLUSTER_LABEL) == self._cluster_id:
                uid = owner["metadata"]["uid"]
                await self._api.delete(Kind.CONFIG_MAP, self._namespace, name, uid=uid)
        except NotFound:
            return

    async def _owner(self, order: AttemptOrder) -> str:
        owner = owner_manifest(order.experiment_id, self._settings, self._cluster_id)
        uid = await self._ensure(Kind.CONFIG_MAP, owner)
        if order.peers:
            await self._ensure(
                Kind.SERVICE,
                service_manifest(order.experiment_id, self._settings, self._cluster_id, uid),
            )
        return uid

    async def _secret(self, orders: Sequence[AttemptOrder], owner_uid: str) -> JobSecret | None:
        tokens = {order.attempt_id: self._facts.job_token(order.attempt_id) for order in orders}
        secret = job_secret(orders, tokens, self._cluster_id)
        if secret is not None:
            experiment_id = orders[0].experiment_id
            body = secret_manifest(
                secret, experiment_id, self._settings, self._cluster_id, owner_uid
            )
            # One of that name holds the same: it was made before a crash, or in vain.
            with contextlib.suppress(Conflict):
                await self._create(Kind.SECRET, body)
        return secret

    async def _ensure(self, kind: Kind, body: Object) -> str:
        """The uid of an object that is the same whoever made it."""
        name = body["metadata"]["name"]
        try:
            found = await self._create(kind, body)
        except Conflict:
            found = await self._api.get(kind, self._namespace, name)
            if found["metadata"].get("labels", {}).get(CLUSTER_LABEL) != self._cluster_id:
                raise NotEver(_taken(kind, name, self._namespace)) from None
        return str(found["metadata"]["uid"])

    async def _pod(
        self, order: AttemptOrder, node_name: str, owner_uid: str, secret: JobSecret | None
    ) -> Object:
        context = PodContext(
            settings=self._settings,
            cluster_id=self._cluster_id,
            ca_pem=self._ca_pem,
            secret=secret,
            owner_uid=owner_uid,
            configuration=self._facts.configuration(order.experiment_id),
        )
        body = pod_manifest(order, node_name, context)
        try:
            return await self._create(Kind.POD, body)
        except Conflict:
            return await self._adopt(order.attempt_id)

    async def _create(self, kind: Kind, body: Object) -> Object:
        try:
            return await self._api.create(kind, self._namespace, body)
        except NotFound as missing:
            raise NotNow(f"{missing.message}: create it, or set kubernetes.namespace") from missing
        except Refused as refused:
            words = f"Kubernetes refuses {body['metadata']['name']}: {refused.message}"
            passing = refused.status == 401 or any(w in refused.message for w in _PASSING)
            raise (NotNow if passing else NotEver)(words) from refused
        except ApiError as error:
            # 400 comes from admission webhooks, and from servers that do not know a field.
            if isinstance(error, Unavailable | Conflict) or error.status != 400:
                raise
            raise NotEver(f"Kubernetes refuses its pod: {error.message}") from error

    async def _adopt(self, attempt_id: str) -> Object:
        name = pod_name(attempt_id)
        try:
            found = await self._api.get(Kind.POD, self._namespace, name)
        except NotFound:
            raise NotNow(f"pod {name} has just gone") from None
        about = found["metadata"]
        ours = about.get("labels", {}).get(CLUSTER_LABEL) == self._cluster_id
        if not ours or about.get("annotations", {}).get(ATTEMPT) != attempt_id:
            raise NotEver(_taken(Kind.POD, name, self._namespace))
        if "deletionTimestamp" in about:
            raise NotNow(f"an older pod {name} is still being deleted")
        _log.info("pod %s was there already: taken over", name)
        return found

    async def _discard(self, pods: Sequence[Object], discarded: Callable[[Object], None]) -> None:
        """Those that have no node were never started: nothing is lost with them."""
        for pod in pods:
            about = pod["metadata"]
            if pod.get("spec", {}).get("nodeName"):
                continue
            discarded(pod)
            try:
                await self._api.delete(Kind.POD, self._namespace, about["name"], uid=about["uid"])
            except (NotFound, Conflict):
                continue


def _taken(kind: Kind, name: str, namespace: str) -> str:
    what = kind.value.removesuffix("s")
    return (
        f"the name {name} in namespace {namespace} is taken by a {what} that is not this "
        "cluster's: delete it, or give RiseML a namespace of its own"
    )
