"""Where a process that makes shared events is found, and whether it still lives. What differs between systems is here."""

from __future__ import annotations

import _socket
import errno
import os
import stat
import sys
import tempfile
from contextlib import suppress
from importlib import import_module
from typing import Any, NamedTuple

from fastevent.shared._sockets import Socket, for_address

BACKLOG = 1_024
NOBODY_LISTENS = {errno.ECONNREFUSED, errno.ENOTSOCK}
NO_ADDRESS = {errno.ENOENT, errno.ENOTDIR}

# What a system has. A test switches these off.
HAS_PATHS = hasattr(_socket, "AF_UNIX") and sys.platform != "win32"  # Unix sockets
HAS_NAMES = sys.platform == "linux"  # Unix sockets without a file, which no cleaner of directories removes
HAS_PROC = sys.platform == "linux"  # says when a process began
#: Elsewhere, a process whose queue of connections is full refuses, too.
REFUSAL_IS_CERTAIN = sys.platform == "linux"
#: Elsewhere, closing a socket before all is read from it takes back what was sent.
SENT_IS_KEPT = sys.platform != "win32"


class Home(NamedTuple):
    """A process, or one of its interpreters, that makes shared events. It goes with every event that is sent."""

    pid: int
    start: str
    """When the process began, as the kernel counts it; "" where that is not known."""
    interpreter: int
    """0 for the main one."""
    spaces: tuple[int, int]
    """The namespaces of its process number and of its network; 0 where there are none."""
    address: Any
    """The path of a Unix socket, its name, or a host and a port."""
    name: str
    """A second address: the name of a Unix socket, or ""."""
    key: bytes

    def __str__(self) -> str:
        process = f"process {self.pid}"
        return f"interpreter {self.interpreter} of {process}" if self.interpreter else process

    def addresses(self) -> list[Any]:
        return [self.address, self.name] if self.name and _spaces()[1] == self.spaces[1] else [self.address]

    def lives(self) -> bool:
        """Return False if it is certain that the process, or the interpreter, has ended."""
        if self.spaces[0] != _spaces()[0]:  # its number means another process here
            return True
        if self.pid == os.getpid() and self.start in ("", _start(self.pid)):
            return _interpreter_lives(self.interpreter)
        start = _start(self.pid)
        return _process_lives(self.pid) if start is None else start in ("", self.start)


def connect(address: Any) -> Socket:
    """Raises `OSError`."""
    sock = for_address(address)
    try:
        code = sock.connect(address)
        if code:
            raise OSError(code, os.strerror(code))
    except BaseException:
        sock.close()
        raise
    return sock


class Listener:
    """The sockets at which this process is found."""

    def __init__(self) -> None:
        self.directory = ""
        self.sockets: dict[Any, Socket] = {}
        name = f"\0fastevent-{os.urandom(16).hex()}" if HAS_NAMES else ""
        addresses = [name] if name else []
        try:
            if not HAS_PATHS:
                raise OSError("no Unix sockets")
            self.directory = tempfile.mkdtemp(prefix="fastevent-")  # for this user alone
            path = os.path.join(self.directory, "socket")
            self.sockets[path] = _listen(path)
            addresses.insert(0, path)
        except OSError:  # also if no directory can be written, or if a path is too long
            self.remove()
            self.directory = ""
            self.sockets.clear()
        try:
            if name:
                self.sockets[name] = _listen(name)
            elif not addresses:
                listener = _listen(("127.0.0.1", 0))
                addresses = [listener.address()]
                self.sockets[addresses[0]] = listener
        except BaseException:
            self.close()
            raise
        address, *names = addresses
        spare = names[0] if names else ""
        self.home = Home(os.getpid(), _start(os.getpid()) or "", _INTERPRETER, _spaces(), address, spare, os.urandom(32))

    def renew(self, address: Any) -> None:
        """Listen there again if the socket has been closed or removed by others. Raises `OSError`."""
        listener = self.sockets[address]
        is_path = bool(self.directory) and address == self.home.address
        is_there = self._is_there() if is_path else True
        if listener.fileno() != -1 and is_there:
            return
        listener.close()
        if is_path:
            with suppress(FileNotFoundError):
                os.unlink(address)
        self.sockets[address] = _listen(address)

    def _is_there(self) -> bool:
        """Return whether the address is there, and keep it from looking old. Make the directory if it is missing."""
        try:
            os.utime(self.directory)
            os.utime(self.home.address)
            return True
        except PermissionError:  # this process has given up its rights, and can only go on listening there
            return True
        except OSError:
            with suppress(FileExistsError):
                os.mkdir(self.directory, 0o700)
            status = os.lstat(self.directory)
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
                raise OSError(errno.EEXIST, "another user has made the directory", self.directory) from None
            os.chmod(self.directory, 0o700)
            return False

    def close(self) -> None:
        """Close the sockets. What is in the directory stays."""
        for listener in list(self.sockets.values()):
            listener.close()

    def remove(self) -> None:
        self.close()
        if self.directory:
            for remove, path in ((os.unlink, os.path.join(self.directory, "socket")), (os.rmdir, self.directory)):
                with suppress(OSError):
                    remove(path)


def _listen(address: Any) -> Socket:
    sock = for_address(address)
    try:
        sock.listen(address, BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


# Which process, and whether it lives


_last_spaces = 0, 0


def _spaces() -> tuple[int, int]:
    """Return the namespaces of this process, or those that it last knew: after a `chroot()` it may not see them."""
    global _last_spaces
    with suppress(OSError):
        _last_spaces = os.stat("/proc/self/ns/pid").st_ino, os.stat("/proc/self/ns/net").st_ino
    return _last_spaces


_spaces()


def _start(pid: int) -> str | None:
    """Return when a process began, "dead" if it is one that has ended, and None if the system does not say."""
    if not HAS_PROC:
        return None
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return "dead" if fields[0] in (b"Z", b"X") else fields[19].decode()
    except (OSError, IndexError):
        return None


if sys.platform == "win32":
    import _winapi

    def _process_lives(pid: int) -> bool:
        try:
            handle = _winapi.OpenProcess(0x10_0000, False, pid)  # SYNCHRONIZE
        except OSError as error:
            return error.winerror != 87  # there is no such process
        try:
            return bool(_winapi.WaitForSingleObject(handle, 0) == 258)  # it has not ended
        finally:
            _winapi.CloseHandle(handle)

else:

    def _process_lives(pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except OSError:  # it is another user's
            pass
        return True


def _interpreters() -> Any:
    for module in "_interpreters", "_xxsubinterpreters":
        with suppress(ImportError):
            return import_module(module)
    return None


_interpreters_of_process = _interpreters()


def _id(interpreter: Any) -> int:
    return int(interpreter[0] if isinstance(interpreter, tuple) else interpreter)


#: The number of this one. A debug build of Python 3.11 ends if no process has asked for it before the fork that made this one.
_INTERPRETER = 0 if _interpreters_of_process is None else _id(_interpreters_of_process.get_current())


def _interpreter_lives(interpreter: int) -> bool:
    if _interpreters_of_process is None:
        return True
    return interpreter in [_id(each) for each in _interpreters_of_process.list_all()]
