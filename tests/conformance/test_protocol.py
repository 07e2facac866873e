"""Routing, versions, headers, errors, parameters and JSON."""

from __future__ import annotations

import json
import re

import pytest

from tests.support.engines import Engine
from tests.support.http import Exchange


def maximum(engine: Engine) -> str:
    return "1.41" if engine.is_dockerd else "1.44"


def minimum(engine: Engine) -> str:
    return "1.12" if engine.is_dockerd else "1.24"


COMMON_HEADERS = {"ostype": "linux", "docker-experimental": "false"}


def create_raw(engine: Engine, body: bytes) -> tuple[int, str]:
    answer = engine.http.post("/containers/create", body=body, headers={"Content-Type": "application/json"})
    return answer.status, answer.json.get("message", "")


def test_G6c_host_and_origin_are_ignored_on_the_unix_socket(engine: Engine) -> None:
    headers = {"Host": "somewhere.else:99", "Origin": "http://evil.example"}
    assert engine.http.get("/containers/json", headers=headers).status == 200


def test_P3e_an_archive_may_have_any_content_type(engine: Engine) -> None:
    container = engine.create("true")
    for kind in ("text/plain", "application/x-tar", "nonsense"):
        answer = engine.http.put(
            f"/containers/{container}/archive?path=/tmp", body=b"\0" * 1024, headers={"Content-Type": kind}
        )
        assert answer.status == 200, (kind, answer)


@pytest.mark.parametrize("verb", ["stop", "restart", "kill"])
def test_E3a_unknown_containers_by_verb(engine: Engine, verb: str) -> None:
    answer = engine.http.post(f"/containers/nope/{verb}")
    assert (answer.status, "No such container: nope" in answer.message) == (404, True)
    assert json.loads(answer.body) == {"message": answer.message}


def test_G1_every_route_exists_with_and_without_version(engine: Engine) -> None:
    for prefix in ("", "/v1.41", "/v1.40", "/v1.24"):
        answer = engine.http.get("/containers/json", prefix=prefix)
        assert (answer.status, answer.json) == (200, [])
    assert engine.http.get("/containers/json", prefix="/vabc").status == 404


def test_G2_version_too_new_or_too_old(engine: Engine) -> None:
    answer = engine.http.get("/containers/json", prefix="/v1.99")
    expected = f"client version 1.99 is too new. Maximum supported API version is {maximum(engine)}"
    assert (answer.status, answer.message) == (400, expected)
    answer = engine.http.get("/containers/json", prefix="/v1.11")
    expected = (
        f"client version 1.11 is too old. Minimum supported API version is {minimum(engine)}, "
        "please upgrade your client to a newer version"
    )
    # G7: to so old a client moby speaks plain text.
    assert (answer.status, expected in answer.body.decode()) == (400, True)


def test_G2_versions_compare_as_numbers(engine: Engine) -> None:
    assert "too new" in engine.http.get("/containers/json", prefix="/v9").message
    assert b"too old" in engine.http.get("/containers/json", prefix="/v1.9").body


def test_G3_advertised_versions(engine: Engine) -> None:
    version = engine.http.get("/version").json
    assert (version["ApiVersion"], version["MinAPIVersion"]) == (maximum(engine), minimum(engine))
    assert (version["Os"], version["Platform"]["Name"] is not None) == ("linux", True)
    assert {"Version", "Arch", "KernelVersion", "Components", "GitCommit", "GoVersion", "BuildTime"} <= set(version)
    assert version["Components"][0]["Name"] == "Engine"


@pytest.mark.parametrize("target", ["/_ping", "/containers/json", "/containers/nope/json"])
def test_G4_headers_of_every_answer(engine: Engine, target: str) -> None:
    headers = engine.http.get(target).headers
    assert headers["api-version"] == maximum(engine)
    assert re.fullmatch(r"Docker/\S+ \(linux\)", headers["server"])
    assert {name: headers[name] for name in COMMON_HEADERS} == COMMON_HEADERS


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_G4_ping(engine: Engine, method: str) -> None:
    answer = engine.http.call(method, "/_ping", prefix="")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache, no-store, must-revalidate"
    assert answer.headers["pragma"] == "no-cache"
    # Wherry has no BuildKit: a client must not open a gRPC session. 20.10 knows no Swarm header and offers BuildKit as it likes.
    assert answer.headers.get("builder-version") in ({None, "", "2"} if engine.is_dockerd else {"1"})
    assert answer.headers.get("swarm") == (None if engine.is_dockerd else "inactive")
    assert answer.body == (b"" if method == "HEAD" else b"OK")
    assert answer.headers["content-length"] == ("0" if method == "HEAD" else "2")


def test_G4_G5_unknown_route_has_no_api_headers(engine: Engine) -> None:
    answer = engine.http.get("/nothing/here")
    assert (answer.status, answer.message) == (404, "page not found")
    assert "api-version" not in answer.headers
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("method", "target"),
    [("PATCH", "/containers/json"), ("POST", "/containers/json"), ("GET", "/containers/x/start"), ("GET", "/_ping/")],
)
def test_G5_wrong_method_and_trailing_slash_are_page_not_found(engine: Engine, method: str, target: str) -> None:
    answer = engine.http.call(method, target)
    assert (answer.status, answer.message) == (404, "page not found")


@pytest.mark.parametrize(
    ("target", "cleaned"),
    [("//containers/json", "/containers/json"), ("/containers//json", "/containers/json")],
)
def test_G5_doubled_slash_is_redirected(engine: Engine, target: str, cleaned: str) -> None:
    answer = engine.http.get(target, prefix="")
    assert (answer.status, answer.headers["location"]) == (301, cleaned)


def test_G5_quoted_slash_in_front_of_a_name_is_redirected(engine: Engine) -> None:
    engine.create("true", name="slashed")
    answer = engine.http.get("/containers/%2Fslashed/json")
    assert answer.status == 301
    assert answer.headers["location"].endswith("/containers/slashed/json")


def test_G5_names_are_case_sensitive(engine: Engine) -> None:
    engine.create("true", name="Mixed")
    assert engine.http.get("/containers/Mixed/json").status == 200
    assert engine.http.get("/containers/mixed/json").status == 404


def test_G6_http_1_0_is_answered_and_closed(engine: Engine) -> None:
    answer = engine.http.raw(b"GET /_ping HTTP/1.0\r\n\r\n")
    assert answer.startswith((b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 200 OK\r\n"))
    assert answer.endswith(b"\r\n\r\nOK")


def test_G6_keep_alive_and_pipelining(engine: Engine) -> None:
    ping = b"GET /_ping HTTP/1.1\r\nHost: docker\r\n\r\n"
    last = b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n"
    answer = engine.http.raw(ping * 3 + last)
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 4
    with engine.http.connect() as sock:
        for _ in range(3):
            sock.sendall(ping)
            exchange = Exchange(sock)
            assert exchange.read() == b"OK"


def test_G6_garbage_is_a_bad_request(engine: Engine) -> None:
    assert engine.http.raw(b"this is not http\r\n\r\n").startswith(b"HTTP/1.1 400 ")


def test_E1_error_body(engine: Engine) -> None:
    answer = engine.http.get("/containers/nope/json")
    assert answer.status == 404
    assert answer.headers["content-type"] == "application/json"
    assert answer.body == b'{"message":"No such container: nope"}\n'


def test_E2_not_modified_has_no_body(engine: Engine) -> None:
    container = engine.run_idle()
    answer = engine.http.post(f"/containers/{container}/start")
    assert (answer.status, answer.body) == (304, b"")


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/containers/nope/json"),
        ("POST", "/containers/nope/start"),
        ("POST", "/containers/nope/stop"),
        ("POST", "/containers/nope/restart"),
        ("POST", "/containers/nope/wait"),
        ("POST", "/containers/nope/rename?name=better"),
        ("POST", "/containers/nope/resize?h=1&w=1"),
        ("DELETE", "/containers/nope"),
        ("GET", "/containers/nope/logs?stdout=1"),
        ("GET", "/containers/nope/stats?stream=0"),
        ("GET", "/containers/nope/archive?path=/"),
    ],
)
def test_E3_no_such_container(engine: Engine, method: str, target: str) -> None:
    answer = engine.http.call(method, target)
    assert answer.status == 404
    assert "No such container: nope" in answer.message


def test_E3_no_such_image(engine: Engine) -> None:
    answer = engine.try_create(Image="nosuch:img")
    assert (answer.status, answer.message) == (404, "No such image: nosuch:img")


def test_E4_an_early_error_reaches_a_client_that_is_still_sending(engine: Engine) -> None:
    container = engine.create("true")
    answer = engine.http.put(f"/containers/{container}/archive", query={"path": "/nope"}, body=bytes(200_000))
    assert answer.status == 404
    assert "Could not find the file /nope in container" in answer.message


@pytest.mark.parametrize("value", ["", "0", "no", "false", "none", "False", "NONE", " no "])
def test_P1_false_words(engine: Engine, value: str) -> None:
    container = engine.create("true")
    answer = engine.http.get(f"/containers/{container}/logs", query={"stdout": value})
    assert (answer.status, answer.message) == (400, "Bad parameters: you must choose at least one stream")


@pytest.mark.parametrize("value", ["1", "true", "yes", "2", "t", "on"])
def test_P1_everything_else_is_true(engine: Engine, value: str) -> None:
    container = engine.create("true")
    assert engine.http.get(f"/containers/{container}/logs", query={"stdout": value}).status == 200


@pytest.mark.parametrize(
    ("method", "target"), [("POST", "/containers/{}/stop?t=abc"), ("GET", "/containers/json?limit=abc")]
)
def test_P2_bad_number(engine: Engine, method: str, target: str) -> None:
    container = engine.create("true")
    answer = engine.http.call(method, target.format(container))
    # dockerd gives an untyped error, and so 500; Wherry says what it is.
    assert answer.status == (500 if engine.is_dockerd else 400)
    assert answer.message == 'strconv.Atoi: parsing "abc": invalid syntax'


def test_P3_content_type(engine: Engine) -> None:
    body = b'{"Image":"busybox"}'
    answer = engine.http.post("/containers/create", body=body, headers={"Content-Type": "text/plain"})
    assert answer.status == 400
    # 20.10's words are older.
    assert answer.message == (
        "Content-Type specified (text/plain) must be 'application/json'"
        if engine.is_dockerd
        else "unsupported Content-Type header (text/plain): must be 'application/json'"
    )
    answer = engine.http.post("/containers/create", body=body)
    assert answer.status == 400
    if not engine.is_dockerd:
        assert answer.message == "malformed Content-Type header (): mime: no media type"
    content_type = {"Content-Type": "application/json; charset=utf-8"}
    assert engine.http.post("/containers/create", body=body, headers=content_type).status == 201


def test_P4_chunked_request_body(engine: Engine) -> None:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (b'{"Image":', b'"busybox"}')) + b"0\r\n\r\n"
    head = f"POST /v{engine.version}/containers/create HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n"
    head += "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert b" 201 Created\r\n" in engine.http.raw(head.encode() + chunks)


def test_P5_unknown_fields_are_ignored_and_names_match_in_any_case(engine: Engine) -> None:
    assert create_raw(engine, b'{"image":"busybox","Nonsense":{"x":1},"hostconfig":{"memory":8388608}}')[0] == 201
    assert engine.inspect(engine.containers()[0])["HostConfig"]["Memory"] == 8388608


@pytest.mark.parametrize(
    ("body", "dockerd_status", "message"),
    [
        (b'{"Image":"busybox"} x', 201, "unexpected content after JSON"),
        (b'{"Image":', 500, "invalid JSON: unexpected EOF"),
        (b"", 500, "invalid JSON: got EOF while reading request body"),
        (b"{}", 400, "Config cannot be empty in order to create a container"),
        (b"null", 400, "Config cannot be empty in order to create a container"),
        (b"[]", 500, "invalid JSON: "),
        (b"nonsense", 500, "invalid JSON: "),
        (b'{"Image":"busybox","HostConfig":{"Memory":"64"}}', 500, "cannot unmarshal string into Go struct field"),
        (b'{"Image":7}', 500, "cannot unmarshal number into Go struct field"),
    ],
)
def test_P5_bad_bodies_of_create(engine: Engine, body: bytes, dockerd_status: int, message: str) -> None:
    status, said = create_raw(engine, body)
    if engine.is_dockerd:  # 20.10 gives 500 for errors of JSON, in other words, and takes what follows the document
        assert status == dockerd_status
    else:
        assert (status, message in said) == (400, True)
        assert engine.containers() == []


def test_P6_a_string_command_is_one_word(engine: Engine) -> None:
    details = engine.inspect(engine.create(Cmd="echo hi there"))
    assert (details["Path"], details["Args"]) == ("echo hi there", [])
    details = engine.inspect(engine.create(Entrypoint="echo", Cmd="hi there"))
    assert (details["Path"], details["Args"]) == ("echo", ["hi there"])


def test_P6_an_exec_command_must_be_a_list(engine: Engine) -> None:
    container = engine.run_idle()
    answer = engine.http.post(f"/containers/{container}/exec", json={"Cmd": "true"})
    assert answer.status == 400


def test_P7_filters_in_both_forms(engine: Engine) -> None:
    one = engine.create("true", name="one")
    engine.create("true", name="two")
    for filters in ({"name": ["one"]}, {"name": {"one": True}}):
        found = engine.http.get("/containers/json", query={"all": 1, "filters": filters}).json
        assert [c["Id"] for c in found] == [one]


def test_P7_bad_filters(engine: Engine) -> None:
    answer = engine.http.get("/containers/json", query={"filters": "nonsense"})
    assert answer.status == (500 if engine.is_dockerd else 400)  # 20.10 passes Go's JSON error on
    if not engine.is_dockerd:
        assert answer.message == "invalid filter"
    answer = engine.http.get("/containers/json", query={"filters": {"zzz": ["1"]}})
    assert answer.status == 400
    assert answer.message == ("Invalid filter 'zzz'" if engine.is_dockerd else "invalid filter 'zzz'")


def test_P8_json_is_not_html_escaped_and_ends_in_a_newline(engine: Engine) -> None:
    container = engine.create("true", Labels={"sign": "<a&b>"})
    body = engine.http.get(f"/containers/{container}/json").body
    assert body.endswith(b"}\n")
    assert b'"sign":"<a&b>"' in body
    assert json.loads(body)["Id"] == container


def test_N1_lookup_by_id_name_and_prefix(engine: Engine) -> None:
    container = engine.create("true", name="found")
    for reference in (container, container[:12], container[:5], "found"):
        assert engine.http.get(f"/containers/{reference}/json").json["Id"] == container
    named_like_prefix = engine.create("true", name=container[:4])
    assert engine.http.get(f"/containers/{container[:4]}/json").json["Id"] == named_like_prefix


def test_N1_ambiguous_prefix(engine: Engine) -> None:
    by_first: dict[str, str] = {}
    for _ in range(17):
        container = engine.create("true")
        if container[0] in by_first:
            break
        by_first[container[0]] = container
    answer = engine.http.get(f"/containers/{container[0]}/json")
    assert answer.status == (500 if engine.is_dockerd else 400)  # 20.10 as measured
    assert f"ultiple IDs found with provided prefix: {container[0]}" in answer.message


@pytest.mark.parametrize("name", ["a", "-ab", "a b", "a/b", ".x", "é1"])
def test_N2_bad_names(engine: Engine, name: str) -> None:
    answer = engine.try_create("true", name=name)
    assert answer.status == 400
    expected = f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
    assert answer.message == expected
    assert engine.containers() == []


def test_N2_names_show_with_a_slash(engine: Engine) -> None:
    container = engine.create("true", name="/with-slash")
    assert engine.inspect(container)["Name"] == "/with-slash"
    listed = engine.http.get("/containers/json", query={"all": 1}).json
    assert listed[0]["Names"] == ["/with-slash"]


def test_N3_N4_generated_name_and_id(engine: Engine) -> None:
    details = engine.inspect(engine.create("true"))
    assert re.fullmatch(r"/[a-z]+_[a-z]+\d?", details["Name"])
    assert re.fullmatch(r"[0-9a-f]{64}", details["Id"])
    assert not details["Id"][:12].isdigit()


def test_N5_times(engine: Engine) -> None:
    details = engine.inspect(engine.create("true"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,8}[1-9])?Z", details["Created"])
    assert details["State"]["StartedAt"] == details["State"]["FinishedAt"] == "0001-01-01T00:00:00Z"
    listed = engine.http.get("/containers/json", query={"all": 1}).json[0]
    assert isinstance(listed["Created"], int)


def test_NUL_unset_fields_are_null_and_lists_keep_what_create_gave(engine: Engine) -> None:
    details = engine.inspect(engine.create("true"))
    host, config = details["HostConfig"], details["Config"]
    assert details["ExecIDs"] is None
    for field in ("Entrypoint", "Volumes", "OnBuild"):
        assert config[field] is None
    for field in ("Binds", "CapAdd", "CapDrop", "ExtraHosts", "GroupAdd", "Links", "SecurityOpt", "VolumesFrom"):
        assert host[field] is None
    for field in ("Dns", "DeviceRequests", "DeviceCgroupRules", "PidsLimit", "MemorySwappiness"):
        assert host[field] is None
    given = {"Dns": [], "DnsOptions": [], "Devices": [], "Binds": [], "CapAdd": ["NET_ADMIN"]}
    host = engine.inspect(engine.create("true", HostConfig=given))["HostConfig"]
    assert {name: host[name] for name in given} == given
    settings = details["NetworkSettings"]
    assert (settings["Ports"], details["Mounts"], config["Labels"]) == ({}, [], {})
    assert list(settings["Networks"]) == ["bridge"]
