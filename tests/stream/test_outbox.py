"""What is dropped is told before what follows it, with its exact range."""

from __future__ import annotations

import pytest

from airflow_provider_binance.errors import InputError
from airflow_provider_binance.market_data import Cause
from airflow_provider_binance.records import Series
from airflow_provider_binance.stream.frames import Record
from airflow_provider_binance.stream.ordering import Held, KeyLine, Piece
from airflow_provider_binance.stream.outbox import OnFull, Outbox

ONE, TWO = (KeyLine(Series("spot", "trades", symbol), Held()) for symbol in ("BTCUSDT", "ETHUSDT"))


def piece(line: KeyLine, key: int) -> Piece:
    return Piece(line, key, key + 1, Record(line.series, 0, 0, (key,)))


def popped(outbox: Outbox) -> list[Piece]:
    pieces = []
    while (found := outbox.pop()) is not None:
        pieces.append(found)
    return pieces


def test_what_was_put_comes_out_in_order() -> None:
    outbox = Outbox()
    outbox.put(given := [piece(ONE, 1), piece(TWO, 7), piece(ONE, 2)])

    assert len(outbox) == 3
    assert popped(outbox) == given
    assert len(outbox) == 0


def test_the_oldest_are_dropped_and_told_first() -> None:
    outbox = Outbox()
    outbox.put([piece(ONE, 1), piece(TWO, 7), Piece(ONE, 2, 5, Cause.NOT_SERVED), piece(ONE, 5), piece(TWO, 8)])
    for _ in range(3):
        outbox.drop_oldest()

    assert popped(outbox) == [
        Piece(ONE, 1, 5, Cause.BUFFER_FULL), Piece(TWO, 7, 8, Cause.BUFFER_FULL), piece(ONE, 5), piece(TWO, 8),
    ]  # fmt: skip


def test_answers_are_words() -> None:
    assert [OnFull.parse(word) for word in ("wait", "drop_oldest", "raise")] == list(OnFull)
    with pytest.raises(InputError, match="on_full 'drop' is none: use wait, drop_oldest, raise"):
        OnFull.parse("drop")
