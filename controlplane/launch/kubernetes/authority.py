"""Tells the daemons on the nodes how to know this control plane: its certificate's authority, in a
ConfigMap that they mount.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
from typing import Final

from controlplane.launch.kubernetes.api import Api, ApiError, Kind
from riseml.retry import Backoff

KEY: Final = "ca.crt"
_PAUSES: Final = Backoff(first_seconds=1.0, most_seconds=60.0, tries=sys.maxsize)
_log = logging.getLogger(__name__)


async def publish_authority(api: Api, config_map: str, ca_pem: str) -> None:
    """Writes it into `config_map` (NAMESPACE/NAME), which has to be there. Tries until that is
    done."""
    namespace, _, name = config_map.partition("/")
    for pause in _PAUSES.pauses(random.Random()):
        try:
            await api.patch(Kind.CONFIG_MAP, namespace, name, {"data": {KEY: ca_pem}})
            return
        except ApiError as error:
            _log.warning("ConfigMap %s is not written yet: %s", config_map, error.message)
        await asyncio.sleep(pause)
