"""Names and ids of containers (N2, N3, N4)."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable

from wherry.api.errors import BadRequest

_NAME = re.compile(r"/?[a-zA-Z0-9][a-zA-Z0-9_.-]+")

_ADJECTIVES = (
    "able amber ample apt brave breezy bright brisk calm candid civil clear clever cosy crisp daring deft eager early "
    "easy fair fast fine firm fleet fluent fond frank free fresh gentle glad golden good grand handy happy hardy honest "
    "jolly keen kind lively loyal lucid lucky mellow merry mild modest neat nimble noble patient plucky polite proud "
    "quick quiet rapid ready sharp silent silver sleek smart snug sober solid spry stable stately steady stout strong "
    "sturdy sunny swift tidy trim trusty upbeat vivid warm watchful whole wise witty zesty"
).split()
_NOUNS = (
    "anchor barge beacon berth boat bollard bow buoy cabin canoe canvas capstan captain channel chart clipper coast "
    "compass coxswain crane creek crew current cutter davit deck delta dinghy dock dory ebb estuary ferry fjord flag "
    "galley gannet gull halyard harbour hatch haven heron hull jetty keel kelp ketch lagoon lantern lighthouse locker "
    "lugger mast mate mooring oar otter packet pier pilot plank port prow punt quay raft rigging river rope rudder sail "
    "sailor schooner seal sextant shoal skiff sloop spar starboard stern strait tern tide tiller towline tug wake wave "
    "wharf winch yacht yard yawl"
).split()


def check_name(name: str) -> None:
    """Raises ``BadRequest`` unless ``name`` is one, with or without the leading ``/`` (N2)."""
    if not _NAME.fullmatch(name):
        raise BadRequest(f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")


def new_id() -> str:
    """64 random hex digits whose first twelve, the default hostname, are no number (N4)."""
    while True:
        container_id = secrets.token_hex(32)
        if not container_id[:12].isdecimal():
            return container_id


def generate_name(container_id: str, taken: Callable[[str], bool]) -> str:
    """``adjective_noun``; a digit is added from the second try on, and after six the short id serves (N3)."""
    for attempt in range(6):
        name = f"{secrets.choice(_ADJECTIVES)}_{secrets.choice(_NOUNS)}"
        if attempt:
            name += str(secrets.randbelow(10))
        if not taken(name):
            return name
    return container_id[:12]
