"""How fast processes start here: asyncio with a pipe, 8 in flight; and posix_spawn one by one."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import time

IN_FLIGHT = 8


async def asyncio_spawns(count: int) -> float:
    """Processes a second: `true` with its output through a pipe, awaited to its end."""
    loop = asyncio.get_running_loop()
    if hasattr(os, "pidfd_open"):
        # No thread per child: what Python 3.12 does by itself.
        watcher = asyncio.PidfdChildWatcher()
        watcher.attach_loop(loop)
        asyncio.set_child_watcher(watcher)
    left = count

    async def work() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            process = await asyncio.create_subprocess_exec(
                "true", stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
            )
            await process.communicate()
            if process.returncode != 0:
                raise RuntimeError("`true` failed")

    begin = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    return count / (time.perf_counter() - begin)


def posix_spawns(count: int) -> float:
    """Processes a second: start, wait, start the next."""
    path = shutil.which("true") or "/bin/true"
    begin = time.perf_counter()
    for _ in range(count):
        os.waitpid(os.posix_spawn(path, ["true"], {}), 0)
    return count / (time.perf_counter() - begin)


def main(count: str) -> None:
    asyncio.run(asyncio_spawns(64))
    result = {
        "asyncio_per_second": asyncio.run(asyncio_spawns(int(count))),
        "posix_per_second": posix_spawns(int(count)),
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
