"""An observation is of one instant and fresh, or there is none and it is said why."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finevla_runtime.motion.stamp_clock import AGREEING, StampClock
from finevla_runtime.motion.synchroniser import Freshness, Synchronised, Synchroniser

CAMERAS = ("cam_high", "cam_left_wrist", "cam_right_wrist")
FRESH = Freshness(image_age_s=0.2, joint_age_s=0.05, skew_s=0.03, freeze_frames=5)
MS = 1_000_000
# The drivers' clock has nothing to do with the robot's.
WALL_NS = 1_700_000_000_000_000_000


class Streams:
    """Three cameras at 30 Hz and two arms at 200 Hz on a clock in milliseconds."""

    def __init__(self, freshness: Freshness = FRESH) -> None:
        self.synchroniser = Synchroniser(CAMERAS, freshness)
        self.now_ms = 0
        self.silent: set[str] = set()
        self.frozen: set[str] = set()
        self.stuck: set[str] = set()
        self.late_ms = dict.fromkeys(CAMERAS, 0)
        self.wall_ns = WALL_NS
        self.rng = np.random.default_rng(0)

    def run(self, ms: int) -> Synchronised | tuple[str, ...]:
        for _ in range(ms):
            self.now_ms += 1
            if self.now_ms % 5 == 0:
                for arm in (0, 1):
                    if f"arm {arm}" not in self.silent:
                        self.synchroniser.add_joints(arm, self.now_ms * MS, np.full(7, self.now_ms / 1000))
            for number, name in enumerate(CAMERAS):
                if (self.now_ms - self.late_ms[name]) % 33 == number and name not in self.silent:
                    self._shoot(name)
        found = self.synchroniser.latest(self.now_ms * MS)
        return found if isinstance(found, Synchronised) else tuple(reason.code for reason in found)

    def _shoot(self, name: str) -> None:
        captured = 0 if name in self.stuck else (self.now_ms - self.late_ms[name]) * MS
        pixels = np.full((48, 64, 3), 7, np.uint8)
        if name not in self.frozen:
            pixels = self.rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        self.synchroniser.add_image(name, self.wall_ns + captured, self.now_ms * MS, pixels)


def seen(found: Synchronised | tuple[str, ...]) -> Synchronised:
    assert isinstance(found, Synchronised), found
    return found


def test_healthy_streams_give_one_instant() -> None:
    streams = Streams()
    found = seen(streams.run(500))
    assert set(found.images) == set(CAMERAS)
    times = np.array(list(found.image_ns.values()))
    assert np.ptp(times) <= 3 * MS
    assert found.capture_ns == times.min()
    assert 0 <= streams.now_ms * MS - found.capture_ns <= 40 * MS


@given(st.integers(100, 400))
def test_joints_are_those_of_the_instant_of_the_images(ms: int) -> None:
    streams = Streams()
    found = seen(streams.run(ms))
    # The joints count milliseconds, so they tell for which instant they are; the newest came up to 5 ms ago.
    newest_ns = (streams.now_ms - streams.now_ms % 5) * MS
    assert found.joints == pytest.approx(np.full(14, min(found.capture_ns, newest_ns) / 1e9), abs=1e-6)


def test_nothing_has_come_yet_names_every_source() -> None:
    assert Streams().run(0) == ("FV-SYN-001",) * 3 + ("FV-SYN-005",) * 2


def test_stale_observation_is_none_and_names_the_source_and_its_age() -> None:
    streams = Streams()
    seen(streams.run(300))
    streams.silent = {"cam_left_wrist"}
    assert streams.run(300) == ("FV-SYN-002",)
    [reason] = streams.synchroniser.latest(streams.now_ms * MS)  # type: ignore[misc]
    assert "cam_left_wrist" in reason.text
    assert "0.3" in reason.text
    streams.silent = set()
    seen(streams.run(100))


def test_stale_joints_are_named() -> None:
    streams = Streams()
    seen(streams.run(300))
    streams.silent = {"arm 1"}
    assert streams.run(100) == ("FV-SYN-006",)


@pytest.mark.parametrize("how", ["frozen", "stuck"])
def test_frozen_camera_is_found_by_the_same_bytes_and_by_the_same_stamp(how: str) -> None:
    streams = Streams()
    seen(streams.run(300))
    getattr(streams, how).add("cam_high")
    found = streams.run(33 * (FRESH.freeze_frames + 2))
    assert found == ("FV-SYN-003",)
    getattr(streams, how).clear()
    seen(streams.run(100))


def test_a_scene_without_noise_may_stay_the_same_when_the_check_is_off() -> None:
    streams = Streams(Freshness(0.2, 0.05, 0.03, freeze_frames=0))
    streams.frozen = set(CAMERAS)
    seen(streams.run(1000))


def test_a_camera_that_lags_is_matched_with_older_images_of_the_others() -> None:
    streams = Streams()
    streams.late_ms["cam_right_wrist"] = 66
    found = seen(streams.run(1000))
    times = np.array(list(found.image_ns.values()))
    assert np.ptp(times) <= FRESH.skew_s * 1e9


def test_cameras_that_cannot_be_matched_are_refused_with_both_names() -> None:
    streams = Streams(Freshness(0.2, 0.05, skew_s=0.0005, freeze_frames=5))
    assert streams.run(500) == ("FV-SYN-004",)
    [reason] = streams.synchroniser.latest(streams.now_ms * MS)  # type: ignore[misc]
    assert "cam_high" in reason.text
    assert "cam_right_wrist" in reason.text


def test_not_finite_joints_are_no_observation() -> None:
    streams = Streams()
    seen(streams.run(300))
    streams.synchroniser.add_joints(0, streams.now_ms * MS, np.full(7, np.nan))
    found = streams.synchroniser.latest(streams.now_ms * MS)
    assert isinstance(found, tuple)
    assert found[0].code == "FV-SYN-007"


def test_a_wall_clock_that_is_set_does_not_change_ages_and_is_counted() -> None:
    streams = Streams()
    before = seen(streams.run(500))
    streams.wall_ns -= 3_600_000_000_000
    streams.run(33 * (AGREEING + 2))
    after = seen(streams.run(300))
    assert streams.now_ms * MS - after.capture_ns <= 40 * MS
    assert after.capture_ns > before.capture_ns
    assert set(streams.synchroniser.clock_steps.values()) == {1}


@given(st.lists(st.integers(0, 80), min_size=5, max_size=60), st.integers(-(10**18), 10**18))
def test_capture_is_never_later_than_arrival_nor_later_than_it_was(delays_ms: list[int], offset_ns: int) -> None:
    clock = StampClock()
    for number, delay_ms in enumerate(delays_ms):
        captured_ns = 10**10 + number * 100 * MS
        arrived_ns = captured_ns + delay_ms * MS
        got = clock.captured_ns(offset_ns + captured_ns, arrived_ns) if offset_ns + captured_ns else arrived_ns
        # What it cannot know is the fastest delay so far.
        assert captured_ns <= got <= min(arrived_ns, captured_ns + min(delays_ms[: number + 1]) * MS)


def test_one_message_that_is_very_late_is_old_and_no_new_clock() -> None:
    clock = StampClock()
    for number in range(20):
        clock.captured_ns(number * 33 * MS + 1, number * 33 * MS + 1 + MS)
    late = clock.captured_ns(20 * 33 * MS, 20 * 33 * MS + 900 * MS)
    assert late == 20 * 33 * MS + MS
    assert clock.steps == 0


def test_a_driver_that_does_not_stamp_counts_from_arrival() -> None:
    assert StampClock(delay_s=0.02).captured_ns(0, 100 * MS) == 80 * MS
