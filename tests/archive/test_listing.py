"""The archive's listing: paged, remembered, and read with suspicion."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_binance.archive.folder import Folder, Listed
from airflow_provider_binance.archive.http import ArchiveHttp
from airflow_provider_binance.archive.layout import Partition, file_at, folder, period_of, published_by
from airflow_provider_binance.archive.listing import ArchiveListing
from airflow_provider_binance.errors import UnreachableError
from airflow_provider_binance.market import DAY_US, Market, iso
from airflow_provider_binance.records import Series
from airflow_provider_binance.simulator.server import Simulator

BTC = Series("spot", "klines", "BTCUSDT", "1m")
JANUARY = 1_704_067_200_000_000


@pytest.mark.parametrize(
    ("series", "partition", "path"),
    [
        (BTC, Partition.DAILY, "data/spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2024-01-01.zip"),
        (
            Series("um", "klines", "BTCUSDT_240628", "1M"),
            Partition.MONTHLY,
            "data/futures/um/monthly/klines/BTCUSDT_240628/1mo/BTCUSDT_240628-1mo-2024-01.zip",
        ),
        (
            Series("cm", "klines", "BTCUSD_PERP", "8h"),
            Partition.MONTHLY,
            "data/futures/cm/monthly/klines/BTCUSD_PERP/8h/BTCUSD_PERP-8h-2024-01.zip",
        ),
    ],
)
def test_files_are_named_as_the_archive_names_them(series, partition, path):
    """Markets, intervals and dates in the archive's spelling."""
    file = file_at(series, partition, JANUARY + 5)
    assert file.path == path
    assert file.start_us == JANUARY
    assert period_of(file.name) == (file.start_us, file.end_us)
    assert path.startswith(folder(series, partition))


def test_publication_is_the_next_day_or_the_first_monday():
    """Before that a missing file is no wonder."""
    assert iso(published_by(file_at(BTC, Partition.DAILY, JANUARY))) == "2024-01-02T10:00:00Z"
    assert iso(published_by(file_at(BTC, Partition.MONTHLY, JANUARY))) == "2024-02-05T10:00:00Z"


def _page(names: list[str], *, cut: bool) -> bytes:
    prefix = folder(BTC, Partition.DAILY)
    contents = "".join(
        f"<Contents><Key>{prefix}{name}</Key><LastModified>2024-01-02T08:00:00.000Z</LastModified>"
        f'<ETag>"e"</ETag><Size>77</Size></Contents>'
        for name in names
    )
    return (
        '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<IsTruncated>{'true' if cut else 'false'}</IsTruncated>{contents}</ListBucketResult>"
    ).encode()


def test_a_listing_without_next_marker_goes_on_from_its_last_key(archive, config):
    """NextMarker is optional; checksums are no files of their own."""
    pages = [
        _page(["BTCUSDT-1m-2024-01-01.zip", "BTCUSDT-1m-2024-01-01.zip.CHECKSUM"], cut=True),
        _page(["BTCUSDT-1m-2024-01-02.zip"], cut=False),
    ]
    answer = archive.answer

    def paged(handler):
        cut, rest = ("monthly" not in handler.path and page for page in pages)
        archive.files["/listing"] = (rest if "marker=" in handler.path else cut) or _page([], cut=False)
        answer(handler)

    archive.answer = paged
    http = ArchiveHttp(config)
    listing = ArchiveListing(config, http, None)
    last = listing.last_file(BTC)
    assert last is not None
    assert iso(last[1]) == "2024-01-03T00:00:00Z"
    assert len(archive.log) == 3
    http.close()


@pytest.mark.parametrize("body", [b"<html>", b"<html></html>", b"", b"<a/><b/>", b"\xff\xfe"])
def test_what_is_no_listing_is_refused_by_name(archive, config, body):
    """A captive portal's page does not read as an empty archive."""
    archive.files["/listing"] = body
    http = ArchiveHttp(config, sleep=lambda seconds: None)
    with pytest.raises(UnreachableError, match="listing of data/spot/daily"):
        ArchiveListing(config, http, None).folder(BTC, file_at(BTC, Partition.DAILY, JANUARY))
    http.close()


def test_days_are_listed_from_the_month_that_is_asked_for(archive, config):
    """One page serves the days of its month and those after it; months are listed once, from the first."""
    archive.files["/listing"] = _page([f"BTCUSDT-1m-2024-01-{day:02d}.zip" for day in range(1, 5)], cut=False)
    http = ArchiveHttp(config)
    listing = ArchiveListing(config, http, None)
    for day in range(6):
        file = file_at(BTC, Partition.DAILY, JANUARY + day * DAY_US)
        found = listing.folder(BTC, file).get(file.stamp)
        assert (found.size if found else None) == (77 if day < 4 else None)
    assert len(archive.log) == 1
    assert "marker=data%2Fspot%2Fdaily%2Fklines%2FBTCUSDT%2F1m%2FBTCUSDT-1m-2024-01-01" in archive.log[0][0]
    http.close()


def test_a_file_that_vanished_is_not_listed_any_more(archive, config):
    archive.files["/listing"] = _page(["BTCUSDT-1m-2024-01-01.zip", "BTCUSDT-1m-2024-01-02.zip"], cut=False)
    http = ArchiveHttp(config)
    listing = ArchiveListing(config, http, None)
    first, second = (file_at(BTC, Partition.DAILY, JANUARY + day * DAY_US) for day in range(2))
    assert listing.folder(BTC, first).first == "2024-01-01"
    listing.forget(first)
    assert listing.folder(BTC, first).get(first.stamp) is None
    assert listing.ask(first) is None
    assert listing.folder(BTC, second).get(second.stamp) is not None
    http.close()


class Kept:
    """A cache in a dict."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def cache_get(self, key: str, max_age_seconds: float) -> bytes | None:
        return self.kept.get(key)

    def cache_put(self, key: str, value: bytes) -> None:
        self.kept[key] = value


def test_a_kept_listing_is_read_again_and_a_damaged_one_is_asked_anew(archive, config):
    archive.files["/listing"] = _page(["BTCUSDT-1m-2024-01-01.zip"], cut=False)
    production = config.model_copy(update={"environment": "production"})
    http, kept = ArchiveHttp(config), Kept()
    file = file_at(BTC, Partition.DAILY, JANUARY)
    found = [ArchiveListing(production, http, kept).folder(BTC, file) for _ in range(2)]
    assert found[0] == found[1]
    assert len(archive.log) == 1
    for damaged in (b"", b"{}", next(iter(kept.kept.values()))[:-5]):
        kept.kept = dict.fromkeys(kept.kept, damaged)
        assert ArchiveListing(production, http, kept).folder(BTC, file) == found[0]
    assert len(archive.log) == 4
    http.close()


@given(
    st.dictionaries(
        st.dates().map(str),
        st.builds(
            Listed, st.integers(0, 10**12), st.text("0123456789abcdef-", max_size=36), st.none() | st.integers(0)
        ),
        max_size=40,
    ),
    st.dates().map(str),
)
def test_a_folder_says_what_was_put_into_it(files, other):
    """Whatever is listed: found by its stamp, and nothing else is; packed and parsed it is the same."""
    made = Folder.of("2000-01-01", "2024-01-31", files.items())
    assert {stamp: made.get(stamp) for stamp in files} == files
    assert made.get(other) == files.get(other)
    assert (made.first, made.last) == (min(files, default=None), max(files, default=None))
    assert Folder.parse(made.since, made.pack()) == made
    assert made.without(other).get(other) is None


def test_more_than_a_thousand_files_are_listed(config):
    """The simulator pages as S3 does."""
    with Simulator(seed=1, symbols=["BTCUSDT"], now="2024-06-15T12:00:00Z") as sim:
        settings = {name.removeprefix("BINANCE_").lower(): value for name, value in sim.settings.items()}
        local = config.model_copy(update=settings)
        http = ArchiveHttp(local)
        listing = ArchiveListing(local, http, None)
        first = listing.first_file(BTC)
        last = listing.last_file(BTC)
        assert first is not None
        assert last is not None
        assert iso(last[1]) == "2024-06-15T00:00:00Z"
        assert listing.knows(Market.SPOT, "klines", "BTCUSDT")
        assert not listing.knows(Market.SPOT, "klines", "NOSUCHUSDT")
        http.close()
