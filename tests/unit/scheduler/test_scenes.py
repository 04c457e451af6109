"""What the scheduler decides, scene by scene; `scenes.py` says how to read `scenes/*.txt`."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.scheduler.cycle import schedule
from tests.unit.scheduler.scenes import NOW, Scene, read, told

FILES = sorted((Path(__file__).parent / "scenes").glob("*.txt"))
SCENES = [(f"{path.stem}: {scene.name}", scene) for path in FILES for scene in read(path)]


@pytest.mark.parametrize("scene", [s for _, s in SCENES], ids=[name for name, _ in SCENES])
def test_scene(scene: Scene) -> None:
    plan = schedule(scene.snapshot, NOW, scene.policy)
    assert told(plan, scene.snapshot) == scene.expected


def test_no_two_scenes_have_the_same_name() -> None:
    assert len({name for name, _ in SCENES}) == len(SCENES) > 5
