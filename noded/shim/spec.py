"""What the shim is to do, as `key NUL value NUL` pairs (see spec.c, which reads them)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from noded.errors import StartFailed

MAX_ATTEMPT_ID = 255


class SpecInvalid(StartFailed):
    """The order holds what no process can be given, such as a NUL in a variable."""


@dataclass(frozen=True, slots=True)
class CgroupFiles:
    """The control group that the shim makes for its attempt and removes again; empty: none."""

    directories: tuple[str, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()
    """Files and what is written to them; where one is refused, the job is not to run."""
    wishes: tuple[tuple[str, str], ...] = ()
    """The same, but a kernel that lacks them is fine too."""
    procs: tuple[str, ...] = ()
    kill: str = ""
    oom: str = ""


@dataclass(frozen=True, slots=True)
class Spec:
    """One job's process. `notes` are noded's own, which the shim passes over."""

    attempt_id: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    grace_ms: int
    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] = ()
    umask: int | None = None
    nice: int | None = None
    oom_score_adj: int | None = None
    orphan_grace_ms: int = 2_000
    log_segment_bytes: int = 50 << 20
    log_max_segments: int = 0
    cgroup: CgroupFiles = CgroupFiles()
    contact_file: str = ""
    contact_timeout_ms: int = 0
    rlimits: tuple[tuple[int, int, int], ...] = ()
    """(resource as in the `resource` module, soft, hard); -1: unlimited."""
    notes: Mapping[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Raises SpecInvalid for a NUL inside a value."""
        parts: list[str] = []
        for key, value in self._pairs():
            parts.append(key)
            parts.append(value)
        text = "\0".join(parts) + "\0"
        if text.count("\0") != len(parts):
            raise SpecInvalid(
                f"{self.attempt_id}: a command, variable or path holds a NUL character"
            )
        try:
            return text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise SpecInvalid(f"{self.attempt_id}: not encodable as UTF-8: {error}") from error

    def _pairs(self) -> Iterator[tuple[str, str]]:
        if not self.argv or not 0 < len(self.attempt_id) <= MAX_ATTEMPT_ID:
            raise SpecInvalid(f"{self.attempt_id!r}: a job needs an id and a command")
        yield "riseml-spec", "1"
        yield "attempt", self.attempt_id
        for argument in self.argv:
            yield "argv", argument
        for name, value in self.env.items():
            if not name or "=" in name:
                raise SpecInvalid(f"{self.attempt_id}: {name!r} cannot name a variable")
            yield "env", f"{name}={value}"
        yield "cwd", self.cwd
        if self.uid is not None:
            yield "uid", str(self.uid)
            yield "gid", str(self.uid if self.gid is None else self.gid)
            for group in self.groups:
                yield "group", str(group)
        for key, number in (
            ("umask", self.umask),
            ("nice", self.nice),
            ("oom_score_adj", self.oom_score_adj),
        ):
            if number is not None:
                yield key, str(number)
        yield "grace_ms", str(self.grace_ms)
        yield "orphan_grace_ms", str(self.orphan_grace_ms)
        yield "log_segment_bytes", str(self.log_segment_bytes)
        yield "log_max_segments", str(self.log_max_segments)
        for directory in self.cgroup.directories:
            yield "cgroup_make", directory
        for key, settings in (
            ("cgroup_set", self.cgroup.settings),
            ("cgroup_try", self.cgroup.wishes),
        ):
            for file, value in settings:
                yield key, f"{file}={value}"
        for procs in self.cgroup.procs:
            yield "cgroup_procs", procs
        if self.cgroup.kill:
            yield "cgroup_kill", self.cgroup.kill
        if self.cgroup.oom:
            yield "cgroup_oom", self.cgroup.oom
        if self.contact_file and self.contact_timeout_ms > 0:
            yield "contact_file", self.contact_file
            yield "contact_timeout_ms", str(self.contact_timeout_ms)
        for resource, soft, hard in self.rlimits:
            yield "rlimit", f"{resource}:{soft}:{hard}"
        for key, note in self.notes.items():
            yield f"noded.{key}", note
        yield "end", ""


class SpecTorn(ValueError):
    """The file ends early: its writer was killed, so nothing was started from it."""


def decode_pairs(data: bytes) -> list[tuple[str, str]]:
    """The pairs of a spec. Raises SpecTorn."""
    parts = data.decode("utf-8", "surrogateescape").split("\0")
    if len(parts) % 2 == 0 or parts[-1] != "" or parts[-3:-1] != ["end", ""]:
        raise SpecTorn("the spec is torn")
    return list(zip(parts[:-1:2], parts[1::2], strict=True))


@dataclass(frozen=True, slots=True)
class Intent:
    """What noded needs of a spec that an earlier run of it wrote."""

    attempt_id: str
    env: Mapping[str, str]
    uid: int | None
    cgroup_procs: tuple[str, ...]
    notes: Mapping[str, str]


def decode_intent(data: bytes) -> Intent:
    """Raises SpecTorn."""
    pairs = decode_pairs(data)
    single = dict(pairs)
    variables = (value.partition("=") for key, value in pairs if key == "env")
    return Intent(
        attempt_id=single.get("attempt", ""),
        env={name: value for name, _, value in variables},
        uid=int(single["uid"]) if "uid" in single else None,
        cgroup_procs=tuple(value for key, value in pairs if key == "cgroup_procs"),
        notes={key[6:]: value for key, value in pairs if key.startswith("noded.")},
    )
