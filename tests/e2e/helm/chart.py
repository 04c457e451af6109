"""Lints and renders the chart with real helm, without a cluster."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tests.e2e.helm.build import SOURCE

CHART: Final = SOURCE.parents[2] / "deploy" / "helm" / "riseml"
RELEASE: Final = "riseml"
NAMESPACE: Final = "ml-platform"
KUBERNETES: Final = "1.35.0"

Manifest = dict[str, Any]


class Refused(Exception):
    """Helm said no; the message is what it said."""


@dataclass(frozen=True, slots=True)
class Chart:
    """The chart in `folder` under the program `helm`."""

    helm: Path
    folder: Path = CHART

    def lint(self, values: Path) -> str:
        """What `helm lint --strict` says of the chart with these values. Raises Refused."""
        return self._run("lint", "--strict", str(self.folder), "--values", str(values))

    def render(
        self,
        values: Path | None = None,
        *settings: str,
        kubernetes: str = KUBERNETES,
    ) -> list[Manifest]:
        """The manifests of an installation, hooks too. `settings` are as in --set. Raises
        Refused.
        """
        words = ["template", RELEASE, str(self.folder), "--namespace", NAMESPACE]
        if values is not None:
            words += ["--values", str(values)]
        for setting in settings:
            words += ["--set", setting]
        text = self._run(*words, kubernetes=kubernetes)
        return [manifest for manifest in yaml.safe_load_all(text) if manifest is not None]

    def notes(self, scratch: Path, values: Path | None = None, *settings: str) -> str:
        """What is shown after an installation. `helm template` leaves it out, so a copy of the
        chart in the folder `scratch` has one manifest more, which holds it.
        """
        copy = scratch / "chart"
        shutil.copytree(self.folder, copy)
        (copy / "templates" / "zz-notes.yaml").write_text(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: notes}\n"
            'data: {text: {{ include (print .Template.BasePath "/NOTES.txt") . | toJson }}}\n'
        )
        rendered = Chart(self.helm, copy).render(values, *settings)
        text: str = one(rendered, "ConfigMap", "notes")["data"]["text"]
        return text

    def _run(self, *words: str, kubernetes: str = KUBERNETES) -> str:
        done = subprocess.run(
            [str(self.helm), *words, "--kube-version", kubernetes],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise Refused(done.stdout + done.stderr)
        return done.stdout


def one(manifests: Sequence[Manifest], kind: str, name: str | None = None) -> Manifest:
    """The only manifest of a kind, or of a kind and a name."""
    found = [
        manifest
        for manifest in manifests
        if manifest["kind"] == kind and name in (None, manifest["metadata"]["name"])
    ]
    assert len(found) == 1, f"{len(found)} of {kind} {name or ''}: {json.dumps(found)}"
    return found[0]


def pods(manifests: Sequence[Manifest]) -> list[Manifest]:
    """The `spec` of every pod, whether it is one or made by a Deployment."""
    return [
        manifest["spec"]["template"]["spec"]
        if manifest["kind"] == "Deployment"
        else manifest["spec"]
        for manifest in manifests
        if manifest["kind"] in ("Deployment", "Pod")
    ]
