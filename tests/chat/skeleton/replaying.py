"""Templates whose replays tests look at."""

from __future__ import annotations

from policy_engine import ChatTemplate, Conversation
from policy_engine.chat.skeleton.tree import Node, Tree
from tests.properties.skeletons import facts

CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"


def told(*contents: object) -> Conversation:
    roles = ("user", "assistant") * len(contents)
    return Conversation(messages=tuple({"role": r, "content": c} for r, c in zip(roles, contents)))


def replays(template: ChatTemplate) -> int:
    assert template.skeletons is not None
    return template.skeletons.replays


def warmed(source: str, *rows: Conversation, **options: object) -> ChatTemplate:
    """A template that recorded the shapes of these rows."""
    made = ChatTemplate(source, **options)
    for row in rows:
        for _ in range(6):
            facts(made, row)
    return made


def nodes_of(tree: Tree) -> list[Node]:
    found = [tree.root]
    for node in found:
        found += node.branches.values()
    return found
