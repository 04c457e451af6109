"""The jobs of a system test: small, and real. `riseml system test` runs them when somebody asks;
the control plane runs one on each GPU that comes back after a quarantine.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from riseml.spec.model import DEFAULT_PRIORITY, GIB, GPU, Resources, RoleSpec, TrainSpec

PROJECT: Final = "system-test"
NODE_LABEL: Final = "riseml.com/node"
OWN_LABELS: Final = "riseml.com/"
"""Labels of experiments that begin so are RiseML's own: no user may set one."""
TESTS_GPU_LABEL: Final = "riseml.com/tests-gpu"
"""UUID of the GPU in probation that an experiment tests. It gets this one and no other."""
MARK: Final = "system test: "
"""Lines of output that begin so say what was found."""

_CPU: Final = """
import hashlib, time
block, end, count = bytes(1 << 20), time.perf_counter() + 0.5, 0
while time.perf_counter() < end:
    hashlib.sha256(block).digest()
    count += 1
print(f"system test: SHA-256 at {count * 2} MiB/s on one CPU")
"""
_MEMORY: Final = """
size = 128 << 20
block = bytearray(size)
for place in range(0, size, 4096):
    block[place] = place >> 12 & 255
assert all(block[place] == place >> 12 & 255 for place in range(0, size, 4096)), "memory changed"
print("system test: 128 MiB written and read back")
"""
_DISK: Final = """
import hashlib, os, time
path = os.path.join(os.environ["OUTPUT_DIR"], "system-test.tmp")
block, digest, begin = os.urandom(1 << 20), hashlib.sha256(), time.perf_counter()
with open(path, "wb") as file:
    for _ in range(32):
        file.write(block)
        digest.update(block)
    file.flush()
    os.fsync(file.fileno())
seconds = time.perf_counter() - begin
with open(path, "rb") as file:
    found = hashlib.sha256(file.read()).digest()
os.remove(path)
assert found == digest.digest(), "read back something else"
print(f"system test: 32 MiB at {32 / seconds:.0f} MiB/s into OUTPUT_DIR")
"""
_GPU: Final = """
import ctypes, os, shutil, struct, subprocess
devices = os.environ.get("CUDA_VISIBLE_DEVICES", "")
assert devices, "CUDA_VISIBLE_DEVICES is empty"
names = ""
if shutil.which("nvidia-smi") and not devices.startswith("SIM-"):
    query = ["nvidia-smi", "-i", devices, "--query-gpu=name", "--format=csv,noheader"]
    listed = subprocess.run(query, capture_output=True, text=True, timeout=60)
    assert listed.returncode == 0, listed.stdout + listed.stderr
    names = " " + listed.stdout.strip().replace(chr(10), ", ")
try:
    driver = None if devices.startswith("SIM-") else ctypes.CDLL("libcuda.so.1")
except OSError:
    driver = None
def cuda(name, *arguments):
    code = getattr(driver, name)(*arguments)
    assert code == 0, f"{name}: CUDA error {code}"
size, found = 64 << 20, "no memory tested: no CUDA driver here"
if driver is not None:
    count, device, context = ctypes.c_int(), ctypes.c_int(), ctypes.c_void_p()
    place, host = ctypes.c_uint64(), ctypes.create_string_buffer(size)
    cuda("cuInit", 0)
    cuda("cuDeviceGetCount", ctypes.byref(count))
    assert count.value == len(devices.split(",")), f"CUDA sees {count.value} devices"
    for number in range(count.value):
        cuda("cuDeviceGet", ctypes.byref(device), number)
        cuda("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        cuda("cuCtxSetCurrent", context)
        cuda("cuMemAlloc_v2", ctypes.byref(place), ctypes.c_size_t(size))
        for word in (0x55555555, 0xAAAAAAAA):
            pattern = struct.pack("<I", word) * (size // 4)
            cuda("cuMemsetD32_v2", place, ctypes.c_uint(word), ctypes.c_size_t(size // 4))
            cuda("cuCtxSynchronize")
            cuda("cuMemcpyDtoH_v2", host, place, ctypes.c_size_t(size))
            assert host.raw == pattern, f"memory of device {number} holds something else"
        cuda("cuMemFree_v2", place)
    found = "64 MiB written and read back"
elif devices.startswith("SIM-"):
    found = "simulated"
print(f"system test: given {devices}{names}, {found}")
"""
_SCRIPTS: Final = {"cpu": _CPU, "memory": _MEMORY, "disk": _DISK, "gpu": _GPU}


def spec_of(node_name: str, kind: str) -> TrainSpec:
    """One job on one node: `cpu`, `memory`, `disk` or `gpu`. No code is sent, the script is in the
    command.
    """
    resources = Resources(
        cpu_milli=100,
        # A CUDA context alone takes some hundred MiB of the host.
        memory_bytes=2 * GIB if kind == "gpu" else GIB // 2,
        gpu_milli=GPU if kind == "gpu" else 0,
    )
    return TrainSpec(
        project=PROJECT,
        run=(f"python3 - <<'EOF'\n{_SCRIPTS[kind].strip()}\nEOF",),
        roles=(RoleSpec("train", 1, resources),),
        priority=100,
        max_duration_seconds=300,
        grace_period_seconds=1,
        node_selector=((NODE_LABEL, node_name),),
    )


def gpu_test(node_name: str, gpu_uuid: str, taints: tuple[tuple[str, str], ...]) -> TrainSpec:
    """The test of one GPU that comes back. It asks for little, and nobody has to make room for it;
    the taints of its node do not keep it away.
    """
    return replace(
        spec_of(node_name, "gpu"),
        priority=DEFAULT_PRIORITY,
        labels=((TESTS_GPU_LABEL, gpu_uuid),),
        tolerations=taints,
    )


def gpu_under_test(spec: TrainSpec) -> str:
    """UUID of the GPU in probation that an experiment tests; "" for any other experiment."""
    if spec.labels:
        for key, value in spec.labels:
            if key == TESTS_GPU_LABEL:
                return value
    return ""
