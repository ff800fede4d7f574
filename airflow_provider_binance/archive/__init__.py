"""The archive data.binance.vision: which files there are, fetching one, reading one."""
