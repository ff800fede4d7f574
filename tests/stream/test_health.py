"""The health port over a real socket, and the dashboard against the metrics that there are."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from airflow_provider_binance.errors import ConfigError
from airflow_provider_binance.reports import LoadReport
from airflow_provider_binance.stream.health import HealthServer
from airflow_provider_binance.stream.mending import Mender
from airflow_provider_binance.stream.metrics import PREFIX, Metrics, Numbers, names
from airflow_provider_binance.stream.spool import Spool
from airflow_provider_binance.stream.spooling import SpooledBuffer
from airflow_provider_binance.stream.standing import Standing
from airflow_provider_binance.stream.taking import Taking

DOCS = Path(__file__).resolve().parents[2] / "docs"


class Sidecar:
    """What the server asks."""

    def __init__(self) -> None:
        self.numbers = Numbers()
        self.metrics = Metrics(lambda: self.numbers)
        self.alive: list[str] = []
        self.ready: list[str] = []


@pytest.fixture
def sidecar() -> Sidecar:
    return Sidecar()


@pytest.fixture
def url(sidecar: Sidecar) -> Iterator[str]:
    with HealthServer(
        0, sidecar.metrics.registry, alive=lambda: sidecar.alive, ready=lambda: sidecar.ready, host="127.0.0.1"
    ) as server:
        yield f"http://127.0.0.1:{server.port}"


@pytest.mark.parametrize("path", ["healthz", "readyz"])
def test_problems_are_told_with_503(sidecar: Sidecar, url: str, path: str) -> None:
    assert requests.get(f"{url}/{path}", timeout=5).json() == {"ok": True, "problems": []}
    (sidecar.alive if path == "healthz" else sidecar.ready).append("the loop stands still")
    answer = requests.get(f"{url}/{path}", timeout=5)
    assert (answer.status_code, answer.json()["problems"]) == (503, ["the loop stands still"])


def test_prometheus_reads_the_metrics(sidecar: Sidecar, url: str) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    sidecar.numbers = Numbers(events={"spot": 7}, odd_frames={("um", "malformed"): 2}, last_commit=12.5)
    sidecar.metrics.committed("klines", [0.3, 0.1])
    sidecar.metrics.committed("klines", [99])
    answer = requests.get(f"{url}/metrics", timeout=5)
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    told = {sample.name: (sample.labels, sample.value) for family in families.values() for sample in family.samples}
    assert told[f"{PREFIX}_events_total"] == ({"market": "spot"}, 7)
    assert told[f"{PREFIX}_odd_frames_total"] == ({"market": "um", "kind": "malformed"}, 2)
    assert told[f"{PREFIX}_last_commit_timestamp_seconds"] == ({}, 12.5)
    assert told[f"{PREFIX}_commit_lag_seconds_count"] == ({"dataset": "klines"}, 3)
    assert told[f"{PREFIX}_commit_lag_seconds_sum"][1] == pytest.approx(99.4)
    lag = families[f"{PREFIX}_commit_lag_seconds"].samples
    buckets = {sample.labels["le"]: sample.value for sample in lag if sample.name.endswith("_bucket")}
    assert [buckets[le] for le in ("0.05", "0.1", "0.25", "0.5", "60.0", "300.0", "+Inf")] == [0, 1, 1, 2, 2, 3, 3]


def test_other_paths_say_which_there_are(url: str) -> None:
    answer = requests.get(f"{url}/", timeout=5)
    assert (answer.status_code, answer.text) == (404, "/healthz /readyz /metrics\n")


def test_who_says_nothing_does_not_hold_up_the_others(url: str) -> None:
    address = url.removeprefix("http://").split(":")
    with socket.create_connection((address[0], int(address[1]))):
        assert requests.get(f"{url}/healthz", timeout=5).ok


def test_a_port_that_is_taken_is_named(url: str) -> None:
    port = int(url.rpartition(":")[2])
    with pytest.raises(ConfigError, match=f"health port {port} cannot be used: .*name another one"):
        HealthServer(port, Metrics(Numbers).registry, alive=list, ready=list, host="127.0.0.1")
    with pytest.raises(ConfigError, match="health port 70000"):
        HealthServer(70_000, Metrics(Numbers).registry, alive=list, ready=list)


def test_dashboard_asks_for_what_there_is_and_for_all_of_it() -> None:
    dashboard = json.loads((DOCS / "grafana-dashboard.json").read_text(encoding="utf-8"))
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    expressions += [variable["definition"] for variable in dashboard["templating"]["list"] if "definition" in variable]
    asked = {name for expression in expressions for name in re.findall(rf"{PREFIX}_\w+", expression)}
    assert asked == names(Metrics(Numbers).registry)


def test_dashboard_groups_by_labels_that_the_metrics_have() -> None:
    by_market: dict[str, int] = {"spot": 1}
    full = Numbers(by_market, {("spot", "unknown"): 1}, by_market, by_market, by_market, last_commit=1,
                   reloads={"followed": 1}, silent=by_market)  # fmt: skip
    metrics = Metrics(lambda: full)
    metrics.committed("klines", [1])
    labels = {
        sample.name: set(sample.labels) | {"instance"}
        for family in metrics.registry.collect()
        for sample in family.samples
    }
    dashboard = json.loads((DOCS / "grafana-dashboard.json").read_text(encoding="utf-8"))
    for target in (target for panel in dashboard["panels"] for target in panel["targets"]):
        grouped = {label for group in re.findall(r"by \(([^)]*)\)", target["expr"]) for label in group.split(", ")}
        grouped |= set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        for name in re.findall(rf"{PREFIX}_\w+", target["expr"]):
            assert grouped <= labels[name], target["expr"]


def test_every_metric_is_documented() -> None:
    page = (DOCS / "metrics.md").read_text(encoding="utf-8")
    stems = {re.sub("_(bucket|sum|count)$", "", name) for name in names(Metrics(Numbers).registry)}
    assert {name for name in stems if f"`{name}`" not in page} == set()


def test_what_the_spool_takes_of_the_disk_is_told(tmp_path: Path) -> None:
    with Spool(tmp_path, max_bytes=1 << 20) as spool:
        mender = Mender(lambda **order: LoadReport(()))
        standing = Standing(SpooledBuffer(10, spool), mender, Taking(lambda items: None, mender.ask))
        assert (standing.numbers().spool, standing.numbers().spool_bytes) == (0, 0)
        assert spool.append(b"x" * 5000)
        numbers = standing.numbers()
        assert (numbers.spool, numbers.spool_bytes, numbers.spool_damaged) == (1, spool.used_bytes, 0)
        assert numbers.spool_bytes >= 5000
