"""`Seen`: of a series whose records do not tell by ids what is lacking, the times that it was seen whole. Pure.

From one record to the next nothing is missing, unless something is said to be lost between them. The last seconds are
claimed with what comes behind them: the next flush may bring more of an instant, or what was overtaken, and a process
that is killed before brings nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence

from airflow_provider_binance.continuity import UNCOUNTED
from airflow_provider_binance.market import SECOND_US
from airflow_provider_binance.stream.buffer import Lost
from airflow_provider_binance.stream.runs import Claim

#: Nothing is so late. Connections that overlap differ by less.
SETTLED_US = 5 * SECOND_US
#: So many losses of a series are remembered, the newest: a late record that lies in one does not fill it.
MOST_LOSSES = 64


class Seen:
    """One series, flush by flush. What lies before `_at_us` is claimed or lost, the records of `_waiting` are not.

    `is_alone`: an instant has one record at most. Else the instant before a loss may have lost something, too.
    """

    def __init__(self, *, is_alone: bool) -> None:
        self._is_alone = is_alone
        #: Of the instant that it begins with an earlier process may have stored more.
        self._is_counted = is_alone
        self._at_us = 0
        self._waiting: list[int] = []
        self._losses: deque[tuple[int, int]] = deque()
        #: Of what was before that nothing is known here.
        self._since_us: int | None = None

    def take(self, times: Sequence[int], lost: Iterable[Lost]) -> tuple[list[Claim], list[Lost]]:
        """What is claimed with records of these times, ascending, and what is lost.

        A loss begins at the last record before it, or behind that, wherever it is said to begin: what somebody else
        left in a spool says nothing of the time from then on. One without length says only that such may be there,
        and that the last seconds of it may lack what was overtaken.
        """
        if self._since_us is None and times:
            self._since_us = self._at_us = times[0]
        first = bisect_left(times, self._at_us)
        claims = self._late(times[:first])
        self._waiting = sorted([*self._waiting, *times[first:]])
        told = []
        for loss in sorted(lost, key=_bounds):
            is_ours = loss.start_us < loss.end_us
            low_us = loss.start_us if is_ours else loss.end_us - SETTLED_US
            if before := bisect_left(self._waiting, low_us):
                claims += self._claim(self._waiting[before - 1] + (self._is_alone if is_ours else -SETTLED_US))
                if is_ours:
                    loss = loss._replace(start_us=self._at_us)
            if not is_ours and self._since_us is not None:
                loss = loss._replace(start_us=min(self._at_us, loss.end_us))
            told.append(loss)
            self._lose(loss, min(loss.start_us, low_us))
        if self._waiting:
            claims += self._claim(self._waiting[-1] - SETTLED_US)
        return claims, [loss for loss in told if loss.start_us < loss.end_us]

    def _claim(self, end_us: int) -> list[Claim]:
        """Nothing is missing from where it was claimed last to `end_us`."""
        if end_us <= self._at_us:
            return []
        count = bisect_left(self._waiting, end_us)
        claim = Claim(self._at_us, end_us, count if self._is_counted else UNCOUNTED)
        self._at_us, self._waiting, self._is_counted = end_us, self._waiting[count:], True
        return [claim]

    def _late(self, times: Iterable[int]) -> list[Claim]:
        """Of instants that were claimed, that they have more records; what was lost stays lost."""
        since_us = self._since_us or 0
        return [
            Claim(at_us, at_us + 1, UNCOUNTED)
            for at_us in sorted(set(times))
            if at_us >= since_us and not any(start_us <= at_us < end_us for start_us, end_us in self._losses)
        ]

    def _lose(self, loss: Lost, low_us: int) -> None:
        self._at_us = max(self._at_us, loss.end_us)
        self._waiting = self._waiting[bisect_left(self._waiting, self._at_us) :]
        if self._since_us is None:
            self._since_us = self._at_us
        self._losses.append((low_us, loss.end_us))
        if len(self._losses) > MOST_LOSSES:
            self._since_us = max(self._since_us, self._losses.popleft()[1])


def _bounds(loss: Lost) -> tuple[int, int]:
    return loss.start_us, loss.end_us
