"""What goes over a connection besides HTTP: frames, JSON values, websocket messages, detach keys, path stats."""

from __future__ import annotations

import base64
import json
import stat
from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from tests.fuzz.support import CLEAN, CUTS, SCALARS, TEXTS, fuzz, ways
from wherry.wire import pathstat
from wherry.wire.detach import DetachScanner, parse_detach_keys
from wherry.wire.frames import FrameDecoder, FrameError, encode_frame
from wherry.wire.jsonlines import JsonSplitter, JsonStreamError
from wherry.wire.pathstat import PathStat, go_mode, unix_mode
from wherry.wire.websocket import WebSocket

# -- frames

TORN = [b"\x01\0\0\0", b"\x01\0\0\0\0\0\0\x05abc", b"\x04\0\0\0\0\0\0\0", b"\x01\x01\x01\x01\0\0\0\x01a", b"\xff" * 8]
FRAMED = st.lists(
    st.tuples(st.integers(0, 3), st.binary(max_size=20)).map(lambda frame: encode_frame(*frame))
    | st.sampled_from(TORN)
    | st.binary(max_size=4),
    max_size=8,
).map(b"".join)


def frames(pieces: list[bytes], *, whole: bool) -> dict[int, bytes] | None:
    """The bytes of each stream; None for an error."""
    decoder, out = FrameDecoder(whole=whole), defaultdict[int, bytes](bytes)
    try:
        for piece in pieces:
            for stream, data in decoder.feed(piece):
                out[stream] += data
        decoder.finish()
    except FrameError:
        return None
    return {stream: data for stream, data in out.items() if data}


@fuzz
@given(FRAMED, CUTS)
def test_frames_whole_and_merged_are_the_same_bytes(data: bytes, cuts: list[int]) -> None:
    expected = frames([data], whole=True)
    for pieces in ways(data, cuts):
        assert frames(pieces, whole=True) == expected
        assert frames(pieces, whole=False) == expected


# -- JSON values

VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(CLEAN, inner, max_size=3),
    max_leaves=10,
)
GAPS = st.sampled_from([b"\n", b"\r\n", b" ", b"", b"\n\n\t"])


def values(pieces: list[bytes]) -> list[bytes] | None:
    splitter, out = JsonSplitter(), []
    try:
        for piece in pieces:
            out += splitter.feed(piece)
        return out + splitter.finish()
    except JsonStreamError:
        return None


@fuzz
@given(st.lists(st.tuples(VALUES, GAPS, st.booleans()), max_size=5), CUTS)
def test_json_values_as_the_standard_library_reads_them(
    sent: list[tuple[object, bytes, bool]], cuts: list[int]
) -> None:
    data = b""
    for value, gap, ascii in sent:
        text = json.dumps(value, ensure_ascii=ascii, separators=(",", ":"))
        data += text.encode("utf-8", "replace") + (gap if isinstance(value, list | dict) else gap or b"\n")
    text, expected, position = data.decode(), [], 0
    while text[position:].strip():
        position += len(text[position:]) - len(text[position:].lstrip())
        value, position = json.JSONDecoder().raw_decode(text, position)
        expected.append(value)
    for pieces in ways(data, cuts):
        found = values(pieces)
        assert found is not None
        assert [json.loads(value) for value in found] == expected


@fuzz
@given(
    st.lists(st.sampled_from([b"{", b"}", b"[", b"]", b'"', b"\\", b'\\"', b",", b":", b"1", b"a", b"\n", b"\0"])).map(b"".join),
    CUTS,
)  # fmt: skip
def test_wild_json_does_not_depend_on_the_cut(data: bytes, cuts: list[int]) -> None:
    expected = values([data])
    for pieces in ways(data, cuts):
        assert values(pieces) == expected


# -- websockets

CLIENT_FRAMES = st.lists(
    st.tuples(
        st.sampled_from([Opcode.TEXT, Opcode.BINARY, Opcode.CONT, Opcode.PING, Opcode.PONG, Opcode.CLOSE]),
        st.binary(max_size=30) | st.just(b"\x03\xe8"),
        st.booleans(),
        st.booleans(),
    ),
    max_size=6,
)


def messages(pieces: list[bytes]) -> tuple[bytes, bool, bytes]:
    """(payload, whether it ended, what is to be answered)"""
    socket, payload, answers = WebSocket(client=False), b"", b""
    for piece in pieces:
        payload += b"".join(socket.feed(piece))
        answers += socket.outgoing()
    return payload, socket.peer_closed, answers


@fuzz
@given(CLIENT_FRAMES, st.binary(max_size=6), CUTS)
def test_websocket_messages_do_not_depend_on_the_cut(
    sent: list[tuple[Opcode, bytes, bool, bool]], rest: bytes, cuts: list[int]
) -> None:
    """Frames well made and not: wrong order, no mask, closes with odd codes, bytes that are none."""
    data = b"".join(Frame(opcode, payload, fin).serialize(mask=masked) for opcode, payload, fin, masked in _legal(sent))
    expected = messages([data + rest])
    for pieces in ways(data + rest, cuts)[1:]:
        found = messages(pieces)
        assert (found[0], found[1]) == (expected[0], expected[1])


def _legal(sent: list[tuple[Opcode, bytes, bool, bool]]) -> list[tuple[Opcode, bytes, bool, bool]]:
    """The library itself refuses to make control frames in pieces."""
    control = (Opcode.PING, Opcode.PONG, Opcode.CLOSE)
    return [(opcode, data, fin or opcode in control, masked) for opcode, data, fin, masked in sent]


@fuzz
@given(st.lists(st.binary(min_size=1, max_size=200), max_size=5), CUTS)
def test_websocket_messages_are_read_back(sent: list[bytes], cuts: list[int]) -> None:
    client, server = WebSocket(client=True), WebSocket(client=False)
    for message in sent:
        client.send(message)
        server.send(message)
    assert messages([client.outgoing()])[0] == b"".join(sent)
    assert b"".join(client.feed(server.outgoing())) == b"".join(sent)


# -- detach keys


@fuzz
@given(
    st.binary(max_size=3),
    st.lists(st.binary(max_size=3) | st.sampled_from([b"\x10", b"\x11", b"\x10\x11"]), max_size=8),
)
def test_detach_keys_are_found_wherever_they_are_cut(keys: bytes, typed: list[bytes]) -> None:
    data = b"".join(typed)
    for pieces in (typed, [data], [data[i : i + 1] for i in range(len(data))]):
        scanner, passed, found = DetachScanner(keys), b"", False
        for piece in pieces:
            through, found = scanner.feed(piece)
            passed += through
            if found:
                break
        if keys and keys in data:
            assert (passed, found) == (data[: data.index(keys)], True)
        else:
            assert (passed + scanner.flush(), found) == (data, False)


@fuzz
@given(
    TEXTS
    | st.lists(st.sampled_from(["ctrl-a", "ctrl-@", "ctrl-_", "DEL", "a", "é", "", "ctrl-", "ctrl-A"])).map(",".join)
)
def test_any_text_is_detach_keys_or_an_error(text: str) -> None:
    try:
        keys = parse_detach_keys(text)
    except ValueError as error:
        assert str(error) == f"Invalid detach keys ({text}) provided"
        return
    assert len(keys) == (len(text.split(",")) if text else 2)


# -- path stats


@fuzz
@given(CLEAN, st.integers(0, 2**63 - 1), st.integers(0, 2**32 - 1), CLEAN, CLEAN)
def test_path_stats_are_read_back(name: str, size: int, mode: int, mtime: str, target: str) -> None:
    path = PathStat(name, size, mode, mtime, target)
    assert pathstat.decode(pathstat.encode(path)) == path


@fuzz
@given(TEXTS | VALUES.map(lambda value: base64.b64encode(json.dumps(value).encode()).decode()) | st.binary(max_size=20).map(
    lambda data: base64.b64encode(data).decode()))  # fmt: skip
def test_any_text_is_a_path_stat_or_an_error(text: str) -> None:
    try:
        path = pathstat.decode(text)
    except ValueError:
        return
    pathstat.encode(path)


@fuzz
@given(
    st.sampled_from(
        [stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFBLK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK]
    ),
    st.integers(0, 0o7777),
)
def test_modes_are_read_back(kind: int, permissions: int) -> None:
    assert unix_mode(go_mode(kind | permissions)) == kind | permissions
