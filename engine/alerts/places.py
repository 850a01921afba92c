"""Where the user's rules lie."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import platformdirs


def rules_file(env: Mapping[str, str] | None = None) -> Path:
    """``AVATOP_ALERTS_FILE``, else ``alerts.toml`` in the XDG configuration folder of avatop."""
    env = os.environ if env is None else env
    named = env.get("AVATOP_ALERTS_FILE")
    if named:
        return Path(named).expanduser().absolute()
    return platformdirs.user_config_path("avatop") / "alerts.toml"
