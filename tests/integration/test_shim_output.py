"""What a job prints under the real shim comes back byte for byte, or the gap is told."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from noded.errors import NoSpaceLeft
from tests.integration.shim_node import (
    ENV,
    Node,
    exists,
    log_of,
    needs_shim,
    output_of,
    read,
    running_node,
    segments,
    streams,
    touch,
    until,
)

pytestmark = needs_shim


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path / "attempts") as node:
        yield node


async def test_output_comes_back_byte_for_byte(node: Node) -> None:
    script = (
        "import hashlib, os, random, sys\n"
        "random.seed(5)\n"
        "sums = [hashlib.sha256(), hashlib.sha256()]\n"
        "for i in range(400):\n"
        "    which = random.randrange(2)\n"
        "    kind = random.randrange(4)\n"
        "    size = random.choice([0, 1, 100, 16383, 16384, 16385, 40000])\n"
        "    data = [random.randbytes(size), b'x' * size, b'\\n' * min(size, 3000),\n"
        "            b'line\\r\\n' * (size // 6)][kind]\n"
        "    sums[which].update(data)\n"
        "    while data:\n"
        "        data = data[os.write(which + 1, data):]\n"
        "open('sums', 'w').write(' '.join(s.hexdigest() for s in sums))\n"
    )
    directory = node.start(sys.executable, "-I", "-c", script, log_segment_bytes=300_000)
    ended = await node.ended()
    assert ended.status is not None and ended.status.exit_code == 0
    output = output_of(directory)
    sums = [hashlib.sha256(output[name]).hexdigest() for name in ("stdout", "stderr")]
    assert " ".join(sums) == read(directory.work_directory, "sums")
    assert len(segments(directory)) > 3
    assert max(len(line) for line in log_of(directory).split(b"\n")) <= 40 + 16384


async def test_an_unfinished_line_is_seen_while_the_job_waits(node: Node) -> None:
    directory = node.shell("printf 'password: '; sleep 60")
    await until(lambda: output_of(directory)["stdout"] == b"password: ", "the prompt")
    node.supervisor.stop("ana.1.train.1-1", 0, "killed")
    await node.ended()
    assert log_of(directory).endswith(b" stdout P password: \n")


async def test_fifty_megabytes_rotate_without_loss(node: Node) -> None:
    script = (
        "import sys\n"
        "line = b'x' * 99 + b'\\n'\n"
        "for _ in range(500): sys.stdout.buffer.write(line * 1000)\n"
    )
    directory = node.start(sys.executable, "-I", "-c", script, log_segment_bytes=8 << 20)
    ended = await node.ended()
    sizes = [os.stat(path).st_size for path in segments(directory)]
    assert len(sizes) == 9 and max(sizes) <= 8 << 20
    assert sum(sizes) == ended.log_bytes == 500_000 * 140
    text = b"".join(line[40:] + b"\n" for line in log_of(directory).split(b"\n")[:-1])
    assert text == (b"x" * 99 + b"\n") * 500_000


async def test_a_full_spool_costs_output_and_says_how_much_never_the_job(node: Node) -> None:
    script = (
        "import os, sys, time\n"
        "line = b'x' * 99 + b'\\n'\n"
        "for _ in range(40): os.write(1, line * 1000)\n"
        "open('printed', 'w').close()\n"
        "while not os.path.exists('go'): time.sleep(0.01)\n"
        "os.write(1, b'after\\n')\n"
    )
    directory = node.start(
        sys.executable, "-I", "-c", script, log_segment_bytes=200_000, log_max_segments=2
    )
    await until(lambda: exists(directory.work_directory, "printed"), "all printed")
    archived = b""
    while b"were lost here" not in archived + segments(directory)[-1].read_bytes():
        for path in segments(directory)[:-1]:  # as the shipper does with what is acknowledged
            archived += path.read_bytes()
            path.unlink()
        await asyncio.sleep(0.01)
    touch(directory.work_directory, "go")
    ended = await node.ended()
    status = ended.status
    assert status is not None and status.exit_code == 0 and status.lost_bytes > 1_000_000
    data = archived + b"".join(path.read_bytes() for path in segments(directory))
    assert len(data) == ended.log_bytes
    gap = f"riseml: {status.lost_bytes} bytes of output were lost here: Disk quota exceeded\n"
    assert gap.encode() == streams(data)["stderr"]
    kept = streams(data)["stdout"]
    assert kept.endswith(b"after\n") and len(kept) - 6 + status.lost_bytes == 4_000_000


@contextlib.contextmanager
def small_disk(at: Path) -> Iterator[None]:
    """One MiB."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", at], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", at], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
async def test_a_full_disk_neither_kills_the_job_nor_its_exit_code(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    with small_disk(small):
        node = Node(small / "attempts")
        script = (
            "import os, time\n"
            "for _ in range(4000): os.write(1, b'x' * 999 + b'\\n')\n"
            "open('/dev/shm/' + os.environ['MARK'], 'w').close()\n"
            "time.sleep(0.3)\n"
            "os.write(1, b'after\\n')\n"
            "raise SystemExit(5)\n"
        )
        mark = f"riseml-test-{os.getpid()}"
        directory = node.start(sys.executable, "-I", "-c", script, env={**ENV, "MARK": mark})
        await until(lambda: exists("/dev/shm", mark), "all printed")
        with pytest.raises(NoSpaceLeft, match="no space left"):
            node.start("true", attempt_id="ana.2.train.1-1")
        ended = await node.ended()
        os.unlink(f"/dev/shm/{mark}")
        status = ended.status
        assert status is not None and status.exit_code == 5
        assert status.lost_bytes > 2_000_000
        assert directory.read_status() == status
        assert ended.log_bytes == len(log_of(directory))
        await until(lambda: not node.supervisor.running, "the shim gone")
        await node.supervisor.close()
