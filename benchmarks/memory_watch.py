"""Memory and CPU time of a process and all processes below it, sampled while it runs; the benchmarks share it.

The proportional set size (PSS) counts a page that several processes share once, not once for each. Linux only.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

import psutil

EVERY_SECONDS = 1.0
MB = 2**20


class MemoryWatch:
    """Samples the memory and CPU time of a process tree until the block ends.

    Args:
        pid: the process at the top.
        group_of: the group of a process by its command line; the top process is "command".

    Attributes:
        samples: (`time.time()`, MB by group), in order.
        cpu: (`time.time()`, seconds of CPU time so far by group), in order.

    Example:
        with MemoryWatch(process.pid) as watch:
            process.wait()
        print(watch.peak())
    """

    def __init__(self, pid: int, group_of: Callable[[str], str] = lambda _: "below") -> None:
        self.samples: list[tuple[float, dict[str, float]]] = []
        self.cpu: list[tuple[float, dict[str, float]]] = []
        self._pid, self._group_of = pid, group_of
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def peak(self, start: float = 0.0, end: float = float("inf")) -> dict[str, float]:
        """The sample with the largest sum between two times, in MB by group, with "all"; zeros where there is none."""
        some = [groups for when, groups in self.samples if start <= when <= end]
        largest = max(some, key=lambda groups: sum(groups.values()), default={})
        return {"all": sum(largest.values()), **largest}

    def cpu_seconds(self, start: float, end: float) -> tuple[float, dict[str, float]]:
        """Seconds between the first and the last sample of a time, and the CPU time that each group took in them."""
        some = [(when, groups) for when, groups in self.cpu if start <= when <= end]
        if len(some) < 2:
            return 0.0, {}
        (begun, before), (ended, after) = some[0], some[-1]
        return ended - begun, {group: after[group] - before.get(group, 0.0) for group in after}

    def _watch(self) -> None:
        while not self._over.is_set():
            self._look()
            self._over.wait(EVERY_SECONDS)

    def _look(self) -> None:
        memory: dict[str, float] = {}
        cpu: dict[str, float] = {}
        try:
            top = psutil.Process(self._pid)
            processes = [top, *top.children(recursive=True)]
        except psutil.Error:
            return
        for process in processes:
            try:
                group = "command" if process.pid == self._pid else self._group_of(" ".join(process.cmdline()))
                times, pss = process.cpu_times(), process.memory_full_info().pss
            except psutil.Error:  # it has ended meanwhile
                continue
            memory[group] = memory.get(group, 0.0) + pss / MB
            cpu[group] = cpu.get(group, 0.0) + times.user + times.system
        now = time.time()
        self.samples.append((now, memory))
        self.cpu.append((now, cpu))
