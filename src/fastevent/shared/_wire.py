"""What processes say to each other: lines of words, their bounds, and the proofs that a process knows a key.

    hello NONCE            a home, at once
    greet NONCE PROOF      a follower, at once: it may send sealed lines from now on
    sealed TEXT            a follower: a line `set` that no other process can read, as long as the home has proved nothing
    prove PROOF            each of both: it knows the key, by the nonces of both
    follow 7               a follower wants to know when event 7 is set
    drop 7                 a follower holds event 7 no longer
    set 7 REASON           in both directions: event 7 is set; the reason as JSON
    got 7 8                a home, after a while: it has received that these are set
    bye                    the home ends

Nothing is parsed but by splitting it, and nothing is unpickled. The reason alone is JSON, which each
process that holds the event reads.
"""

from __future__ import annotations

import hmac
import os
from base64 import b64decode, b64encode
from hashlib import shake_256

from fastevent._reasons import decode

LONGEST_GREETING = 1_024  # bytes of a line from a process that has proved nothing, complete or not
LONGEST_LINE = 65_536  # bytes of any line

_END = b"\4"  # of a line that is whole; it stands in no word


def line(*words: bytes) -> bytes:
    """Return a line. It begins with a newline, too: where an exception left part of a line, the next one is still read."""
    return b"\n" + b" ".join(words) + _END + b"\n"


def words_of(line: bytes) -> list[bytes]:
    """Return the words of a line, of which the last one may contain spaces; none if the line was cut off."""
    return line[:-1].split(b" ", 2) if line.endswith(_END) else []


class Inbox:
    """What has been read of a connection and has not been used: the lines that follow, and the beginning of one."""

    def __init__(self) -> None:
        self._data = bytearray()

    @property
    def length(self) -> int:
        return len(self._data)

    def add(self, data: bytes) -> None:
        self._data += data

    def next_line(self, longest: int) -> bytes | None:
        """Return the next line, or None if none is whole, or one is too long."""
        length = self._data.find(b"\n", 0, longest + 1)
        if length < 0:
            return None
        line = bytes(self._data[:length])
        del self._data[: length + 1]
        return line


def set_line(number: int, reason: str | bytes) -> bytes:
    return line(b"set", b"%d" % number, reason if isinstance(reason, bytes) else reason.encode("ascii"))


def number_of(word: bytes) -> int:
    """Return the number of an event. Raises `ValueError` for any other word."""
    if len(word) > 18 or not word.isdigit():
        raise ValueError(f"{word[:20]!r} is no number of an event")
    return int(word)


def new_nonce() -> bytes:
    return os.urandom(16).hex().encode()


def proof(key: bytes, *words: object) -> bytes:
    """Return what only a process that knows the *key* can say: for this role, these nonces and this address.

    The address is that of the connection, as each side knows it. So a program that listens at one address of a home cannot pass
    on what is said there, from and to another one.
    """
    return hmac.digest(key, ascii(words).encode(), "sha256").hex().encode()


def is_proof(said: bytes, key: bytes, *words: object) -> bool:
    return hmac.compare_digest(said, proof(key, *words))


def sealed(key: bytes, line_: bytes) -> bytes:
    """Return a line from which only a process that knows the *key* reads the other one."""
    text = line_.strip(b"\n")
    nonce = os.urandom(16)
    hidden = _combined(text, key, nonce)
    return line(b"sealed", b64encode(nonce + hmac.digest(key, nonce + hidden, "sha256") + hidden))


def sealed_set(key: bytes, number: int, reason: str) -> bytes:
    return sealed(key, set_line(number, reason))


def opened(key: bytes, word: bytes) -> list[bytes]:
    """Return the words that were sealed. Raises `ValueError` if a process did it that does not know the *key*."""
    content = b64decode(word, validate=True)
    nonce, said, hidden = content[:16], content[16:48], content[48:]
    if not hmac.compare_digest(said, hmac.digest(key, nonce + hidden, "sha256")):
        raise ValueError("it was not sealed with this key")
    return words_of(_combined(hidden, key, nonce))


def _combined(text: bytes, key: bytes, nonce: bytes) -> bytes:
    stream = shake_256(b"sealed" + key + nonce).digest(len(text))
    return (int.from_bytes(text, "big") ^ int.from_bytes(stream, "big")).to_bytes(len(text), "big")


opened(b"", words_of(sealed(b"", b"imports all that this needs: after a change of rights, it may be impossible").strip())[1])


def reason_of(word: bytes) -> object:
    """Return the reason that was sent, or a text in its place."""
    try:
        return decode(word)
    except Exception:  # of whatever kind: the event is set all the same
        return "a reason that cannot be read"
