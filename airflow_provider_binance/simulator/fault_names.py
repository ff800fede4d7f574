"""The names of all faults, apart from what they do: the command line shows them without loading the market."""

from __future__ import annotations

# Take [COUNT].
COUNTED = frozenset(
    {
        "reset",
        "truncate",
        "nonjson",
        "429",
        "451",
        "403",
        "overloaded",
        "empty-page",
        "duplicates",
        "disorder",
        "corrupt-zip",
        "bad-checksum",
        "no-retry-after",
        "no-weight-header",
        "gzip",
    }
)
# Take VALUE[:COUNT].
VALUED = frozenset(
    {"http", "latency", "jitter", "hang", "slow-body", "418", "clock-skew", "wrong-date", "short-listing"}
)
# Take a series and a range; the sources that lack those rows.
MISSING_FROM = {
    "missing-rest": frozenset({"rest"}),
    "missing-archive": frozenset({"monthly", "daily"}),
    "missing-monthly": frozenset({"monthly"}),
    "missing-daily": frozenset({"daily"}),
    "missing-both": frozenset({"rest", "monthly", "daily"}),
}
HALT = "halt"
VOIDED = "voided"
# Take a series and a range; what is wrong with the archive files that have such rows.
DUPLICATED, DISORDERED, ZERO_QUANTITY, WRONG_DAY = "duplicated", "disordered", "zero-quantity", "wrong-day"
CORRECTED, REPUBLISHED = "corrected", "republished"
ALTERATIONS = frozenset({DUPLICATED, DISORDERED, ZERO_QUANTITY, WRONG_DAY, CORRECTED, REPUBLISHED})
# Take a day, or a month.
LATE_DAY, LATE_MONTH, STALE_LISTING = "late-day", "late-month", "stale-listing"
NAMES = sorted(
    COUNTED | VALUED | MISSING_FROM.keys() | ALTERATIONS | {LATE_DAY, LATE_MONTH, STALE_LISTING, HALT, VOIDED}
)
