"""A reader that was written from the contract alone: its table, its model, its queries."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import AwareDatetime, BaseModel, ConfigDict, StrictFloat, StrictInt
from sqlalchemy import BigInteger, DateTime, Float, Select, String, func, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Timeframe(StrEnum):
    """Any other value makes the reader fail."""

    MINUTE_1, MINUTE_5, MINUTE_15, MINUTE_30 = "1m", "5m", "15m", "30m"
    HOUR_1, HOUR_4, DAY_1, WEEK_1, MONTH_1 = "1h", "4h", "1d", "1w", "1M"


class MarketDataModel(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    symbol: str
    timeframe: Timeframe
    timestamp: AwareDatetime
    open_price: StrictFloat
    high_price: StrictFloat
    low_price: StrictFloat
    close_price: StrictFloat
    volume: StrictInt
    created_at: AwareDatetime


class Base(DeclarativeBase):
    pass


class MarketData(Base):
    __tablename__ = "market_data"

    symbol: Mapped[str] = mapped_column(String(20), primary_key=True)
    timeframe: Mapped[str] = mapped_column(String(10), primary_key=True)
    timestamp: Mapped[datetime] = mapped_column(DateTime(timezone=True), primary_key=True)
    open_price: Mapped[float] = mapped_column(Float(53))
    high_price: Mapped[float] = mapped_column(Float(53))
    low_price: Mapped[float] = mapped_column(Float(53))
    close_price: Mapped[float] = mapped_column(Float(53))
    volume: Mapped[int] = mapped_column(BigInteger, server_default="0")
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


M = MarketData


def ranged(symbols: str | list[str], timeframe: str, start: datetime, end: datetime) -> Select[tuple[MarketData]]:
    """Ascending, both times included."""
    of = M.symbol == symbols if isinstance(symbols, str) else M.symbol.in_(symbols)
    within = M.timestamp >= start, M.timestamp <= end
    return select(M).where(of, M.timeframe == timeframe, *within).order_by(M.timestamp.asc())


def page(symbol: str, timeframe: str, limit: int, offset: int) -> Select[tuple[MarketData]]:
    found = select(M).where(M.symbol == symbol, M.timeframe == timeframe)
    return found.order_by(M.timestamp.asc()).limit(limit).offset(offset)


def latest(symbol: str, timeframe: str) -> Select[tuple[MarketData]]:
    return select(M).where(M.symbol == symbol, M.timeframe == timeframe).order_by(M.timestamp.desc()).limit(1)


def latest_of_each(symbols: list[str], timeframe: str) -> Select[tuple[MarketData]]:
    found = select(M).prefix_with(text("DISTINCT ON (symbol)"))  # however SQLAlchemy's version spells it
    return found.where(M.symbol.in_(symbols), M.timeframe == timeframe).order_by(M.symbol, M.timestamp.desc())


def latest_by_group(symbols: list[str], timeframe: str) -> Select[tuple[MarketData]]:
    newest = (
        select(M.symbol, func.max(M.timestamp).label("at"))
        .where(M.symbol.in_(symbols), M.timeframe == timeframe)
        .group_by(M.symbol)
        .subquery()
    )
    same = (M.symbol == newest.c.symbol) & (M.timestamp == newest.c.at)
    return select(M).join(newest, same).where(M.timeframe == timeframe).order_by(M.symbol)


def availability(symbol: str, timeframe: str) -> Select[tuple[int, datetime, datetime]]:
    found = select(func.count(), func.min(M.timestamp), func.max(M.timestamp))
    return found.where(M.symbol == symbol, M.timeframe == timeframe)


def timeframes(symbol: str) -> Select[tuple[str]]:
    return select(M.timeframe).distinct().where(M.symbol == symbol)


def summary() -> Select[tuple[str, str, int, datetime, datetime]]:
    ends = func.min(M.timestamp), func.max(M.timestamp)
    return select(M.symbol, M.timeframe, func.count(), *ends).group_by(M.symbol, M.timeframe).order_by(M.symbol)
