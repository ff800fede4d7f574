"""The command line of the simulator: arguments, the JSON line, a clean end."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from pathlib import Path

from airflow_provider_binance.simulator.fault_names import NAMES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the simulator's options to a parser."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 takes a free one (default)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same market (default 0)")
    parser.add_argument(
        "--symbols",
        nargs="+",
        action="extend",
        metavar="SYMBOL",
        help="[MARKET:]SYMBOL[@LISTED..[DELISTED]], e.g. BTCUSDT cm:BTCUSD_PERP spot:OLDUSDT@2019-01-01..2021-05-01",
    )
    parser.add_argument(
        "--trades-per-minute",
        type=int,
        metavar="N",
        default=120,
        help="in the long run: 100 to 4000 (default %(default)s)",
    )
    parser.add_argument("--now", metavar="ISO", help="where the clock starts (default: the real time)")
    parser.add_argument("--speed", type=float, default=1.0, help="simulated seconds per real second; 0 holds the clock")
    parser.add_argument("--replay", metavar="DIR", help="serve the recordings of this folder")
    parser.add_argument(
        "--fault", action="append", default=[], metavar="NAME[=ARG]", help=f"may be repeated; names: {', '.join(NAMES)}"
    )
    parser.add_argument("--request-log", metavar="FILE", help="append a JSON line per request received")
    parser.add_argument("--api-key", help="API key of the simulator's account (default: made up, well known)")
    parser.add_argument("--api-secret", help="its HMAC secret")
    parser.add_argument(
        "--api-public-key", metavar="FILE", help="PEM file of an RSA or Ed25519 public key, in place of the secret"
    )
    parser.add_argument(
        "--no-limits", action="store_true", help="count weight but never answer 429 or 418, and say so in exchangeInfo"
    )


def run(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM; prints one JSON line with all endpoint settings when it listens."""
    # Loaded here, so that a command line with many commands starts fast.
    from airflow_provider_binance.simulator.server import Simulator

    try:
        simulator = Simulator(
            seed=args.seed,
            symbols=args.symbols,
            trades_per_minute=args.trades_per_minute,
            now=args.now,
            speed=args.speed,
            replay=args.replay,
            faults=args.fault,
            request_log=args.request_log,
            limits=not args.no_limits,
            api_key=args.api_key,
            api_secret=args.api_secret,
            api_public_key=None if args.api_public_key is None else Path(args.api_public_key).read_text("utf-8"),
            host=args.host,
            port=args.port,
        )
    except (ValueError, OSError) as error:
        sys.stderr.write(f"simulate: {error}\n")
        return 2
    stop = threading.Event()
    received: list[int] = []

    def end(number: int, _frame: object) -> None:
        received.append(number)
        stop.set()

    previous = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with simulator:
            sys.stdout.write(json.dumps(simulator.settings) + "\n")
            sys.stdout.flush()
            stop.wait()
    except RuntimeError as error:
        sys.stderr.write(f"simulate: {error}\n")
        return 2
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return 128 + received[0] if received else 0
