"""Edges in reading rows: halves of a dataset, copies of a system message, windows over a text, names of authors."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from policy_engine.core.errors import DatasetFileError
from policy_engine.data.conversation import read_row
from policy_engine.data.dataset import Beside, DatasetSpec, SeenFormats, load_dataset_spec
from policy_engine.data.files.read_text import read_text
from policy_engine.data.formats import named_format
from policy_engine.data.role_spelling import RoleSpelling
from policy_engine.data.shapes.detect import detect_format

USER = {"role": "user", "content": "Hi"}
ANSWER = {"role": "assistant", "content": "Yes."}


@pytest.mark.parametrize(("opening", "said"), [(1, False), (2, False), (3, True)])
def test_most_conversations_have_to_open_with_an_answer(opening: int, said: bool) -> None:
    rows = [{"prompt": [USER], "messages": [ANSWER if n < opening else USER]} for n in range(4)]
    assert said == ("open with an answer" in detect_format(rows).description)


@pytest.mark.parametrize(("ending", "said"), [(1, False), (2, False), (3, True)])
def test_most_conversations_have_to_end_with_the_user(ending: int, said: bool) -> None:
    rows = [{"messages": [USER] if n < ending else [USER, ANSWER], "response": "Yes."} for n in range(4)]
    assert said == ("end with the user" in detect_format(rows).description)


@pytest.mark.parametrize(("column", "unused"), [("Be brief.", ()), ("Be long.", ("system",)), (" ", ())])
def test_a_copy_of_the_system_message_loses_nothing(column: str, unused: tuple[str, ...]) -> None:
    row = {"system": column, "messages": [{"role": "system", "content": "Be brief."}, USER]}
    read = read_row(row, named_format("messages", system="system"))
    assert (unused, 2) == (read.unused, len(read.messages))


def test_another_spelling_of_a_role_is_no_name_made_from_it() -> None:
    spelling = RoleSpelling(["user", "assistant"])
    assert ["user", None, None] == [spelling.meant(role) for role in ("User", "user_a", "assistant 2")]


def test_most_rows_decide_the_kind_of_a_named_column() -> None:
    shared = {"talk": [{"from": "human", "value": "Hi"}]}
    assert (
        "messages" == DatasetSpec(names={"field": "talk"}).format_of([shared, {"talk": [USER]}, {"talk": [USER]}]).kind
    )


def test_numbers_of_sampled_messages_are_no_booleans(tmp_path: Path) -> None:
    file = tmp_path / "data.yaml"
    test = "{messages: [{role: user, content: Hi}, {role: assistant, content: Yes}], sampled: [true], expect: x}"
    file.write_text(f"tests: [{test}]\n")
    with pytest.raises(DatasetFileError, match="`sampled` of test 1 has to be a list of messages"):
        load_dataset_spec(file)


def test_a_number_over_the_end_of_a_window_is_read_whole() -> None:
    text = '["' + "x" * ((1 << 20) - 7) + '",12345678,3]'
    assert ("123", "4") == (text[: 1 << 20][-3:], text[1 << 20])
    rows = list(read_text(io.BufferedReader(io.BytesIO(text.encode())), "rows.json", "json"))
    assert [(2, 12345678), (3, 3)] == rows[1:]


def test_messages_that_are_given_by_themselves_have_their_own_row() -> None:
    read, layout = DatasetSpec().read_given([USER], Beside(tools=[{"name": "look"}], template_kwargs={"x": 1}))
    assert ({"messages": [USER]}, ({"name": "look"},), {"x": 1}) == (read.sample, read.tools, read.template_kwargs)
    assert "messages" == layout.field
    other, _ = DatasetSpec().read_given([USER], Beside(sample={"id": 7}))
    assert {"id": 7} == other.sample


def test_formats_of_batches_are_found_by_shape() -> None:
    seen = SeenFormats(DatasetSpec())
    first = seen.of([{"messages": [USER]}])
    assert seen.of([{"messages": [ANSWER]}]) is first
    assert ("sharegpt", "sharegpt") == (seen.of([{"chat": [{"from": "human", "value": "Hi"}]}]).kind, seen.kind)
    assert seen.of([{"messages": "broken"}]) is first
