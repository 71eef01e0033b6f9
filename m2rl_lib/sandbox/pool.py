"""Warm workers, shared by all threads of a process: who gets which, and what happens when one breaks."""

import collections
import logging
import select
import socket
import threading
import time

from m2rl_lib.sandbox.bubblewrap import Broken, Run, SandboxError, Worker

_log = logging.getLogger(__name__)


class Pool:
    """Workers, isolated or not, that stay warm until `close`."""

    def __init__(self, isolated: bool) -> None:
        self.isolated = isolated
        self.alive: set[Worker] = set()
        self._idle: list[Worker] = []
        self._starting = 0
        self._changed = threading.Condition()

    def take(self, most: int, fresh: bool = False) -> Worker | None:
        """An idle worker (a dead one is replaced, any one if `fresh`), or a new one while fewer than `most` live, or None.

        Raises SandboxError where a new one cannot start.
        """
        with self._changed:
            while self._idle:
                worker = self._idle.pop()
                if not fresh and not worker.hung_up():
                    return worker
                self.alive.discard(worker)
                worker.stop()
                if fresh:
                    break
            if len(self.alive) + self._starting >= most:
                return None
            self._starting += 1
        worker = None
        try:
            worker = Worker(self.isolated)
        finally:
            with self._changed:
                self._starting -= 1
                if worker is not None:
                    self.alive.add(worker)
        return worker

    def give(self, worker: Worker) -> None:
        """Hand back a worker that has answered."""
        with self._changed:
            self._idle.append(worker)
            self._changed.notify()

    def discard(self, worker: Worker) -> None:
        """End a worker that has broken or whose answer nobody waits for."""
        worker.stop()
        with self._changed:
            self.alive.discard(worker)
            self._changed.notify()

    def close(self) -> None:
        """End all workers."""
        for worker in list(self.alive):
            self.discard(worker)
        self._idle.clear()

    def forget(self) -> None:
        """In a forked process: the parent's workers are not ours; keep no end of their sockets open."""
        for worker in self.alive:
            worker.socket.close()
        self.__init__(self.isolated)

    def run(self, jobs: list[tuple], limits: dict, most: int) -> list[list[Run] | None]:
        """Run (program, inputs) jobs on at most `most` workers; None for a job whose sandbox failed twice."""
        results: list[list[Run] | None] = [None] * len(jobs)
        waiting = collections.deque((at, 0) for at in range(len(jobs)))
        busy: dict[socket.socket, tuple[Worker, int, int]] = {}
        try:
            while waiting or busy:
                lost = self._hand_out(jobs, limits, most, waiting, busy)
                if not busy and waiting and not lost:  # other threads have all the workers
                    with self._changed:
                        self._changed.wait(0.05)
                elif not lost:
                    lost = self._collect(busy, results, patience=0.05 if waiting else 0.5)
                now = time.monotonic()
                lost += [busy.pop(channel) for channel, (worker, *_) in list(busy.items()) if now > worker.deadline]
                for worker, at, attempt in lost:
                    if worker is not None:
                        again = "its program runs again" if attempt == 0 else "its program gives None"
                        _log.warning("a sandbox failed (%s); %s", worker.last_error(), again)
                        self.discard(worker)
                    if attempt == 0:
                        waiting.append((at, 1))
        finally:  # after an interrupt
            for worker, *_ in busy.values():
                self.discard(worker)
        return results

    def _hand_out(self, jobs, limits, most, waiting, busy) -> list[tuple]:
        """Give waiting jobs to free workers; the (worker, job, attempt) that were lost at that."""
        while waiting and len(busy) < most:
            at, attempt = waiting.popleft()
            try:
                worker = self.take(most, fresh=attempt > 0)
            except SandboxError as error:
                _log.warning("%s", error)
                return [(None, at, attempt)]
            if worker is None:
                waiting.appendleft((at, attempt))
                break
            try:
                worker.send(*jobs[at], limits)
            except Broken:
                return [(worker, at, attempt)]
            busy[worker.socket] = worker, at, attempt
        return []

    def _collect(self, busy, results, patience: float) -> list[tuple]:
        """Wait for answers and note them; the (worker, job, attempt) whose worker broke."""
        poller, names, lost = select.poll(), {}, []
        for channel in busy:
            poller.register(channel, select.POLLIN)
            names[channel.fileno()] = channel
        for descriptor, _ in poller.poll(1000 * patience):
            worker, at, attempt = busy[names[descriptor]]
            try:
                runs = worker.receive()
            except Broken:
                lost.append(busy.pop(names[descriptor]))
                continue
            if runs is not None:
                results[at] = runs
                del busy[names[descriptor]]
                self.give(worker)
        return lost
