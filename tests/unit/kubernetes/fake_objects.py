"""The objects of the fake API server: versions, pages, selectors, preconditions, deletion."""

from __future__ import annotations

import copy
import re
from typing import Any

from aiohttp import web

Object = dict[str, Any]


class FakeObjects:
    """What a cluster holds, and how requests change it."""

    def __init__(self) -> None:
        self.revision = 100
        self.oldest_revision = 0
        self.objects: dict[tuple[str, str, str], Object] = {}
        self._history: list[tuple[int, str, Object | None, Object | None]] = []
        self._snapshots: dict[str, list[Object]] = {}

    def _changed(self) -> None:
        """For those who watch."""

    def put(self, resource: str, item: Object) -> Object:
        """Makes or replaces an object, as somebody else would."""
        about = item.setdefault("metadata", {})
        key = (resource, about.get("namespace", ""), about["name"])
        before = self.objects.get(key)
        self.revision += 1
        about["resourceVersion"] = str(self.revision)
        about.setdefault("uid", before["metadata"]["uid"] if before else f"uid-{self.revision}")
        self.objects[key] = item
        self._happened(resource, before, item)
        return item

    def remove(self, resource: str, namespace: str, name: str) -> None:
        before = self.objects.pop((resource, namespace, name))
        self.revision += 1
        self._happened(resource, before, None)

    def pod(self, name: str, namespace: str = "riseml") -> Object:
        return copy.deepcopy(self.objects["pods", namespace, name])

    def set_status(self, name: str, status: Object, namespace: str = "riseml") -> None:
        self.put("pods", {**self.pod(name, namespace), "status": status})

    def finish(self, name: str, namespace: str = "riseml") -> None:
        """The kubelet has stopped a pod that was deleted: now it goes."""
        self.remove("pods", namespace, name)

    def _happened(self, resource: str, before: Object | None, after: Object | None) -> None:
        self._history.append((self.revision, resource, before, copy.deepcopy(after)))
        self._changed()

    def compact(self) -> None:
        """Forgets all versions but the present one."""
        self.oldest_revision = self.revision
        self._snapshots.clear()

    # ------------------------------------------------------------------------- what requests do
    def act(
        self, verb: str, resource: str, namespace: str, name: str, query: dict[str, str], body: Any
    ) -> web.Response:
        if verb == "list":
            return self._list(resource, namespace, query)
        if verb == "create":
            about = {**body.get("metadata", {}), "namespace": namespace}
            if (resource, namespace, about["name"]) in self.objects:
                return refused(409, "AlreadyExists", f'{resource} "{about["name"]}" already exists')
            about.pop("uid", None)
            return _json(self.put(resource, {**body, "metadata": about}), 201)
        found = copy.deepcopy(self.objects.get((resource, namespace, name)))
        if found is None:
            return refused(404, "NotFound", f'{resource} "{name}" not found')
        if verb == "patch":
            return _json(self.put(resource, _merged(found, body)))
        if verb == "bind":
            return self._bind(found, body)
        if verb == "delete":
            return self._delete(resource, found, body or {})
        return _json(found)

    def _list(self, resource: str, namespace: str, query: dict[str, str]) -> web.Response:
        revision, _, start = query.get("continue", "").partition(":")
        if revision and revision not in self._snapshots:
            return refused(410, "Expired", "the provided continue parameter is too old")
        if not revision:
            revision, start = str(self.revision), "0"
            self._snapshots[revision] = [
                copy.deepcopy(item)
                for key, item in sorted(self.objects.items())
                if key[0] == resource and _selected(item, namespace, query)
            ]
        items, first = self._snapshots[revision], int(start)
        last = first + (int(query.get("limit", 0)) or len(items))
        about = {"resourceVersion": revision}
        if last < len(items):
            about["continue"] = f"{revision}:{last}"
        return _json({"kind": "List", "metadata": about, "items": items[first:last]})

    def _bind(self, pod: Object, body: Object) -> web.Response:
        uid = body["metadata"].get("uid")
        if uid and uid != pod["metadata"]["uid"]:
            return refused(409, "Conflict", "the UID in the precondition does not match")
        if pod.setdefault("spec", {}).get("nodeName"):
            return refused(409, "Conflict", "pod is already assigned to a node")
        pod["spec"]["nodeName"] = body["target"]["name"]
        self.put("pods", pod)
        return _json(status_of(201, "", ""), 201)

    def _delete(self, resource: str, item: Object, options: Object) -> web.Response:
        about = item["metadata"]
        uid = options.get("preconditions", {}).get("uid")
        if uid and uid != about["uid"]:
            return refused(409, "Conflict", "the UID in the precondition does not match")
        grace = options.get("gracePeriodSeconds", 30)
        if resource == "pods" and grace > 0 and item.get("spec", {}).get("nodeName"):
            about.update(deletionTimestamp="2026-11-23T20:00:00Z", deletionGracePeriodSeconds=grace)
            return _json(self.put(resource, item))
        self.remove(resource, about.get("namespace", ""), about["name"])
        return _json(item)

    def events(
        self, after: int, resource: str, namespace: str, query: dict[str, str]
    ) -> list[tuple[int, Object]]:
        events = []
        for revision, of, before, item in self._history:
            if revision <= after or of != resource:
                continue
            was = before is not None and _selected(before, namespace, query)
            now = item is not None and _selected(item, namespace, query)
            if was or now:
                shown = copy.deepcopy(item if now else before)
                assert shown is not None
                shown["metadata"]["resourceVersion"] = str(revision)
                change = "DELETED" if not now else "MODIFIED" if was else "ADDED"
                events.append((revision, {"type": change, "object": shown}))
        return events


def _selected(item: Object, namespace: str, query: dict[str, str]) -> bool:
    about = item["metadata"]
    if namespace and about.get("namespace") != namespace:
        return False
    labels, wanted = about.get("labels", {}), query.get("labelSelector", "")
    terms = re.findall(r"([^\s,=!()]+)\s*(?:(==?|!=)\s*([^,]*)|in\s*\(([^)]*)\))?(?:,|$)", wanted)
    for key, operator, value, among in terms:
        have = labels.get(key)
        values = [one.strip() for one in among.split(",")] if among else [value]
        if operator == "!=" and have == value:
            return False
        if operator != "!=" and (have is None or ((operator or among) and have not in values)):
            return False
    for term in filter(None, query.get("fieldSelector", "").split(",")):
        path, unequal, value = re.split(r"(!=|==?)", term)
        at: Any = item
        for step in path.split("."):
            at = (at or {}).get(step)
        if ((at or "") == value) == (unequal == "!="):
            return False
    return True


def _merged(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(merged.get(key), value)
    return merged


def status_of(code: int, reason: str, message: str) -> Object:
    return {"kind": "Status", "code": code, "reason": reason, "message": message}


def _json(body: Object, status: int = 200) -> web.Response:
    return web.json_response(body, status=status)


def refused(status: int, reason: str, message: str, retry_after: int = 0) -> web.Response:
    headers = {"Retry-After": str(retry_after)} if retry_after else {}
    return web.json_response(status_of(status, reason, message), status=status, headers=headers)
