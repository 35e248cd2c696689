"""A conversation becomes text that knows its origin, labelled segments, and tokens."""

from policy_engine.chat.old_names import keep_old_names

keep_old_names()
