"""Wakes whoever follows a file when it grows: inotify, or a slow look all around without it."""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from collections.abc import Callable
from typing import Final

_IN_MODIFY: Final = 0x2
_IN_CREATE: Final = 0x100
_IN_MOVED_TO: Final = 0x80
_IN_NONBLOCK_CLOEXEC: Final = os.O_NONBLOCK | os.O_CLOEXEC
_EVENT: Final = struct.Struct("iIII")
_LOOK_AROUND_SECONDS: Final = 0.5
_ADD_SECONDS: Final = 0.02
_BUFFER_BYTES: Final = 64 << 10


class Watcher:
    """One inotify instance for all. Without inotify (no instance or no watch to be had) every
    follower of an unwatched path is woken twice a second."""

    def __init__(self, *, use_inotify: bool = True) -> None:
        self._loop = asyncio.get_running_loop()
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(_IN_NONBLOCK_CLOEXEC) if use_inotify else -1
        self._wakes: dict[int, Callable[[], None]] = {}
        self._unwatched: list[Callable[[], None]] = []
        self._new: dict[int, tuple[str, Callable[[], None]]] = {}
        self._numbers: dict[int, int] = {}
        self._counter = 0
        self._timer: asyncio.TimerHandle | None = None
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._read)

    def add(self, path: str, wake: Callable[[], None]) -> Callable[[], None]:
        """Calls `wake` when the file, or a file in the folder, grows. Returns how to end that.

        The watch begins a moment later, with a wake for what came meanwhile: most short jobs have
        ended by then, and their watches need not be made and taken back.
        """
        if self._fd < 0:
            self._add_unwatched(wake)
            return lambda: self._remove_unwatched(wake)
        self._counter += 1
        key = self._counter
        if not self._new:
            self._loop.call_later(_ADD_SECONDS, self._add_new)
        self._new[key] = (path, wake)
        return lambda: self._end(key, wake)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _add_new(self) -> None:
        if self._fd < 0:
            return
        new, self._new = self._new, {}
        for key, (path, wake) in new.items():
            number = self._libc.inotify_add_watch(
                self._fd, os.fsencode(path), _IN_MODIFY | _IN_CREATE | _IN_MOVED_TO
            )
            if number < 0:
                self._add_unwatched(wake)
            else:
                self._wakes[number] = wake
                self._numbers[key] = number
        for _, wake in new.values():
            wake()

    def _end(self, key: int, wake: Callable[[], None]) -> None:
        if self._new.pop(key, None) is not None:
            return
        number = self._numbers.pop(key, -1)
        if number < 0:
            self._remove_unwatched(wake)
        else:
            self._remove(number)

    def _add_unwatched(self, wake: Callable[[], None]) -> None:
        self._unwatched.append(wake)
        if self._timer is None:
            self._timer = self._loop.call_later(_LOOK_AROUND_SECONDS, self._look_around)

    def _remove(self, number: int) -> None:
        if self._wakes.pop(number, None) is not None and self._fd >= 0:
            self._libc.inotify_rm_watch(self._fd, number)

    def _remove_unwatched(self, wake: Callable[[], None]) -> None:
        if wake in self._unwatched:
            self._unwatched.remove(wake)

    def _read(self) -> None:
        try:
            data = os.read(self._fd, _BUFFER_BYTES)
        except BlockingIOError:
            return
        woken = set()
        at = 0
        while at < len(data):
            number, _, _, name_bytes = _EVENT.unpack_from(data, at)
            at += _EVENT.size + name_bytes
            woken.add(number)
        # -1: the queue overflowed, so anyone may have missed something.
        for number in tuple(self._wakes) if -1 in woken else woken:
            wake = self._wakes.get(number)
            if wake is not None:
                wake()

    def _look_around(self) -> None:
        self._timer = None
        for wake in tuple(self._unwatched):
            wake()
        if self._unwatched:
            self._timer = self._loop.call_later(_LOOK_AROUND_SECONDS, self._look_around)
