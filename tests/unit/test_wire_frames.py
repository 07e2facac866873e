"""ATT2: frames of stdout and stderr."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.wire.frames import (
    MAX_WHOLE_FRAME,
    STDERR,
    STDOUT,
    FrameDecoder,
    FrameError,
    encode_frame,
    encode_frame_header,
)

FRAMES = st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=40)), max_size=8)
CUTS = st.lists(st.integers(0, 500), max_size=10)


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    marks = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(marks)]


def merged(frames: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    out: list[tuple[int, bytes]] = []
    for stream, data in frames:
        if not data:
            continue
        if out and out[-1][0] == stream:
            out[-1] = (stream, out[-1][1] + data)
        else:
            out.append((stream, data))
    return out


def test_ATT2_frame_layout() -> None:
    assert encode_frame_header(STDERR, 0x01020304) == b"\x02\0\0\0\x01\x02\x03\x04"
    assert encode_frame(STDOUT, b"hi\n") == b"\x01\0\0\0\0\0\0\x03hi\n"


@settings(max_examples=300, deadline=None)
@given(FRAMES, CUTS)
def test_frames_do_not_depend_on_the_split(frames: list[tuple[int, bytes]], cuts: list[int]) -> None:
    data = b"".join(encode_frame(*frame) for frame in frames)
    for parts in (split(data, cuts), [data[i : i + 1] for i in range(len(data))]):
        decoder, out = FrameDecoder(), []
        whole, whole_out = FrameDecoder(whole=True), []
        for part in parts:
            out += decoder.feed(part)
            whole_out += whole.feed(part)
        decoder.finish()
        whole.finish()
        assert merged(out) == merged(frames)
        assert whole_out == frames


@given(FRAMES.filter(bool), st.integers(1, 8))
def test_torn_frames_are_noticed(frames: list[tuple[int, bytes]], missing: int) -> None:
    data = b"".join(encode_frame(*frame) for frame in frames)
    last = 8 + len(frames[-1][1])
    for decoder in (FrameDecoder(), FrameDecoder(whole=True)):
        decoder.feed(data[: len(data) - min(missing, last - 1)])
        with pytest.raises(FrameError):
            decoder.finish()


def test_partial_data_comes_early() -> None:
    decoder = FrameDecoder()
    assert decoder.feed(encode_frame_header(STDOUT, 10) + b"abc") == [(STDOUT, b"abc")]
    assert decoder.feed(b"defg") == [(STDOUT, b"defg")]


@given(st.binary(max_size=100))
def test_any_bytes_give_frames_or_frame_error(data: bytes) -> None:
    for decoder in (FrameDecoder(), FrameDecoder(whole=True)):
        try:
            decoder.feed(data)
            decoder.finish()
        except FrameError:
            pass


def test_raw_output_is_recognized_as_no_frames() -> None:
    with pytest.raises(FrameError):
        FrameDecoder().feed(b"hello world")
    with pytest.raises(FrameError):
        FrameDecoder(whole=True).feed(encode_frame_header(STDOUT, MAX_WHOLE_FRAME + 1))
