"""`canary` uses every secret, for success and for failure; `leaky` lets each of them out, each way."""

import base64
import json
import logging
import os
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import quote

from airflow.sdk import DAG, task

from airflow_provider_binance.operators.binance import BinanceLoadOperator

DAY = {"start": "2026-11-18T00:00:00Z", "end": "2026-11-19T00:00:00Z"}
SERIES = {"market": "spot", "symbols": ["BTCUSDT"], "intervals": ["1h"]}

with DAG("canary", schedule=None, default_args={"retries": 0}):

    @task(multiple_outputs=False)
    def sign() -> dict[str, str]:
        from airflow_provider_binance.hooks.binance import BinanceHook

        hook = BinanceHook(store_conn_id="canary_store")
        works, told = hook.test_connection()
        account = hook.request("GET", "/api/v3/account", signed=True)
        assert hook.get_klines("BTCUSDT", "1h", DAY["start"], DAY["end"])
        shown = [hook, hook.config, hook.store_config, hook.rest, hook.get_conn(), vars(hook), account]
        for thing in shown:
            print(repr(thing), str(thing))
        logging.getLogger(__name__).debug("what is at hand: %s %r", shown, shown)
        return {"works": str(works), "told": told, "settings": str(hook.store_config), "account": str(account)}

    @task
    def refused() -> None:
        """Raises: the simulator has no such route. The request was signed, and is told of in log and exception."""
        from airflow_provider_binance.hooks.binance import BinanceHook

        BinanceHook().request("GET", "/api/v3/myTrades", {"symbol": "BTCUSDT"}, signed=True)

    sign()
    refused()
    BinanceLoadOperator(task_id="load", store_conn_id="canary_store", source="archive", **SERIES, **DAY)
    BinanceLoadOperator(task_id="lost", store_conn_id="canary_lost", **SERIES, **DAY)


with DAG("leaky", schedule=None, default_args={"retries": 0}):
    # From a file, not from a connection: what it has read from a connection Airflow would mask.
    def canaries() -> list[str]:
        known = json.loads(Path(os.environ["CANARIES"]).read_text())
        return [
            spelling
            for secret in known["secrets"]
            for spelling in (secret, quote(secret, safe=""), base64.b64encode(secret.encode()).decode())
        ]

    @task
    def log() -> None:
        for secret in canaries():
            logging.getLogger("leaky").debug("found %s", secret)

    @task
    def printed() -> None:
        print(repr({"found": canaries()}))

    @task
    def exception() -> None:
        raise RuntimeError(" ".join(canaries()))

    @task
    def xcom() -> list[str]:
        return canaries()

    @task
    def store() -> None:
        """Into the ledger, and by it into the report."""
        from airflow_provider_binance.hooks.binance import BinanceHook
        from airflow_provider_binance.records import CoverageRange, Series, State
        from airflow_provider_binance.store import open_store
        from airflow_provider_binance.windows import parse_instant

        hook = BinanceHook(store_conn_id="canary_store")
        hook.load(**SERIES, start="2026-11-19", end="2026-11-20", run_ref=" ".join(canaries()))
        series = Series("spot", "klines", "ETHUSDT", "1h")
        start_us, end_us = (parse_instant(text, now_us=lambda: 0) for text in ("2026-11-19", "2026-11-20"))
        found = CoverageRange(start_us, end_us, State.UNPUBLISHED, evidence=" ".join(canaries()), checked_at_us=0)
        with open_store(hook.store_config.store_url) as opened:
            opened.record_coverage("klines", series, [found])

    @task
    def requests() -> None:
        urls = json.loads(Path(os.environ["CANARIES"]).read_text())["urls"]
        for secret in canaries():
            for url in urls:
                request = urllib.request.Request(url, headers={"X-MBX-APIKEY": secret})
                try:
                    urllib.request.urlopen(request, timeout=10).close()
                except urllib.error.HTTPError as error:
                    error.close()

    log(), printed(), exception(), xcom(), store(), requests()
