"""From arguments and settings to the front doors, and from what they return or raise to output and exit status."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_mock import MockerFixture, MockType

from airflow_provider_binance import errors
from airflow_provider_binance.records import State
from airflow_provider_binance.reports import CoverageReport, LoadReport, PlanReport, SeriesCoverage

from .conftest import BTC, Ran, a_load, stretch, us

LOAD = ("load", "--market", "spot", "--symbol", "BTCUSDT", "--interval", "1m", "--start", "2024-01", "--end", "2024-02")
INGEST = "airflow_provider_binance.ingest"
SECRET = "s3cr3t+/=word"


@pytest.fixture
def load(mocker: MockerFixture) -> MockType:
    return mocker.patch(f"{INGEST}.load", return_value=LoadReport((a_load(),)))


@pytest.fixture
def coverage(mocker: MockerFixture) -> MockType:
    return mocker.patch(f"{INGEST}.coverage", return_value=CoverageReport())


def test_load_hands_its_arguments_on(run: Callable[..., Ran], load: MockType) -> None:
    """Every option arrives under the name of `ingest.load`."""
    ran = run(
        *LOAD, "--symbol", "eth/usdt", "--source", "rest", "--jobs", "3", "--connections", "2", "--reload", "--confirm"
    )
    assert ran.status == 0
    given = load.call_args.kwargs
    config = given.pop("config")
    assert given == {
        "market": "spot",
        "dataset": "klines",
        "symbols": ["BTCUSDT", "eth/usdt"],
        "intervals": ["1m"],
        "start": "2024-01",
        "end": "2024-02",
        "source": "rest",
        "jobs": 3,
        "connections": 2,
        "reload": True,
        "confirm": True,
        "on_progress": None,
    }
    assert config.store_url == "sqlite:///binance.db"


def test_the_store_is_given_by_option_environment_or_file(
    run: Callable[..., Ran], load: MockType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In this order; where the default lies is said."""
    (tmp_path / "c.yaml").write_text("store_url: sqlite:////file.db\ntimeframes: [1h]\nsymbols: ETHUSDT\n")

    def store_of(*words: str) -> str:
        assert run(*words).status == 0
        return str(load.call_args.kwargs["config"].store_url)

    words = (*LOAD, "--config", "c.yaml")
    assert store_of(*words) == "sqlite:////file.db"
    monkeypatch.setenv("BINANCE_STORE_URL", "sqlite:////environment.db")
    assert store_of(*words) == "sqlite:////environment.db"
    assert store_of(*words, "--store", "sqlite:////option.db") == "sqlite:////option.db"
    monkeypatch.delenv("BINANCE_STORE_URL")
    assert f"sqlite:///{tmp_path}/binance.db" in run(*LOAD).err
    assert run(*words).err == ""


def test_the_settings_universe_stands_in_for_what_is_not_given(
    run: Callable[..., Ran], load: MockType, tmp_path: Path
) -> None:
    """Market, symbols and intervals may come from the file."""
    (tmp_path / "c.yaml").write_text("markets: [um]\ntimeframes: [1h]\nsymbols: [ETHUSDT]\n")
    assert run("load", "--config", "c.yaml", "--start", "30d").status == 0
    given = load.call_args.kwargs
    assert (given["market"], given["symbols"], given["intervals"]) == ("um", ["ETHUSDT"], ["1h"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("load", "--interval", "1m"), "--symbol is missing"),
        (("load", "--symbol", "BTCUSDT"), "--interval is missing"),
        ((*LOAD, "--market", "margin"), "unknown market 'margin': use spot, um"),
        ((*LOAD, "--dataset", "ticks"), "unknown dataset 'ticks'; this version has: agg_trades book_tickers klines"),
        ((*LOAD, "--start", "2024-01-01T00:00:00"), "write 2024-01-01T00:00:00Z or"),
        ((*LOAD, "--start", "2024-02"), "the window is empty: start 2024-02-01T00:00:00Z is end"),
        ((*LOAD, "--end", "listing"), "listing is for start"),
        ((*LOAD, "--end", "soon"), "--end='soon' is no instant"),
        ((*LOAD, "--config", "none.yaml"), "cannot read the configuration file"),
        (("coverage", "--plot", "x.svg"), "call it 'x.png'"),
        (("coverage", "--plot", "no/such/x.png"), "there is no folder"),
        (("coverage", "--dataset", "ticks"), "unknown dataset 'ticks'"),
        (("migrate", "--dialect", "sqlite"), "goes with --sql"),
        (("dags", "--force"), "goes with --copy"),
    ],
)
def test_bad_input_ends_with_2_before_anything_is_asked(
    run: Callable[..., Ran], load: MockType, coverage: MockType, words: tuple[str, ...], says: str
) -> None:
    """Arguments first: the front doors are not called."""
    ran = run(*words)
    assert ran.status == 2
    assert says in ran.err
    assert ran.err.count("\n") == 1
    assert not load.called
    assert not coverage.called


def test_several_markets_in_the_settings_need_a_choice(run: Callable[..., Ran], tmp_path: Path) -> None:
    """One command loads one market."""
    (tmp_path / "c.yaml").write_text("markets: spot,um\n")
    ran = run("load", "--config", "c.yaml", "--symbol", "A", "--interval", "1m")
    assert (ran.status, "--market is missing" in ran.err) == (2, True)


ERRORS = [
    (errors.UnknownSymbolError("no such symbol"), 2),
    (errors.UnexplainedGapError("a gap"), 3),
    (errors.UnreachableError("no answer"), 4),
    (errors.BannedError("banned", retry_after=120.0), 4),
    (errors.StoreUnavailableError("locked"), 5),
    (errors.EnvironmentMismatchError("other environment"), 5),
    (RuntimeError("odd"), 70),
]


@pytest.mark.parametrize(("error", "status"), ERRORS)
def test_errors_are_one_line_a_document_and_a_status(
    run: Callable[..., Ran], load: MockType, error: Exception, status: int
) -> None:
    """Each class has its exit status; stdout has the error document and nothing else."""
    load.side_effect = error
    ran = run(*LOAD, "--json")
    assert ran.status == status
    assert ran.document["schema"] == 1
    assert ran.document["error"]["type"] == type(error).__name__
    assert ran.document["error"]["retry_after"] == getattr(error, "retry_after", None)
    assert ran.document["error"]["retryable"] is getattr(error, "retryable", False)
    assert str(error) in ran.err
    assert "Traceback" not in ran.err
    plain = run(*LOAD)
    assert (plain.status, plain.out) == (status, "")


def test_a_fault_of_ours_has_its_traceback_with_verbose_only(run: Callable[..., Ran], load: MockType) -> None:
    """Without -v one line asks for a report; a known failure never has a traceback."""
    load.side_effect = RuntimeError("odd")
    assert "report it with the output of -v" in run(*LOAD).err
    assert "Traceback" in run(*LOAD, "-v").err
    load.side_effect = errors.UnreachableError("no answer")
    assert "Traceback" not in run(*LOAD, "-v").err


@pytest.mark.parametrize("state", [State.UNPUBLISHED, State.FAILED, "uncovered"])
def test_an_unexplained_gap_ends_with_3(run: Callable[..., Ran], load: MockType, state: str) -> None:
    """And the document has it."""
    load.return_value = LoadReport((a_load(stretch("2024-01-03", "2024-01-04", state)),))
    ran = run(*LOAD, "--json")
    assert ran.status == 3
    assert ran.document["loads"][0]["gaps"][0]["state"] == state


def test_json_is_the_report_and_nothing_else(
    run: Callable[..., Ran], load: MockType, coverage: MockType, mocker: MockerFixture
) -> None:
    """One document per command, with a schema number, equal to the report's own."""
    mocker.patch(f"{INGEST}.plan", return_value=PlanReport(notes=("no archive",)))
    mocker.patch(f"{INGEST}.migrate", return_value=["0001"])
    assert run(*LOAD, "--json").document == load.return_value.to_dict()
    assert run("plan", *LOAD[1:], "--json").document == {"schema": 1, "plan": [], "notes": ["no archive"]}
    assert run("coverage", "--json").document == {"schema": 1, "coverage": []}
    assert run("migrate", "--json").document["applied"] == ["0001"]
    assert run("dags", "--json").document["schema"] == 1


def test_coverage_selects_and_merges_by_state(run: Callable[..., Ran], coverage: MockType) -> None:
    """Neighbouring ranges of one state are one; the evidence of both stays."""
    coverage.return_value = CoverageReport((
        SeriesCoverage(BTC, us("2024-01-01"), us("2024-01-05"), 10, 10, (
            stretch("2024-01-01", "2024-01-02"),
            stretch("2024-01-02", "2024-01-03"),
            stretch("2024-01-03", "2024-01-04", State.EXCHANGE_GAP, '{"archive": ["a.zip"]}'),
            stretch("2024-01-04", "2024-01-05", State.EXCHANGE_GAP, '{"archive": ["b.zip"]}'),
        )),
    ))  # fmt: skip
    ran = run("coverage", "--market", "spot", "--symbol", "BTCUSDT", "--start", "2024", "--json")
    [entry] = ran.document["coverage"]
    assert [(r["start"], r["end"], r["state"]) for r in entry["ranges"]] == [
        ("2024-01-01T00:00:00Z", "2024-01-03T00:00:00Z", "complete"),
        ("2024-01-03T00:00:00Z", "2024-01-05T00:00:00Z", "exchange_gap"),
    ]
    assert json.loads(entry["ranges"][1]["evidence"]) == {"archive": ["a.zip", "b.zip"]}
    given = coverage.call_args.kwargs
    assert (given["market"], given["symbols"], given["intervals"], given["start"]) == (
        "spot",
        ["BTCUSDT"],
        None,
        "2024",
    )


def test_coverage_draws(run: Callable[..., Ran], coverage: MockType, tmp_path: Path) -> None:
    """A PNG with the whole picture, and stdout stays pure."""
    ran = run("coverage", "--plot", "c.png", "--json")
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    assert ran.document["schema"] == 1
    assert str(tmp_path / "c.png") in ran.err


def test_migrate_prints_the_ddl_of_the_stores_dialect(run: Callable[..., Ran], mocker: MockerFixture) -> None:
    """The dialect comes from the store unless it is given; nothing is applied."""
    sql = mocker.patch("airflow_provider_binance.store.schema_sql", return_value="CREATE TABLE x ();")
    assert run("migrate", "--sql").out == "CREATE TABLE x ();\n"
    assert sql.call_args.args == ("sqlite", None)
    run("migrate", "--sql", "--store", "postgresql+psycopg://u:p@h/d")
    assert sql.call_args.args == ("postgresql", None)
    printed = run("migrate", "--sql", "--dialect", "postgresql", "--json").document["sql"]
    assert printed.startswith("CREATE TABLE x ();\n\n-- The weight budget")
    assert "CREATE SCHEMA IF NOT EXISTS binance_budget;" in printed


def test_secrets_are_never_printed(
    run: Callable[..., Ran], load: MockType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Key, secret, and passwords of store and proxy: not in errors, tracebacks, reports or logs, in any spelling."""
    from urllib.parse import quote

    monkeypatch.setenv("BINANCE_API_KEY", "KEY-" + SECRET)
    (tmp_path / "c.yaml").write_text(
        f"api_secret: 'SECRET-{SECRET}'\nproxies: 'http://user:proxy-{quote(SECRET, safe='')}@proxy:1'\n"
    )
    store = f"postgresql+psycopg://user:store-{quote(SECRET, safe='')}@db/x"

    def leak(**given: Any) -> LoadReport:
        import logging

        config = given["config"]
        plain = f"store-{SECRET} proxy-{SECRET}"
        everything = f"{plain} {store} {config.secrets()} {config.proxies} {config.api_key.get_secret_value()}"
        logging.getLogger("airflow_provider_binance.rest").warning("asking %s", everything)
        if outcomes[0] is not None:
            raise outcomes[0](everything)
        return LoadReport((a_load(stretch("2024-01-03", "2024-01-04", State.FAILED, everything)),))

    load.side_effect = leak
    outcomes: list[type[Exception] | None] = [RuntimeError, errors.StoreUnavailableError, None]
    while outcomes:
        for words in ((), ("-v",), ("--json",), ("--json", "-vv")):
            ran = run(*LOAD, "--config", "c.yaml", "--store", store, *words)
            for text in (ran.out, ran.err):
                assert SECRET not in text
                assert quote(SECRET, safe="") not in text
            assert "asking" in ran.err
        del outcomes[0]
    # Where the settings cannot be read, the store's password is masked all the same.
    ran = run(*LOAD, "--store", store, "--json", "--environment", "production", "--config", "none.yaml")
    assert quote(SECRET, safe="") not in ran.out + ran.err


def test_a_short_password_does_not_black_out_the_report(run: Callable[..., Ran], load: MockType) -> None:
    """Only free text is masked, so that a password `klines` leaves the document what it is."""
    ran = run(*LOAD, "--json", "--store", "postgresql+psycopg://u:klines@h/d")
    assert ran.document == load.return_value.to_dict()


def test_logs_go_to_stderr_by_verbosity(run: Callable[..., Ran], load: MockType) -> None:
    """Warnings always, INFO with -v, and stdout stays one document."""
    import logging

    log = logging.getLogger("airflow_provider_binance.some.room")

    def speak(**_: object) -> LoadReport:
        log.info("a detail")
        log.warning("a warning")
        return LoadReport()

    load.side_effect = speak
    quiet, loud = run(*LOAD, "--json"), run(*LOAD, "--json", "-v")
    assert "a warning" in quiet.err
    assert "a detail" not in quiet.err
    assert "a detail" in loud.err
    assert loud.document == {"schema": 1, "loads": [], "weight_used": 0}
    log.warning("nobody listens any more")
    assert "nobody" not in run("dags").err


def test_a_private_key_that_cannot_be_read_is_named(run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    """A path is no secret; what is no key is not shown."""
    monkeypatch.setenv("BINANCE_PRIVATE_KEY", "/not/there.pem")
    ran = run("plan", "--symbol", "BTCUSDT", "--interval", "1h", "--start", "2026-11")
    assert ran.status == 2
    assert "the file '/not/there.pem' cannot be read: No such file or directory" in ran.err
    monkeypatch.setenv("BINANCE_PRIVATE_KEY", "hush hush")
    ran = run("plan", "--symbol", "BTCUSDT", "--interval", "1h", "--start", "2026-11")
    assert (ran.status, "hush" in ran.err, "BINANCE_PRIVATE_KEY" in ran.err) == (2, False, True)
