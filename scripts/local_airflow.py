"""A real Airflow on this machine, for the demo and the end-to-end test: start it, talk to it, stop all of it.

    with LocalAirflow(home, dags_folder=...) as airflow:
        airflow.create_connection({"connection_id": "x", "conn_type": "sqlite", "host": "/tmp/x.db"})
        run = airflow.trigger("my_dag", {"param": 1})
        airflow.wait_for_run("my_dag", run)

It knows nothing of what its DAGs do.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlencode

FINISHED = ("success", "failed")


class AirflowError(RuntimeError):
    """Airflow did not start, refused a request, or did not finish in time."""


def free_ports(count: int) -> list[int]:
    """TCP ports that nobody listens on, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


class LocalAirflow:
    """`airflow standalone` in its own home, on free ports, in a session of its own; a context manager.

    Args:
        home: AIRFLOW_HOME, made if it is not there; everything that Airflow writes lies below it.
        dags_folder: folder of DAG files.
        environment: more environment variables of all of Airflow's processes.
        say: told what is going on.
    """

    def __init__(
        self,
        home: Path,
        *,
        dags_folder: Path,
        environment: Mapping[str, str] | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.home = home.absolute()
        self.log_file = self.home / "standalone.log"
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None
        port, worker_log, trigger_log = free_ports(3)
        self.url = f"http://127.0.0.1:{port}"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
        inherited.pop("PYTHONDONTWRITEBYTECODE", None)
        self.environment = {
            **inherited,
            # Airflow starts its components as plain `airflow`.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags_folder.absolute()),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "2",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(64),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(worker_log),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(trigger_log),
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            **(environment or {}),
        }

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def session(self) -> int:
        """Id of the process session that holds every process of this Airflow."""
        if self._process is None:
            raise AirflowError("Airflow is not running")
        return self._process.pid

    def start(self, *, timeout_seconds: float = 180) -> None:
        """Start all components and wait until they call themselves healthy."""
        self.home.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "airflow", "standalone"]
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env=self.environment,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._wait(self._is_healthy, "its components are not healthy", timeout_seconds)

    def stop(self, *, timeout_seconds: float = 30) -> None:
        """Stop every process of the session: asked first, then killed. Safe to call twice."""
        process, self._process = self._process, None
        if process is None:
            return
        session = process.pid
        # Ctrl-C for the parent, which tells its children; the others would otherwise be orphans of a SIGTERM.
        with suppress(ProcessLookupError):
            os.kill(session, signal.SIGINT)
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline and (process.poll() is None or session_members(session)):
            if process.poll() is not None:
                _signal_session(session, signal.SIGTERM)
            time.sleep(0.25)
        _signal_session(session, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON answer of the public REST interface; raises AirflowError with Airflow's own words."""
        for attempt in range(5):
            request = urllib.request.Request(  # always http to our own port
                f"{self.url}{path}",
                method=method,
                data=None if body is None else json.dumps(body).encode(),
                headers={"Content-Type": "application/json"},
            )
            try:
                with urllib.request.urlopen(request, timeout=30) as response:
                    return json.loads(response.read() or b"null")
            except urllib.error.HTTPError as error:
                # SQLite has one writer: a busy moment is a 5xx, and the same call succeeds a little later.
                if error.code < 500 or attempt == 4:
                    detail = error.read().decode(errors="replace")[:2000]
                    raise AirflowError(f"{method} {path}: HTTP {error.code}: {detail}") from None
            except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
                if attempt == 4:
                    raise AirflowError(f"{method} {path}: {error}") from None
            time.sleep(1 + attempt)
        raise AssertionError("unreachable")

    def create_connection(self, connection: Mapping[str, Any]) -> None:
        """Create an Airflow connection, as `POST /api/v2/connections` takes it (`extra` may be a mapping)."""
        body = dict(connection)
        if isinstance(body.get("extra"), Mapping):
            body["extra"] = json.dumps(body["extra"])
        self.call("POST", "/api/v2/connections", body)

    def set_variable(self, key: str, value: Any) -> None:
        """Create an Airflow variable holding `value` as JSON."""
        self.call("POST", "/api/v2/variables", {"key": key, "value": json.dumps(value)})

    def wait_for_dags(self, *dag_ids: str, timeout_seconds: float = 120) -> None:
        """Wait until Airflow has parsed these DAGs; raises AirflowError on an import error."""

        def parsed() -> bool:
            if errors := self.call("GET", "/api/v2/importErrors")["import_errors"]:
                raise AirflowError(f"{errors[0]['filename']}: {errors[0]['stack_trace']}")
            return {dag["dag_id"] for dag in self.call("GET", "/api/v2/dags")["dags"]}.issuperset(dag_ids)

        self._wait(parsed, f"it has not parsed {', '.join(dag_ids)}", timeout_seconds)

    def unpause(self, *dag_ids: str) -> None:
        """Let the scheduler start runs of these DAGs."""
        for dag_id in dag_ids:
            self.call("PATCH", f"/api/v2/dags/{dag_id}?update_mask=is_paused", {"is_paused": False})

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None, **body: Any) -> str:
        """Start a run by hand, without a date unless `logical_date` is given; its run id."""
        body = {"logical_date": None, "conf": dict(conf or {}), **body}
        return str(self.call("POST", f"/api/v2/dags/{dag_id}/dagRuns", body)["dag_run_id"])

    def wait_for_run(self, dag_id: str, run_id: str, *, timeout_seconds: float = 300) -> str:
        """Wait until the run has ended; the state that Airflow gives it, `success` or `failed`."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}"
        self._wait(lambda: self.call("GET", path)["state"] in FINISHED, f"{dag_id} has not ended", timeout_seconds)
        return str(self.call("GET", path)["state"])

    def wait_for_runs(
        self, dag_id: str, run_type: str, *, at_least: int = 1, timeout_seconds: float = 300, **filters: str
    ) -> list[dict[str, Any]]:
        """Wait until there are runs of a type (`scheduled`, `backfill`, …) and all have ended; these, oldest first.

        `filters` are those of the REST interface, such as `logical_date_gte`.
        """
        query = urlencode({"run_type": run_type, "order_by": "run_after", "limit": 100, **filters})

        def runs() -> list[dict[str, Any]]:
            return list(self.call("GET", f"/api/v2/dags/{dag_id}/dagRuns?{query}")["dag_runs"])

        def ended() -> bool:
            found = runs()
            return len(found) >= at_least and all(run["state"] in FINISHED for run in found)

        self._wait(ended, f"the {run_type} runs of {dag_id} have not ended", timeout_seconds)
        return runs()

    def backfill(self, dag_id: str, first: str, last: str, **body: Any) -> list[str]:
        """Backfill from `first` to `last` (both included) and wait; the states of its runs."""
        body = {"dag_id": dag_id, "from_date": first, "to_date": last, "reprocess_behavior": "none", **body}
        self.call("POST", "/api/v2/backfills", {"max_active_runs": 1, **body})
        return self.backfilled(dag_id, first, last)

    def backfilled(self, dag_id: str, first: str, last: str) -> list[str]:
        """Wait for the backfill runs from `first` to `last` (both included); their states."""
        runs = self.wait_for_runs(dag_id, "backfill", logical_date_gte=first, logical_date_lte=last)
        return [str(run["state"]) for run in runs]

    def wait_until_backfills_are_closed(self, dag_id: str, *, timeout_seconds: float = 120) -> None:
        """Wait until Airflow would take another backfill of the DAG: it closes those that have ended twice a minute."""
        self._wait(
            lambda: all(
                backfill["completed_at"]
                for backfill in self.call("GET", f"/api/v2/backfills?dag_id={dag_id}")["backfills"]
            ),
            f"the last backfill of {dag_id} is not closed",
            timeout_seconds,
        )

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """The run's task instances, mapped ones included."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}/taskInstances?limit=200"
        return list(self.call("GET", path)["task_instances"])

    def xcom(self, dag_id: str, run_id: str, task_id: str, *, map_index: int = -1, key: str = "return_value") -> Any:
        """What the task left in XCom."""
        run = f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}"
        path = f"{run}/taskInstances/{task_id}/xcomEntries/{key}?map_index={map_index}&deserialize=true"
        return self.call("GET", path)["value"]

    def task_logs(self) -> str:
        """All task logs so far."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.home.glob("logs/dag_id=*/**/*.log")))

    def _is_healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/api/v2/monitor/health", timeout=5) as response:
                health = json.loads(response.read())
        except (OSError, ValueError):
            return False
        needed = ("metadatabase", "scheduler", "dag_processor")
        return all((health.get(name) or {}).get("status") == "healthy" for name in needed)

    def _wait(self, ready: Callable[[], bool], missing: str, timeout_seconds: float) -> None:
        deadline = time.monotonic() + timeout_seconds
        told = time.monotonic()
        was_healthy = self._is_healthy()
        while not ready():
            if self._process is None or self._process.poll() is not None:
                raise AirflowError(f"Airflow has ended by itself; see {self.log_file}\n{self._log_tail()}")
            if time.monotonic() > deadline:
                raise AirflowError(f"after {timeout_seconds:.0f} s {missing}; see {self.log_file}\n{self._log_tail()}")
            if time.monotonic() - told > 15:
                told = time.monotonic()
                self._say(f"  … waiting ({missing})")
                if was_healthy and not self._is_healthy():
                    raise AirflowError(f"a component of Airflow has ended; see {self.log_file}\n{self._log_tail()}")
            time.sleep(0.5)

    def _log_tail(self) -> str:
        with suppress(OSError):
            return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-15:])
        return ""


def session_members(session: int) -> list[int]:
    """Processes of a session, zombies left out; from /proc where there is one, else from ps."""
    members = []
    proc = Path("/proc")
    if (proc / "self/stat").exists():
        for entry in proc.iterdir():
            if entry.name.isdigit():
                with suppress(OSError, ValueError, IndexError):
                    # After the name in parentheses: state, parent, group, session.
                    state, _, _, its_session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                    if int(its_session) == session and state != "Z":
                        members.append(int(entry.name))
        return members
    listed = subprocess.run(["ps", "-A", "-o", "pid=,sess=,pgid=,stat="], capture_output=True, text=True, check=False)
    for line in listed.stdout.splitlines():
        pid, its_session, group, state = [*line.split(), "", "", "", ""][:4]
        if str(session) in (its_session, group) and not state.startswith("Z"):
            members.append(int(pid))
    return members


def _signal_session(session: int, number: signal.Signals) -> None:
    for pid in session_members(session):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
