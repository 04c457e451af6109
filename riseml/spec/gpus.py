"""GPUs as people ask for them:

``2``, ``0.5``, ``H100:2``, ``80GB:2``, ``A100-80GB``, ``H100|A100:2``; and what such a model's name
fits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from riseml.spec.errors import InvalidQuantity
from riseml.spec.model import GPU
from riseml.spec.units import (
    format_decimal,
    format_memory_exact,
    format_milli,
    parse_decimal,
    parse_memory,
    parse_milli,
)

OR: Final = "|"
"""Between models of which any will do."""
MAX_MODELS: Final = 8

_MODEL: Final = r"[A-Za-z][A-Za-z0-9 _.-]{0,62}"
GPU_MODEL: Final = re.compile(rf"{_MODEL}(?:\|{_MODEL}){{0,{MAX_MODELS - 1}}}", re.ASCII)
_MEMORY: Final = re.compile(r"[0-9.]+\s*[KMGTPkmgtp]i?[Bb]?", re.ASCII)
_WORD: Final = re.compile(r"[a-z0-9]+")

_FORMS: Final = "write a count (2), a share of one GPU (0.5), H100:2, H100|A100:2 or 80GB:2"


@dataclass(frozen=True, slots=True)
class GpuRequest:
    """GPUs of one job, in the fields of Resources."""

    gpu_milli: int
    gpu_model: str | None = None
    gpu_min_memory_bytes: int = 0


def parse_gpus(text: str) -> GpuRequest:
    """Read what riseml.yml has under ``gpus``; a model or a memory without a count asks for one
    GPU.

    Raises InvalidQuantity, for 1.5 too: only a share of one single GPU can be given.
    """
    kind, colon, count = (part.strip() for part in text.strip().partition(":"))
    kind = OR.join(model.strip() for model in kind.split(OR))
    if not kind or (colon and not count):
        raise InvalidQuantity(f"{text!r} is no number of GPUs; {_FORMS}")
    if OR in kind and not GPU_MODEL.fullmatch(kind):
        raise InvalidQuantity(
            f"{text!r}: around {OR} stand models of GPUs, {MAX_MODELS} at most; write H100|A100:2"
        )
    if not colon and not _MEMORY.fullmatch(kind) and not GPU_MODEL.fullmatch(kind):
        return GpuRequest(_gpu_milli(kind))
    milli = _gpu_milli(count) if colon else GPU
    if milli == 0:
        raise InvalidQuantity(f"{text!r} asks for no GPU of a kind; write 0, or 1 or more of them")
    if _MEMORY.fullmatch(kind):
        return GpuRequest(milli, gpu_min_memory_bytes=parse_memory(kind))
    if GPU_MODEL.fullmatch(kind):
        return GpuRequest(milli, gpu_model=kind)
    if kind.isdigit():
        raise InvalidQuantity(
            f"{text!r}: {kind!r} is neither a GPU's model nor a memory; write {kind}GB:{count}, "
            f"or the model with its letters, such as RTX-{kind}:{count}"
        )
    raise InvalidQuantity(f"{text!r}: {kind!r} is neither a GPU's model nor a memory; {_FORMS}")


def _gpu_milli(text: str) -> int:
    try:
        number = parse_decimal(text)
    except InvalidQuantity as error:
        raise InvalidQuantity(f"{text!r} is no number of GPUs; {_FORMS}") from error
    if number > 1 and number != int(number):
        below, above = int(number), int(number) + 1
        raise InvalidQuantity(
            f"{format_decimal(number)} GPUs cannot be given; "
            f"write {below} or {above}, or a share of one GPU below 1, such as 0.5"
        )
    return parse_milli(text, "GPUs")


def format_gpus(gpu_milli: int, gpu_model: str | None = None, gpu_min_memory_bytes: int = 0) -> str:
    """What ``parse_gpus`` reads back: ``2``, ``0.5``, ``H100:2``, ``H100|A100:2``, ``80G:2``."""
    count = format_milli(gpu_milli)
    if gpu_model is not None:
        return f"{gpu_model}:{count}"
    if gpu_min_memory_bytes:
        return f"{format_memory_exact(gpu_min_memory_bytes)}:{count}"
    return count


def models_in_words(gpu_model: str) -> str:
    """``H100 or A100`` of ``H100|A100``."""
    return gpu_model.replace(OR, " or ")


def model_fits(asked: str, device_name: str) -> bool:
    """Whether a device, under the name that NVML gives it, is of the model that was asked for, or
    of one of them: ``H100|A100``.

    Compared word by word in order, without regard to case or to how words are joined: ``H100``,
    ``h100-80gb`` and ``NVIDIA H100`` fit ``NVIDIA H100 80GB HBM3``; ``RTX4090`` fits ``NVIDIA
    GeForce RTX 4090``; ``A100`` fits no ``RTX A1000`` and ``L4`` no ``L40``.
    """
    have = _WORD.findall(device_name.lower())
    return any(_one_fits(model, have) for model in asked.lower().split(OR))


def _one_fits(asked: str, have: list[str]) -> bool:
    wanted = _WORD.findall(asked)
    position = 0
    for word in wanted:
        found = _end_of(word, have, position)
        if found is None:
            return False
        position = found
    return bool(wanted)


def _end_of(word: str, have: list[str], start: int) -> int | None:
    """The position after the first run of words, at or after ``start``, that joined make up
    ``word``.
    """
    for first in range(start, len(have)):
        joined = ""
        for last in range(first, len(have)):
            joined += have[last]
            if joined == word:
                return last + 1
            if not word.startswith(joined):
                break
    return None
