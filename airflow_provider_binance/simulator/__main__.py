"""``python -m airflow_provider_binance.simulator``: the same as ``binance-ingest simulate``."""

from __future__ import annotations

import argparse
import sys

from airflow_provider_binance.simulator.command import add_arguments, run


def main() -> int:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m airflow_provider_binance.simulator", description=__doc__)
    add_arguments(parser)
    return run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
