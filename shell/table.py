"""The one table of commands; help, completion, the parser and docs/reference/commands.md come from
it.
"""

from __future__ import annotations

from typing import Final

from shell.command import Argument, Command, Completes, Count, Option
from shell.values import duration, gpu_limit, gpus, moment, port, positive

_ID: Final = Argument(
    "ID",
    "such as 17, 17.3, 17.worker.2 or ana.17; without it the last experiment of this project",
    Count.OPTIONAL,
    Completes.EXPERIMENT,
)
_NODE: Final = Argument("NAME", "name of the node", completes=Completes.NODE)
_USER: Final = Argument("NAME", "name of the user", completes=Completes.USER)
_QUEUE: Final = Argument("NAME", "name of the queue", completes=Completes.QUEUE)
_QUEUE_SETTINGS: Final = (
    Option(
        ("--weight",),
        "its share relative to the other queues that want more than they have",
        "N",
        read=positive,
    ),
    Option(
        ("--guarantee",),
        "GPUs that it gets back from queues that borrow them, when its own jobs wait",
        "GPUS",
        read=gpus,
    ),
    Option(
        ("--limit",),
        "never more GPUs at once; 'none' lifts it",
        "GPUS",
        read=gpu_limit,
    ),
    Option(
        ("--placement",),
        "pack: fill nodes, so that large jobs find room; spread: the emptiest nodes first",
        "STYLE",
        choices=("pack", "spread"),
    ),
    Option(
        ("--preemption",),
        "whether its jobs may preempt running ones of lower priority of it",
        "on|off",
        choices=("on", "off"),
    ),
    Option(
        ("--max-duration",),
        "of experiments that name none, such as 12h; 'none' lifts it",
        "TIME",
        read=duration,
    ),
)
_FORCE: Final = Option(("-f", "--force"), "do not ask, and do not wait for the grace period")
_PLACES: Final = "data://PATH is shared by all, output://17/PATH belongs to an experiment."

_WORK: Final = (
    Command(
        ("init",),
        "write a riseml.yml that runs as it is",
        "shell.commands.init:init",
        options=(Option(("--project",), "name of the project; default: of this folder", "NAME"),),
    ),
    Command(
        ("train",),
        "send the code, start an experiment, show its states and output",
        "shell.commands.train:train",
        options=(
            Option(
                ("-f", "--file"),
                "the experiment's description",
                "FILE",
                default="riseml.yml",
                completes=Completes.FILE,
            ),
            Option(("-d", "--detach"), "print the id and do not follow"),
            Option(("--wait",), "with -d: wait for the end, without showing output"),
            Option(
                ("--plan",),
                "say only what would happen: where, when, at whose cost; start nothing",
            ),
        ),
        more="Sends the files of this folder, except what .gitignore and .risemlignore name. "
        "Ctrl-C stops the showing, not the experiment. The exit status is 0 if it is FINISHED, "
        "1 if it is FAILED or KILLED.",
        examples=(
            "train",
            "train -f small.yml -d",
            "train -d --wait --format json",
            "train --plan",
        ),
    ),
    Command(
        ("status",),
        "running experiments, or one in detail; a set with its children",
        "shell.commands.status:status",
        arguments=(Argument("ID", "experiment or set", Count.OPTIONAL, Completes.EXPERIMENT),),
        options=(
            Option(("-a", "--all"), "ended ones as well"),
            Option(("-l", "--long"), "more columns"),
            Option(("-p", "--project"), "of one project", "NAME", completes=Completes.PROJECT),
            Option(
                ("-u", "--user"), "of one user; * for everybody", "NAME", completes=Completes.USER
            ),
            Option(("-n", "--limit"), "at most so many", "N", default=100, read=positive),
        ),
        examples=("status", "status -al", "status 17"),
    ),
    Command(
        ("why",),
        "why an experiment waits, runs where it runs, or was preempted; what would start it now",
        "shell.commands.why:why",
        arguments=(_ID,),
        options=(Option(("-l", "--long"), "each node and GPU in a row as well"),),
        more="From the very cycle of the scheduler that decided. What would start it now was tried "
        "by the scheduler itself.",
        examples=("why", "why 17", "why 17 -l"),
    ),
    Command(
        ("logs",),
        "output of all jobs of an experiment, merged by time",
        "shell.commands.logs:logs",
        arguments=(_ID,),
        options=(
            Option(("-f", "--follow"), "stay until the experiment has ended"),
            Option(("--since",), "only newer: 10m, 2h or 2026-11-23T20:00", "TIME", read=moment),
            Option(("--tail",), "only the last lines of each job", "N", read=positive),
            Option(("--raw",), "only what the jobs wrote, without names and states"),
        ),
        examples=("logs", "logs 17 -f", "logs 17.worker.2 --tail 100", "logs 17 --raw > out.txt"),
    ),
    Command(
        ("kill",),
        "stop experiments",
        "shell.commands.kill:kill",
        arguments=(
            Argument(
                "ID",
                "experiments or sets; without it the last one of this project, after asking",
                Count.ANY,
                Completes.EXPERIMENT,
            ),
        ),
        options=(_FORCE,),
        more="Jobs get SIGTERM, and SIGKILL after their grace period.",
    ),
    Command(
        ("monitor",),
        "live load of the nodes, or of the nodes and jobs of an experiment",
        "shell.commands.monitor:monitor",
        arguments=(
            Argument(
                "ID", "experiment; without it all nodes", Count.OPTIONAL, Completes.EXPERIMENT
            ),
        ),
        options=(
            Option(("--gpu",), "each GPU in a row of its own"),
            Option(("--once",), "one picture, then end"),
        ),
    ),
    Command(
        ("pull",),
        "fetch an experiment's output, or its code",
        "shell.commands.storage:pull",
        arguments=(Argument("ID", "experiment", completes=Completes.EXPERIMENT),),
        options=(
            Option(("--code",), "the files that were sent, not the output"),
            Option(
                ("-o", "--to"), "into this folder; default: ./ID", "DIR", completes=Completes.FILE
            ),
        ),
        more="An interrupted fetch goes on where it stopped.",
    ),
    Command(
        ("ls",),
        "list files of data:// and output://",
        "shell.commands.storage:ls",
        arguments=(Argument("PLACE", "such as data:// or output://17", completes=Completes.PLACE),),
        options=(Option(("-r", "--recursive"), "all below it"),),
        more=_PLACES,
    ),
    Command(
        ("cp",),
        "copy files between here and data:// or output://",
        "shell.commands.storage:cp",
        arguments=(
            Argument("FROM", "file or folder, here or there", completes=Completes.PLACE),
            Argument("TO", "file or folder, there or here", completes=Completes.PLACE),
        ),
        options=(Option(("-r", "--recursive"), "a folder with all in it"),),
        more=f"{_PLACES} A folder becomes TO, or goes into it where TO ends with a slash. "
        "An interrupted copy goes on where it stopped.",
        examples=("cp -r images data://cats/images", "cp output://17/model.pkl ."),
    ),
    Command(
        ("rm",),
        "remove files of data:// and output://",
        "shell.commands.storage:rm",
        arguments=(Argument("PLACE", "what to remove", Count.SOME, Completes.PLACE),),
        options=(Option(("-r", "--recursive"), "folders with all in them"), _FORCE),
        more=_PLACES,
    ),
    Command(
        ("project", "list"),
        "your projects",
        "shell.commands.projects:list_projects",
        options=(
            Option(
                ("-u", "--user"), "of one user; * for everybody", "NAME", completes=Completes.USER
            ),
        ),
    ),
)

_ACCOUNTS: Final = (
    Command(("whoami",), "who you are, and on which server", "shell.commands.users:whoami"),
    Command(
        ("user", "login"),
        "store the server and your API key on this machine",
        "shell.commands.login:login",
        arguments=(Argument("SERVER", "HOST[:PORT]; default: the one known here", Count.OPTIONAL),),
        options=(
            Option(
                ("--ca",),
                "certificate of the server's authority, PEM",
                "FILE",
                completes=Completes.FILE,
            ),
            Option(("--ca-fingerprint",), "trust the authority with this SHA-256", "HEX"),
        ),
        more="The key is asked for, or read from standard input. Beyond this machine the "
        "connection "
        "is TLS; the authority's certificate is fetched and its fingerprint shown for you to "
        "compare.",
    ),
    Command(
        ("user", "create"),
        "create a user and show the first API key",
        "shell.commands.users:create",
        arguments=(Argument("NAME", "lower-case letters, digits, - and _"),),
        options=(
            Option(("--email",), "for people only; RiseML sends no mail", "EMAIL"),
            Option(("--admin",), "may do everything"),
        ),
    ),
    Command(("user", "list"), "all users", "shell.commands.users:list_users"),
    Command(
        ("user", "display"),
        "one user and the API keys (without their text)",
        "shell.commands.users:display",
        arguments=(Argument("NAME", "default: you", Count.OPTIONAL, Completes.USER),),
    ),
    Command(
        ("user", "disable"),
        "refuse a user from now on; running jobs go on",
        "shell.commands.users:disable",
        arguments=(_USER,),
    ),
    Command(
        ("user", "enable"),
        "admit a disabled user again",
        "shell.commands.users:enable",
        arguments=(_USER,),
    ),
    Command(
        ("user", "key", "create"),
        "make a further API key and show it",
        "shell.commands.users:create_key",
        arguments=(Argument("NAME", "default: you", Count.OPTIONAL, Completes.USER),),
        options=(Option(("--description",), "what it is for", "TEXT"),),
    ),
    Command(
        ("user", "key", "delete"),
        "revoke an API key at once",
        "shell.commands.users:delete_key",
        arguments=(Argument("KEY", "its id, as 'user display' shows it"),),
    ),
)

_CLUSTER: Final = (
    Command(
        ("up",),
        "start a cluster on this machine, in the foreground",
        "shell.commands.up:up",
        options=(
            Option(("--home",), "where its state lives", "DIR", completes=Completes.FILE),
            Option(
                ("--port",), "of the control plane; 0 picks one", "PORT", default=7433, read=port
            ),
            Option(
                ("--listen",),
                "address to serve on; beyond loopback with TLS",
                "HOST",
                default="127.0.0.1",
            ),
            Option(
                ("--tls-name",),
                "a further host name or address for the server's certificate",
                "HOST",
                many=True,
            ),
            Option(("--name",), "name of this machine's node; default: its host name", "NAME"),
            Option(
                ("--simulate-gpus",), "add simulated GPUs for trying out, such as 8xH100", "NxMODEL"
            ),
        ),
        more="State lives in --home, else RISEML_HOME, else the platform's data folder. Ctrl-C "
        "stops "
        "the cluster; running jobs go on and are picked up at the next 'riseml up'.",
    ),
    Command(
        ("system", "info"),
        "the control plane and its nodes",
        "shell.commands.system:info",
        options=(
            Option(("-l", "--long"), "what each node can and cannot do"),
            Option(("-g", "--gpu"), "each GPU in a row"),
        ),
    ),
    Command(
        ("system", "test"),
        "run small real jobs on every ready node",
        "shell.commands.system_test:system_test",
        options=(
            Option(("--nodename",), "only on this node", "NAME", completes=Completes.NODE),
            Option(("--num-jobs",), "so many of each kind per node", "N", default=1, read=positive),
        ),
        more="Tries CPU, memory, disk, and the GPU where there is one. The exit status is 1 if any "
        "failed.",
    ),
    Command(
        ("queue", "list"),
        "the queues: what each may have, has, and who waits",
        "shell.commands.queues:list_queues",
        more="GUARANTEE, LIMIT, ALLOCATED and BORROWED are GPUs. SHARE is the part of the cluster "
        "that the queue holds, by the resource of which it holds most; FAIR SHARE is what its "
        "weight entitles it to among the queues that run or wait; RECENT is its part of all "
        "recent use.",
    ),
    Command(
        ("queue", "show"),
        "one queue in detail, with its users",
        "shell.commands.queues:show",
        (_QUEUE,),
    ),
    Command(
        ("queue", "create"),
        "make a queue",
        "shell.commands.queues:create",
        (Argument("NAME", "letters, digits, '.', '-', '_'"),),
        _QUEUE_SETTINGS,
        more="Experiments go there with 'queue: NAME' in riseml.yml.",
        examples=(
            "queue create research --weight 3 --guarantee 8",
            "queue create students --limit 4 --max-duration 12h",
        ),
    ),
    Command(
        ("queue", "update"),
        "change a queue; what is not given stays, and what runs goes on",
        "shell.commands.queues:update",
        (_QUEUE,),
        _QUEUE_SETTINGS,
        examples=("queue update default --weight 2", "queue update students --limit none"),
    ),
    Command(
        ("queue", "delete"),
        "remove a queue in which nothing waits or runs",
        "shell.commands.queues:delete",
        (_QUEUE,),
    ),
    Command(
        ("system", "schedule"),
        "the last cycles of the scheduler, or one with its decisions",
        "shell.commands.schedule:schedule",
        arguments=(Argument("CYCLE", "number of a cycle", Count.OPTIONAL),),
        options=(
            Option(("-n", "--limit"), "at most so many", "N", default=20, read=positive),
            Option(
                ("--save",),
                "write what the cycle saw and answered as JSON (the last one, or CYCLE); admins "
                "only",
                "FILE",
                completes=Completes.FILE,
            ),
        ),
        more="'riseml-simulate --snapshot FILE' decides again on what was saved.",
        examples=("system schedule", "system schedule 4711", "system schedule --save last.json"),
    ),
    Command(("node", "list"), "the nodes", "shell.commands.nodes:list_nodes"),
    Command(("node", "show"), "one node in detail", "shell.commands.nodes:show", (_NODE,)),
    Command(
        ("node", "cordon"),
        "give a node no new jobs; what runs goes on",
        "shell.commands.nodes:cordon",
        (_NODE,),
    ),
    Command(
        ("node", "uncordon"), "give a node jobs again", "shell.commands.nodes:uncordon", (_NODE,)
    ),
    Command(
        ("node", "drain"),
        "cordon a node and move what runs there elsewhere",
        "shell.commands.nodes:drain",
        (_NODE,),
        (_FORCE,),
    ),
    Command(
        ("node", "taint"),
        "keep jobs away from a node that do not tolerate this; what runs goes on",
        "shell.commands.nodes:taint",
        (
            _NODE,
            Argument(
                "TAINT", "KEY or KEY=VALUE; one with a key that is there replaces it", Count.SOME
            ),
        ),
        more="Jobs tolerate taints with 'tolerations' in riseml.yml.",
        examples=("node taint gpu-7 dedicated=vision", "node taint gpu-8 spot"),
    ),
    Command(
        ("node", "untaint"),
        "take taints away from a node",
        "shell.commands.nodes:untaint",
        (_NODE, Argument("TAINT", "KEY, or KEY=VALUE", Count.SOME, Completes.TAINT)),
    ),
    Command(
        ("node", "gpu-release"),
        "give a GPU to jobs that is healthy again, without waiting for its test",
        "shell.commands.nodes:release_gpu",
        (_NODE, Argument("GPU", "its number on that node, or its UUID")),
        more="A GPU that was sick is tested by a small job before others get it.",
        examples=("node gpu-release gpu-7 3",),
    ),
    Command(
        ("node", "forget"),
        "declare a lost node gone for good, so that its jobs start elsewhere",
        "shell.commands.nodes:forget",
        (_NODE,),
        (_FORCE,),
    ),
    Command(
        ("node", "token", "create"),
        "make the token file for the daemon of a node",
        "shell.commands.nodes:create_token",
        arguments=(Argument("NAME", "name of the node"),),
        options=(
            Option(
                ("-o", "--output"),
                "write it here, readable by you only",
                "FILE",
                completes=Completes.FILE,
            ),
        ),
        more="Copy the file to the node and start 'riseml-noded --token-file FILE' there. "
        "An earlier token of that name ends to be valid.",
    ),
)

_OTHER: Final = (
    Command(
        ("version",), "versions of this client and of the server", "shell.commands.system:version"
    ),
    Command(
        ("help",),
        "the commands, or one of them",
        "shell.commands.help:show",
        arguments=(Argument("COMMAND", "such as train", Count.ANY, Completes.COMMAND),),
    ),
)

GROUPS: Final = (
    ("Your work", _WORK),
    ("Accounts", _ACCOUNTS),
    ("The cluster", _CLUSTER),
    ("Other", _OTHER),
)
"""Commands under the headings of help."""

TABLE: Final[tuple[Command, ...]] = tuple(c for _, commands in GROUPS for c in commands)
