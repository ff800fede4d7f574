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
# Strike websocket connections. Those with a value take VALUE[:COUNT], the others [COUNT].
STREAM_CUT, STREAM_RESET = "stream-cut", "stream-reset"
STREAM_STALL, STREAM_BURST, SERVER_SHUTDOWN = "stream-stall", "stream-burst", "server-shutdown"
STREAM_GAP, STREAM_DUPLICATES, STREAM_DISORDER = "stream-gap", "stream-duplicates", "stream-disorder"
STREAM_SILENT, NO_CLOSE = "stream-silent", "no-close"
CONNECTION_FAULTS = frozenset({STREAM_CUT, STREAM_RESET, STREAM_STALL, STREAM_BURST, SERVER_SHUTDOWN})
EVENT_FAULTS = frozenset({STREAM_GAP, STREAM_DUPLICATES, STREAM_DISORDER, STREAM_SILENT, NO_CLOSE})
COUNTED |= {STREAM_DUPLICATES, STREAM_DISORDER, STREAM_SILENT, NO_CLOSE}
VALUED |= CONNECTION_FAULTS | {STREAM_GAP}
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
