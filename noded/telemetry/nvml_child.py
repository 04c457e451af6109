"""The program that talks to NVML: `python -P -m noded.telemetry.nvml_child --period-seconds 1`.

It writes messages (`wire`) to standard output and reads nothing but the end of standard input, upon
which it exits. It also dies with its parent. Nothing here guards against a call that blocks: the
parent misses the readings and kills us.

Three threads: the main one reads the GPUs each period, one waits for XID events, one for the end of
standard input.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, Final

import pynvml

from noded.telemetry import wire
from noded.telemetry.model import ReadingFault, XidEvent
from noded.telemetry.nvml_device import Device, DeviceUnreadable, fault_of, handle_address
from noded.telemetry.topology import LinkEnd, nvlink_groups, pcie_groups

EXIT_NO_NVML: Final = 3
EVENT_WAIT_MILLISECONDS: Final = 1000
EVENT_RETRY_SECONDS: Final = 1.0
_PR_SET_PDEATHSIG: Final = 1


class Outlet:
    """The way to noded; whole messages from any thread."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()

    def send(self, message: wire.Message) -> None:
        """Blocks while the pipe is full. Ends the process when noded is gone."""
        data = memoryview(wire.encode(message))
        with self._lock:
            try:
                while data:
                    data = data[os.write(self._fd, data) :]
            except BrokenPipeError:
                os._exit(0)


class XidListener:
    """Waits for XIDs of all GPUs.

    After a GPU fell off the bus, the wait itself fails for the whole set (GPU_IS_LOST). Then a new
    set is made of those that still let themselves be registered, so that the siblings are heard.
    """

    def __init__(self, devices: Sequence[Device], outlet: Outlet) -> None:
        self._devices = devices
        self._uuids = {device.address: device.info.uuid for device in devices}
        self._outlet = outlet
        self._set: Any = None

    def open(self) -> bool:
        """Makes the first set. False where this driver or these cards know no events."""
        try:
            self._renew()
        except pynvml.NVMLError as error:
            _say(f"no XID events: {error}")
            return False
        return self._set is not None

    def run(self) -> None:
        """Waits and reports for as long as the process lives."""
        while True:
            try:
                self._wait()
            except pynvml.NVMLError_Timeout:
                continue
            except pynvml.NVMLError as error:
                _say(f"waiting for XID events: {error}")
                # Not at once: with a lost GPU in the set, the wait returns without waiting.
                time.sleep(EVENT_RETRY_SECONDS)
                self._renew_quietly()

    def _wait(self) -> None:
        if self._set is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        data = pynvml.nvmlEventSetWait_v2(self._set, EVENT_WAIT_MILLISECONDS)
        if data.eventType != pynvml.nvmlEventTypeXidCriticalError:
            return
        uuid = self._uuids.get(handle_address(data.device))
        if uuid is None:
            _say(f"XID {data.eventData} of a GPU that is not in the inventory")
            return
        self._outlet.send(wire.Xid(XidEvent(uuid, int(data.eventData), time.time())))

    def _renew_quietly(self) -> None:
        try:
            self._renew()
        except pynvml.NVMLError as error:
            _say(f"no XID events: {error}")

    def _renew(self) -> None:
        """A new set before the old one goes, so that little is missed in between."""
        fresh = pynvml.nvmlEventSetCreate()
        registered = 0
        for device in self._devices:
            try:
                kinds = pynvml.nvmlDeviceGetSupportedEventTypes(device.handle)
                wanted = kinds & pynvml.nvmlEventTypeXidCriticalError
                if wanted:
                    pynvml.nvmlDeviceRegisterEvents(device.handle, wanted, fresh)
                    registered += 1
            except pynvml.NVMLError as error:
                _say(f"no XID events of {device.info.uuid}: {error}")
        old, self._set = self._set, fresh if registered else None
        for unused in (old, None if registered else fresh):
            if unused is not None:
                pynvml.nvmlEventSetFree(unused)


def open_devices(driver_version: str) -> tuple[list[Device], list[wire.Unopened]]:
    """Opens every GPU that the driver counts; one that does not open hides no other."""
    devices: list[Device] = []
    unopened: list[wire.Unopened] = []
    for index in range(pynvml.nvmlDeviceGetCount()):
        try:
            devices.append(Device(index, driver_version))
        except DeviceUnreadable as error:
            lost = error.fault is ReadingFault.LOST
            unopened.append(wire.Unopened(index, str(error), lost))
        except pynvml.NVMLError as error:
            lost = fault_of(error) is ReadingFault.LOST
            unopened.append(wire.Unopened(index, str(error), lost))
    return devices, unopened


def find_neighbours(devices: Sequence[Device]) -> None:
    """Puts the groups of close GPUs into what the devices say of themselves.

    One that fails here is close to nobody; that it is sick its reading tells.
    """
    ends: dict[int, list[LinkEnd]] = {}
    levels: dict[tuple[int, int], int | None] = {}
    for device in devices:
        try:
            ends[device.info.index] = device.link_ends()
        except DeviceUnreadable as error:
            _say(f"NVLinks of {device.info.uuid}: {error}")
    for one, other in combinations(devices, 2):
        pair = (one.info.index, other.info.index)
        try:
            levels[pair] = one.common_ancestor(other)
        except DeviceUnreadable as error:
            _say(f"place of {one.info.uuid} on PCIe: {error}")
    by_nvlink = nvlink_groups({d.info.index: d.info.pci_bus_id for d in devices}, ends)
    by_pcie = pcie_groups([d.info.index for d in devices], levels)
    for device in devices:
        index = device.info.index
        device.info = replace(
            device.info, nvlink_group=by_nvlink.get(index), pcie_group=by_pcie.get(index)
        )


def read_for_ever(devices: Iterable[Device], outlet: Outlet, period_seconds: float) -> None:
    """A message of readings per period. A slow round delays the next; none are made up for."""
    while True:
        started = time.monotonic()
        outlet.send(wire.Readings(tuple(device.read() for device in devices)))
        time.sleep(max(0.0, period_seconds - (time.monotonic() - started)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs until the parent goes away; returns only where NVML can't be opened."""
    parser = argparse.ArgumentParser(prog="noded.telemetry.nvml_child")
    parser.add_argument("--period-seconds", type=float, default=1.0)
    parser.add_argument("--parent-pid", type=int, default=0)
    options = parser.parse_args(arguments)
    outlet = Outlet(_keep_stdout_to_ourselves())
    _die_with_parent(options.parent_pid)
    threading.Thread(target=_exit_at_end_of_stdin, daemon=True).start()
    try:
        pynvml.nvmlInit()
        driver_version: str = pynvml.nvmlSystemGetDriverVersion()
        devices, unopened = open_devices(driver_version)
        find_neighbours(devices)
    except pynvml.NVMLError as error:
        outlet.send(wire.Failed(error.value, str(error)))
        return EXIT_NO_NVML
    listener = XidListener(devices, outlet)
    events = listener.open()
    inventory = tuple(device.info for device in devices)
    outlet.send(wire.Hello(driver_version, inventory, tuple(unopened), events))
    if events:
        threading.Thread(target=listener.run, daemon=True).start()
    read_for_ever(devices, outlet, options.period_seconds)
    return 0


def _keep_stdout_to_ourselves() -> int:
    """Moves standard output away, for driver libraries have been seen to print there."""
    fd = os.dup(1)
    os.dup2(2, 1)
    return fd


def _die_with_parent(parent_pid: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if parent_pid and os.getppid() != parent_pid:
        os._exit(0)  # it died before we asked to be told


def _exit_at_end_of_stdin() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)


_said: set[str] = set()


def _say(text: str) -> None:
    """To standard error, the same thing once only: a lost GPU complains every second."""
    if text not in _said:
        _said.add(text)
        sys.stderr.write(f"nvml_child: {text}\n")


if __name__ == "__main__":
    sys.exit(main())
