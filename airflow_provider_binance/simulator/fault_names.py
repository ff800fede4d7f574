"""The names of all faults, apart from what they do: the command line shows them without loading the market."""

from __future__ import annotations

# Take [COUNT].
COUNTED = frozenset({"reset", "truncate", "nonjson", "429", "451", "403", "empty-page", "corrupt-zip", "bad-checksum"})
# Take VALUE[:COUNT].
VALUED = frozenset({"http", "latency", "hang", "418", "clock-skew"})
# Take a series and a range; the sources that lack those rows.
MISSING_FROM = {
    "missing-rest": frozenset({"rest"}),
    "missing-archive": frozenset({"monthly", "daily"}),
    "missing-monthly": frozenset({"monthly"}),
    "missing-daily": frozenset({"daily"}),
    "missing-both": frozenset({"rest", "monthly", "daily"}),
}
HALT = "halt"
# Takes a day.
LATE_DAY = "late-day"
NAMES = sorted(COUNTED | VALUED | MISSING_FROM.keys() | {LATE_DAY, HALT})
