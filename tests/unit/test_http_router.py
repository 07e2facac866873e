"""From paths to operations, and what every answer looks like."""

from __future__ import annotations

import asyncio
import json
import logging

import msgspec
import pytest
from http_harness import Get, Post, Put, Send, get, run, serving
from hypothesis import given
from hypothesis import strategies as st

from wherry.api.errors import BadRequest, Conflict, NotFound, NotImplementedYet, Unavailable
from wherry.api.operation import Operation, Reply
from wherry.engine.http.call import Call
from wherry.engine.http.respond import Answer
from wherry.engine.http.router_paths import BadPath, Routes, cleaned, split_target, split_version, version_numbers
from wherry.wire.http1 import Response

Kill = Operation(id="Kill", method="POST", path="/containers/{id}/kill", tag="Test")
Ping = Operation(id="Ping", method="GET", path="/_ping", tag="Test", reply=Reply.TEXT)


async def ask(
    handler: object, request: bytes, *, operation: Operation = Get, method: str = "GET"
) -> tuple[Response, bytes]:
    async with serving({operation: handler}) as served:  # type: ignore[dict-item]
        client = await served.connect()
        await client.send(request)
        return await client.response(method)


def asked(handler: object, request: bytes, *, operation: Operation = Get) -> tuple[Response, bytes]:
    return asyncio.run(ask(handler, request, operation=operation))


async def echo(call: Call) -> object:
    return {"id": call.params["id"], "version": list(call.version)}


# -- paths and versions


@pytest.mark.parametrize(
    ("path", "version"), [("/get/x", [1, 44]), ("/v1.43/get/x", [1, 43]), ("/v1.24/get/x", [1, 24])]
)
def test_G1_both_forms_of_a_path(path: str, version: list[int]) -> None:
    assert json.loads(asked(echo, get(path))[1]) == {"id": "x", "version": version}


@pytest.mark.parametrize(
    "path", ["/nope", "/vabc/get/x", "/v1.43", "/v1.43/nope", "/get/", "/get", "/", "/GET/x", "*", "/v99/nope"]
)
def test_G5_page_not_found(path: str) -> None:
    response, body = asked(echo, get(path) if path != "*" else get("/*"))
    assert (response.status, body) == (404, b'{"message":"page not found"}\n')
    assert response.headers.get("content-type") == "application/json"
    assert "api-version" not in response.headers


def test_G5_wrong_method() -> None:
    response, body = asked(echo, get("/get/x", method="DELETE"))
    assert (response.status, body) == (404, b'{"message":"page not found"}\n')


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("//get/x", "/get/x"),
        ("/get//x?a=1&b=%20", "/get/x?a=1&b=%20"),
        ("/get/%2Fx", "/get/x"),
        ("/v1.43/get/./x", "/v1.43/get/x"),
        ("/get/../get/x%20y", "/get/x%20y"),
    ],
)
def test_G5_unclean_paths_are_redirected(path: str, location: str) -> None:
    response, _ = asked(echo, get(path))
    assert (response.status, response.headers.get("location")) == (301, location)


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("1.99", "client version 1.99 is too new. Maximum supported API version is 1.44"),
        ("9", "client version 9 is too new. Maximum supported API version is 1.44"),
        ("9" * 5000, None),
        (
            "1.11",
            "client version 1.11 is too old. Minimum supported API version is 1.24, "
            "please upgrade your client to a newer version",
        ),
        ("1..43", None),
    ],
)
def test_G2_versions_out_of_range(version: str, message: str | None) -> None:
    response, body = asked(echo, get(f"/v{version}/get/x"))
    assert response.status == 400
    assert "api-version" in response.headers
    if message is not None:
        assert json.loads(body) == {"message": message}


def test_G4_common_headers() -> None:
    async def ping(call: Call) -> object:
        return Answer(200, b"OK", {"Content-Type": "text/plain; charset=utf-8", "Builder-Version": "1"})

    response, body = asked(ping, get("/_ping"), operation=Ping)
    fields = dict(response.headers.items())
    assert body == b"OK"
    assert fields.pop("date")
    assert fields == {
        "api-version": "1.44",
        "docker-experimental": "false",
        "ostype": "linux",
        "server": "Docker/0.1.0 (linux)",
        "builder-version": "1",
        "content-type": "text/plain; charset=utf-8",
        "content-length": "2",
    }


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/get/docker.io/library/busybox:latest", "docker.io/library/busybox:latest"),
        ("/get/a%2Fb%20c", "a/b c"),
        ("/get/%C3%A9", "é"),
        ("/get/%ff", "\N{REPLACEMENT CHARACTER}"),
        ("/get/" + "x" * 10_000, "x" * 10_000),
        ("http://docker/get/x", "x"),
    ],
)
def test_names_in_paths(path: str, name: str) -> None:
    assert json.loads(asked(echo, get(path))[1])["id"] == name


def test_bad_escape_in_a_path() -> None:
    response, body = asked(echo, get("/get/%zz"))
    assert response.status == 400
    assert b"invalid URL escape" in body


def test_longer_endings_win() -> None:
    routes: Routes[str] = Routes()
    for template in ("/images/{name}", "/images/{name}/json", "/images/json", "/containers/{id}/attach/ws"):
        routes.add("GET", template, template)
    assert routes.match("GET", "/images/json") == ("/images/json", {})
    assert routes.match("GET", "/images/a/b/json") == ("/images/{name}/json", {"name": "a/b"})
    assert routes.match("GET", "/images/a/b") == ("/images/{name}", {"name": "a/b"})
    assert routes.match("GET", "/containers/x/attach/ws") == ("/containers/{id}/attach/ws", {"id": "x"})
    assert routes.match("GET", "/containers//attach/ws") is None
    assert routes.match("POST", "/images/json") is None
    with pytest.raises(ValueError, match="unsupported"):
        routes.add("GET", "/a/{b}/{c}", "")


@given(st.text(max_size=30), st.text("0123456789.", max_size=20))
def test_any_target_is_survived(text: str, version: str) -> None:
    routes: Routes[int] = Routes()
    routes.add("GET", "/a/{b}/c", 1)
    try:
        path, _ = split_target("/" + text)
    except BadPath:
        return
    clean = cleaned(path)
    assert clean is None or cleaned(split_target(clean)[0]) is None
    routes.match("GET", split_version(path)[1])
    version_numbers(version)


# -- errors


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotFound("No such container: é <&>"), 404),
        (Conflict("in use"), 409),
        (BadRequest("bad"), 400),
        (NotImplementedYet("not yet"), 501),
        (Unavailable("no swarm"), 503),
    ],
)
def test_E1_errors_are_one_message(error: Exception, status: int) -> None:
    async def fail(call: Call) -> object:
        raise error

    response, body = asked(fail, get("/get/x"))
    assert (response.status, body) == (status, f'{{"message":"{error}"}}\n'.encode())
    assert response.headers.get("content-type") == "application/json"
    assert "api-version" in response.headers


def test_E2_anything_else_is_500_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(call: Call) -> object:
        raise RuntimeError("the disk is on fire")

    with caplog.at_level(logging.ERROR):
        response, body = asked(fail, get("/get/x"))
    assert (response.status, json.loads(body)) == (500, {"message": "the disk is on fire"})
    assert caplog.records[0].exc_info


def test_answers_that_cannot_be_encoded_are_500() -> None:
    async def bad_json(call: Call) -> object:
        return {"x": object()}

    async def bad_header(call: Call) -> object:
        return Answer(200, {}, {"X": "a\r\nSet-Cookie: b"})

    for handler in (bad_json, bad_header):
        response, _ = asked(handler, get("/get/x"))
        assert response.status == 500
        assert "set-cookie" not in response.headers


def test_handler_whose_work_was_cancelled_answers_500(caplog: pytest.LogCaptureFixture) -> None:
    async def interrupted(call: Call) -> object:
        work = asyncio.ensure_future(asyncio.sleep(10))
        work.cancel()
        return await work

    assert asked(interrupted, get("/get/x"))[0].status == 500


# -- values


def test_P8_json_is_not_html_escaped_and_ends_with_a_newline() -> None:
    class Thing(msgspec.Struct, rename="pascal"):
        some_name: str

    async def handler(call: Call) -> object:
        return [Thing("<>&")]

    response, body = asked(handler, get("/get/x"))
    assert body == b'[{"SomeName":"<>&"}]\n'
    assert response.content_length == len(body)


def post(body: bytes, *fields: str) -> bytes:
    return get("/send", *fields, f"Content-Length: {len(body)}", method="POST") + body


async def same(call: Call) -> object:
    return {"body": call.body}


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
def test_P3_json_content_types(kind: str) -> None:
    response, body = asked(same, post(b'{"a":1}', f"Content-Type: {kind}"), operation=Send)
    assert (response.status, json.loads(body)) == (201, {"body": {"a": 1}})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (["Content-Type: text/plain"], "unsupported Content-Type header (text/plain): must be 'application/json'"),
        ([], "malformed Content-Type header (): mime: no media type"),
        (["Content-Type: a/b/c"], "malformed Content-Type header (a/b/c): mime: expected token after slash"),
    ],
)
def test_P3_other_content_types(fields: list[str], message: str) -> None:
    response, body = asked(same, post(b"{}", *fields), operation=Send)
    assert (response.status, json.loads(body)) == (400, {"message": message})


def test_P3_no_body_and_no_header_is_fine() -> None:
    response, body = asked(same, get("/send", method="POST"), operation=Send)
    assert (response.status, json.loads(body)) == (201, {"body": None})


def test_P4_chunked_json() -> None:
    request = get("/send", "Content-Type: application/json", "Transfer-Encoding: chunked", method="POST")
    response, body = asked(same, request + b'3\r\n{"a\r\n4\r\n":1}\r\n0\r\n\r\n', operation=Send)
    assert (response.status, json.loads(body)) == (201, {"body": {"a": 1}})


def test_malformed_and_huge_json() -> None:
    kind = "Content-Type: application/json"
    assert asked(same, post(b'{"a":', kind), operation=Send)[0].status == 400
    assert asked(same, post(b"[" * 100_000, kind), operation=Send)[0].status == 400
    huge = get("/send", kind, "Content-Length: 999999999", method="POST")
    response, body = asked(same, huge, operation=Send)
    assert response.status == 413
    assert b"longer than" in body


def test_content_length_is_known_before_the_body_is_read() -> None:
    async def handler(call: Call) -> object:
        return {"length": call.content_length}

    assert asked(handler, get("/put/x", "Content-Length: 3", method="PUT") + b"abc", operation=Put)[1] == (
        b'{"length":3}\n'
    )
    chunked = get("/put/x", "Transfer-Encoding: chunked", method="PUT") + b"0\r\n\r\n"
    assert asked(handler, chunked, operation=Put)[1] == b'{"length":null}\n'


def test_handlers_by_operation_id() -> None:
    async def test() -> None:
        async with serving({"SystemPing": same_text}) as served:
            client = await served.connect()
            await client.send(get("/v1.40/_ping"))
            assert (await client.response())[1] == b"OK"

    async def same_text(call: Call) -> object:
        return b"OK"

    run(test)
    with pytest.raises(LookupError):
        asyncio.run(ask(same, b"", operation="Nonsense"))  # type: ignore[arg-type]


def test_query_is_decoded() -> None:
    from wherry.api.operations.catalog import BY_ID

    async def handler(call: Call) -> object:
        return {"args": call.query.ps_args, "id": call.params["id"]}

    request = get("/containers/web/top?ps_args=-e%20f")
    assert json.loads(asked(handler, request, operation=BY_ID["ContainerTop"])[1]) == {"args": "-e f", "id": "web"}


def test_post_without_body_type_ignores_what_the_client_says_about_it() -> None:
    """The docker CLI sends ``Content-Type: text/plain`` with every POST that has no body."""

    async def nothing(call: Call) -> None:
        return None

    response, _ = asked(nothing, get("/post/x", "Content-Type: text/plain", method="POST"), operation=Post)
    assert response.status == 204
