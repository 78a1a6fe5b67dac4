"""Pictures, film strips and videos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.recording.film_strip import film_strip, spread
from finevla_runtime.recording.png import decode_picture, decode_png, encode_png
from finevla_runtime.recording.video import read_video, write_video


@settings(max_examples=50, deadline=None)
@given(arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))))
def test_a_png_frame_comes_back_bit_for_bit(frame: np.ndarray) -> None:
    assert np.array_equal(decode_png(encode_png(frame)), frame)


def test_the_colour_order_is_rgb() -> None:
    import cv2

    frame = np.zeros((4, 4, 3), np.uint8)
    frame[..., 0] = 200
    blue_green_red = cv2.imdecode(np.frombuffer(encode_png(frame), np.uint8), cv2.IMREAD_COLOR)
    assert blue_green_red[0, 0].tolist() == [0, 0, 200]


@pytest.mark.parametrize("data", [b"", b"junk", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_bytes_that_are_no_png_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a PNG"):
        decode_png(data)


@given(count=st.integers(1, 500), wanted=st.integers(1, 40))
def test_a_spread_has_both_ends_and_rises(count: int, wanted: int) -> None:
    picked = spread(count, wanted)
    assert picked == sorted(set(picked))
    assert len(picked) <= wanted
    assert picked[0] == 0
    if wanted > 1:
        assert picked[-1] == count - 1


def test_a_film_strip_shows_its_frames_in_order() -> None:
    import cv2

    frames = [np.full((32, 48, 3), value, np.uint8) for value in (10, 100, 190)]
    picture = cv2.imdecode(np.frombuffer(film_strip(frames, 3, "red", height=64), np.uint8), cv2.IMREAD_COLOR)
    width = 96 + 2
    assert picture.shape[1] == 3 * width + 2
    shown = [int(picture[32, 2 + 48 + column * width].mean()) for column in range(3)]
    assert shown == pytest.approx([10, 100, 190], abs=6)


def test_a_film_strip_of_nothing_is_refused() -> None:
    with pytest.raises(SetupError, match="FV-REC-014"):
        film_strip([], 4, "")


def test_a_video_has_its_frames_and_the_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    frames = [np.full((32, 48, 3), 20 * number, np.uint8) for number in range(9)]
    write_video(tmp_path / "a.mp4", frames, 10)
    write_video(tmp_path / "b.mp4", frames, 10)
    found = read_video(tmp_path / "a.mp4")
    assert found.shape == (9, 32, 48, 3)
    assert [int(frame.mean()) for frame in found] == pytest.approx([20 * n for n in range(9)], abs=6)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_frames_of_two_sizes_and_no_frames_are_refused_and_leave_no_file(tmp_path: Path) -> None:
    mixed = [np.zeros((32, 48, 3), np.uint8), np.zeros((16, 48, 3), np.uint8)]
    for frames in (mixed, []):
        with pytest.raises(SetupError, match="FV-REC-014"):
            write_video(tmp_path / "a.mp4", frames, 10)
        assert not (tmp_path / "a.mp4").exists()


def test_a_missing_video_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="FV-REC-004"):
        read_video(tmp_path / "none.mp4")


def test_jpeg_pictures_of_other_writers_are_read() -> None:
    import cv2

    frame = np.full((16, 24, 3), (200, 90, 10), np.uint8)
    coded = cv2.imencode(".jpg", frame[..., ::-1])[1].tobytes()
    assert np.abs(decode_picture(coded).astype(int) - frame).max() <= 4
    assert np.array_equal(decode_picture(encode_png(frame)), frame)
    with pytest.raises(ValueError, match="not a JPEG picture"):
        decode_picture(coded[:20])
