"""docs/reference/riseml-yml.md, made from the schema: ``python -m riseml.spec.reference``."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from riseml.spec.schema import ROOT, TRAIN, Key

_HEAD = """\
# riseml.yml

<!-- Made by `python -m riseml.spec.reference`; change riseml/spec/schema.py instead. -->

The file describes the experiments of a project. `riseml init` writes one that runs as it is.

```yaml
project: digits
train:
  install:
    - pip install -r requirements.txt
  resources:
    cpus: 2
    mem: 4Gi
    gpus: H100:1
  parameters:
    lr: [0.1, 0.01]
    epochs: {range: {min: 3, max: 5, step: 1}}
  concurrency: 2
  run:
    - python train.py --lr {{lr}} --epochs {{epochs}}
```

A file with a mistake is refused with the line, the key, what was found and what would do. Unknown
keys, keys that stand twice, and `{{name}}` that is no parameter are mistakes. Values are taken as
they are written (`version: 2.10` is not 2.1). Anchors, aliases and tags are not taken.

Amounts: memory has a unit (`512Mi`, `4Gi`, `80G`); times have units too (`90s`, `30m`, `12h`,
`1h30m`, `2d`).
"""


def render_reference() -> str:
    """The whole page."""
    parts = [_HEAD, *_sections(ROOT, "")]
    return "\n".join(parts)


def _sections(key: Key, path: str) -> Iterator[str]:
    title = f"`{path}`" if path else "The file"
    about = key.help if path else ""
    rows = ["| key | takes | default | meaning |", "| --- | --- | --- | --- |"]
    rows += [_row(child) for child in key.keys]
    yield "\n".join([f"## {title}", "", *([about, ""] if about else []), *rows, ""])
    for child in key.keys:
        # The keys of resources are the same wherever they stand.
        if child.keys and (child.name != "resources" or key is TRAIN):
            yield from _sections(child, f"{path}.{child.name}" if path else child.name)


def _row(key: Key) -> str:
    default = "required" if key.required else f"`{key.default}`" if key.default else ""
    if key.default is not None and " " in key.default:
        default = key.default
    meaning = key.help + (f" For example `{key.name}: {key.example}`." if key.example else "")
    takes = "mapping, see below" if key.takes == "mapping" and key.keys else key.takes
    cells = (f"`{key.name}`", takes, default, meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    sys.stdout.write(render_reference())
