"""One training run at a time in a folder: a lock file that a killed run does not leave behind."""

import contextlib
import datetime
import fcntl
import json
import os
import socket
from collections.abc import Iterator

from errors import InputError

LOCK_NAME = "train.lock"


@contextlib.contextmanager
def hold(log_root: str) -> Iterator[str | None]:
    """Holds the lock of `log_root` while the block runs.

    The file names its holder: host, process and start time. On one host the kernel's lock on the
    file says whether the holder lives, so a recycled process number deceives nobody; from another
    host nothing can tell.

    Args:
      log_root: folder, made where missing.

    Yields:
      None, or one line that says whose lock was taken over: a run of this host that was killed.

    Raises:
      InputError: another run of this host holds the lock, or one of another host may.
    """
    os.makedirs(log_root, exist_ok=True)
    path = os.path.join(log_root, LOCK_NAME)
    with _open_locked(path) as file:
        holder = _parse(file.read())
        # flock does not reach over every network file system: having got it proves nothing there.
        if holder and holder["host"] != socket.gethostname():
            raise InputError(
                f"expected that no other run writes to {log_root}: delete {path} if the one of host "
                f"{holder['host']} is dead. Received: a lock of {_words(holder)}.")
        try:
            file.seek(0)
            file.truncate()
            json.dump(_own(), file)
            file.flush()
            yield f"Taken over from {_words(holder)}, which is dead: {path}." if holder else None
        finally:
            # Deleted by hand it may be, and another run's stand there: that one stays.
            if _is_at(file, path):
                os.unlink(path)


def _open_locked(path):
    """The file, locked by this process; InputError where another process has it."""
    while True:
        # Not "w", which would wipe out the holder's name before anybody knows whether it lives.
        file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 the caller closes it
        file.seek(0)
        try:
            # The kernel gives up the lock of a process that dies, of SIGKILL, too; that a file
            # exists would say nothing.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _parse(file.read())
            file.close()
            raise InputError(f"expected that no other run writes to {os.path.dirname(path)}. "
                             f"Received: {path} of {_words(holder)}, which is running.") from None
        # The holder before may have deleted it between our opening and our locking.
        if _is_at(file, path):
            return file
        file.close()


def _is_at(file, path):
    """Whether `path` still names the open file."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    return False


def _own():
    started = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": started}


def _parse(text):
    """What a lock file says of its holder; None when it is new."""
    if not text:
        return None
    try:
        holder = json.loads(text)
        return {name: holder[name] for name in ("host", "pid", "started")}
    except (ValueError, KeyError, TypeError):
        # A lock all the same: an unknown host is another host, and the user is asked.
        return {"host": "unknown", "pid": "unknown", "started": "unknown"}


def _words(holder):
    if not holder:
        return "a run that has just begun"
    return f"process {holder['pid']} on host {holder['host']}, started {holder['started']}"
