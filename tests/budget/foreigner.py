"""Somebody else behind the same IP address, with a limiter of nobody: `foreigner.py URL PATH PER_MINUTE SECONDS`.

Asks `PER_MINUTE` times a minute of true time, not quite regularly, whatever the answers.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time

import aiohttp


async def main(url: str, path: str, per_minute: float, seconds: float) -> None:
    until = time.monotonic() + seconds
    at = time.monotonic()
    asked: set[asyncio.Task[None]] = set()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=64)) as session:

        async def ask() -> None:
            try:
                async with session.get(url + path) as answer:
                    await answer.read()
            except aiohttp.ClientError:
                pass  # the simulator ended first

        while (at := at + random.uniform(0.5, 1.5) * 60 / per_minute) < until:
            await asyncio.sleep(max(0.0, at - time.monotonic()))
            task = asyncio.create_task(ask())
            asked.add(task)
            task.add_done_callback(asked.discard)
        await asyncio.gather(*asked)


asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])))
