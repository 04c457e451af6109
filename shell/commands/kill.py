"""kill"""

from __future__ import annotations

from riseml.errors import RisemlError
from riseml.states import has_ended, state_name
from shell.command import Values
from shell.context import Context
from shell.recent import canonical, last_experiment, short
from shell.render import as_mapping, json_text


def kill(context: Context, values: Values) -> int:
    """Kill the named experiments, or after asking the last one. Goes on after one that cannot be
    killed.
    """
    force = values.flag("force")
    wanted = [canonical(context, id) for id in values.words("ID")]
    if not wanted:
        last = last_experiment(context, running=True)
        question = (
            f"Kill {short(context, last.id)} of project {last.project}, {state_name(last.state)}?"
        )
        if not force and not context.ask(question, instead="name it, or add -f"):
            context.say("Nothing was killed.")
            return 1
        wanted = [last.id]
    killed = []
    failure: RisemlError | None = None
    for id in wanted:
        try:
            experiment = context.client.experiments.kill(id, force=force)
        except RisemlError as error:
            context.say(error.message)
            failure = error
            continue
        killed.append(experiment)
        what = f"is {state_name(experiment.state)}" if has_ended(experiment) else "is being stopped"
        context.say(f"{short(context, experiment.id)} {what}.")
    if context.format == "json":
        context.out(json_text([as_mapping(experiment) for experiment in killed]))
    return 1 if failure is not None else 0
