"""`doctor` finds what is wrong, says what to do about it, and changes nothing."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_binance import doctor
from airflow_provider_binance.rest.budget_schema import budget_sql
from airflow_provider_binance.simulator.accounts import Account
from airflow_provider_binance.simulator.server import Simulator
from airflow_provider_binance.simulator.signatures import HmacSha256
from airflow_provider_binance.store.base import open_store
from tests.cli.conftest import Ran
from tests.keys import PASSWORD, key_pair
from tests.store.helpers import plain

KEY, SECRET = "k" * 64, "doctor's secret"
NAMES = [
    "spot_rest", "um_rest", "cm_rest", "clock", "api_key", "weight_budget", "archive", "store", "store_version",
    "temporary_disk", "store_disk",
]  # fmt: skip

Doctor = Callable[..., dict[str, Any]]


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(seed=1, now="2026-11-20T12:00:20Z", limits=False) as simulator:
        yield simulator


@pytest.fixture
def examined(run: Callable[..., Ran], sim: Simulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Doctor:
    """Run `doctor --json` with these settings; its checks by name, and its exit status."""

    def call(*argv: str, **settings: str) -> dict[str, Any]:
        given = {"BINANCE_STORE_URL": f"sqlite:///{tmp_path}/store.db"}
        given |= {f"BINANCE_{name.upper()}": value for name, value in settings.items()}
        for name, value in (sim.settings | given).items():
            monkeypatch.setenv(name, value)
        ran = run("doctor", "--json", *argv)
        assert list(ran.document) == ["schema", "checks"], ran
        for check in ran.document["checks"]:
            assert list(check) == ["name", "ok", "detail", "remedy"]
            assert check["detail"]
            assert check["ok"] or check["remedy"], check
        for secret in (SECRET, PASSWORD, KEY):
            assert secret not in ran.out + ran.err
        return {"status": ran.status, **{check["name"]: check for check in ran.document["checks"]}}

    return call


def failed(found: dict[str, Any]) -> set[str]:
    return {name for name, check in found.items() if name != "status" and not check["ok"]}


def warned(found: dict[str, Any]) -> set[str]:
    return {name for name, check in found.items() if name != "status" and check["ok"] and check["remedy"]}


def test_all_is_well(examined: Doctor, sim: Simulator, tmp_path: Path) -> None:
    """Every check is there; no key is fine; no file of a store is made; a handful of requests."""
    found = examined()
    assert (found["status"], failed(found), warned(found)) == (0, set(), set())
    assert list(found)[1:] == NAMES
    assert found["api_key"]["detail"] == "no API key is set; public market data needs none"
    assert "the first load makes them" in found["store_version"]["detail"]
    assert "budget.json" in found["weight_budget"]["detail"]
    assert not (tmp_path / "store.db").exists()
    assert len(sim.requests) < 10


def test_in_print_each_failure_has_its_remedy_below(
    run: Callable[..., Ran], sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the last line counts them."""
    for name, value in sim.settings.items():
        monkeypatch.setenv(name, value)
    assert run("doctor").out.endswith("Nothing stands in the way.\n")
    sim.add_fault("451=9@/fapi/")
    ran = run("doctor", "--market", "spot,um")
    assert ran.status == 4
    assert "FAIL  um_rest" in ran.out
    assert "→ Binance has no other REST host for futures" in ran.out
    assert "cm_rest" not in ran.out
    assert ran.out.endswith("1 check failed: um_rest.\n")
    assert run("doctor", "--market", "spots").status == 2


def test_a_restricted_location(examined: Doctor, sim: Simulator) -> None:
    """Spot has a host for that, futures have the archive."""
    for path in ("/api/", "/fapi/", "/dapi/"):
        sim.add_fault(f"451@{path}")
    found = examined(api_key=KEY, api_secret=SECRET)
    assert (found["status"], failed(found)) == (4, {"spot_rest", "um_rest", "cm_rest"})
    assert "451" in found["spot_rest"]["detail"]
    assert "spot_rest_url=https://data-api.binance.vision" in found["spot_rest"]["remedy"]
    for market in ("um", "cm"):
        assert "--source archive" in found[f"{market}_rest"]["remedy"]
    assert "not tried" in found["api_key"]["detail"]


def test_hosts_that_are_not_there(examined: Doctor) -> None:
    """REST, archive and listing are each named by their setting; one try, no long waits."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dead = f"http://127.0.0.1:{listener.getsockname()[1]}"
    began = time.monotonic()
    found = examined(um_rest_url=dead, archive_listing_url=dead)
    assert time.monotonic() - began < 60
    assert (found["status"], failed(found)) == (4, {"um_rest", "archive"})
    assert "um_rest_url" in found["um_rest"]["remedy"]
    assert "archive_listing_url" in found["archive"]["remedy"]
    assert f"{dead}/fapi" in found["um_rest"]["detail"] or dead in found["um_rest"]["detail"]


def test_a_dead_proxy_is_named(examined: Doctor) -> None:
    """Without its password."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        place = f"127.0.0.1:{listener.getsockname()[1]}"
    found = examined(proxies=f"http://user:hush@{place}")
    assert {"spot_rest", "um_rest", "cm_rest", "archive"} == failed(found)
    assert f"http://user:***@{place}" in found["spot_rest"]["detail"]
    assert "hush" not in str(found)


def test_a_ban_is_told_and_nobody_sends_on(examined: Doctor, sim: Simulator) -> None:
    """Neither this command nor, through the budget, anybody else."""
    sim.add_fault("418=300@/api/")
    found = examined()
    assert found["status"] == 4
    assert "let nobody send from this address" in found["spot_rest"]["remedy"]
    assert [record.status for record in sim.requests if record.path.startswith("/api/")] == [418]


@pytest.mark.parametrize(("seconds", "is_ok"), [(0.0, True), (90.0, False), (-90.0, False)])
def test_the_clock(examined: Doctor, sim: Simulator, seconds: float, is_ok: bool) -> None:
    """Compared with Binance's, but for a simulator, whose clock is anything."""
    sim.set_clock(int((time.time() + seconds) * 1000), 1)
    found = examined(environment="production", rate_limit_store="memory://", egress_id=f"clock {seconds}")
    assert (found["status"], found["clock"]["ok"]) == ((0, True) if is_ok else (3, False))
    if not is_ok:
        assert "NTP" in found["clock"]["remedy"]
        assert ("behind" if seconds > 0 else "ahead of") in found["clock"]["detail"]


# --- The key --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rights", "warning"),
    [
        ({}, None),
        ({"may_trade": True}, "may trade"),
        ({"may_withdraw": True}, "may withdraw"),
    ],
)
def test_the_rights_of_a_key(examined: Doctor, sim: Simulator, rights: dict[str, bool], warning: str | None) -> None:
    """One that may more than read is a warning, no failure."""
    sim.add_account(Account(KEY, HmacSha256(SECRET), **rights))
    found = examined(api_key=KEY, api_secret=SECRET)
    assert (found["status"], failed(found)) == (0, set())
    assert warned(found) == ({"api_key"} if warning else set())
    assert (warning or "works on spot") in found["api_key"]["detail"]


def test_keys_that_do_not_work(examined: Doctor, sim: Simulator) -> None:
    """Unknown, of another form, with another secret, at another time; or of no use at all."""
    sim.add_account(Account(KEY, HmacSha256(SECRET)))
    bad: list[tuple[dict[str, str], str, int]] = [
        ({"api_key": "x" * 64, "api_secret": SECRET}, "unknown or revoked", 4),
        ({"api_key": "short", "api_secret": SECRET}, "not of Binance's form", 4),
        ({"api_key": KEY, "api_secret": "other"}, "does not belong to this API key", 4),
        (
            {"api_key": KEY, "private_key": key_pair("rsa").encrypted, "private_key_password": "mistyped"},
            "does not open",
            2,
        ),
        ({"api_key": KEY, "private_key": "", "private_key_password": "", "api_secret": ""}, "needs api_secret", 2),
    ]
    for settings, told, status in bad:
        found = examined(**settings)
        assert (found["status"], failed(found)) == (status, {"api_key"}), found["api_key"]
        assert told in found["api_key"]["detail"]


def test_a_clock_that_binance_does_not_take(examined: Doctor, sim: Simulator) -> None:
    """Although it was measured: something between holds requests back."""
    sim.add_account(Account(KEY, HmacSha256(SECRET)))
    sim.add_fault("clock-skew=100000")
    found = examined(api_key=KEY, api_secret=SECRET)
    assert (found["status"], failed(found)) == (4, {"api_key"})
    assert "-1021" in found["api_key"]["detail"]


# --- Weight budget, disk --------------------------------------------------------------------------------------------


def test_the_weight_budget(examined: Doctor) -> None:
    """One that cannot be kept fails, and hosts are looked at all the same; one that nobody shares is warned of."""
    found = examined(rate_limit_store="file:///proc/nowhere/budget.json")
    assert (found["status"], failed(found)) == (2, {"weight_budget"})
    assert "rate_limit_store" in found["weight_budget"]["remedy"]
    found = examined(rate_limit_store="memory://")
    assert (found["status"], warned(found)) == (0, {"weight_budget"})


@pytest.mark.postgres
def test_the_weight_budget_of_several_hosts(examined: Doctor, postgres_database: str) -> None:
    """It is named without its password; a server that is away is told, and hosts are looked at all the same."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dead = f"127.0.0.1:{listener.getsockname()[1]}"
    found = examined(rate_limit_store=postgres_database.replace("postgres@", "postgres:hush@"))
    assert (found["status"], failed(found)) == (0, set())
    assert postgres_database.rpartition("/")[2] in found["weight_budget"]["detail"]
    assert "hush" not in str(found)
    found = examined(rate_limit_store=f"postgresql://u:hush@{dead}/x")
    assert (found["status"], failed(found)) == (5, {"weight_budget"})
    assert dead in found["weight_budget"]["detail"]
    assert "hush" not in str(found)


def test_a_disk_that_is_almost_full(examined: Doctor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Both places, each with its way out (no disk here is as large as is asked for)."""
    monkeypatch.setattr(doctor, "LEAST_FREE_BYTES", 10**18)
    found = examined()
    assert (found["status"], failed(found)) == (5, {"temporary_disk", "store_disk"})
    assert "TMPDIR" in found["temporary_disk"]["remedy"]
    assert str(tmp_path) in found["store_disk"]["detail"]


# --- The store ------------------------------------------------------------------------------------------------------


def made(url: str) -> str:
    with open_store(url) as store:
        store.ensure_environment("simulator")
    return url


def test_a_folder_that_is_not_there(examined: Doctor, tmp_path: Path) -> None:
    """It is not made, only told."""
    found = examined(store_url=f"sqlite:///{tmp_path}/not/there/a.db")
    assert (found["status"], failed(found)) == (2, {"store"})
    assert f"{tmp_path}/not/there" in found["store"]["detail"]
    assert "make the folder" in found["store"]["remedy"]
    assert not (tmp_path / "not").exists()


def test_a_file_that_is_read_only_or_no_database(examined: Doctor, tmp_path: Path) -> None:
    """SQLite itself says so, whoever asks."""
    file = tmp_path / "a.db"
    url = made(f"sqlite:///{file}")
    header = bytearray(file.read_bytes())
    header[18] = 3  # a file format that this SQLite may read and must not write
    file.write_bytes(header)
    found = examined(store_url=url)
    assert (found["status"], failed(found)) == (5, {"store"})
    assert "may not write" in found["store"]["detail"]
    assert file.read_bytes() == header
    file.write_text("no database, and longer than the hundred bytes of its header" * 4)
    found = examined(store_url=url)
    assert (found["status"], failed(found)) == (5, {"store"})


def test_a_store_in_use_is_no_failure(examined: Doctor, store_url: str) -> None:
    """Somebody loads at the same time."""
    made(store_url)
    with open_store(store_url) as store:
        store._lock_schema() if store_url.startswith("postgresql") else store._db.execute("BEGIN IMMEDIATE")  # type: ignore[attr-defined]
        found = examined(store_url=store_url)
    assert (found["status"], failed(found)) == (0, set())


def test_tables_of_other_versions(examined: Doctor, store_url: str) -> None:
    """Older ones are migrated, newer ones need newer code; data of another environment stays alone."""
    made(store_url)
    found = examined(store_url=store_url)
    assert (found["status"], failed(found)) == (0, set())
    assert "holds data of simulator" in found["store"]["detail"]
    plain(store_url, "UPDATE store_info SET value = 'production'")
    found = examined(store_url=store_url)
    assert (found["status"], failed(found)) == (5, {"store"})
    assert "holds data of production" in found["store"]["detail"]
    plain(store_url, "UPDATE store_info SET value = 'simulator'")
    plain(store_url, "DELETE FROM schema_version WHERE name LIKE '0002%'")
    found = examined(store_url=store_url)
    assert (found["status"], failed(found)) == (5, {"store_version"})
    assert found["store_version"]["remedy"] == "run `binance-ingest migrate`"
    assert "0002_" in found["store_version"]["detail"]
    plain(store_url, "UPDATE schema_version SET min_reader_version = 99")
    found = examined(store_url=store_url)
    assert (found["status"], failed(found)) == (5, {"store_version"})
    assert "upgrade airflow-provider-binance" in found["store_version"]["remedy"]


@pytest.mark.postgres
def test_the_rights_of_a_role(examined: Doctor, postgres_database: str) -> None:
    """Each right that is lacking is named: to make tables, to change them, to write at all."""
    admin, role = postgres_database, "doctor_" + postgres_database.rpartition("_")[2]
    guest = admin.replace("postgres@", f"{role}@")
    database = admin.rpartition("/")[2]
    try:
        plain(admin, f"CREATE ROLE {role} LOGIN")
        found = examined(store_url=guest)
        assert (found["status"], failed(found)) == (5, {"store", "weight_budget"})
        assert "migrate --sql" in found["weight_budget"]["remedy"]
        assert "may not CREATE in schema public" in found["store"]["detail"]
        assert "migrate --sql" in found["store"]["remedy"]
        assert "CREATE on database" in examined(store_url=guest, store_schema="mine")["store"]["detail"]
        made(admin)
        found = examined(store_url=guest, store_schema="public")
        assert "the role may not SELECT" in found["store"]["detail"]
        plain(admin, f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
        plain(admin, f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC")
        detail = examined(store_url=guest, store_schema="public")["store"]["detail"]
        for right in ("INSERT on klines_data", "DELETE on coverage", f"TEMPORARY on database {database}"):
            assert right in detail
        plain(admin, f"GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}")
        plain(admin, f"GRANT TEMPORARY ON DATABASE {database} TO {role}")
        assert failed(examined(store_url=guest, store_schema="public")) == {"weight_budget"}
        plain(admin, budget_sql())
        plain(admin, f"GRANT USAGE ON SCHEMA binance_budget TO {role}")
        plain(admin, f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA binance_budget TO {role}")
        found = examined(store_url=guest, store_schema="public")
        assert (found["status"], failed(found)) == (0, set())
        plain(admin, f'ALTER DATABASE "{database}" SET default_transaction_read_only = on')
        assert "read-only" in examined(store_url=admin, store_schema="public")["store"]["detail"]
    finally:
        plain(admin, f"SET transaction_read_only = off; DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_server_that_is_not_there(examined: Doctor) -> None:
    """And its password is not told."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    found = examined(store_url=f"postgresql+psycopg://u:hush@127.0.0.1:{port}/market")
    assert (found["status"], failed(found)) == (5, {"store", "weight_budget"})
    assert f"127.0.0.1:{port}" in found["store"]["detail"]
    assert "hush" not in str(found)
