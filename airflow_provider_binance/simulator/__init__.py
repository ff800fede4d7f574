"""A local Binance: REST of the three markets and the public archive, on one port.

The simulator knows nothing of the rest of this package and shares no code with it: its interval, weight and error
tables are its own, so that a mistake in the ingest cannot hide behind the same mistake here. Start it with
``binance-ingest simulate``, or in process with :class:`airflow_provider_binance.simulator.server.Simulator`.
"""
