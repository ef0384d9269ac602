"""What the load generator offers, without a cluster."""

from __future__ import annotations

import asyncio
import math

import pytest

from hotstuff.bench.load import TICK_S, Load, LoadPlan
from hotstuff.bench.measure import Recorder
from hotstuff.client import ReplicaAddress

DURATION_S = 0.3


class Noted(Load):
    """Sends nothing; writes down how many transactions were in each frame and when they were due."""

    def note(self) -> list[tuple[int, float]]:
        self.noted: list[tuple[int, float]] = []
        asyncio.run(self._open_loop(self._plan.rate or 0.0))
        return self.noted

    async def _request(self, author: int, count: int, sent_s: float) -> None:
        self.noted.append((count, sent_s))


@pytest.mark.parametrize("rate", [200.0, 5000.0, 200_000.0])
def test_the_open_loop_offers_its_rate_in_one_frame_a_tick(rate: float) -> None:
    recorder = Recorder()
    recorder.started += recorder.now_s()
    plan = LoadPlan(512, rate, DURATION_S)
    noted = Noted([ReplicaAddress("127.0.0.1", 1, bytes(32), 1)], plan, recorder, tls=False).note()
    offered = sum(count for count, _ in noted)
    assert rate * DURATION_S * 0.9 <= offered <= rate * DURATION_S + 1
    assert all(due == pytest.approx(sum(count for count, _ in noted[:i]) / rate) for i, (_, due) in enumerate(noted))
    frames = DURATION_S / TICK_S * math.ceil((rate * TICK_S + 1) / plan.frame)
    assert len(noted) <= min(frames, offered) + 2
