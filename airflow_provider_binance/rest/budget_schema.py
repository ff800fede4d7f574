"""The weight budget's tables in PostgreSQL, for those who create them themselves; needs no driver."""

from __future__ import annotations

#: What the budget needs, for a role that may create it. Not in the store's schema: stores of several schemas in one
#: database are behind one IP address all the same.
DDL = (
    "CREATE SCHEMA IF NOT EXISTS binance_budget",
    # Room on the page for new versions of a row, so that a busy one stays small without waiting for a vacuum.
    """CREATE TABLE IF NOT EXISTS binance_budget.pools (
    key text PRIMARY KEY,
    value text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 10)""",
    """CREATE UNLOGGED TABLE IF NOT EXISTS binance_budget.cache (
    key text PRIMARY KEY,
    value bytea NOT NULL,
    put_at timestamptz NOT NULL
)""",
)


def budget_sql() -> str:
    """The statements as a script, to be run by a role that may create a schema."""
    return "-- The weight budget (rate_limit_store=auto)\n" + "".join(f"{statement};\n" for statement in DDL)
