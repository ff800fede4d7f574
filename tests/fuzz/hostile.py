"""Words that no sane user gives, for every place where a user gives one.

What is taken at its word is done, so that none of them names a place that exists outside the tests' own folders.
"""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

#: `make soak` sets more.
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))

WORDS = (
    "", " ", "'", '"', "`", ";", '\\', "\n", "\x00", "\x1b[31m", "\udcff", "%", "%s", "%(x)s", "{}", "{{ x }}",
    "${HOME}", "x'; DROP TABLE klines_data; --", "BTCUSDT' OR '1'='1", 'BTCUSDT"); DELETE FROM coverage; --',
    "../../notes.txt", "/dev/null/x", "//proc/x", "..", "~", "-", "--", "---json", "-vvv", "@file", "*", "?", "**", "[",
    "[A-Z]*", "btc/usdt", "BTC-USDT", "btcusdt ", "币安人生USDT", "\u216f\u216d", "\uff12\uff10\uff12\uff14-01",
    "\u0662\u0660\u0662\u0664", "\U0001d7d9m", "1M ", "1mo", "0m", "-1m", "1e3", "1_000", "0x10", "NaN", "inf",
    "-inf", "None", "null", "true", "9" * 400, "A" * 5000, "2024-13", "2024-02-30", "0000-01-01",
    "9999-12-31T23:59:60Z", "10000-01-01", "2024-01-01T00:00", "2024-01-01T00:00:00+99:00", "99999999999d",
    "-5d", "0d", "now", "listing", "spot", "um,cm", "klines", "all", "file:///proc/self/environ", "sqlite://",
    "sqlite:///", "sqlite:///:memory:", "sqlite:////dev/full", "sqlite:////proc/self/mem",
    "sqlite:///notes.txt", "sqlite:///.", "postgresql://", "postgresql+psycopg://u:p@127.0.0.1:1/x",
    "postgresql+psycopg://u:p@[::1/x", "mysql://u@h/x", "http://", "https://[", "http://127.0.0.1:99999",
    "ftp://127.0.0.1", "http://user:pass@127.0.0.1:1/x?y#z", "memory://", "redis://x:y@127.0.0.1:1",
)  # fmt: skip


def words() -> st.SearchStrategy[str]:
    """One of the known bad ones, or anything that a process can be given as an argument."""
    return st.one_of(
        st.sampled_from(WORDS), st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
    )


def values() -> st.SearchStrategy[Any]:
    """Anything that JSON can hold."""
    scalars = st.one_of(
        st.none(), st.booleans(), st.integers(-(10**20), 10**20), st.floats(allow_nan=True), words(), st.just(0)
    )
    return st.recursive(
        scalars,
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(words(), inner, max_size=3)),
        max_leaves=6,
    )


def many(examples: int) -> settings:
    """So many examples, or as many as FUZZ_EXAMPLES says; the same ones each time unless that is set."""
    return settings(
        max_examples=EXAMPLES or examples,
        deadline=None,
        derandomize=not EXAMPLES,
        phases=[Phase.explicit, Phase.generate, Phase.shrink] if EXAMPLES else [Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
