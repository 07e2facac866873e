"""Requests and answers: however they are cut, and as two parsers of other people read them."""

from __future__ import annotations

import h11
import httptools
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.support import CUTS, fuzz, ways
from wherry.wire.chunked import ChunkDecoder, ChunkError, encode_chunk
from wherry.wire.http1 import (
    Data,
    End,
    Event,
    HttpError,
    Informational,
    Request,
    RequestParser,
    Response,
    ResponseParser,
)

TOKENS = [
    b"GET ", b"POST ", b"PUT ", b"HEAD ", b"OPTIONS ", b"CONNECT ", b"get ", b"/x", b"/x?a=%00", b"http://a/b", b"*",
    b" ", b"\t", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b" HTTP/1.1\n", b" HTTP/2.0\r\n", b"\r\n", b"\n", b"\r",
    b"\r\n\r\n", b"\x00", b"\xff", b":", b": ", b",", b"Host: a\r\n", b"Content-Length: 3\r\n",
    b"Content-Length: 0\r\n", b"Content-Length:", b"content-length: 3\r\n", b"Content-Length: 03\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding:", b" chunked\r\n", b"TE: trailers\r\n",
    b"Connection: close\r\n", b"Connection: Upgrade\r\n", b"Upgrade: tcp\r\n", b"Expect: 100-continue\r\n",
    b"X: y\r\n", b" folded\r\n", b"3\r\nabc\r\n", b"3;e=f\r\nabc\r\n", b"3 \r\nabc\r\n", b"03\r\nabc\r\n",
    b"0x3\r\nabc\r\n", b"0\r\n\r\n", b"0\r\nT: v\r\n\r\n", b"00\r\n\r\n", b"abc", b"3", b"-1",
]  # fmt: skip
WILD = st.lists(st.sampled_from(TOKENS) | st.binary(max_size=3), max_size=14).map(b"".join)

BODIES = st.binary(max_size=30)
NAMES = st.text("abcXYZ-_!#0", min_size=1, max_size=8).filter(
    lambda name: name.lower() not in ("host", "content-length", "transfer-encoding", "upgrade", "connection", "expect")
)
VALUES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=12)
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=4)
TARGETS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#"), max_size=15).map(
    lambda text: "/" + text
)


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, str, str, bytes]:
    """(bytes, method, target, body)"""
    method = draw(st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD"]))
    target, body = draw(TARGETS), draw(BODIES)
    fields = [("Host", "a"), *draw(FIELDS)]
    framing = draw(st.sampled_from(["none", "length", "chunked"]))
    if framing == "none":
        body = b""
    elif framing == "length":
        fields.insert(draw(st.integers(0, len(fields))), ("Content-Length", str(len(body))))
    else:
        fields.insert(draw(st.integers(0, len(fields))), ("Transfer-Encoding", "chunked"))
    head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields) + "\r\n"
    sent = body if framing != "chunked" else _chunks(draw, body)
    return head.encode() + sent, method, target, body


def _chunks(draw: st.DrawFn, body: bytes) -> bytes:
    out = b""
    while body:
        size = draw(st.integers(1, len(body)))
        extension = draw(st.sampled_from([b"", b";a=b", b" ;x"]))
        out += b"%x%b\r\n%b\r\n" % (size, extension, body[:size])
        body = body[size:]
    return out + draw(st.sampled_from([b"0\r\n\r\n", b"000\r\n\r\n", b"0\r\nTrailer: v\r\n\r\n"]))


def read_requests(pieces: list[bytes]) -> list[object]:
    """The requests in the bytes as (method, target, fields, body, ended), and the status of an error at the end."""
    parser, out = RequestParser(), _Collected()
    try:
        for piece in pieces:
            events = parser.feed(piece)
            while events:
                out.take(events)
                events = parser.next() if any(isinstance(event, End) for event in events) else []
    except HttpError as error:  # what had begun is worth nothing now
        return [*(m for m in out.messages if isinstance(m, list) and m[4]), error.status]
    return out.messages


def read_answers(pieces: list[bytes], method: str, hijack: bool) -> list[object]:
    parser, out = ResponseParser(method, hijack=hijack), _Collected()
    try:
        for piece in pieces:
            out.take(parser.feed(piece))
        out.take(parser.feed_eof())
    except HttpError as error:
        return [error.status]
    return [*out.messages, parser.excess, parser.release()]


class _Collected:
    def __init__(self) -> None:
        self.messages: list[object] = []

    def take(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Request):
                self.messages.append([event.method, event.target, dict(event.headers.items()), b"", False])
            elif isinstance(event, Response):
                self.messages.append([event.status, event.reason, dict(event.headers.items()), b"", False])
            elif isinstance(event, Informational):
                self.messages.append(["informational", event.status])
            else:
                message = self.messages[-1]
                assert isinstance(message, list)
                assert not message[4], "nothing follows the end of a message"
                if isinstance(event, Data):
                    assert event.data
                    message[3] += event.data
                else:
                    message[4] = True


@fuzz
@given(WILD, CUTS)
def test_wild_requests_do_not_depend_on_the_cut(data: bytes, cuts: list[int]) -> None:
    whole, *others = ways(data, cuts)
    expected = read_requests(whole)
    for pieces in others:
        assert read_requests(pieces) == expected


@fuzz
@given(st.lists(requests(), max_size=3), CUTS)
def test_requests_are_read_back(sent: list[tuple[bytes, str, str, bytes]], cuts: list[int]) -> None:
    data = b"".join(request[0] for request in sent)
    for pieces in ways(data, cuts):
        found = read_requests(pieces)
        assert [(m[0], m[1], m[3], m[4]) for m in found if isinstance(m, list)] == [
            (method, target, body, True) for _, method, target, body in sent
        ]


def by_h11(data: bytes) -> list[object] | None:
    """The requests as h11 reads them; None where it refuses one."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    found: list[object] = []
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                found.append([event.method.decode(), event.target.decode("latin-1"), b"", False])
            elif isinstance(event, h11.Data):
                message = found[-1]
                assert isinstance(message, list)
                message[2] += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                message = found[-1]
                assert isinstance(message, list)
                message[3] = True
                for reply in (h11.Response(status_code=200, headers=[("Content-Length", "0")]), h11.EndOfMessage()):
                    connection.send(reply)
                if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                    return found
                connection.start_next_cycle()
            else:
                return found
    except h11.RemoteProtocolError:
        return None


HEADS = st.lists(
    st.sampled_from(
        [token for token in TOKENS if token.endswith(b"\r\n") and b"HTTP" not in token and token != b"\r\n"]
    ),
    max_size=5,
).map(b"".join)


@fuzz
@given(st.sampled_from([b"GET", b"POST", b"PUT"]), HEADS, WILD | st.sampled_from(TOKENS))
def test_no_request_is_read_differently_by_another_parser(method: bytes, head: bytes, rest: bytes) -> None:
    """What is smuggled past one server to another is a request that both accept and read differently."""
    data = method + b" /x HTTP/1.1\r\nHost: a\r\n" + head.replace(b"Host: a\r\n", b"") + b"\r\n" + rest
    ours = [message for message in read_requests([data]) if isinstance(message, list)]
    theirs = by_h11(data)
    if theirs is None or not ours:
        return
    for mine, other in zip(ours, theirs, strict=False):
        assert isinstance(other, list)
        assert (mine[0], mine[1]) == (other[0], other[1])
        assert mine[3] == other[2] or not (mine[4] and other[3]), "the same body"


@fuzz
@given(WILD, CUTS, st.sampled_from(["GET", "HEAD", "POST"]), st.booleans())
def test_wild_answers_do_not_depend_on_the_cut(data: bytes, cuts: list[int], method: str, hijack: bool) -> None:
    heads = (
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n",
        b"HTTP/1.0 101 UPGRADED\r\n",
    )
    for head in heads:
        whole, *others = ways(head + data, cuts)
        expected = read_answers(whole, method, hijack)
        for pieces in others:
            assert read_answers(pieces, method, hijack) == expected


# -- chunks


def unchunk(pieces: list[bytes]) -> tuple[bytes, bool, bytes] | None:
    """(body, whether it ended, what followed), None for an error."""
    decoder, body, rest = ChunkDecoder(), b"", b""
    try:
        for piece in pieces:
            if decoder.done:
                rest += piece
            else:
                body += b"".join(decoder.feed(piece))
                rest = decoder.rest
    except ChunkError:
        return None
    return body, decoder.done, rest


@fuzz
@given(st.lists(st.binary(max_size=40), max_size=6), st.binary(max_size=10), CUTS)
def test_chunks_are_read_back(parts: list[bytes], rest: bytes, cuts: list[int]) -> None:
    data = b"".join(map(encode_chunk, parts)) + b"0\r\n\r\n" + rest
    for pieces in ways(data, cuts):
        assert unchunk(pieces) == (b"".join(parts), True, rest)


CHUNKED = st.lists(
    st.sampled_from(
        [
            b"3",
            b"0",
            b"00",
            b"a",
            b"A",
            b"g",
            b"-1",
            b"+3",
            b"0x3",
            b";",
            b"e=f",
            b" ",
            b"\t",
            b"\r\n",
            b"\n",
            b"\r",
            b"abc",
            b"abcdefghij",
            b"\r\n\r\n",
            b"T: v",
            b"1" * 20,
            b"ffffffffffffffff",
            b"3\r\nabc\r\n",
            b"0\r\n\r\n",
            b'"',
            b"\0",
        ]
    ),
    max_size=12,
).map(b"".join)


class _Llhttp:
    def __init__(self) -> None:
        self.body = b""
        self.done = False

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.done = True


@fuzz
@given(CHUNKED, CUTS)
def test_chunks_as_llhttp_reads_them(data: bytes, cuts: list[int]) -> None:
    """What is a whole body to us is one to llhttp, and the same; it says no where we do, or we are the stricter."""
    whole, *others = ways(data, cuts)
    expected = unchunk(whole)
    for pieces in others:
        assert unchunk(pieces) == expected
    if expected is None or not expected[1]:
        return
    found = _Llhttp()
    parser = httptools.HttpRequestParser(found)
    parser.feed_data(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
    parser.feed_data(data[: len(data) - len(expected[2])])
    assert (found.body, found.done) == (expected[0], True)
