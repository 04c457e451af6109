"""The riseml.yml that ``riseml init`` writes: it runs as it is, and shows what else there is."""

from __future__ import annotations

import shlex
from typing import Final

from riseml.spec.ids import project_name_from

_TEXT: Final = """\
# What riseml runs, and with what. All keys: docs/reference/riseml-yml.md
project: {project}

train:
  # Commands, one after the other; the first that fails ends the job.
  run:
    - {run}

  # Build steps, run once per node and again when they or the files that they name change.
  # install:
  #   - pip install -r requirements.txt

  resources:
    cpus: 1
    mem: 2Gi          # a unit is required: Mi, Gi (powers of 1024) or M, G (of 1000)
    gpus: 0           # 2, 0.5 (a share of one), H100:2, 80GB:2 (at least so much memory each)

  # Several values make a set of experiments: {{{{lr}}}} in run inserts one, and so does $LR.
  # parameters:
  #   lr: [0.1, 0.01]
  #   epochs: {{range: {{min: 3, max: 5, step: 1}}}}
  # concurrency: 2    # how many of them run at once

  # framework: pytorch   # tensorflow, pytorch, jax or mpi: sets what distributed jobs need
  # nodes: 2             # so many equal jobs, which start together
  # env: {{WANDB_MODE: offline, HF_TOKEN: }}   # a name without a value takes yours
  # max_duration: 12h
  # retry: {{on_events: [error, interruption], max: 3}}
"""

_GREETING: Final = 'echo "Hello from $EXPERIMENT_ID with $(nproc) CPUs; output goes to $OUTPUT_DIR"'


def starter_config(folder_name: str, script: str | None = None) -> str:
    """Text for a new riseml.yml in a folder of that name.

    ``script`` is a Python file that is there already, such as ``train.py``; without one the file
    runs a greeting.
    """
    run = _GREETING if script is None else f"python {shlex.quote(script)}"
    quoted = "'" + run.replace("'", "''") + "'"
    return _TEXT.format(project=_scalar(project_name_from(folder_name)), run=quoted)


def _scalar(name: str) -> str:
    """A project's name as YAML text: quoted where it would read as something else."""
    is_word = name[0].isalpha() and name.lower() not in ("null", "true", "false", "yes", "no")
    return name if is_word else f"'{name}'"
