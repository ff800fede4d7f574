"""`rotated` signs requests in four threads until it is told to stop, whatever happens to its key meanwhile."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from airflow.sdk import DAG, task

with DAG("rotated", schedule=None, default_args={"retries": 0}):

    @task
    def sign() -> int:
        from airflow_provider_binance.hooks.binance import BinanceHook

        hook = BinanceHook("rotated")
        hook.get_conn()  # opened once, before the threads share it
        stop, deadline = Path(os.environ["ROTATED_STOP"]), time.monotonic() + 120

        def work(number: int) -> int:
            signed = 0
            while not stop.exists() and time.monotonic() < deadline:
                if number % 2:
                    hook.request("GET", "/sapi/v1/account/apiRestrictions", signed=True)
                else:
                    hook.get_conn().get_account_api_permissions()
                signed += 1
                time.sleep(0.05)
            return signed

        with ThreadPoolExecutor(4) as threads:
            return sum(threads.map(work, range(4)))

    sign()
