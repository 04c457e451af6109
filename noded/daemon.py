"""The daemon put together from its parts; what each of them does stands in its own module."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
from concurrent.futures import ThreadPoolExecutor

from noded import cgroups
from noded.attempt_dir import boot_id
from noded.builds import Builds
from noded.checkpoints import Checkpoints
from noded.config import Config
from noded.convert import report_message
from noded.environments import Environments
from noded.errors import ConfigError
from noded.executor import Executor
from noded.inventory import Inventory
from noded.job_environment import JobBase
from noded.model import Report
from noded.node import NodeState
from noded.output import ShippedOutput
from noded.places import Places, RememberedCluster
from noded.preparation import Preparation
from noded.processes import ShimProcesses
from noded.revision_source import GrpcRevisionSource
from noded.revisions import RevisionCache
from noded.session import Session
from noded.skeletons import Skeletons, output_skeleton
from noded.storage import StorageServer
from noded.telemetry.collector import Collector, CollectorSettings
from noded.telemetry.simulated import SimulationError
from noded.tls import make_channel, root_certificate
from noded.uids import Identities, SingleUser, UidMap

log = logging.getLogger(__name__)

COLLECT_SECONDS = 600.0
SETTLE_SECONDS = 3.0


class Daemon:
    """One node's daemon. Making it checks everything that can be checked and adopts what runs."""

    def __init__(self, config: Config) -> None:
        """Raises ConfigError."""
        self._config = config
        separate = os.getuid() == 0
        self._places = Places(
            config.home, config.node_directory, config.output_root, config.data_root
        )
        identities = self._identities(config, separate)
        self._places.open(separate)
        self._root_pem = _server_certificate(config)
        threads = ThreadPoolExecutor(4, "work")
        asyncio.get_running_loop().set_default_executor(threads)
        this_boot = boot_id()
        self._source = GrpcRevisionSource()
        revisions = RevisionCache(
            self._places.revisions, self._source, config.revisions_max_bytes, this_boot
        )
        environments = Environments(
            self._places.environments,
            config.environments_max_bytes,
            config.environments_max_age_seconds,
        )
        base = JobBase(config.node_directory, os.environ, separate, config.python)
        outputs = Skeletons(
            config.output_root / f".prepared-{config.node_name}", output_skeleton, threads
        )
        preparation = Preparation(base, identities, config.output_root, config.data_root, outputs)
        groups = cgroups.detect(cgroups.owner_name(config.node_name, config.node_directory))
        self._output = ShippedOutput(self._on_shipped)
        self._processes = ShimProcesses(self._places.attempts, self._output, groups)
        self._builds = Builds(environments, preparation, revisions, self._output.last_lines)
        self._executor = Executor(
            self._processes, preparation, revisions, self._builds, self._report
        )
        self._processes.listen(self._executor.on_started, self._executor.on_ended)
        try:
            self._collector = Collector(
                CollectorSettings(
                    config.node_name, config.node_directory, simulate_gpus=config.simulate_gpus
                ),
                attempts=self._executor.live,
            )
        except SimulationError as error:
            raise ConfigError(f"--simulate-gpus: {error}") from error
        self._checkpoints = Checkpoints(
            self._executor.outputs, self._tell_checkpoint, config.checkpoint_seconds
        )
        inventory = Inventory(
            config, this_boot, identities.only_user, groups.support.describe(), ()
        )
        node = NodeState(
            config.node_name,
            self._places.next_epoch(),
            self._executor,
            inventory,
            self._collector,
            self._processes.contact,
            self._checkpoints.seen,
        )
        self._storage = StorageServer(config.output_root, identities)
        self._session = Session(
            functools.partial(make_channel, config.server, self._root_pem),
            lambda: config.token.token,
            node,
            RememberedCluster(self._places),
            (self._source.serve, self._output.serve, self._storage.serve),
            report_message,
        )

    @staticmethod
    def _identities(config: Config, separate: bool) -> Identities:
        if separate and not config.only_user:
            shared = config.output_root / ".riseml-uids.json"
            own = config.node_directory / "uids.json"
            # Where outputs are shared, so is who owns them.
            return UidMap(shared if config.output_shared else own, config.uid_base)
        if separate:
            raise ConfigError("--only-user: a daemon that runs as root keeps all users apart")
        if not config.only_user:
            raise ConfigError(
                "this daemon does not run as root, so it can serve only one RiseML user: name that "
                "user with --only-user, or run the daemon as root"
            )
        return SingleUser(config.only_user)

    async def run(self) -> None:
        """Until cancelled. Raises SessionRefused."""
        self._adopt()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._collector.run(), name="telemetry")
            tasks.create_task(self._collect_for_ever(), name="collect")
            if self._config.checkpoint_seconds:
                tasks.create_task(self._checkpoints.run(), name="checkpoints")
            await self._settle()
            tasks.create_task(self._session.run(), name="session")

    def _adopt(self) -> None:
        found, endings = self._processes.adopt()
        self._executor.adopt(found)
        for ending in endings:
            self._executor.on_ended(ending)
        if found:
            log.info("found %d attempts, %d of them ended", len(found), len(endings))

    async def _settle(self) -> None:
        """A node that says first that it has no GPUs, and then that it has, confuses its
        scheduler."""
        for _ in range(round(SETTLE_SECONDS / 0.02)):
            if self._collector.settled():
                return
            await asyncio.sleep(0.02)

    async def _collect_for_ever(self) -> None:
        while True:
            await asyncio.sleep(COLLECT_SECONDS)
            try:
                await self._builds.collect(self._executor.environments_in_use())
            except OSError as error:
                log.error("environments are not collected: %s", error)

    def _report(self, report: Report) -> None:
        self._session.report(report)

    def _tell_checkpoint(self, attempt_id: str, write_time: float) -> None:
        self._session.checkpoint(attempt_id, write_time)

    def _on_shipped(self, attempt_id: str) -> None:
        self._executor.collect(attempt_id)

    async def close(self) -> None:
        """Lets go of everything; jobs go on."""
        self._storage.close()
        await self._output.close()
        await self._processes.close()
        self._places.close()


def _server_certificate(config: Config) -> bytes:
    try:
        return root_certificate(config)
    except OSError as error:
        raise ConfigError(
            f"{config.server} cannot be asked for its certificate ({error}); start the control "
            "plane first, or give the CA with --ca-file"
        ) from error
