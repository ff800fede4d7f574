"""Which archive files a window needs, and which of them are out."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from airflow_provider_binance.archive.http import ArchiveHttp
from airflow_provider_binance.archive.layout import Partition, files_between
from airflow_provider_binance.archive.listing import is_served
from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import ConfigError, InputError
from airflow_provider_binance.market import INTERVALS
from airflow_provider_binance.records import Series
from airflow_provider_binance.runtime import Runtime
from airflow_provider_binance.tasks import Names, When, select

log = logging.getLogger(__name__)


def awaited_files(
    *,
    market: str,
    symbols: Names,
    intervals: Names | None = None,
    start: When = None,
    end: When = None,
    partition: str = "daily",
    dataset: str = "klines",
    config: BinanceConfig | None = None,
) -> list[str]:
    """Paths of the archive files whose periods touch the window, each symbol's life considered; ascending by series.

    Args:
        market: `spot`, `um` or `cm`.
        symbols: names or patterns.
        intervals: kline lengths.
        start: first instant; must be given.
        end: first instant after the window; default now.
        partition: `daily` or `monthly`.
        dataset: table whose files they are.
        config: settings; default: the environment's.

    Raises:
        InputError: an unknown market, symbol, interval or partition, an interval without such files, a bad window.
        ConfigError: the hosts have no archive.
        BinanceError: neither REST nor the archive tells which symbols there are.
    """
    try:
        kind = Partition(partition)
    except ValueError:
        raise InputError(
            f"unknown partition {partition!r}: use {' or '.join(Partition)}", argument="partition"
        ) from None
    with Runtime(config, None, archive_only=True) as runtime:
        if not runtime.config.has_archive:
            raise ConfigError("the test hosts have no archive: there is no file to wait for")
        chosen = select(
            market=market, dataset=dataset, symbols=symbols, intervals=intervals, start=start, end=end,
            source="archive", now_us=runtime.now_us,
        )  # fmt: skip
        if not isinstance(chosen.start, int):
            raise InputError(
                "the window has no start: give the instant from which on files are awaited", argument="start"
            )
        now_us = runtime.now_us(chosen.market)
        end_us = chosen.end if isinstance(chosen.end, int) else now_us
        paths: list[str] = []
        for symbol in runtime.symbols.resolve(chosen.symbols, chosen.market, dataset):
            for interval in chosen.intervals:
                if kind is Partition.DAILY and not INTERVALS[interval].has_daily_files:
                    raise InputError(
                        f"interval {interval} has no daily files; wait for the monthly ones", argument="intervals"
                    )
                series = Series(chosen.market.value, dataset, symbol, interval)
                paths += _within_life(runtime, series, kind, chosen.start, end_us, now_us)
        return paths


def published(config: BinanceConfig, paths: Sequence[str]) -> int:
    """How many of `paths` are out, counted from the first up to one that is not: each is asked for by its checksum.

    Raises:
        BinanceError: the archive is out of reach or refuses.
    """
    http = ArchiveHttp(config)
    try:
        for count, path in enumerate(paths):
            if not is_served(http, config, path):
                return count
        return len(paths)
    finally:
        http.close()


def _within_life(
    runtime: Runtime, series: Series, partition: Partition, start_us: int, end_us: int, now_us: int
) -> Iterator[str]:
    begins = runtime.symbols.listed_from(series, start_us, now_us)
    ends = runtime.symbols.listed_until(series, end_us, now_us)
    for file in files_between(series, partition, start_us, end_us):
        if (begins and file.end_us <= begins.at_us) or (ends and file.start_us >= ends.at_us):
            log.info("not waiting for %s: %s was not listed then", file.path, series)
        else:
            yield file.path
