"""An example of a notifier: tell a chat or a webhook what is missing and could not be explained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from airflow.sdk import BaseHook, BaseNotifier

if TYPE_CHECKING:
    from airflow.sdk import Context


class GapNotifier(BaseNotifier):
    """Posts `{"text": message}` to a webhook, as chat services take it; without a connection it only logs.

    To be given as `on_failure_callback` of a task with `on_gap="fail"`; `{{ exception }}` then names the first of what
    is missing.

    Args:
        conn_id: connection whose host is the webhook's URL; its password, if any, is put behind it after a `/`.
        message: the text, templated.
        timeout: seconds that the webhook has to answer.
    """

    template_fields: Sequence[str] = ("message",)

    def __init__(
        self,
        conn_id: str | None = None,
        *,
        message: str = "{{ ti.dag_id }} {{ run_id }}, task {{ ti.task_id }}: {{ exception }}",
        timeout: float = 10,
    ) -> None:
        super().__init__()
        self.conn_id = conn_id
        self.message = message
        self.timeout = timeout

    def notify(self, context: Context) -> None:
        """Log the message, and post it."""
        self.log.warning(self.message)
        if self.conn_id is None:
            return
        import requests

        connection = BaseHook.get_connection(self.conn_id)
        host = connection.host or ""
        url = host if "://" in host else f"{connection.conn_type or 'https'}://{host}"
        if connection.port:
            url += f":{connection.port}"
        if connection.password:
            url = f"{url.rstrip('/')}/{connection.password}"
        try:
            answer = requests.post(url, json={"text": self.message}, timeout=self.timeout)
        except requests.RequestException as error:  # its text has the URL, and so the password
            self.log.error("the webhook of connection %s cannot be reached: %s", self.conn_id, type(error).__name__)
            return
        if answer.status_code >= 300:
            self.log.error("the webhook of connection %s answered HTTP %d", self.conn_id, answer.status_code)
