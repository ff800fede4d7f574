"""Lists as people write them, wherever they do: settings, command line, form, template, connection, Python."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

#: The one name that has blanks: every perpetual contract that trades now.
PERPETUALS = "all trading perpetuals"
_WORDS = PERPETUALS.split()


def listed(value: Any) -> list[str]:
    """The names in `value`: a text separated by commas or blanks, JSON (or Python's spelling of a list, as a template
    renders it), or several such texts. None and empty names are left out, `PERPETUALS` is one name.

    Raises:
        ValueError: JSON that is cut short, or something that is neither text nor list.
    """
    names = _listed(value)
    for at in reversed(range(len(names) - len(_WORDS) + 1)):
        if [name.lower() for name in names[at : at + len(_WORDS)]] == _WORDS:
            names[at : at + len(_WORDS)] = [PERPETUALS]
    return names


def _listed(value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str):
        text = value.strip()
        if not text.startswith("["):
            return text.replace(",", " ").split()
        try:
            value = json.loads(text.replace("'", '"'))
        except ValueError:
            raise ValueError("is no list: give JSON, or names separated by commas") from None
    if isinstance(value, dict | bytes) or not isinstance(value, Iterable):
        raise ValueError(f"is no list, but of type {type(value).__name__}: give names separated by commas")
    return [name for item in value for name in _listed(item if isinstance(item, str | None) else _plain(item))]


def _plain(item: Any) -> str:
    """A number among names, such as the symbol 4 of an unquoted YAML list, is its text; nothing else is one."""
    if isinstance(item, int | float) and not isinstance(item, bool):
        return str(item)
    raise ValueError(f"has an entry of type {type(item).__name__}: give names only")
