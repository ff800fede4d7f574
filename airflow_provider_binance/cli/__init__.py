"""The command line `binance-ingest`.

Exit status: 0 nothing unexplained; 2 bad arguments or input; 3 finished, but something unexplained remains; 4 Binance;
5 the store; 70 a fault of ours; 130 on SIGINT, 143 on SIGTERM.
"""

from airflow_provider_binance.cli.app import main

__all__ = ["main"]
