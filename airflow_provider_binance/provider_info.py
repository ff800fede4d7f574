"""What Airflow reads about this package: its connection type with its form, its hooks, operators and settings."""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Provider metadata, read through the entry point `apache_airflow_provider`."""
    return {
        "package-name": "airflow-provider-binance",
        "name": "Binance",
        "description": "Binance market data in your ingest database: complete by ledger, exact, never banned.",
        "integrations": [
            {
                "integration-name": "Binance",
                "external-doc-url": "https://developers.binance.com/docs/",
                "tags": ["service"],
            }
        ],
        "hooks": [{"integration-name": "Binance", "python-modules": ["airflow_provider_binance.hooks.binance"]}],
        "operators": [
            {"integration-name": "Binance", "python-modules": ["airflow_provider_binance.operators.binance"]}
        ],
        "sensors": [{"integration-name": "Binance", "python-modules": ["airflow_provider_binance.sensors.binance"]}],
        "triggers": [{"integration-name": "Binance", "python-modules": ["airflow_provider_binance.triggers.binance"]}],
        "connection-types": [
            {
                "connection-type": "binance",
                "hook-class-name": "airflow_provider_binance.hooks.binance.BinanceHook",
                "hook-name": "Binance",
                "ui-field-behaviour": {
                    "hidden-fields": ["host", "port", "schema"],
                    "relabeling": {"login": "API key", "password": "API secret"},
                    "placeholders": {
                        "login": "empty for public market data",
                        "password": "HMAC secret; empty with a private key",
                    },
                },
                "conn-fields": {
                    "private_key": {
                        "label": "Private key",
                        "description": "RSA or Ed25519 key, in place of the API secret: PEM text or path of a file",
                        "schema": {"type": ["string", "null"], "format": "multiline"},
                    },
                    "private_key_password": {
                        "label": "Private key password",
                        "description": "Password of the private key, if it has one",
                        "schema": {"type": ["string", "null"], "format": "password"},
                    },
                    "testnet": {
                        "label": "Testnet",
                        "description": "Use Binance's test hosts of all three markets; they have no archive",
                        "schema": {"type": "boolean", "default": False},
                    },
                    "environment": {
                        "label": "Environment",
                        "description": "What the hosts below are; empty: told by the hosts themselves",
                        "schema": {"type": ["string", "null"], "enum": ["production", "testnet", "simulator", None]},
                    },
                    "markets": {
                        "label": "Markets",
                        "description": "Markets of the universe: spot, um (USD-M futures), cm (COIN-M futures)",
                        "schema": {
                            "type": ["array", "null"],
                            "items": {"type": "string"},
                            "examples": ["spot", "um", "cm"],
                        },
                    },
                    "symbols": {
                        "label": "Symbols",
                        "description": "Universe where no variable binance_universe is set; one per line, also *USDT",
                        "schema": {"type": ["array", "null"], "items": {"type": "string"}},
                    },
                    "timeframes": {
                        "label": "Timeframes",
                        "description": "Intervals of that universe, such as 1m or 1h; one per line",
                        "schema": {"type": ["array", "null"], "items": {"type": "string"}},
                    },
                    "proxies": {
                        "label": "Proxy",
                        "description": "Proxy URL, or JSON of scheme to URL",
                        "schema": {"type": ["string", "null"]},
                    },
                    "egress_id": {
                        "label": "Egress",
                        "description": "Name of the IP address that requests leave by; default: the proxy",
                        "schema": {"type": ["string", "null"]},
                    },
                    "rate_limit_store": {
                        "label": "Weight budget",
                        "description": "Where it lives: auto, file:///path, postgresql://…, redis://… or memory://",
                        "schema": {"type": ["string", "null"]},
                    },
                    "rate_limit_requests_per_minute": {
                        "label": "Weight per minute",
                        "description": "Additional cap on request weight per minute; default: Binance's own limit",
                        "schema": {"type": ["integer", "null"], "minimum": 1},
                    },
                    "retention_days": {
                        "label": "Retention of ticks",
                        "description": 'Days of a tick dataset that `retire` keeps: JSON, {"agg_trades": 90}.',
                        "schema": {"type": ["string", "null"]},
                    },
                    "kline_close_lag_seconds": {
                        "label": "Close lag",
                        "description": "A kline counts as closed this many seconds after its close_time; default 2",
                        "schema": {"type": ["number", "null"], "minimum": 0, "maximum": 60},
                    },
                    "request_timeout_seconds": {
                        "label": "Request time-out",
                        "description": "Seconds that one request may take; default 20",
                        "schema": {"type": ["number", "null"], "minimum": 1, "maximum": 300},
                    },
                    "spot_rest_url": {
                        "label": "Spot REST",
                        "description": "Default https://api.binance.com; scheme, host and optional path prefix",
                        "schema": {"type": ["string", "null"], "format": "url"},
                    },
                    "um_rest_url": {
                        "label": "USD-M REST",
                        "description": "Default https://fapi.binance.com",
                        "schema": {"type": ["string", "null"], "format": "url"},
                    },
                    "cm_rest_url": {
                        "label": "COIN-M REST",
                        "description": "Default https://dapi.binance.com",
                        "schema": {"type": ["string", "null"], "format": "url"},
                    },
                    "spot_stream_url": {
                        "label": "Spot streams",
                        "description": "Default wss://stream.binance.com:9443",
                        "schema": {"type": ["string", "null"], "format": "url"},
                    },
                    "um_stream_url": {
                        "label": "USD-M streams",
                        "description": "Default wss://fstream.binance.com",
                        "schema": {"type": ["string", "null"], "format": "url"},
                    },
                    "cm_stream_url": {
                        "label": "COIN-M streams",
                        "description": "Default wss://dstream.binance.com",
                        "schema": {"type": ["string", "null"], "format": "url"},
                    },
                    "archive_url": {
                        "label": "Archive",
                        "description": "Default https://data.binance.vision",
                        "schema": {"type": ["string", "null"], "format": "url"},
                    },
                    "archive_listing_url": {
                        "label": "Archive listing",
                        "description": "Default https://s3-ap-northeast-1.amazonaws.com/data.binance.vision",
                        "schema": {"type": ["string", "null"], "format": "url"},
                    },
                },
            }
        ],
    }
