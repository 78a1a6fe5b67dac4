"""PNG frames through PyAV, RGB in and out; JPEG frames of other writers are read too."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from finevla_runtime.contracts.arrays import ByteArray

_JPEG_BEGIN = b"\xff\xd8"


def encode_png(frame: ByteArray) -> bytes:
    """Return the PNG bytes of uint8[height, width, 3] RGB.

    Compression level 1 with the `sub` filter: about 0.15 ms for 96x96, four times as fast as the default.
    """
    import av

    height, width = frame.shape[:2]
    codec = av.CodecContext.create("png", "w")
    codec.width, codec.height, codec.pix_fmt, codec.time_base = width, height, "rgb24", Fraction(1, 1)
    codec.thread_count = 1
    codec.options = {"compression_level": "1", "pred": "sub"}
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
    packets = [*codec.encode(picture), *codec.encode(None)]
    return b"".join(bytes(packet) for packet in packets)


def decode_png(data: bytes) -> ByteArray:
    """Return uint8[height, width, 3] RGB of PNG bytes.

    Raises:
        ValueError: the bytes are not one PNG picture.
    """
    return _decode(data, "png")


def decode_picture(data: bytes) -> ByteArray:
    """Return uint8[height, width, 3] RGB of PNG or JPEG bytes.

    Raises:
        ValueError: the bytes are not one picture of either kind.
    """
    return _decode(data, "mjpeg" if data.startswith(_JPEG_BEGIN) else "png")


def _decode(data: bytes, kind: str) -> ByteArray:
    import av

    name = "JPEG" if kind == "mjpeg" else "PNG"
    try:
        codec = av.CodecContext.create("mjpeg", "r") if kind == "mjpeg" else av.CodecContext.create("png", "r")
        codec.thread_count = 1
        pictures = [*codec.decode(av.Packet(data)), *codec.decode(None)]
    except (av.FFmpegError, TypeError, EOFError) as error:
        raise ValueError(f"not a {name} picture: {error}") from error
    if len(pictures) != 1:
        raise ValueError(f"not a {name} picture: {len(data)} bytes gave {len(pictures)} pictures")
    return np.asarray(pictures[0].to_ndarray(format="rgb24"), dtype=np.uint8)
