"""The Dockerfile instructions that import and commit take."""

from __future__ import annotations

import pytest

from wherry.api.errors import BadRequest
from wherry.api.models.containers import ContainerConfig, HealthConfig
from wherry.engine.images.instructions import apply


def changed(*changes: str) -> ContainerConfig:
    config = ContainerConfig()
    apply(config, changes)
    return config


def test_commands_are_exact_lists_or_for_the_shell() -> None:
    config = changed('CMD ["sh", "-c"]', "ENTRYPOINT exec top -b")
    assert config.cmd == ["sh", "-c"]
    assert config.entrypoint == ["/bin/sh", "-c", "exec top -b"]
    assert changed("CMD [1, 2").cmd == ["/bin/sh", "-c", "[1, 2"]
    assert changed("CMD []").cmd == []


def test_env_in_both_forms_with_quotes_and_variables() -> None:
    config = changed("ENV A=1 B=\"x y\" C='$A'", "ENV D the rest of it", "env A=${B:-none}-$A E=${X:-none} F=a\\ b")
    assert config.env == ["A=x y-1", "B=x y", "C=$A", "D=the rest of it", "E=none", "F=a b"]


def test_labels_ports_volumes_and_the_others() -> None:
    config = changed(
        "LABEL a=b 'c d'=e",
        "EXPOSE 80 53/udp 8000-8001/TCP",
        'VOLUME ["/data", "/b c"]',
        "VOLUME /x /y",
        "USER 1000:1000",
        "WORKDIR /a",
        "WORKDIR b/../c",
        "STOPSIGNAL SIGQUIT",
        "ONBUILD RUN make",
    )
    assert config.labels == {"a": "b", "c d": "e"}
    assert config.exposed_ports == {"80/tcp": {}, "53/udp": {}, "8000/tcp": {}, "8001/tcp": {}}
    assert config.volumes == {"/data": {}, "/b c": {}, "/x": {}, "/y": {}}
    assert (config.user, config.working_dir, config.stop_signal) == ("1000:1000", "/a/c", "SIGQUIT")
    assert config.on_build == ["RUN make"]


def test_a_health_check() -> None:
    config = changed("HEALTHCHECK --interval=1m30s --retries=2 CMD wget -q localhost || exit 1")
    assert config.healthcheck == HealthConfig(
        test=["CMD-SHELL", "wget -q localhost || exit 1"], interval=90 * 10**9, retries=2
    )
    assert changed("HEALTHCHECK NONE").healthcheck == HealthConfig(test=["NONE"])


def test_lines_comments_and_continuations() -> None:
    config = changed("# nothing\n\nENV A=1 \\\n  B=2\nUSER\tme")
    assert (config.env, config.user) == (["A=1", "B=2"], "me")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("FROM scratch", "from is not a valid change command"),
        ("RUN rm -rf /", "run is not a valid change command"),
        ("ENV", "ENV requires at least one argument"),
        ("ENV A", "ENV must have two arguments"),
        ("ENV A=1 B", 'Syntax error - can\'t find = in "B". Must be of the form: name=value'),
        ("ENV =x", "ENV names can not be blank"),
        ("CMD [1, 2]", "when using JSON array syntax, arrays must be comprised of strings only"),
        ("STOPSIGNAL NONE", "invalid signal: NONE"),
        ("EXPOSE 99999", "Invalid containerPort: 99999"),
        ("EXPOSE eighty", "Invalid containerPort: eighty"),
        ("ONBUILD ONBUILD x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("HEALTHCHECK --interval=x CMD y", 'time: invalid duration "x"'),
        ("HEALTHCHECK PING", 'Unknown type "PING" in HEALTHCHECK (try CMD)'),
    ],
)
def test_what_cannot_be_is_refused(change: str, words: str) -> None:
    with pytest.raises(BadRequest) as caught:
        changed(change)
    assert caught.value.message == words
