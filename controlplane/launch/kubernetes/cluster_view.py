"""What the API server tells of the cluster: our pods, the nodes, and the pods of others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from controlplane.launch.kubernetes.api import Api, Kind, Object
from controlplane.launch.kubernetes.names import ATTEMPT, CLUSTER_LABEL, pod_name
from controlplane.launch.kubernetes.node_gpus import PodKey
from controlplane.launch.kubernetes.node_state import NodePods
from controlplane.launch.kubernetes.reflector import Added, Change, Changed, Deleted, Reflector
from controlplane.launch.kubernetes.settings import KubernetesSettings

RESYNC_SECONDS: Final = 3600.0
# Pods that have a node and may hold something of it.
_HOLDING: Final = "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed"


class ClusterView:
    """Three copies, kept by `reflectors`, each of which runs in a task of its own."""

    def __init__(
        self,
        api: Api,
        settings: KubernetesSettings,
        cluster_id: str,
        *,
        on_pod: Callable[[Change], None],
        on_node: Callable[[str], None],
    ) -> None:
        """`on_pod` hears of pods of ours, `on_node` of nodes by name, whatever changed on them."""
        self._namespace = settings.namespace
        self._on_pod = on_pod
        self._on_node = on_node
        # By node and uid: our pods that have not ended, and the pods of others.
        self._own: dict[str, dict[str, Object]] = {}
        self._foreign: dict[str, dict[str, Object]] = {}

        def reflector(
            kind: Kind,
            namespace: str,
            labels: str,
            fields: str,
            on_change: Callable[[Change], None],
        ) -> Reflector:
            return Reflector(
                api, kind, namespace, labels, fields, on_change, resync_seconds=RESYNC_SECONDS
            )

        ours = f"{CLUSTER_LABEL}={cluster_id}"
        self.pods = reflector(Kind.POD, settings.namespace, ours, "", self._pod_changed)
        self.nodes = reflector(Kind.NODE, "", "", "", self._node_changed)
        self._others = reflector(
            Kind.POD, "", f"{CLUSTER_LABEL}!={cluster_id}", _HOLDING, self._foreign_changed
        )
        self._watches_others = settings.foreign_pods

    def reflectors(self) -> Iterator[Reflector]:
        yield self.pods
        yield self.nodes
        if self._watches_others:
            yield self._others

    async def until_synced(self) -> None:
        """Until what there is is known."""
        for reflector in self.reflectors():
            await reflector.until_synced()

    def pod(self, attempt_id: str) -> Object | None:
        """The pod that has this attempt's name now."""
        return self.pods.objects.named(pod_name(attempt_id), self._namespace)

    def node(self, name: str) -> Object | None:
        return self.nodes.objects.named(name)

    def pods_on(self, node_name: str) -> NodePods:
        """What has not ended there."""
        return NodePods(
            foreign=list(self._foreign.get(node_name, {}).values()),
            own={_key(pod): _attempt(pod) for pod in self._own.get(node_name, {}).values()},
            all_known=self._watches_others,
        )

    def attempts_on(self, node_name: str) -> dict[str, str]:
        """Attempt ids of our pods there that have not ended, by the uid of the pod."""
        return {uid: _attempt(pod) for uid, pod in self._own.get(node_name, {}).items()}

    def _pod_changed(self, change: Change) -> None:
        if isinstance(change, Added | Changed | Deleted):
            pod = change.object
            node_name = pod.get("spec", {}).get("nodeName", "")
            over = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
            if node_name and (over or isinstance(change, Deleted)):
                self._own.get(node_name, {}).pop(pod["metadata"]["uid"], None)
            elif node_name:
                self._own.setdefault(node_name, {})[pod["metadata"]["uid"]] = pod
        self._on_pod(change)

    def _node_changed(self, change: Change) -> None:
        if isinstance(change, Added | Changed | Deleted):
            self._on_node(change.object["metadata"]["name"])

    def _foreign_changed(self, change: Change) -> None:
        if not isinstance(change, Added | Changed | Deleted):
            return
        pod = change.object
        node_name = pod.get("spec", {}).get("nodeName", "")
        if not node_name:
            return
        held = self._foreign.setdefault(node_name, {})
        if isinstance(change, Deleted):
            held.pop(pod["metadata"]["uid"], None)
        else:
            held[pod["metadata"]["uid"]] = pod
        self._on_node(node_name)


def _key(pod: Object) -> PodKey:
    return pod["metadata"]["namespace"], pod["metadata"]["name"]


def _attempt(pod: Object) -> str:
    return str((pod["metadata"].get("annotations") or {}).get(ATTEMPT, ""))
