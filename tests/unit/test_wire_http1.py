"""HTTP/1.1, both directions: what comes out must not depend on how the bytes were split."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.wire import http1
from wherry.wire.chunked import ChunkDecoder, ChunkError, encode_chunk
from wherry.wire.http1 import (
    LAST_CHUNK,
    MAX_HEAD,
    Data,
    End,
    Event,
    Headers,
    HttpError,
    Informational,
    Request,
    RequestParser,
    Response,
    ResponseParser,
    encode_request_head,
    encode_response_head,
)


def plain(events: list[Event]) -> list[object]:
    """Events as values; neighbouring data merged."""
    out: list[object] = []
    for event in events:
        if isinstance(event, Data):
            if out and isinstance(out[-1], bytes):
                out[-1] += event.data
            else:
                out.append(event.data)
        elif isinstance(event, Request):
            out.append((event.method, event.target, event.content_length, event.upgrade, tuple(event.headers.items())))
        elif isinstance(event, Response):
            out.append((event.status, event.reason, event.content_length, event.chunked, event.hijacked))
        elif isinstance(event, Informational):
            out.append(event.status)
        else:
            assert isinstance(event, End)
            out.append("end")
    return out


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    marks = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(marks)]


def read_requests(parts: list[bytes]) -> list[object]:
    """Every request in the bytes, or the error that ends them."""
    parser, events = RequestParser(), []
    try:
        for part in parts:
            got = parser.feed(part)
            events += got
            while got and isinstance(got[-1], End):
                got = parser.next()
                events += got
    except HttpError as error:
        return [*plain(events), ("error", error.status)]
    return plain(events)


def read_response(parts: list[bytes], method: str = "GET", *, hijack: bool = False) -> tuple[list[object], bool, bytes]:
    parser, events = ResponseParser(method, hijack=hijack), []
    try:
        for part in parts:
            events += parser.feed(part)
        events += parser.feed_eof()
    except HttpError as error:
        return [("error", error.status)], False, b""  # which events came before it does depend on the split
    return plain(events), parser.excess, parser.release()


# -- requests


def test_exec_start_has_body_and_upgrade_and_early_bytes() -> None:
    """The trap of llhttp: a JSON body in a request that asks for an upgrade, then the first bytes of stdin."""
    body = b'{"Detach":false,"Tty":false}'
    head = (
        b"POST /v1.43/exec/abc/start HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    )
    parser = RequestParser()
    events = parser.feed(head + body + b"early \xff stdin")
    assert plain(events)[1:] == [body, "end"]
    assert isinstance(events[0], Request)
    assert events[0].upgrade == "tcp"
    assert parser.release() == b"early \xff stdin"


def test_chunked_body_and_upgrade_and_early_bytes() -> None:
    parser = RequestParser()
    events = parser.feed(
        b"POST /x HTTP/1.1\r\nUpgrade: tcp\r\nConnection: upgrade\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n0\r\n\r\n\x00raw"
    )
    assert plain(events)[1:] == [b"abc", "end"]
    assert parser.release() == b"\x00raw"


@pytest.mark.parametrize("upgrade", [b"", b"Connection: Upgrade\r\nUpgrade: tcp\r\n"])
def test_early_bytes_without_body(upgrade: bytes) -> None:
    parser = RequestParser()
    assert plain(parser.feed(b"POST /containers/x/attach HTTP/1.1\r\n" + upgrade + b"\r\n\x01\x02stdin"))[-1] == "end"
    assert parser.feed(b" and more") == []
    assert parser.release() == b"\x01\x02stdin and more"


def test_pipelined_requests_wait_for_next() -> None:
    parser = RequestParser()
    assert len(parser.feed(b"GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n")) == 2
    assert parser.buffered
    assert plain(parser.next())[0][1] == "/b"  # type: ignore[index]
    assert parser.next() == []
    assert parser.idle


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\nHost: x\n\n\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 505),
        (b"GET /\r\n\r\n", 505),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),  # TLS on a plain port
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 9999999999999999999999\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA : b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: \x00\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * MAX_HEAD, 431),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * MAX_HEAD + b"\r\n\r\n", 431),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", 400),
    ],
)
def test_bad_requests(data: bytes, status: int) -> None:
    assert read_requests([data])[-1] == ("error", status)


def test_a_head_that_comes_in_small_pieces_is_looked_through_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = 0

    class Line:
        @staticmethod
        def search(data: bytearray, start: int = 0) -> None:
            nonlocal looked
            looked += len(data) - start

    monkeypatch.setattr(http1, "_BARE_LF", Line)
    parser = RequestParser()
    head = b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 500
    for at in range(len(head)):
        assert parser.feed(head[at : at + 1]) == []
    assert len(parser.feed(b"\r\n")) == 2
    assert looked == len(head)


def test_request_properties() -> None:
    [request, _] = RequestParser().feed(b"GET /p?q=1 HTTP/1.0\r\nHost: a\r\nX: 1\r\nx: 2\r\n\r\n")
    assert isinstance(request, Request)
    assert (request.http10, request.keep_alive, request.has_body) == (True, False, False)
    assert request.headers.get("HOST") == "a"
    assert request.headers["x"] == "1, 2"
    [request] = RequestParser().feed(b"PUT / HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\n")
    assert isinstance(request, Request)
    assert (request.expects_continue, request.keep_alive, request.has_body) == (True, True, True)


REQUESTS = st.lists(
    st.one_of(
        st.just(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n"),
        st.just(b"\r\nPOST /x HTTP/1.1\r\nUpgrade: tcp\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\n{}"),
        st.binary(max_size=40).map(lambda body: b"PUT /y HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)),
        st.lists(st.binary(min_size=1, max_size=30), max_size=4).map(
            lambda parts: (
                b"POST /z HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
                + b"".join(encode_chunk(part) for part in parts)
                + b"0;ext=1\r\nTrailer: v\r\n\r\n"
            )
        ),
        st.sampled_from([b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nbad header\r\n\r\n", b"5\r\n", b"\r\n"]),
    ),
    max_size=5,
).map(b"".join)
CUTS = st.lists(st.integers(0, 10_000), max_size=12)


@settings(max_examples=300, deadline=None)
@given(REQUESTS, CUTS)
def test_requests_do_not_depend_on_the_split(data: bytes, cuts: list[int]) -> None:
    assert read_requests(pieces(data, cuts)) == read_requests([data])


@settings(max_examples=60, deadline=None)
@given(REQUESTS)
def test_requests_byte_by_byte(data: bytes) -> None:
    assert read_requests([data[i : i + 1] for i in range(len(data))]) == read_requests([data])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), CUTS)
def test_any_bytes_give_events_or_http_error(data: bytes, cuts: list[int]) -> None:
    read_requests(pieces(data, cuts))
    read_requests(pieces(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + data, cuts))
    read_response(pieces(data, cuts))
    read_response(pieces(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + data, cuts))


# -- answers


def test_head_answer_has_no_body() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n"
    assert read_response([head], "HEAD")[0] == [(200, "OK", 0, False, False), "end"]


@pytest.mark.parametrize("status", [204, 304])
def test_answers_without_body(status: int) -> None:
    parser = ResponseParser()
    events = parser.feed(b"HTTP/1.1 %d X\r\n\r\n" % status)
    assert plain(events)[1:] == ["end"]
    assert isinstance(events[0], Response)
    assert events[0].keep_alive


def test_interim_answers_are_told_apart() -> None:
    data = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nA: b\r\n\r\nHTTP/1.1 201 C\r\nContent-Length: 2\r\n\r\nhi"
    )
    assert read_response([data])[0] == [100, 103, (201, "C", 2, False, False), b"hi", "end"]


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 101 UPGRADED\r\nContent-Type: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n",
    ],
)
def test_hijacked_answers_hand_over_the_first_bytes(head: bytes) -> None:
    parser = ResponseParser("POST", hijack=True)
    [response] = parser.feed(head + b"first")
    assert isinstance(response, Response)
    assert (response.hijacked, response.keep_alive) == (True, False)
    assert parser.feed(b" second") == []
    assert parser.release() == b"first second"


def test_error_to_a_hijack_is_read_to_its_end() -> None:
    """ATT3: plain text until the connection ends."""
    events, _, _ = read_response([b"HTTP/1.1 404 Not Found\r\n\r\nNo such ", b"container: x\r\n"], "POST", hijack=True)
    assert events == [(404, "Not Found", None, False, False), b"No such container: x\r\n", "end"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nConte",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz",
        b"garbage\r\n\r\n",
    ],
)
def test_broken_answers(data: bytes) -> None:
    assert read_response([data])[0][-1] == ("error", 400)


def test_excess_bytes_forbid_reuse() -> None:
    assert read_response([b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab"])[1]
    assert not read_response([b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"])[1]


RESPONSES = st.tuples(
    st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n"]),
    st.one_of(
        st.binary(max_size=40).map(lambda b: b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(b), b)),
        st.binary(max_size=40).map(lambda b: b"HTTP/1.0 500 Oh No\r\n\r\n" + b),
        st.lists(st.binary(min_size=1, max_size=30), max_size=5).map(
            lambda parts: (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                + b"".join(encode_chunk(part) for part in parts)
                + LAST_CHUNK
            )
        ),
        st.just(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"),
        st.binary(max_size=20).map(lambda b: b"HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\n" + b),
    ),
    st.sampled_from([b"", b"", b"\r\n", b"X", b"HTTP/1.1 200 OK\r\n"]),
).map(b"".join)


@settings(max_examples=300, deadline=None)
@given(RESPONSES, CUTS, st.sampled_from(["GET", "HEAD"]), st.booleans())
def test_answers_do_not_depend_on_the_split(data: bytes, cuts: list[int], method: str, hijack: bool) -> None:
    whole = read_response([data], method, hijack=hijack)
    assert read_response(pieces(data, cuts), method, hijack=hijack) == whole
    assert read_response([data[i : i + 1] for i in range(len(data))], method, hijack=hijack) == whole


# -- encoding


def test_heads_are_encoded() -> None:
    assert encode_request_head("GET", "/a?b", [("Host", "d")]) == b"GET /a?b HTTP/1.1\r\nHost: d\r\n\r\n"
    assert encode_response_head(404, "Not Found", []) == b"HTTP/1.1 404 Not Found\r\n\r\n"


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        ("GET", "/a b", []),
        ("GET", "/a\r\nX: y", []),
        ("GET /", "/", []),
        ("GET", "/", [("A", "b\r\nC: d")]),
        ("GET", "/", [("A\n", "b")]),
        ("GET", "/", [("A", "b\0")]),
        ("GET", "/", [("A", "\N{SNOWMAN}")]),
    ],
)
def test_nothing_breaks_out_of_a_head(method: str, target: str, headers: list[tuple[str, str]]) -> None:
    with pytest.raises(ValueError):
        encode_request_head(method, target, headers)


def test_empty_chunk_does_not_end_the_body() -> None:
    assert encode_chunk(b"") == b""
    assert encode_chunk(memoryview(b"abc")) == b"3\r\nabc\r\n"


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=6), st.binary(max_size=9), CUTS)
def test_chunk_decoder_knows_where_the_body_ends(parts: list[bytes], rest: bytes, cuts: list[int]) -> None:
    data = b"".join(encode_chunk(part) for part in parts) + LAST_CHUNK
    decoder, out = ChunkDecoder(), []
    for piece in pieces(data, cuts)[:-1]:
        out += decoder.feed(piece)
    out += decoder.feed((pieces(data, cuts) or [b""])[-1] + rest)
    assert b"".join(out) == b"".join(parts)
    assert (decoder.done, decoder.rest) == (True, rest)


def test_endless_chunk_lines_are_refused() -> None:
    with pytest.raises(ChunkError):
        ChunkDecoder().feed(b"1" * 5000)
    decoder = ChunkDecoder()
    decoder.feed(b"0\r\n")
    with pytest.raises(ChunkError):
        decoder.feed((b"A: " + b"x" * 1000 + b"\r\n") * 100)


def test_headers_equal_and_iterate() -> None:
    headers = Headers([("A", "1"), ("b", "2"), ("a", "3")])
    assert list(headers) == ["a", "b"]
    assert headers == Headers([("a", "1, 3"), ("B", "2")])
    assert ("A" in headers, "c" in headers, len(headers)) == (True, False, 2)
    assert headers.tokens("a") == ["1", "3"]


@pytest.mark.parametrize(
    ("callback", "data"),
    [
        ("on_status", b"HTTP/1.1 200 OK\r\n\r\n"),
        ("on_headers_complete", b"HTTP/1.1 200 OK\r\n\r\n"),
        ("on_message_complete", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ],
)
def test_what_a_signals_handler_raises_amid_a_message_is_not_lost(
    monkeypatch: pytest.MonkeyPatch, callback: str, data: bytes
) -> None:
    usual = getattr(http1._Head, callback)

    def interrupted(self: http1._Head, *arguments: bytes) -> None:
        usual(self, *arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(http1._Head, callback, interrupted)
    with pytest.raises(KeyboardInterrupt):
        ResponseParser().feed(data)
