"""ms-swift loads this with `--external_plugins`: the template `policy_engine`, which adds nothing to our rows."""

from policy_engine.adapters.swift import register

register()
