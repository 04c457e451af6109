"""The model that people name, from the long names that drivers give to GPUs."""

from __future__ import annotations

import re
from typing import Final

_DATACENTRE: Final = re.compile(r"\b(?:G[HB]\d{3}|[ABHKLMPTV]\d{1,4}[A-Z]?)\b")
_VENDOR: Final = frozenset(
    {"nvidia", "tesla", "geforce", "quadro", "graphics", "gpu", "generation", "device"}
)
_MEMORY_SIZE: Final = re.compile(r"^\d+GB$", re.IGNORECASE)


def short_model(name: str) -> str:
    """The model that riseml.yml names, from the driver's name of a GPU.

    `NVIDIA H100 80GB HBM3` is `H100`, `Tesla V100-SXM2-16GB` is `V100`, `NVIDIA GeForce RTX 4090`
    is `RTX4090`, `NVIDIA RTX A6000` is `A6000`. A name without any such word comes back without its
    spaces.
    """
    plain = name.replace("-", " ")
    if match := _DATACENTRE.search(plain):
        return match.group()
    words = [
        word
        for word in plain.split()
        if word.lower() not in _VENDOR and not _MEMORY_SIZE.match(word)
    ]
    return "".join(words) or name.replace(" ", "")
