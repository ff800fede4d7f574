"""The error tree: every class says what the caller can do, and travels between processes."""

from __future__ import annotations

import pickle

import pytest

from airflow_provider_binance import errors
from airflow_provider_binance.errors import IngestError

CLASSES = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, IngestError)]


@pytest.mark.parametrize("cls", CLASSES)
def test_every_error_is_picklable_with_its_facts(cls: type[IngestError]):
    """Airflow and process pools carry errors over."""
    error = cls("what happened", retry_after=3.5, code=-1121)
    again = pickle.loads(pickle.dumps(error))  # our own bytes
    assert type(again) is cls
    assert (str(again), again.retry_after, again.facts) == ("what happened", 3.5, {"retry_after": 3.5, "code": -1121})


@pytest.mark.parametrize("cls", CLASSES)
def test_every_error_stands_in_the_tree_of_the_docstring(cls: type[IngestError]):
    """The tree is read by users."""
    assert cls.__name__ in (errors.__doc__ or "")
    assert cls.exit_status in (2, 3, 4, 5)


def test_who_may_be_tried_again():
    """The retry policy reads these attributes."""
    retryable = {cls.__name__ for cls in CLASSES if cls.retryable}
    assert {
        "UnreachableError",
        "ThrottledError",
        "BannedError",
        "CorruptArchiveError",
        "StoreUnavailableError",
    } <= retryable
    assert not retryable & {"InputError", "AuthenticationError", "RequestRejectedError", "EnvironmentMismatchError"}
