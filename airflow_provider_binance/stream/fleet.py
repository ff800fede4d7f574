"""`Fleet`: the keepers of a plan, run together and changed from one plan to the next while they run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from airflow_provider_binance.stream.keeping import Keeper
from airflow_provider_binance.stream.subscriptions import Carried, change


class Fleet:
    """Made in the event loop. `make` makes the keeper of a planned connection.

    `keepers` are those that run, `gone` those that ran before: what they counted stays counted.
    """

    def __init__(self, make: Callable[[Carried], Keeper]) -> None:
        self.keepers: list[Keeper] = []
        self.gone: list[Keeper] = []
        self.planned: tuple[Carried, ...] = ()
        self._make = make
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Until one of them fails for good, which is raised, or this is cancelled; then all are closed."""
        try:
            await self._failed
        finally:
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def change(self, planned: Sequence[Carried]) -> None:
        """Open, close and change what differs; connections that stay go on without a break."""
        todo = change(self.planned, planned)
        self.planned = tuple(planned)
        for carried in todo.closed:
            self._tasks.pop(carried.number).cancel()
        closed = {carried.number for carried in todo.closed}
        self.gone += [keeper for keeper in self.keepers if keeper.carried.number in closed]
        stay = [keeper for keeper in self.keepers if keeper.carried.number not in closed]
        opened = [self._make(carried) for carried in todo.opened]
        self.keepers = [*stay, *opened]
        for keeper in opened:
            task = self._tasks[keeper.carried.number] = asyncio.create_task(keeper.run())
            task.add_done_callback(self._ended)
        by_number = {carried.number: carried for carried in planned}
        altered = todo.added.keys() | todo.dropped.keys()
        await asyncio.gather(
            *(keeper.change(by_number[keeper.carried.number]) for keeper in stay if keeper.carried.number in altered)
        )

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and not self._failed.done():
            self._failed.set_exception(error)
