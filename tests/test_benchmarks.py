"""The bench runs from end to end on tiny sizes, and compares its counts; nothing here looks at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import peers, processes, run, streaming
from benchmarks.workload import workload


@pytest.mark.postgres
def test_run_writes_table_and_picture(tmp_path: Path) -> None:
    """The bench asserts itself that each load read, inserted and left what it should, and that the tables agree."""
    output = tmp_path / "results"

    assert run.main(["--quick", "--files", str(tmp_path / "files"), "--output", str(output)]) == 0

    text = (output / "RESULTS.md").read_text(encoding="utf-8")
    assert "1,440 klines in 2 monthly `1h` files" in text
    assert "rows changed (the server's count) | 0, 0, 0, 0 | 0, 0, 0, 0 |" in text
    assert "| frames of 300 symbols → continuity checked → committed, ledger included, events/s | ≥ 50,000 | " in text
    assert "| load of a day of 2,000 aggregates ÷ bare COPY, our table | ≥ 0.8 | " in text
    assert (output / "ratios.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.postgres
def test_peers_are_told_beside_ours_and_one_that_cannot_be_had_is_named(postgres_database: str, tmp_path: Path) -> None:
    """The bench asserts itself that each way brought every row."""
    lacking = peers.Peer("a peer", "as shipped", "rest", "with_ccxt", ("no requirement at all",))
    url = postgres_database.replace("+psycopg", "")
    results = peers.measure(url, tmp_path / "files", 1, "1h", 1, [lacking])
    (tmp_path / "RESULTS.md").write_text("# Results\n\n## Peers\n\nof old\n\n## Last\n", encoding="utf-8")

    peers.write(tmp_path, results, 744)

    text = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| this")] == [
        "| this package, archive",
        "| this package, rest",
    ]
    assert "| a peer, as shipped | REST | PostgreSQL | — (cannot be installed here:" in text
    assert "of old" not in text
    assert text.endswith("\n\n## Last\n")
    assert (tmp_path / "peers.png").read_bytes().startswith(b"\x89PNG")


def test_workload_is_the_same_every_time(tmp_path: Path) -> None:
    made = [workload(tmp_path / name, 2, "1h") for name in ("one", "two")]

    first, second = ([work.csv(file) for file in work.files] for work in made)

    assert first == second
    assert sum(csv.count(b"\n") for csv in first) == made[0].rows == 24 * (31 + 29)


@pytest.mark.parametrize("module", ["airflow_provider_binance.ingest", "airflow_provider_binance.cli"])
def test_import_of_the_core_is_light(module: str) -> None:
    _, loaded = processes.imported(module)

    assert loaded == []


def test_websocket_clients_are_measured_on_the_same_messages(capsys: pytest.CaptureFixture[str]) -> None:
    """The client of this package asserts itself that each message became a record."""
    streaming.main(["--messages", "300", "--rounds", "1"])

    assert [line.split(" | ")[0] for line in capsys.readouterr().out.splitlines()[2:]] == [
        "| frame → record alone", *(f"| {name}" for name in streaming.CLIENTS),
    ]  # fmt: skip
