"""The spool keeps what it was given, in order, whatever is killed, full or damaged."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from collections import deque
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from airflow_provider_binance.errors import LocalStorageError
from airflow_provider_binance.stream.spool import Spool

ROOM = 1 << 20

APPENDING = textwrap.dedent("""
    import sys
    from pathlib import Path
    from airflow_provider_binance.stream.spool import Spool

    spool = Spool(Path(sys.argv[1]), max_bytes=1 << 30)
    for number in range(int(sys.argv[2]), 1_000_000):
        assert spool.append(b"%d " % number * 2000)
        print(number, flush=True)
    """)


def drained(folder: Path) -> list[bytes]:
    """All that a spool has, taken out."""
    batches = []
    with Spool(folder, max_bytes=ROOM) as spool:
        while (batch := spool.oldest()) is not None:
            batches.append(batch)
            spool.drop()
    return batches


def test_batches_come_back_in_order_by_another_process(tmp_path: Path) -> None:
    with Spool(tmp_path / "a" / "spool", max_bytes=ROOM) as spool:
        assert all(spool.append(b"%d" % number) for number in range(12))
        assert spool.oldest() == spool.oldest() == b"0"
        spool.drop()
    assert drained(tmp_path / "a" / "spool") == [b"%d" % number for number in range(1, 12)]
    assert drained(tmp_path / "a" / "spool") == []


def test_a_kill_tears_nothing(tmp_path: Path) -> None:
    """What `append` returned from is there after kill -9, whole and in order; of what it was at, nothing or all."""
    told = -1
    for kill in range(5):
        command = [sys.executable, "-c", APPENDING, str(tmp_path), str(told + 1)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line, _ in zip(process.stdout, range(3 + 7 * kill), strict=False):
                told = int(line)
            process.send_signal(signal.SIGKILL)
            told = max([told, *(int(line) for line in process.stdout if line.endswith("\n"))])
        with Spool(tmp_path, max_bytes=1 << 30) as spool:
            # The next one goes on behind what is there, told or not.
            told = max(told, len(spool) - 1)
    numbers = [int(batch.split()[0]) for batch in drained(tmp_path)]
    assert numbers == list(range(told + 1))


def test_half_a_batch_is_removed(tmp_path: Path) -> None:
    (tmp_path / "0000000000000001.writing").write_bytes(b"half")
    assert drained(tmp_path) == []
    assert {path.name for path in tmp_path.iterdir()} <= {"lock"}


def test_what_is_full_refuses_and_goes_on_when_it_is_drained(tmp_path: Path) -> None:
    with Spool(tmp_path, max_bytes=3 * 4096) as spool:
        assert [spool.append(b"x" * 4000) for _ in range(4)] == [True, True, True, False]
        assert (len(spool), spool.used_bytes) == (3, 3 * 4096)
        spool.drop()
        assert spool.append(b"y")
        assert not spool.append(b"z")
    assert drained(tmp_path) == [b"x" * 4000, b"x" * 4000, b"y"]


def test_a_full_disk_is_a_full_spool(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: the kernel cuts the write short likewise."""
    script = textwrap.dedent("""
        import resource, sys
        from pathlib import Path
        from airflow_provider_binance.stream.spool import Spool

        spool = Spool(Path(sys.argv[1]), max_bytes=1 << 30)
        assert spool.append(b"fits")
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
        assert not spool.append(b"x" * 20_000)
        assert spool.append(b"fits too")
        """)
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
    assert drained(tmp_path) == [b"fits", b"fits too"]


def test_a_damaged_batch_is_put_aside_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Spool(tmp_path, max_bytes=ROOM) as spool:
        for batch in (b"first", b"second", b"third", b"fourth"):
            spool.append(batch)
        one, two, three, _ = sorted(tmp_path.glob("*.batch"))
        one.write_bytes(one.read_bytes()[:-1])
        two.write_bytes(b"")
        three.unlink()
        assert spool.oldest() == b"fourth"
        assert (spool.damaged, len(spool)) == (3, 1)
    assert [path.suffix for path in sorted(tmp_path.iterdir())] == [".damaged", ".damaged", ".batch", ""]
    assert str(one) in caplog.text


def test_two_processes_do_not_share_a_folder(tmp_path: Path) -> None:
    with Spool(tmp_path, max_bytes=ROOM), pytest.raises(LocalStorageError, match=f"another process.*{tmp_path}"):
        Spool(tmp_path, max_bytes=ROOM)
    Spool(tmp_path, max_bytes=ROOM).close()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalStorageError, match=f"{tmp_path}/file/spool"):
        Spool(tmp_path / "file" / "spool", max_bytes=ROOM)


class Spooling(RuleBasedStateMachine):
    """Any order of appending, draining, closing and opening is that of a queue."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.spool = Spool(Path(self.folder.name), max_bytes=5 * 4096)
        self.expected: deque[bytes] = deque()

    @rule(batch=st.binary(max_size=9000))
    def append(self, batch: bytes) -> None:
        blocks = sum(-(-(len(each) + 4) // 4096) for each in (*self.expected, batch))
        assert self.spool.append(batch) == (blocks <= 5)
        if blocks <= 5:
            self.expected.append(batch)

    @precondition(lambda self: self.expected)
    @rule()
    def drain_one(self) -> None:
        assert self.spool.oldest() == self.expected.popleft()
        self.spool.drop()

    @rule()
    def open_again(self) -> None:
        self.spool.close()
        self.spool = Spool(Path(self.folder.name), max_bytes=5 * 4096)

    @invariant()
    def knows_what_it_has(self) -> None:
        assert len(self.spool) == len(self.expected)
        assert self.spool.used_bytes == sum(-(-(len(each) + 4) // 4096) for each in self.expected) * 4096
        assert self.spool.oldest() == (self.expected[0] if self.expected else None)

    def teardown(self) -> None:
        self.spool.close()
        self.folder.cleanup()


TestSpooling = Spooling.TestCase
TestSpooling.settings = settings(max_examples=30, deadline=None)
