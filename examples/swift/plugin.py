"""The template `policy_engine` for ms-swift, which adds nothing to our rows.

ms-swift loads this file with `--external_plugins`.
"""

from policy_engine.adapters.swift import register

register()
