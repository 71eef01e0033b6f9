"""Warm workers, shared by all threads of a process: who gets which, and what happens when one breaks."""

import collections
import logging
import threading

from m2rl_lib.sandbox.bounded import last_line
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

    def take(self, most: int, fresh: bool = False) -> Worker:
        """An idle worker (a dead one is replaced, any one if `fresh`), or a new one as soon as fewer than `most` live."""
        with self._changed:
            while True:
                while self._idle:
                    worker = self._idle.pop()
                    if not fresh and not worker.hung_up():
                        return worker
                    self.alive.discard(worker)
                    worker.stop()
                    if fresh:
                        break
                if len(self.alive) + self._starting < most:
                    break
                self._changed.wait()
            self._starting += 1
        worker = None
        try:
            worker = Worker(self.isolated)
        finally:
            with self._changed:
                self._starting -= 1
                self.alive |= {worker} if worker else set()
                self._changed.notify()
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
        busy: set[Worker] = set()
        ended, failed = threading.Event(), []

        def work() -> None:
            while not ended.is_set():
                try:
                    at, attempt = waiting.popleft()
                except IndexError:  # none is left
                    return
                try:
                    results[at] = self._run_one(jobs[at], limits, most, attempt, busy)
                except (Broken, SandboxError) as error:
                    if not ended.is_set():
                        _log.warning("%s", error)
                    if attempt == 0:
                        waiting.append((at, 1))
                except Exception as error:
                    failed.append(error)  # raised below, in the caller's thread
                    ended.set()

        threads = [threading.Thread(target=work, daemon=True) for _ in range(min(most, len(jobs)) - 1)]
        for thread in threads:
            thread.start()
        try:
            work()
            for thread in threads:
                thread.join()
        finally:
            ended.set()
            for worker in list(busy):  # after an interrupt
                worker.stop()
        if failed:
            raise failed[0]
        return results

    def _run_one(self, job: tuple, limits: dict, most: int, attempt: int, busy: set) -> list[Run]:
        worker, runs = self.take(most, fresh=attempt > 0), None
        busy.add(worker)
        try:
            runs = worker.run(*job, limits)
        except Broken:
            again = "its program runs again" if attempt == 0 else "its program gives None"
            raise Broken(f"a sandbox failed ({last_line(worker.errors)}); {again}") from None
        finally:
            busy.discard(worker)
            self.discard(worker) if runs is None else self.give(worker)
        return runs
