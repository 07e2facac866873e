"""Operations known by name and path alone: still to come, or of a family that Wherry leaves out.

The engine answers them with a sentence instead of "page not found"; the contract's test counts on the reasons.
"""

from __future__ import annotations

from wherry.api.operation import Body, Operation

SWARM = "Wherry runs on one machine: this engine is no part of a swarm"
PLUGIN = "Wherry has no plugins: drivers are built in"
SESSION = (
    "sessions belong to BuildKit, which is not there: build with the classic builder (DOCKER_BUILDKIT=0 docker build)"
)

REASONS: dict[str, str] = {
    "Plugin": PLUGIN,
    "Session": SESSION,
    **dict.fromkeys(("Swarm", "Node", "Service", "Task", "Secret", "Config"), SWARM),
}
"""Why the outlined operations of a tag are not spoken, as a sentence for the caller."""

_TABLE = """
Plugin PluginList GET /plugins
Plugin GetPluginPrivileges GET /plugins/privileges
Plugin PluginPull POST /plugins/pull
Plugin PluginInspect GET /plugins/{name}/json
Plugin PluginDelete DELETE /plugins/{name}
Plugin PluginEnable POST /plugins/{name}/enable
Plugin PluginDisable POST /plugins/{name}/disable
Plugin PluginUpgrade POST /plugins/{name}/upgrade
Plugin PluginCreate POST /plugins/create
Plugin PluginPush POST /plugins/{name}/push
Plugin PluginSet POST /plugins/{name}/set
Node NodeList GET /nodes
Node NodeInspect GET /nodes/{id}
Node NodeDelete DELETE /nodes/{id}
Node NodeUpdate POST /nodes/{id}/update
Swarm SwarmInspect GET /swarm
Swarm SwarmInit POST /swarm/init
Swarm SwarmJoin POST /swarm/join
Swarm SwarmLeave POST /swarm/leave
Swarm SwarmUpdate POST /swarm/update
Swarm SwarmUnlockkey GET /swarm/unlockkey
Swarm SwarmUnlock POST /swarm/unlock
Service ServiceList GET /services
Service ServiceCreate POST /services/create
Service ServiceInspect GET /services/{id}
Service ServiceDelete DELETE /services/{id}
Service ServiceUpdate POST /services/{id}/update
Service ServiceLogs GET /services/{id}/logs
Task TaskList GET /tasks
Task TaskInspect GET /tasks/{id}
Task TaskLogs GET /tasks/{id}/logs
Secret SecretList GET /secrets
Secret SecretCreate POST /secrets/create
Secret SecretInspect GET /secrets/{id}
Secret SecretDelete DELETE /secrets/{id}
Secret SecretUpdate POST /secrets/{id}/update
Config ConfigList GET /configs
Config ConfigCreate POST /configs/create
Config ConfigInspect GET /configs/{id}
Config ConfigDelete DELETE /configs/{id}
Config ConfigUpdate POST /configs/{id}/update
Session Session POST /session
"""


def _outline(line: str) -> Operation:
    tag, name, method, path = line.split()
    return Operation(id=name, method=method, path=path, tag=tag, body=Body.STREAM if method == "POST" else Body.NONE)


OUTLINES: tuple[Operation, ...] = tuple(_outline(line) for line in _TABLE.strip().splitlines())
