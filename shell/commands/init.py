"""init"""

from __future__ import annotations

from typing import Final

from riseml.spec.config import DEFAULT_FILE_NAME
from riseml.spec.errors import InvalidName
from riseml.spec.ids import check_project_name, project_name_from
from shell.command import UsageError, Values
from shell.context import Context

TEMPLATE: Final = """\
project: {project}
train:
  # What each job needs; it may use more CPU where it is free.
  resources:
    cpus: 1
    mem: 2Gi
    # gpus: 1          # or 0.5, H100:2, 80GB:2
  # Steps that prepare the environment; done once, until they or the files they name change.
  # install:
  #   - pip install -r requirements.txt
  # Several values make an experiment for each combination. {{{{lr}}}} stands for the value in run.
  # parameters:
  #   lr: [0.1, 0.01]
  # The first command that fails ends the job. Write what to keep into $OUTPUT_DIR.
  run:
    - echo "training {project} as $EXPERIMENT_ID"
    - python3 -c "print('loss 0.5')"
"""


def init(context: Context, values: Values) -> int:
    """Write riseml.yml into this folder, never over another."""
    name = values.text("project") or project_name_from(context.folder.resolve().name)
    try:
        check_project_name(name)
    except InvalidName as error:
        raise UsageError(f"{error}.") from error
    file = context.folder / DEFAULT_FILE_NAME
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(TEMPLATE.format(project=name))
    except FileExistsError as error:
        raise UsageError(f"{file} is there already. Edit it, or remove it first.") from error
    context.say(f"Wrote {DEFAULT_FILE_NAME} for project {name}. 'riseml train' runs it.")
    return 0
