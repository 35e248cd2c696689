"""The command `policy-engine` as `python -m policy_engine`."""

from __future__ import annotations

from policy_engine.cli.main import script

if __name__ == "__main__":
    script()
