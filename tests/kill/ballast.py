"""Fills the small disk of the kill test, and makes room on it again."""

import asyncio
import contextlib
import os
import time

STEP = 64 << 10
NEEDED = 8 << 20  # bytes that are free when it makes room; when the data alone leave less, the disk grows
GROWTH = 16  # megabytes
PATIENCE = 20  # seconds that it waits for the publishers to notice


class Ballast:
    """A file that takes all the room there is, for a while, and then none, again and again. Each goes on at random for
    some time, and at least until a publish was refused, or taken again. The log is never shortened, so the disk grows
    with it: what is full is full all the same."""

    def __init__(self, world, disk):
        self.world, self.disk, self.file = world, disk, disk.path / "ballast"
        self.rounds = 0  # in which publishes were refused, and taken again afterwards

    async def run(self):
        while True:
            was_refused = await self.hold(self.fill, lambda: self.world.refusals)
            self.free()
            was_taken = await self.hold(lambda: None, lambda: self.world.taken)
            self.rounds += was_refused and was_taken

    async def hold(self, work, counter):
        """Goes on until it is time and the counter has grown, or for as long as its patience lasts; whether it has grown."""
        before, start = counter(), time.monotonic()
        least = self.world.dice.uniform(0.2, 2)
        while time.monotonic() < start + (least if counter() > before else PATIENCE):
            work()
            await asyncio.sleep(0.05)
        return counter() > before

    def fill(self):
        """Takes what is free, in steps that get smaller."""
        fd = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for size in (STEP, 4096):
            with contextlib.suppress(OSError):
                while os.write(fd, b"x" * size) == size:
                    pass
        os.close(fd)

    def free(self):
        self.world.tell("killer", "makes room on the disk")
        self.file.unlink(missing_ok=True)
        if self.disk.room() < NEEDED:
            self.disk.grow(GROWTH)
