"""The arguments of `binance-ingest`: what may be written, and nothing of what it does."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn

from airflow_provider_binance import __version__
from airflow_provider_binance.errors import InputError
from airflow_provider_binance.market import INTERVALS, Market
from airflow_provider_binance.registry import datasets
from airflow_provider_binance.texts import listed

PROGRAM = "binance-ingest"

_WINDOWS = """\
windows: a kline belongs to [START, END) by its open time. START and END are ISO times with offset
(2024-01-01T00:00:00Z), days, months (2024-01: its first instant UTC, as END too), so long before now (90m, 12h, 30d,
2w), now, or listing (START only). Without --end: now. Without --start: on from the last covered instant.
"""
_THERE = """\
Without --market, --symbol or --interval: all that the store has (forget needs market and symbols). Patterns match what
the store has. Without --start and --end: everything that is there.
"""
_FORGOTTEN = """\
What is forgotten in the middle of a series, the next repair fills again: for good, forget its beginning or its end.
"""
_STREAM = """\
What happens is written as it comes; what did not come is fetched by REST. Without --market, --symbol, --dataset and
--interval: what the section `stream` of --config FILE (or BINANCE_STREAM) selects. SIGTERM drains and exits 0. Needs
the extra [stream].
"""
_SYNC = """\
A second run finds nothing to do; one that was killed is gone on with. What was filled in late, corrected or forgotten
in the store is carried over too. The table must be there: the service's own migration makes it.

"""
_STATUS = """\
exit status: 0 nothing unexplained or different; 2 bad arguments or input; 3 finished, but something of that remains;
4 Binance unreachable, refusing or banning; 5 store error; 130 on SIGINT, 143 on SIGTERM: what was committed stays.
"""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are InputErrors, so that `--json` holds for them too."""

    def error(self, message: str) -> NoReturn:
        """Raise InputError with the way to the help."""
        raise InputError(f"{message} (see {self.prog} --help)")

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> object:
        # argparse of before 3.13 takes `--start=--` for no value at all and returns an empty list.
        if action.nargs is None and action.option_strings and arg_strings == ["--"]:
            self.error(f"argument {action.option_strings[0]}: expected a value, not '--'")
        return super()._get_values(action, arg_strings)


class _Words(argparse.Action):
    """Collects `--symbol A B --symbol C,D` as one list."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[object] | None,
        option_string: str | None = None,
    ) -> None:
        try:
            words = listed(values)
        except ValueError as error:
            raise InputError(f"{option_string} {values!r} {error}") from None
        if not words:
            raise InputError(f"{option_string} is given without a value")
        setattr(namespace, self.dest, [*(getattr(namespace, self.dest, None) or ()), *words])


def parser_for(argv: Sequence[str]) -> Parser:
    """The parser for `argv`; the simulator's own options are read only when it is called for."""
    parser = Parser(
        prog=PROGRAM,
        description="Bring Binance market data into an ingest database: complete by ledger, exact, within the limits.",
        epilog=_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _common(parser)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, text: str, epilog: str = _STATUS) -> Parser:
        sub: Parser = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            conflict_handler="resolve",
        )
        _common(sub)
        return sub

    load = command("load", "bring a window of series into the store", _WINDOWS + "\n" + _STATUS)
    _selection(load)
    _fetching(load)
    plan = command("plan", "say what load would fetch and what it costs, doing nothing", _WINDOWS + "\n" + _STATUS)
    _selection(plan)
    _fetching(plan)
    coverage = command("coverage", "say what is there: ranges, rows, gaps with reasons", _WINDOWS + "\n" + _STATUS)
    _selection(coverage)
    coverage.add_argument("--plot", metavar="FILE.png", help="draw symbols × time, gaps coloured by reason")
    repair = command("repair", "find and fill what is lacking inside what is covered", _THERE + "\n" + _STATUS)
    _selection(repair)
    _repairing(repair)
    verify = command("verify", "compare the store with itself, its ledger and Binance", _THERE + "\n" + _STATUS)
    _selection(verify)
    _verifying(verify)
    forget = command("forget", "delete rows and ledger of a selection together", _THERE + _FORGOTTEN + "\n" + _STATUS)
    _selection(forget)
    forget.add_argument("--yes", action="store_true", help="do not ask; needed where nobody can answer")
    forget.add_argument("--dry-run", action="store_true", help="only say how much it would be")
    stream = command(
        "stream", "bring what happens into the store by websocket, until SIGTERM", _STREAM + "\n" + _STATUS
    )
    _streaming(stream)
    retire = command("retire", "drop the ticks that are older than their retention; the ledger calls them retired")
    retire.add_argument("--dataset", required=True, metavar="NAME", help="a dataset other than klines")
    retire.add_argument("--days", type=int, metavar="N", help="how many days are kept (default: retention_days)")
    migrate = command("migrate", "create or upgrade the tables of the store")
    migrate.add_argument("--sql", action="store_true", help="print the DDL, for a role that may not CREATE; do nothing")
    migrate.add_argument("--dialect", choices=("postgresql", "sqlite"), help="with --sql; default: the store's")
    migrate.add_argument(
        "--compat", choices=("drl",), help="make the view that drl-trading-ingest reads; PostgreSQL only"
    )
    migrate.add_argument("--compat-schema", metavar="NAME", help="with --compat: the view's schema (default drl)")
    _volume_mode(migrate, "with --compat")
    _syncing(
        command("sync", "bring klines into the table of another service, as far as anything changed", _SYNC + _STATUS)
    )
    doctor = command("doctor", "check hosts, clock, key, weight budget, store and disk; changes nothing")
    doctor.add_argument("--market", metavar="MARKET", nargs="+", action=_Words, help="only these (default: all three)")
    dags = command("dags", "list the example DAGs, or copy them into a DAG folder")
    dags.add_argument("--copy", metavar="DIR", help="write thin DAG files there")
    dags.add_argument("--force", action="store_true", help="overwrite files that are there already")
    simulate = command("simulate", "serve a local Binance: REST of the three markets, archive with listing")
    if "simulate" in argv:
        from airflow_provider_binance.simulator.command import add_arguments

        add_arguments(simulate)
    return parser


def _common(parser: argparse.ArgumentParser) -> None:
    # SUPPRESS: an option may stand before or after the command, and the one given wins over the other's default.
    group = parser.add_argument_group("common options")
    group.add_argument(
        "--store",
        metavar="URL",
        default=argparse.SUPPRESS,
        help="ingest database: postgresql+psycopg://… or sqlite:///… "
        "(BINANCE_STORE_URL; default sqlite:///binance.db in this directory)",
    )
    group.add_argument("--config", metavar="FILE", default=argparse.SUPPRESS, help="YAML file of settings")
    group.add_argument("--testnet", action="store_true", default=argparse.SUPPRESS, help="use Binance's test hosts")
    group.add_argument(
        "--environment",
        choices=("production", "testnet", "simulator"),
        default=argparse.SUPPRESS,
        help="where the data comes from; default: told by the hosts",
    )
    group.add_argument(
        "--json",
        action="store_true",
        default=argparse.SUPPRESS,
        help="one JSON document on stdout, nothing else there",
    )
    group.add_argument(
        "-v",
        "--verbose",
        action="count",
        default=argparse.SUPPRESS,
        help="log what is done, to stderr; twice: in detail",
    )
    group.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")


def _selection(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("selection")
    group.add_argument("--market", metavar="MARKET", help=f"{', '.join(Market)}: spot, USDⓈ-M or COIN-M futures")
    names = ", ".join(entry.name for entry in datasets())
    group.add_argument("--dataset", metavar="NAME", default="klines", help=f"{names} (default klines)")
    group.add_argument(
        "--symbol",
        metavar="SYMBOL",
        nargs="+",
        action=_Words,
        help="one or more, as Binance spells them, or patterns (*USDT)",
    )
    accepted = " ".join(INTERVALS)
    group.add_argument("--interval", metavar="INTERVAL", nargs="+", action=_Words, help=f"one or more of {accepted}")
    group.add_argument("--start", metavar="START", help="first instant of the window")
    group.add_argument("--end", metavar="END", help="first instant after the window")


def _streaming(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("selection")
    group.add_argument("--market", metavar="MARKET", help=f"{', '.join(Market)}: spot, USDⓈ-M or COIN-M futures")
    group.add_argument("--dataset", metavar="NAME", nargs="+", action=_Words, help="klines (default), agg_trades, …")
    group.add_argument("--symbol", metavar="SYMBOL", nargs="+", action=_Words, help="one or more, or patterns (*USDT)")
    group.add_argument("--interval", metavar="INTERVAL", nargs="+", action=_Words, help=f"of {' '.join(INTERVALS)}")
    group.add_argument("--shard", metavar="I/N", help="the I-th of N parts of the symbols (default 1/1)")
    group.add_argument("--health-port", metavar="PORT", type=_port, help="serve /healthz, /readyz and /metrics there")
    group.add_argument(
        "--log-format", choices=("text", "json"), default="text", help="json: one object a line on stderr"
    )
    group.add_argument("--spool", metavar="DIR", help="what the store does not take in time is kept there (see docs)")
    group.add_argument("--spool-bytes", metavar="N", type=_bytes, help="at most so much (default 1 GiB; 0: no spool)")


def _fetching(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("fetching")
    group.add_argument(
        "--source",
        choices=("auto", "archive", "rest"),
        default="auto",
        help="force one source (default auto: the cheapest for each piece)",
    )
    group.add_argument("--jobs", metavar="N", type=_jobs, default=4, help="fetches that run ahead (default 4)")
    group.add_argument(
        "--connections", metavar="N", type=_jobs, default=1,
        help="series written at once, each over a connection of its own (default 1; SQLite has one)",
    )  # fmt: skip
    group.add_argument("--reload", action="store_true", help="ignore coverage: fetch and compare again")
    group.add_argument(
        "--confirm",
        action="store_true",
        help="also re-load provisional ranges whose archive file is out now, and files that were published anew",
    )


def _repairing(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("repairing")
    group.add_argument("--source", choices=("auto", "archive", "rest"), default="auto", help="force one source")
    group.add_argument("--early", action="store_true", help="ask again for what is not due yet, too")
    group.add_argument("--jobs", metavar="N", type=_jobs, default=4, help="fetches that run ahead (default 4)")


def _verifying(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("verifying")
    group.add_argument(
        "--against",
        metavar="SOURCE",
        nargs="+",
        action=_Words,
        help="archive, rest or both: fetch every row again and compare",
    )
    group.add_argument("--fix", action="store_true", help="repair what can be, from the source that gave the rows")
    group.add_argument("--adopt", action="store_true", help="take over rows that were there before the ledger")
    group.add_argument("--plot", metavar="FILE.png", help="draw symbols × time, findings coloured by whose they are")
    group.add_argument("--jobs", metavar="N", type=_jobs, default=4, help="fetches that run ahead (default 4)")


def _syncing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("service", choices=("drl",), help="whose table: drl is drl-trading-ingest's market_data")
    group = parser.add_argument_group("table")
    group.add_argument("--target", metavar="URL", help="its database, postgresql+psycopg://… (BINANCE_DRL_TARGET)")
    group.add_argument("--target-schema", metavar="NAME", default="public", help="its schema (default public)")
    group.add_argument("--create-table", action="store_true", help="make the table if it is not there, to try things")
    group.add_argument("--sql", action="store_true", help="print the DDL of what keeps how far it is; do nothing")
    group.add_argument("--full", action="store_true", help="compare every row, not only what changed since")
    _volume_mode(group, "with drl")
    group = parser.add_argument_group("selection")
    group.add_argument("--market", metavar="MARKET", help=f"{', '.join(Market)}")
    group.add_argument(
        "--symbol", metavar="SYMBOL", nargs="+", action=_Words, help="as the store has them, or patterns"
    )
    group.add_argument(
        "--timeframe", metavar="INTERVAL", nargs="+", action=_Words, help="1m 5m 15m 30m 1h 4h 1d 1w 1M"
    )  # fmt: skip


def _volume_mode(parser: argparse._ActionsContainer, when: str) -> None:
    parser.add_argument(
        "--volume-mode",
        choices=("round", "scale_1e8", "quote"),
        help=f"{when}: how volumes become whole numbers (default: as before, at first round)",
    )


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65_535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: a number from 1 to 65535, or 0 for any")
    return int(text)


def _bytes(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes: 0 or more")
    return int(text)


def _jobs(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 64):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 64")
    return int(text)
