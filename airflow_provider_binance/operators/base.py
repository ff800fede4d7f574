"""What the operators share: errors as Airflow wants them, and an orderly end of a task that is killed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from airflow.sdk import BaseOperator

from airflow_provider_binance.errors import IngestError


class IngestOperator(BaseOperator):
    """Base of operators that call the ingest core: `with self.ingesting():` goes around that call."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._is_ingesting = False

    @contextmanager
    def ingesting(self) -> Iterator[None]:
        """Whatever ends the block is told to Airflow in its words.

        Raises:
            AirflowFailException: for an IngestError that no retry can help.
            IngestError: one that a retry may help.
            AirflowException: the task was killed; a retry goes on from what was committed.
        """
        from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowTaskTerminated

        self._is_ingesting = True
        try:
            yield
        except IngestError as error:
            if error.retryable:
                raise
            raise AirflowFailException(f"{type(error).__name__}: {error}") from error
        except AirflowTaskTerminated:
            # Airflow fails for good what ends by that; a task that was marked as failed stays so all the same.
            raise AirflowException(
                f"Task {self.task_id} was killed. What was committed stays, the rest was rolled back: the next try, or "
                "the task once it is cleared, goes on from there"
            ) from None
        finally:
            self._is_ingesting = False

    def on_kill(self) -> None:
        """Unwind what runs: nothing more is asked of Binance, the open transaction is rolled back, connections close.

        Airflow calls this in the main thread, from its handler of SIGTERM, so that an exception unwinds the work; what
        is still being downloaded by other threads ends with the process, which Airflow ends without waiting for them.
        """
        from airflow.sdk.exceptions import AirflowTaskTerminated

        if self._is_ingesting:
            self._is_ingesting = False  # a second signal must not disturb the way out
            raise AirflowTaskTerminated(f"task {self.task_id} was killed")
