"""Every exception that `hotstuff` raises, in one tree.

HotstuffError
├── InvalidMessage        a peer's or a client's fault: costs that peer, never the node
│   ├── InvalidEncoding   the bytes are not the canonical encoding of any value
│   └── InvalidSignature  a signature, key or proof does not verify
├── ConfigError           the operator's mistake: names the field, what was given, what is allowed
├── StorageError          the data directory cannot be used as asked
│   ├── DataDirLocked     another process uses it
│   ├── DataDirMismatch   it belongs to another network, validator or format
│   ├── CorruptRecord     a checksum does not match
│   ├── DiskFull          no space left; nothing was written; safe to try again later
│   └── StorageFailed     write or sync failed: what is on disk is unknown, the node must stop
├── ClientError           what a caller of the client library sees
│   ├── RequestTimeout    no f+1 matching answers in time: the outcome is unknown
│   ├── NotConnected      no replica could be reached
│   └── TooManyGaps       not executed: too many earlier requests of this client never arrived
└── InvariantViolation    our own bug or more faults than tolerated: stop loudly, stay stopped
"""

from __future__ import annotations


class HotstuffError(Exception):
    """Base of all errors of this package."""


class InvalidMessage(HotstuffError):
    """Bad input from a peer or client. It costs the sender, it never stops the node."""


class InvalidEncoding(InvalidMessage):
    """Bytes that are not the canonical encoding of a value."""


class InvalidSignature(InvalidMessage):
    """A key, signature or certificate that does not decode or does not verify."""


class ConfigError(HotstuffError):
    """A mistake in a file or argument the operator wrote.

    The text always reads: ``field: got <value>, allowed: <what is allowed>``.
    """

    def __init__(self, field: str, given: object, allowed: str) -> None:
        super().__init__(f"{field}: got {given!r}, allowed: {allowed}")
        self.field = field
        self.given = given
        self.allowed = allowed


class StorageError(HotstuffError):
    """The data directory cannot be used as asked."""


class DataDirLocked(StorageError):
    """Another process has this data directory open."""


class DataDirMismatch(StorageError):
    """The data directory belongs to another network, validator or format version."""


class CorruptRecord(StorageError):
    """A stored value does not match its checksum."""


class DiskFull(StorageError):
    """No space left. The transaction was rolled back whole, so trying again later is safe."""


class StorageFailed(StorageError):
    """A write or sync failed for a reason other than space. What is on disk is unknown: stop."""


class ClientError(HotstuffError):
    """What a caller of the client library sees."""


class RequestTimeout(ClientError):
    """No f+1 matching answers arrived in time. Whether the transactions commit is unknown."""


class NotConnected(ClientError):
    """No replica could be reached."""


class TooManyGaps(ClientError):
    """The replicas did not execute the transactions: too many earlier numbers of this client are still missing.

    That happens after many requests whose outcome is unknown. Go on with a new client id.
    """


class InvariantViolation(HotstuffError):
    """Our own bug, or more faults than the protocol tolerates. Never caught, never continued from."""
