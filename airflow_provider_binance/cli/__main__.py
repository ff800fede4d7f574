"""`python -m airflow_provider_binance.cli` is `binance-ingest`."""

import sys

from airflow_provider_binance.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
