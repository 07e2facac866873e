"""Wherry: the Docker Engine API in Python, both ends of it.

    import wherry

    with wherry.connect() as docker:
        print(docker.containers.run("busybox", "echo hello").text)

Everything is imported on first use, so that the sync client costs no async machinery and neither costs the engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wherry.api import errors
    from wherry.api.errors import (
        ApiError,
        BadRequest,
        Conflict,
        ConnectError,
        CredentialsError,
        Forbidden,
        NotFound,
        NotImplementedYet,
        ProtocolError,
        ServerError,
        StreamError,
        Timeout,
        TransportError,
        Unauthorized,
        Unavailable,
        WherryError,
    )
    from wherry.api.models.containers import (
        ContainerConfig,
        ContainerCreateRequest,
        ContainerUpdateRequest,
        HealthConfig,
        HostConfig,
        LogConfig,
        Mount,
        PortBinding,
        RestartPolicy,
    )
    from wherry.api.models.host import (
        BindOptions,
        DeviceMapping,
        DeviceRequest,
        ThrottleDevice,
        TmpfsOptions,
        Ulimit,
        VolumeOptions,
        WeightDevice,
    )
    from wherry.api.models.images import AuthConfig
    from wherry.api.models.networks import EndpointSettings, NetworkingConfig
    from wherry.client._async.channel import AsyncChannel
    from wherry.client._async.client import AsyncClient, connect_async
    from wherry.client._async.containers import AsyncWaiting
    from wherry.client._async.streams import AsyncArchive, AsyncBytes, AsyncFrames, AsyncJsonStream, AsyncUpload
    from wherry.client._sync.channel import Channel
    from wherry.client._sync.client import Client, connect
    from wherry.client._sync.containers import Waiting
    from wherry.client._sync.streams import Archive, Bytes, Frames, JsonStream, Upload
    from wherry.client.address import TlsFiles
    from wherry.client.results import ExecResult, Output, Ping, RunResult
    from wherry.client.timeouts import Timeouts
    from wherry.embed import Engine

__version__ = "0.1.0"

_ERRORS = (
    "ApiError",
    "BadRequest",
    "Conflict",
    "ConnectError",
    "CredentialsError",
    "Forbidden",
    "NotFound",
    "NotImplementedYet",
    "ProtocolError",
    "ServerError",
    "StreamError",
    "Timeout",
    "TransportError",
    "Unauthorized",
    "Unavailable",
    "WherryError",
)
_CONTAINER_MODELS = (
    "ContainerConfig",
    "ContainerCreateRequest",
    "ContainerUpdateRequest",
    "HealthConfig",
    "HostConfig",
    "LogConfig",
    "Mount",
    "PortBinding",
    "RestartPolicy",
)
_HOST_MODELS = (
    "BindOptions",
    "DeviceMapping",
    "DeviceRequest",
    "ThrottleDevice",
    "TmpfsOptions",
    "Ulimit",
    "VolumeOptions",
    "WeightDevice",
)
_STREAMS = ("Archive", "Bytes", "Frames", "JsonStream", "Upload")
_HOMES = {
    **dict.fromkeys(_ERRORS, "wherry.api.errors"),
    **dict.fromkeys(_CONTAINER_MODELS, "wherry.api.models.containers"),
    **dict.fromkeys(_HOST_MODELS, "wherry.api.models.host"),
    "AuthConfig": "wherry.api.models.images",
    "EndpointSettings": "wherry.api.models.networks",
    "NetworkingConfig": "wherry.api.models.networks",
    **dict.fromkeys(_STREAMS, "wherry.client._sync.streams"),
    **{f"Async{name}": "wherry.client._async.streams" for name in _STREAMS},
    "AsyncChannel": "wherry.client._async.channel",
    "AsyncWaiting": "wherry.client._async.containers",
    "Channel": "wherry.client._sync.channel",
    "Waiting": "wherry.client._sync.containers",
    "AsyncClient": "wherry.client._async.client",
    "connect_async": "wherry.client._async.client",
    "Client": "wherry.client._sync.client",
    "connect": "wherry.client._sync.client",
    "TlsFiles": "wherry.client.address",
    "ExecResult": "wherry.client.results",
    "Output": "wherry.client.results",
    "Ping": "wherry.client.results",
    "RunResult": "wherry.client.results",
    "Timeouts": "wherry.client.timeouts",
    "Engine": "wherry.embed",
}

STDOUT, STDERR = 1, 2
"""The streams of ``(stream, bytes)``."""

__all__ = [
    "STDERR",
    "STDOUT",
    "ApiError",
    "Archive",
    "AsyncArchive",
    "AsyncBytes",
    "AsyncChannel",
    "AsyncClient",
    "AsyncFrames",
    "AsyncJsonStream",
    "AsyncUpload",
    "AsyncWaiting",
    "AuthConfig",
    "BadRequest",
    "BindOptions",
    "Bytes",
    "Channel",
    "Client",
    "Conflict",
    "ConnectError",
    "ContainerConfig",
    "ContainerCreateRequest",
    "ContainerUpdateRequest",
    "CredentialsError",
    "DeviceMapping",
    "DeviceRequest",
    "EndpointSettings",
    "Engine",
    "ExecResult",
    "Forbidden",
    "Frames",
    "HealthConfig",
    "HostConfig",
    "JsonStream",
    "LogConfig",
    "Mount",
    "NetworkingConfig",
    "NotFound",
    "NotImplementedYet",
    "Output",
    "Ping",
    "PortBinding",
    "ProtocolError",
    "RestartPolicy",
    "RunResult",
    "ServerError",
    "StreamError",
    "ThrottleDevice",
    "Timeout",
    "Timeouts",
    "TlsFiles",
    "TmpfsOptions",
    "TransportError",
    "Ulimit",
    "Unauthorized",
    "Unavailable",
    "Upload",
    "VolumeOptions",
    "Waiting",
    "WeightDevice",
    "WherryError",
    "connect",
    "connect_async",
    "errors",
]


if not TYPE_CHECKING:  # else a type checker would take any name

    def __getattr__(name: str) -> Any:
        from importlib import import_module

        if name == "errors":
            value: Any = import_module("wherry.api.errors")
        elif (home := _HOMES.get(name)) is not None:
            value = getattr(import_module(home), name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
