"""Batches on this machine's disk, in order and bounded: what came while the store was slow or away.

A file is a batch: written under another name, flushed to the disk, then renamed. So a batch is there whole or not at
all, whatever is killed when; a half-written one is removed when the spool is opened again.
"""

from __future__ import annotations

import errno
import logging
import os
import zlib
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from airflow_provider_binance.errors import LocalStorageError

if TYPE_CHECKING:
    from filelock import BaseFileLock

log = logging.getLogger(__name__)

SUFFIX = ".batch"
WRITTEN_SUFFIX = ".writing"
DAMAGED_SUFFIX = ".damaged"
_CHECK_BYTES = 4
#: A disk gives away whole blocks: many small batches fill it as well.
_BLOCK_BYTES = 4096
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Spool:
    """A first-in, first-out queue of batches of bytes below `folder`, of one process at a time.

    One that was taken out and not dropped comes again after a crash: what drains it must be able to write it twice.

    Args:
        folder: made if it is lacking; nothing else should be kept in it.
        max_bytes: how much disk the batches may take.

    Raises:
        LocalStorageError: the folder cannot be used, or another process uses it.
    """

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self.folder = folder.expanduser().absolute()
        self.max_bytes = max_bytes
        #: Batches that could not be read back; they stay in the folder under another name.
        self.damaged = 0
        #: How much disk the batches take.
        self.used_bytes = 0
        self._lock = self._acquire()
        self._sizes: deque[tuple[int, int]] = deque()  # number, bytes on the disk
        self._read_folder()
        self._next = self._sizes[-1][0] + 1 if self._sizes else 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._sizes)

    def append(self, batch: bytes) -> bool:
        """Put `batch` behind all others; it survives whatever happens from now on. False: there is no room for it, and
        nothing of it was kept.

        Raises:
            LocalStorageError: the disk fails in another way than being full.
        """
        size = _on_disk(len(batch))
        if self.used_bytes + size > self.max_bytes:
            return False
        path = self._path(self._next)
        written = path.with_suffix(WRITTEN_SUFFIX)
        try:
            with written.open("wb") as file:
                file.write(zlib.crc32(batch).to_bytes(_CHECK_BYTES, "big"))
                file.write(batch)
                file.flush()
                os.fsync(file.fileno())
            written.replace(path)
            self._sync_folder()
        except OSError as error:
            for leftover in (written, path):
                leftover.unlink(missing_ok=True)
            if error.errno in _FULL:
                log.warning("the disk below the spool is full: folder=%s batches=%d", self.folder, len(self))
                return False
            raise self._failed(error) from error
        self._sizes.append((self._next, size))
        self.used_bytes += size
        self._next += 1
        return True

    def oldest(self) -> bytes | None:
        """The batch that has been here longest, None if there is none. One that is damaged is put aside and logged.

        Raises:
            LocalStorageError: the disk cannot be read.
        """
        while self._sizes:
            path = self._path(self._sizes[0][0])
            try:
                content = path.read_bytes()
                check, batch = content[:_CHECK_BYTES], content[_CHECK_BYTES:]
                if len(check) == _CHECK_BYTES and zlib.crc32(batch).to_bytes(_CHECK_BYTES, "big") == check:
                    return batch
                path.replace(path.with_suffix(DAMAGED_SUFFIX))
            except FileNotFoundError:
                log.error("a batch of the spool was taken away: file=%s", path)
            except OSError as error:
                raise self._failed(error) from error
            else:
                log.error("a batch of the spool is damaged and was put aside: file=%s", path)
            self.damaged += 1
            self._forget_oldest()
        return None

    def drop(self) -> None:
        """Forget the oldest batch: it is in the store.

        Raises:
            LocalStorageError: the file cannot be removed.
        """
        number, _ = self._sizes[0]
        try:
            self._path(number).unlink(missing_ok=True)
        except OSError as error:
            raise self._failed(error) from error
        self._forget_oldest()

    def close(self) -> None:
        """Let go of the folder; the batches stay."""
        self._lock.release()

    def _acquire(self) -> BaseFileLock:
        from filelock import FileLock, Timeout  # here, so that importing the package stays cheap

        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / "lock", timeout=0)
            lock.acquire()
        except Timeout as error:
            raise LocalStorageError(
                f"another process uses the spool {self.folder}; stop it, or give this one a folder of its own",
                folder=str(self.folder),
            ) from error
        except OSError as error:
            raise self._failed(error) from error
        return lock

    def _read_folder(self) -> None:
        try:
            for leftover in self.folder.glob(f"*{WRITTEN_SUFFIX}"):
                leftover.unlink()
            found = sorted(path for path in self.folder.glob(f"*{SUFFIX}") if path.stem.isdecimal())
            self._sizes.extend((int(path.stem), _on_disk(path.stat().st_size - _CHECK_BYTES)) for path in found)
            self.used_bytes = sum(size for _, size in self._sizes)
        except OSError as error:
            self._lock.release()
            raise self._failed(error) from error

    def _forget_oldest(self) -> None:
        self.used_bytes -= self._sizes.popleft()[1]

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:016d}{SUFFIX}"

    def _sync_folder(self) -> None:
        """The name of a new file is in its folder, which is flushed by itself."""
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _failed(self, error: OSError) -> LocalStorageError:
        return LocalStorageError(f"the spool {self.folder} cannot be used: {error}", folder=str(self.folder))


def _on_disk(length: int) -> int:
    return -(-(length + _CHECK_BYTES) // _BLOCK_BYTES) * _BLOCK_BYTES
