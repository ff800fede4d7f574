"""The archive's listing: paged, remembered, and read with suspicion."""

from __future__ import annotations

import pytest

from airflow_provider_binance.archive.http import ArchiveHttp
from airflow_provider_binance.archive.layout import Partition, file_at, folder, period_of, published_by
from airflow_provider_binance.archive.listing import ArchiveListing
from airflow_provider_binance.errors import UnreachableError
from airflow_provider_binance.market import Market, iso
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
        archive.files["/listing"] = pages[1] if "marker=" in handler.path else pages[0]
        answer(handler)

    archive.answer = paged
    http = ArchiveHttp(config)
    listing = ArchiveListing(config, http, None)
    files = listing.files(BTC, Partition.DAILY)
    assert sorted(files) == ["BTCUSDT-1m-2024-01-01.zip", "BTCUSDT-1m-2024-01-02.zip"]
    assert files["BTCUSDT-1m-2024-01-01.zip"].size == 77
    assert len(archive.log) == 2
    listing.files(BTC, Partition.DAILY)
    assert len(archive.log) == 2
    http.close()


@pytest.mark.parametrize("body", [b"<html>", b"<html></html>", b"", b"<a/><b/>", b"\xff\xfe"])
def test_what_is_no_listing_is_refused_by_name(archive, config, body):
    """A captive portal's page does not read as an empty archive."""
    archive.files["/listing"] = body
    http = ArchiveHttp(config, sleep=lambda seconds: None)
    with pytest.raises(UnreachableError, match="listing of data/spot/daily"):
        ArchiveListing(config, http, None).files(BTC, Partition.DAILY)
    http.close()


def test_more_than_a_thousand_files_are_listed(config):
    """The simulator pages as S3 does."""
    with Simulator(seed=1, symbols=["BTCUSDT"], now="2024-06-15T12:00:00Z") as sim:
        settings = {name.removeprefix("BINANCE_").lower(): value for name, value in sim.settings.items()}
        local = config.model_copy(update=settings)
        http = ArchiveHttp(local)
        listing = ArchiveListing(local, http, None)
        days = listing.files(BTC, Partition.DAILY)
        assert len(days) > 1000
        first = listing.first_file(BTC)
        last = listing.last_file(BTC)
        assert first is not None
        assert last is not None
        assert iso(last[1]) == "2024-06-15T00:00:00Z"
        assert listing.knows(Market.SPOT, "klines", "BTCUSDT")
        assert not listing.knows(Market.SPOT, "klines", "NOSUCHUSDT")
        http.close()
