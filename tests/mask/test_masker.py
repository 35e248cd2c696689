from __future__ import annotations

import copy
import dataclasses
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from policy_engine import (
    ConfigError,
    GuardError,
    MaskedRow,
    Masker,
    RowError,
    TokenizerError,
    UnrenderedError,
    load_tokenizer,
)
from policy_engine.data.dataset import DatasetSpec, load_dataset_spec
from policy_engine.mask.masker import DoubtfulRoleWarning, LostFieldWarning
from policy_engine.rules.compile import compile_text  # compiled without proving guards
from policy_engine.testing.templates import installed_templates
from tests.support.policies import ASSISTANT, SYSTEM, USER

STANDING = "train assistant; mask system,user; train eos after assistant"
CHAT = [SYSTEM, USER, ASSISTANT, USER, {"role": "assistant", "content": "No, thanks."}]
NO_CALLS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content or '' }}<|im_end|>\n{% endfor %}"


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("builtin")


def spans(row: MaskedRow) -> list[str]:
    """Trained stretches of a row, as the text of their tokens."""
    out: list[str] = []
    before = False
    starts, ends = row.tokenized.starts_T.tolist(), row.tokenized.ends_T.tolist()
    for start, end, label in zip(starts, ends, row.labels):
        if label != -100:
            if not before:
                out.append("")
            out[-1] += row.chat.text[start:end]
        before = label != -100
    return out


def test_every_assistant_turn_is_trained_and_nothing_else(tokenizer):
    row = Masker(compile_text(STANDING), tokenizer)(CHAT)
    assert spans(row) == ["Yo.<|im_end|>", "No, thanks.<|im_end|>"]


def test_every_assistant_turn_is_trained_with_its_end_marker_as_axolotl_1761_did_not(tokenizer):
    # axolotl issue 1761: of a conversation with several assistant turns, only the last one was trained.
    turns = [
        m for i in range(3) for m in ({"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": f"a{i}"})
    ]
    row = Masker(compile_text(STANDING), tokenizer)([SYSTEM, *turns])
    assert spans(row) == ["a0<|im_end|>", "a1<|im_end|>", "a2<|im_end|>"]
    trained = {row.chat.segments[s].turn for s, w in zip(row.mask.segments_T.tolist(), row.mask.weights_T) if w}
    assert trained == {2, 4, 6}


def test_ids_are_those_of_the_tokenizers_own_chat_template(tokenizer):
    expected = tokenizer.tokenizer.apply_chat_template(CHAT, tokenize=True, return_dict=False)
    for policy in ("", STANDING, "train everything"):
        assert Masker(compile_text(policy), tokenizer)(CHAT).input_ids == expected


def test_a_transformers_tokenizer_a_name_and_a_template(tokenizer):
    program = compile_text(STANDING)
    expected = Masker(program, tokenizer)(CHAT)["labels"]
    assert Masker(program, tokenizer.tokenizer)(CHAT)["labels"] == expected
    assert Masker(program, "builtin")(CHAT)["labels"] == expected
    assert Masker(program.policy, tokenizer)(CHAT)["labels"] == expected
    row = Masker(program, tokenizer, template="{% for m in messages %}[{{ m.content }}]{% endfor %}")(CHAT)
    assert row.chat.text == "[Be kind.][Hi?][Yo.][Hi?][No, thanks.]"


def test_a_row_is_a_mapping_of_the_trainers_columns(tokenizer):
    row = Masker(compile_text(STANDING), tokenizer)(CHAT)
    assert list(row) == ["input_ids", "labels", "attention_mask"]
    assert dict(row) == {"input_ids": row.input_ids, "labels": row.labels, "attention_mask": [1] * len(row.input_ids)}
    assert isinstance(row, Mapping)
    assert (None, 3) == (row.get("loss_weights"), len(row.values()))
    assert row.loss_weights is None
    with pytest.raises(KeyError):
        row["loss_weights"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        row.mask = None
    weighted = Masker(compile_text("train assistant weight 0.5"), tokenizer)(CHAT)
    assert set(weighted["loss_weights"]) == {0.0, 0.5}
    assert [v.dtype for v in weighted.arrays().values()] == [np.int32, np.int32, np.int8, np.float32]


def test_a_row_explains_itself(tokenizer):
    row = Masker(compile_text(STANDING, name="s.policy"), tokenizer)(CHAT)
    last = max(i for i, label in enumerate(row.labels) if label != -100)
    assert "s.policy:1:36" in row.explain(token=last).as_text()
    assert row.explain(segment=0).pieces[0].role == "system"
    with pytest.raises(TypeError):
        row.explain(token=1, segment=1)


def test_tools_template_arguments_and_sample_reach_their_places(tokenizer):
    tool = {"type": "function", "function": {"name": "lookup", "description": "d", "parameters": {}}}
    row = Masker(compile_text("train assistant where sample.ok"), tokenizer)(CHAT, tools=[tool], sample={"ok": True})
    assert "lookup" in row.chat.text
    assert not row.is_empty
    template = "{{ extra }}{% for m in messages %}{{ m.content }}{% endfor %}"
    assert Masker(compile_text(""), tokenizer, template=template)(CHAT, extra="E").chat.text.startswith("EBe")


def test_messages_that_are_none_are_refused(tokenizer):
    masker = Masker(compile_text(STANDING), tokenizer)
    for bad in ([{"content": "x"}], ["x"], [{"role": "user", "content": 3}], []):
        with pytest.raises(RowError):
            masker(bad)


def test_mask_says_that_messages_go_to_the_masker_itself(tokenizer):
    with pytest.raises(TypeError, match=r"not a list: call the masker itself .*`masker\(messages\)`"):
        Masker(compile_text(STANDING), tokenizer).mask(CHAT)


def test_arguments_that_mean_nothing_are_refused(tokenizer):
    with pytest.raises(ConfigError, match="load_policy"):
        Masker("train assistant", tokenizer)
    with pytest.raises(ConfigError, match="on_error"):
        Masker(compile_text(""), tokenizer, on_error="skip")


def test_on_empty(tokenizer):
    for value, empty in (("drop", True), ("keep", True)):
        assert Masker(compile_text(f"mask user; on empty {value}"), tokenizer)(CHAT).is_empty is empty
    with pytest.raises(RowError, match="on empty error"):
        Masker(compile_text("mask user; on empty error"), tokenizer)(CHAT)


def test_thinking_that_unrolled_rows_keep_is_said():
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{% if loop.last and m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}"
        "{{ m.content }}<|im_end|>\n{% endfor %}"
    )
    answer = {"role": "assistant", "content": "a", "reasoning_content": "Hm."}
    chat = [{"role": "user", "content": "q"}, answer] * 2
    policy = compile_text("train assistant\ntrain eos after assistant")
    with pytest.warns(LostFieldWarning, match=r"`Masker\(…, unroll=True\)` makes a sample of each turn"):
        Masker(policy, "builtin", template=template)(chat)
    never = template.replace("loop.last and", "false and")
    with pytest.warns(LostFieldWarning) as caught:
        Masker(policy, "builtin", template=never)(chat)
    assert "unroll" not in str(caught[0].message)


def test_thinking_in_content_that_unrolled_rows_keep_is_said():
    """DeepSeek V3 takes thinking out of each answer, and an unrolled one is as the model wrote it."""
    source = installed_templates()["trl/deepseekv3"]
    answer = {"role": "assistant", "content": "<think>Hm.</think>a"}
    masker = Masker(compile_text("train assistant\ntrain eos after assistant"), "builtin", template=source)
    with pytest.warns(
        LostFieldWarning, match=r"^reasoning of .* `Masker\(…, unroll=True\)` makes a sample of each turn"
    ):
        masker([{"role": "user", "content": "q"}, answer] * 2)
    assert [False, False] == [masker.unrolling_writes(field) for field in ("reasoning_content", "tool_calls[1]")]


def test_lost_fields(tokenizer):
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}
    with pytest.raises(UnrenderedError, match="tool_calls"):
        Masker(compile_text(STANDING), tokenizer, template=NO_CALLS)([USER, call])
    masker = Masker(compile_text(f"{STANDING}; on unrendered warn"), tokenizer, template=NO_CALLS)
    with pytest.warns(LostFieldWarning, match="tool_calls"):
        masker([USER, call])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        masker([USER, call])


def test_roles_that_look_misspelled_are_told_once(tokenizer):
    slip = [USER, {**ASSISTANT, "role": "asistant"}]
    masker = Masker(compile_text(f"{STANDING}; on empty keep"), tokenizer)
    with pytest.warns(DoubtfulRoleWarning, match="`asistant`.*did you mean `assistant`.*roles: {asistant: assistant}"):
        masker(slip)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        masker.batch({"messages": [slip, CHAT]})
        masker.unrolled()([USER, {**ASSISTANT, "role": "narrator"}])
    shared = [{"from": "human", "value": "Hi?"}, {"from": "gtp", "value": "Yo."}]
    for other in (Masker(masker.program, tokenizer), Masker(masker.program, tokenizer, unroll=True)):
        with pytest.warns(DoubtfulRoleWarning, match="did you mean `gpt`.*roles: {gtp: assistant}"):
            other.batch({"conversations": [shared]})
    declared = Masker(compile_text(f"{STANDING}; train asistant"), tokenizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DoubtfulRoleWarning)
        declared(slip)


def test_warnings_point_at_the_callers_line(tokenizer):
    lost = [USER, {"role": "asistant", "content": "x"}, {**ASSISTANT, "refusal": "I will not say it"}]
    for call in (lambda m: m(lost), lambda m: m.batch({"messages": [lost]})):
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            call(Masker(compile_text(f"{STANDING}; on unrendered warn"), tokenizer))
        found = {(warning.category, warning.filename) for warning in seen}
        assert found == {(DoubtfulRoleWarning, __file__), (LostFieldWarning, __file__)}


def test_batch(tokenizer):
    masker = Masker(compile_text(STANDING), tokenizer)
    columns = masker.batch({"messages": [CHAT, [USER, ASSISTANT]], "id": [1, 2]})
    assert list(columns) == ["input_ids", "labels", "attention_mask"]
    for chat, *found in zip([CHAT, [USER, ASSISTANT]], *columns.values()):
        assert [column.tolist() for column in found] == list(dict(masker(chat)).values())
    assert masker.counts == {"rows": 2, "masked": 2}


def test_batch_of_no_rows(tokenizer):
    masker = Masker(compile_text(STANDING), tokenizer, dataset=DatasetSpec(kind="messages"))
    assert masker.batch({"messages": []}) == {"input_ids": [], "labels": [], "attention_mask": []}


def test_batch_detects_other_formats_or_is_told(tokenizer):
    conversation = [{"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "Yo."}]
    columns = {"conversations": [conversation]}
    expected = Masker(compile_text(STANDING), tokenizer)([USER, ASSISTANT]).labels
    for dataset in (None, DatasetSpec(kind="sharegpt")):
        masker = Masker(compile_text(STANDING), tokenizer, dataset=dataset)
        assert masker.batch(columns)["labels"][0].tolist() == expected
    assert (
        Masker(compile_text(STANDING), tokenizer, dataset=DatasetSpec(kind="sharegpt"))(conversation).labels == expected
    )


def test_a_bad_row_raises_with_its_number(tokenizer):
    masker = Masker(compile_text(STANDING), tokenizer, dataset=DatasetSpec(kind="messages"))
    columns = {"messages": [CHAT, [{"role": "user"}], CHAT]}
    with pytest.raises(RowError, match="row 1 of the batch"):
        masker.batch(columns)
    with pytest.raises(RowError, match="row 101:"):
        masker.batch(columns, [100, 101, 102])
    guarded = Masker(compile_text("train everything; never train user"), tokenizer)
    with pytest.raises(GuardError, match="row 0 of the batch"):
        guarded.batch({"messages": [CHAT]})


def test_bad_rows_can_be_dropped_and_are_counted(tokenizer):
    masker = Masker(
        compile_text("train assistant weight message.w"),
        tokenizer,
        on_error="drop",
        dataset=DatasetSpec(kind="messages"),
    )
    bad = [USER, {**ASSISTANT, "w": "x"}]
    columns = {"messages": [CHAT, [{"role": "user"}], bad, [USER], CHAT], "id": [0, 1, 2, 3, 4]}
    found = masker.batch(columns)
    assert found["id"] == [0, 4]
    assert len(found["input_ids"]) == len(found["messages"]) == 2
    assert masker.counts == {
        "rows": 5, "masked": 2, "failed": 2, "failed: PE501": 1, "failed: PE513": 1, "empty": 1,
    }  # fmt: skip


def test_a_row_that_cannot_be_tokenized_fails_alone(tokenizer):
    masker = Masker(compile_text(STANDING), tokenizer, on_error="drop", dataset=DatasetSpec(kind="messages"))
    assert masker.batch({"messages": [CHAT, [USER, {"role": "assistant", "content": "\ud800"}]]})["labels"]
    assert masker.counts["failed"] == 1


def test_pickling(tokenizer):
    masker = Masker(compile_text("train assistant; never train user", name="p.policy"), tokenizer)
    again = pickle.loads(pickle.dumps(masker))
    assert again(CHAT).labels == masker(CHAT).labels
    assert again.fingerprint == masker.fingerprint
    assert again.program.policy.guards[0].span.source.name == "p.policy"
    # Python 3.12 deprecates pickling iterators of itertools, and 3.14 refuses it.
    assert b"itertools" not in pickle.dumps(masker)


def test_fingerprint_changes_with_what_decides_the_output(tokenizer):
    def of(policy: str, **arguments: object) -> str:
        return Masker(compile_text(policy), tokenizer, **arguments).fingerprint

    base = of(STANDING)
    assert of("# why\ntrain  assistant\nmask system, user # who\ntrain eos after assistant;") == base
    others = [
        of("train assistant"),
        of(f"{STANDING}; on empty keep"),
        of(STANDING, template=NO_CALLS),
        of(STANDING, dataset=DatasetSpec(kind="sharegpt")),
        of(STANDING, on_error="drop"),
        of("train assistant weight 2; mask system,user; train eos after assistant"),
    ]
    assert len({base, *others}) == len(others) + 1


def test_a_batch_counts_rows_with_nothing_to_train_as_the_policy_says(tokenizer):
    def rows() -> dict[str, list[object]]:  # a batch that leaves rows out cuts what it was given
        return {"messages": [CHAT, [SYSTEM, USER]]}

    for setting, counts in (
        ("error", {"rows": 2, "masked": 1, "failed": 1, "failed: PE516": 1}),
        ("drop", {"rows": 2, "masked": 1, "empty": 1}),
        ("keep", {"rows": 2, "masked": 2}),
    ):
        masker = Masker(compile_text(f"{STANDING}; on empty {setting}"), tokenizer, on_error="drop")
        assert len(masker.batch(rows())["labels"]) == counts["masked"]
        assert dict(masker.counts) == counts
    with pytest.raises(RowError, match="on empty error"):
        Masker(compile_text(f"{STANDING}; on empty error"), tokenizer).batch(rows())


def test_a_template_that_the_tokenizer_gets_afterwards_is_refused() -> None:
    tokenizer = copy.deepcopy(load_tokenizer("builtin").tokenizer)
    masker = Masker(compile_text(STANDING), tokenizer)
    given = Masker(compile_text(STANDING), tokenizer, template=tokenizer.chat_template)
    expected = masker(CHAT).labels
    own, tokenizer.chat_template = tokenizer.chat_template, "{% for m in messages %}{{ m.content }}{% endfor %}"
    with pytest.raises(TokenizerError, match="was set to another after its masker was made") as caught:
        masker(CHAT)
    assert "template=" in str(caught.value.help)
    with pytest.raises(TokenizerError, match="was set to another"):
        pickle.loads(pickle.dumps(masker))(CHAT)
    assert expected == given(CHAT).labels
    tokenizer.chat_template = own[:3] + own[3:]  # an equal one is the same
    assert expected == masker(CHAT).labels


def test_arguments_that_a_template_does_not_read_cost_nothing(tokenizer, monkeypatch) -> None:
    template = tokenizer.template
    learned = []
    real = type(template)._learn
    monkeypatch.setattr(type(template), "_learn", lambda self, *given: learned.append(given) or real(self, *given))
    masker = Masker(compile_text(STANDING), tokenizer)
    expected = masker(CHAT).labels
    before = len(learned)
    assert all(expected == masker(CHAT, name_of_the_row=n).labels for n in range(5))
    assert before == len(learned)


def test_arguments_that_a_template_reads_are_kept_for_some_only(monkeypatch) -> None:
    monkeypatch.setattr("policy_engine.chat.template._MOST_PROFILES", 3)
    source = "{% for m in messages %}<|im_start|>{{ m.role }} {{ day }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    masker = Masker(compile_text(STANDING), load_tokenizer("builtin", template=source))
    assert all(f"user {n}\n" in masker(CHAT[1:], day=n).chat.text for n in range(10))
    assert len(masker.tokenizer.template._profiles) <= 3


def test_a_dataset_file_by_its_path(tmp_path: Path) -> None:
    file = tmp_path / "chats.yaml"
    file.write_text("messages: {field: talk, role: who, content: text, roles: {me: user, it: assistant}}\n")
    rows = {"talk": [[{"who": "me", "text": "Hi"}, {"who": "it", "text": "Yes."}]]}
    made = [
        dict(Masker(compile_text("use default"), "builtin", dataset=given).batch(dict(rows)))["input_ids"][0]
        for given in (str(file), file, load_dataset_spec(file))
    ]
    assert list(made[0]) == list(made[1]) == list(made[2])
    with pytest.raises(ConfigError, match="takes the path of a dataset file as `dataset`, not dict"):
        Masker(compile_text("use default"), "builtin", dataset=rows)  # type: ignore[arg-type]
