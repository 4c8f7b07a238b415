"""Runs the gateway for the kill test, and kills it."""

import asyncio
import collections
import contextlib
import os
import signal
import time

import conftest

KINDS = ("hub", "worker", "supervisor", "all")  # what is killed


class Killer:
    """Starts the gateway, kills its parts at random, and starts it again when all of it is gone."""

    def __init__(self, world, folder, workers, sync, disk=None):
        self.world, self.folder, self.workers, self.sync, self.disk = world, folder, workers, sync, disk
        self.gateway, self.starts = None, 0
        self.kills = collections.Counter()
        self.is_killing = True

    async def start(self):
        sub = self.folder / f"run-{self.starts}"
        sub.mkdir()
        self.starts += 1
        # mqtt: small limits, so that clients fall behind and catch up from the log all the time
        gateway = conftest.Gateway(sub, workers=self.workers, log_level="notice",
                                   mqtt='output_limit = "8K" max_inflight = 20', **self.place())
        self.gateway = gateway
        for _ in range(3000):
            if gateway.process.poll() is not None or gateway.events("ready"):
                break
            await asyncio.sleep(0.02)
        gateway.wait_ready(1)
        self.world.address, self.world.api = gateway.mqtt, gateway.api
        self.left = self.world.dice.randint(5, 14)  # kills until the supervisor's turn

    def place(self):
        """The options that say where the data are: in the folder, or on the small disk."""
        if not self.disk:
            return {"data_dir": self.folder / "data", "top": f"log {{ sync = {self.sync} }}"}
        return {"data_dir": self.disk.where / "data", "program": self.disk.program,
                "top": f'user = ""\nlog {{ sync = {self.sync}  reserve = 1M  max_size = 0 }}'}

    def kill(self, names):
        processes = self.gateway.processes()
        for name in names:
            if name in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(processes[name], signal.SIGKILL)
                    self.kills["hub" if name == "hf-hub" else "worker"] += 1
                    self.world.tell("killer", f"{name} {processes[name]}")
        self.world.last_kill = time.monotonic()

    async def kill_supervisor(self):
        """The supervisor alone, whose children must follow, or everything at once."""
        children = conftest.children_of(self.gateway.pid)
        alone = self.world.dice.random() < 0.4
        for pid in [self.gateway.pid] + ([] if alone else children):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.kills["supervisor" if alone else "all"] += 1
        self.world.tell("killer", "supervisor alone" if alone else "all")
        self.world.last_kill = time.monotonic()
        self.gateway.process.wait()
        for _ in range(1000):
            if not any(conftest.is_alive(pid) for pid in children):
                break
            await asyncio.sleep(0.01)
        else:
            self.world.complain("children stay although the supervisor is gone")
            for pid in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.inspect()
        self.gateway.log.close()
        await self.start()

    async def one(self):
        """The next kill. A process that dies young comes back later each time, until the supervisor is a new one."""
        dice = self.world.dice
        await asyncio.sleep(dice.choices([0, dice.uniform(0, 0.05), dice.expovariate(6), dice.uniform(0.3, 3)], [4, 8, 16, 1])[0])
        self.left -= 1
        if self.left < 0:
            await self.kill_supervisor()
            return
        there = sorted(name for name in self.gateway.processes() if name.startswith("hf-"))
        if not there:
            return
        hub, worker = "hf-hub", f"hf-worker-{dice.randrange(self.workers)}"
        wanted = dice.choices([[hub], [worker], [hub, worker]], [4, 4, 1])[0]
        self.kill(wanted if set(wanted) & set(there) else [dice.choice(there)])

    def inspect(self):
        """A log may speak of deaths by signal 9, and of nothing worse."""
        for line in self.gateway.lines:
            if conftest.REPORTS.search(line):
                self.world.complain(f"log: {line}")
        for died in self.gateway.events("process_died"):
            if died.get("signal") != "9":
                self.world.complain(f"log: {died}")
