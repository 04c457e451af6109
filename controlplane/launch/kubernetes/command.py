"""The command of a job's container: a small supervisor in POSIX sh, and the job under it.

It is the container's first process and does for a job what noded's shim does elsewhere:

- runs the install steps, writes a marker line after them, and says in the termination message when
  one failed, so that this is not taken for the job's own end;
- passes SIGTERM on to every process of the job, and waits for all of them: as the first process it
  would not even die of it, and a shell between would not pass it on;
- prints what `riseml.report_result` wrote into the log, where the control plane takes it out again:
  no other way leads out of a container that nobody reaches into.

It needs sh, mkdir and sleep of the image, and nothing else.
"""

from __future__ import annotations

from typing import Final

from controlplane.domain.model import AttemptOrder
from controlplane.launch.kubernetes.markers import (
    INSTALL_FAILED_PREFIX,
    install_marker,
    result_marker,
)
from riseml.spec.job_text import join_commands

RESULT_SECONDS: Final = 5
"""How often new results are looked for."""

# $1 install script or nothing, $2 its marker, $3 marker of results, $4 the job's script.
#
# `wait` returns when a signal comes; the child has ended only if it cannot be signalled any more. A
# signal may come just before a `wait`, so the last word to `results` is said until it is heard.
# Shells say on standard error which child died of which signal; the job's log is the job's alone.
# `kill -TERM -1`, which all shells know in this form alone, reaches all processes of the container
# but its first. What is left of a job when its own process has ended is waited for only after
# SIGTERM: until then it may do what it likes.
SUPERVISOR: Final = f"""\
job= stopping= code=0
export PATH="$PYTHONUSERBASE/bin:$PATH"
export PYTHONPATH="$RISEML_RUN_DIR/sdk${{PYTHONPATH:+:$PYTHONPATH}}"
mkdir -p "$HOME" "$TMPDIR"
[ -z "$RISEML_HOSTFILE_TEXT" ] || printf %s "$RISEML_HOSTFILE_TEXT" > "$RISEML_HOSTFILE"
exec 4>&2 2> /dev/null

signal_all() {{
  if [ "$$" = 1 ]; then kill "-$1" -1; else kill "-$1" "$job"; fi
}}
trap 'stopping=1; [ -z "$job" ] || signal_all TERM' TERM

run() {{
  [ -z "$stopping" ] || {{ code=143; return; }}
  /bin/sh -e -c "$1" riseml 2>&4 4>&- &
  job=$!
  while :; do
    wait "$job"
    code=$?
    kill -0 "$job" || break
  done
}}

results() {{
  marker=$1 count=0 part= line= open= last= nap=
  trap : TERM
  trap 'last=1' USR1
  while :; do
    now_last=$last
    if [ -z "$open" ] && [ -f "$RISEML_RESULTS" ]; then exec 3< "$RISEML_RESULTS"; open=1; fi
    if [ -n "$open" ]; then
      while IFS= read -r line <&3; do
        count=$((count + 1))
        printf '%s %s %s\\n' "$marker" "$count" "$part$line"
        part=
      done
      part=$part$line
    fi
    [ -z "$now_last" ] || break
    [ -z "$last" ] || continue
    sleep {RESULT_SECONDS} &
    nap=$!
    wait "$nap"
  done
  [ -z "$nap" ] || kill -KILL "$nap"
}}

if [ -n "$1" ]; then
  run "$1"
  if [ "$code" != 0 ]; then
    [ -n "$stopping" ] || printf '%s %s\\n' {INSTALL_FAILED_PREFIX} "$code" > /dev/termination-log
    exit "$code"
  fi
  printf '%s\\n' "$2"
fi
results "$3" 4>&- &
results=$!
run "$4"
while kill -USR1 "$results"; do sleep 0.05; done
if [ -n "$stopping" ] && [ "$$" = 1 ]; then
  while kill -0 -1; do sleep 0.1; done
fi
exit "$code"
"""


def job_command(order: AttemptOrder) -> list[str]:
    """The command list of the job's container, not yet escaped for a manifest."""
    return [
        "/bin/sh",
        "-c",
        SUPERVISOR,
        "riseml",
        join_commands(order.install),
        install_marker(order.attempt_id),
        result_marker(order.attempt_id),
        join_commands(order.run),
    ]
