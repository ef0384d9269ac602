"""Every limit of this package, with its reason."""

from __future__ import annotations

from dataclasses import dataclass, field

from hotstuff.errors import ConfigError
from hotstuff.network.framing import HANDSHAKE_FRAME_BYTES, HEADER_BYTES


@dataclass(frozen=True)
class AcceptLimits:
    """How many strangers may be at the door."""

    unauthenticated_max: int = 256  # 100 validators on one machine open 198 at once; each costs up to 100 KiB of TLS
    per_address_s: float = 50.0  # a TLS handshake costs 1-2 ms, so one address can take a tenth of a core at most
    per_address_burst: int = 512  # a whole test network behind one address, restarted twice
    handshake_timeout_s: float = 5.0  # three round trips and some queueing, even across the world


@dataclass(frozen=True)
class PeerLimits:
    """What one peer may cost."""

    max_frame_bytes: int = 4 * 1024 * 1024  # kind + body; eight full batches of 512 KiB, the answer to one fetch
    max_buffered_bytes: int = 16 * 1024 * 1024  # a second at 128 Mbit/s; times 2 channels times f slow peers
    handshake_timeout_s: float = 5.0  # from dialling, or from the end of TLS, until both channels are up
    frame_timeout_s: float = 20.0  # the largest frame at 1.6 Mbit/s
    backoff_min_s: float = 0.05  # a restarted process listens again after about this
    backoff_max_s: float = 2.0  # how long a peer that is back may stay unnoticed
    strikes_max: int = 10  # more than an honest peer with another software version causes by accident
    strike_window_s: float = 60.0  # older faults are forgiven
    penalty_s: float = 5.0  # long enough to make an attack useless, short against an outage by our own mistake
    sessions_per_s: float = 1.0  # an honest dialler's long-run rate is about 1 / backoff_max_s
    sessions_burst: int = 20  # its retries while backing off, a few restarts in a row
    accept: AcceptLimits = field(default_factory=AcceptLimits)

    def __post_init__(self) -> None:
        _check_frame(self.max_frame_bytes, self.max_buffered_bytes)
        if not 0 < self.backoff_min_s <= self.backoff_max_s:
            raise ConfigError("backoff_min_s", self.backoff_min_s, f"more than 0, at most {self.backoff_max_s}")
        if self.strikes_max < 1:
            raise ConfigError("strikes_max", self.strikes_max, "at least 1")


@dataclass(frozen=True)
class ClientLimits:
    """What one client connection may cost, on either side."""

    max_frame_bytes: int = 1024 * 1024  # two batches of 512 KiB; times connections_max in the worst case
    max_buffered_bytes: int = 4 * 1024 * 1024  # answers of several batches for a client that pauses
    frame_timeout_s: float = 20.0  # the largest frame at 400 kbit/s
    connections_max: int = 256  # bounds memory at 256 x (1 + 4) MiB; put a proxy in front for more
    accept: AcceptLimits = field(default_factory=AcceptLimits)

    def __post_init__(self) -> None:
        _check_frame(self.max_frame_bytes, self.max_buffered_bytes)


def _check_frame(max_frame_bytes: int, max_buffered_bytes: int) -> None:
    largest = max_buffered_bytes - HEADER_BYTES  # else a legal frame could never be sent
    if not HANDSHAKE_FRAME_BYTES <= max_frame_bytes <= largest:
        raise ConfigError("max_frame_bytes", max_frame_bytes, f"{HANDSHAKE_FRAME_BYTES}..{largest}")
