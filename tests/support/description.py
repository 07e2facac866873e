"""The published description of API 1.43, which the tests compare with; ``WHERRY_API_YAML`` says where it is elsewhere."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

DESCRIPTION = Path(
    os.environ.get("WHERRY_API_YAML") or Path(__file__).resolve().parents[3] / "shared/api/engine-v1.43.yaml"
)


@cache
def description() -> dict[str, Any]:
    import yaml  # what only needs to know where it is may have none

    with DESCRIPTION.open(encoding="utf-8") as file:
        return yaml.load(file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # type: ignore[no-any-return]
