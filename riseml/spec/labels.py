"""Labels of nodes and experiments: what their keys and values look like.

The rules are those of Kubernetes
(https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set).
"""

from __future__ import annotations

import re
from typing import Final

_WORD: Final = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"

LABEL_KEY: Final = re.compile(rf"(?:[a-z0-9](?:[a-z0-9.-]{{0,251}}[a-z0-9])?/)?{_WORD}")
LABEL_VALUE: Final = re.compile(rf"(?:{_WORD})?")
