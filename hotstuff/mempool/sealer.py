"""When the open batch is closed: by size, by age or by idleness, and never by waiting for it to fill."""

from __future__ import annotations

from dataclasses import dataclass, field

from hotstuff.native import Frame
from hotstuff.types.encoding import Buffer


@dataclass
class Sealer:
    """Client frames that wait for the next batch.

    * size: `batch_bytes` are there;
    * idleness: no sealed batch of ours waits for a block, so waiting longer gains nothing (one batch a view: batches
      grow with the load by themselves);
    * age: the oldest frame is `max_age_us` old.
    """

    batch_bytes: int
    max_age_us: int
    parts: list[Buffer] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    size_bytes: int = 0
    opened_us: int = 0

    def add(self, data: Buffer, frame: Frame, now_us: int) -> None:
        """Append a client's frame, parsed and hashed already."""
        if not self.frames:
            self.opened_us = now_us
        self.parts.append(data)
        self.frames.append(frame._replace(offset=self.size_bytes))
        self.size_bytes += len(data)

    def due_us(self, *, idle: bool) -> int | None:
        """When to seal, given that no batch of ours waits for a block (`idle`)."""
        if not self.frames:
            return None
        return self.opened_us if idle or self.size_bytes >= self.batch_bytes else self.opened_us + self.max_age_us

    def take(self) -> tuple[bytes, tuple[Frame, ...]]:
        """The body of the next batch and where its frames are."""
        body, frames = b"".join(self.parts), tuple(self.frames)
        self.parts, self.frames, self.size_bytes = [], [], 0
        return body, frames
