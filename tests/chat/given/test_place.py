"""Given ids on rendered chats: other segmentations, drift, and where both agree again."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from policy_engine import AttributionError, DriftError, Masker, RowError, load_tokenizer
from policy_engine.chat.given.token_bytes import token_bytes
from policy_engine.rules.compile import compile_text
from policy_engine.testing.choices import RandomChoices
from tests.properties.given_ids import resegmented
from tests.support.tokenizers import chat_tokenizer

STANDING = "train assistant; mask system,user; train eos after assistant"
CHAT = [
    {"role": "user", "content": "What is 2+2? Quote <|im_end|>."},
    {"role": "assistant", "content": "It is four, naïvely 🙂."},
    {"role": "user", "content": "And 3+3?"},
    {"role": "assistant", "content": "Six."},
]


@pytest.fixture(scope="module")
def builtin():
    return load_tokenizer("builtin")


def trained(row) -> str:
    """The characters of trained tokens, each stretch in brackets."""
    ranges = zip(row.tokenized.starts_T, row.tokenized.ends_T, row.mask.weights_T)
    chars = {at for start, end, weight in ranges if weight for at in range(start, end)}
    opens = {at for at in chars if at - 1 not in chars}
    return "".join(
        ("[" if at in opens else "") + row.chat.text[at] + ("" if at + 1 in chars else "]") for at in sorted(chars)
    )


def swapped(ids, at, other):
    return [*ids[:at], other, *ids[at + 1 :]]


class TestOtherIds:
    @pytest.mark.parametrize("name", ["qwen", "mistral-v1", "mistral-v3", "byte-strip", "metaspace-first"])
    def test_other_ids_of_the_same_text_are_decided_alike(self, name):
        masker = Masker(compile_text(STANDING), chat_tokenizer(name))
        own = masker(CHAT)
        for number in range(5):
            ids = resegmented(RandomChoices(f"{name}:{number}"), token_bytes(masker.tokenizer), own.input_ids)
            assert ids != own.input_ids
            row = masker.mask_given(CHAT, input_ids=ids)
            assert row.input_ids == ids
            assert trained(row) == trained(own)

    def test_its_own_ids_give_the_same_labels(self, builtin):
        masker = Masker(compile_text(STANDING), builtin)
        own = masker(CHAT)
        for given in (own.input_ids, np.array(own.input_ids), tuple(own.input_ids)):
            assert masker.mask_given(CHAT, input_ids=given).labels == own.labels
        row = masker.mask_given(CHAT, prompt_ids=own.input_ids[:10], completion_ids=own.input_ids[10:])
        assert row.labels == own.labels

    def test_a_rollout_may_end_before_what_a_template_writes_after_it(self, builtin):
        masker = Masker(compile_text(STANDING), builtin)
        own = masker(CHAT)
        without_newline = masker.mask_given(CHAT, input_ids=own.input_ids[:-1])
        assert without_newline.chat.text == own.chat.text.removesuffix("\n")
        assert without_newline.labels == own.labels[:-1]
        cut = masker.mask_given(CHAT, input_ids=own.input_ids[:-2])
        assert cut.chat.text.endswith("Six.")
        assert {s.part for s in cut.chat.segments if s.turn == 3} == {"header", "text"}

    def test_control_tokens_quoted_as_text_or_as_one_id_are_the_same_characters(self, builtin):
        masker = Masker(compile_text(STANDING), builtin)
        own = masker(CHAT)
        end = builtin.tokenizer.convert_tokens_to_ids("<|im_end|>")
        known = token_bytes(builtin)
        letters = [i for c in "<|im_end|>" for i in builtin.tokenizer(c, add_special_tokens=False)["input_ids"]]
        assert known.spell_out(letters)[0] == "<|im_end|>"
        ids = [x for i in own.input_ids for x in (letters if i == end else [i])]
        row = masker.mask_given(CHAT, input_ids=ids)
        assert trained(row) == trained(own)
        assert sum(label != -100 for label in row.labels) == sum(label != -100 for label in own.labels) + 2 * 9

    def test_a_decomposed_character_may_be_spelled_either_way(self):
        masker = Masker(compile_text(STANDING), chat_tokenizer("qwen"))
        chat = [{"role": "user", "content": "cafe\u0301 no"}, {"role": "assistant", "content": "e\u0301"}]
        composed = [{"role": "user", "content": "caf\u00e9 no"}, {"role": "assistant", "content": "\u00e9"}]
        own = masker(chat)
        assert own.input_ids == masker(composed).input_ids
        row = masker.mask_given(chat, input_ids=own.input_ids)
        assert (row.labels, trained(row)) == (own.labels, trained(own))
        raw = [i for b in "e\u0301".encode() for i in [byte_id(masker, b)]]
        (place,) = [
            i
            for i in range(len(own.input_ids))
            if own.labels[i] != -100 and row.chat.text[slice(*at(own, i))] == "e\u0301"
        ]
        kept = masker.mask_given(chat, input_ids=[*own.input_ids[:place], *raw, *own.input_ids[place + 1 :]])
        assert trained(kept) == trained(own)
        assert len(kept.input_ids) == len(own.input_ids) + 2

    def test_a_drift_behind_a_composed_character_is_reported_at_its_own_token(self):
        masker = Masker(compile_text(STANDING), chat_tokenizer("qwen"))
        chat = [{"role": "user", "content": "cafe\u0301 no"}, {"role": "assistant", "content": "one two three"}]
        ids = list(masker(chat).input_ids)
        ids.insert(len(ids) - 3, byte_id(masker, 0))
        with pytest.raises(DriftError) as caught:
            masker.mask_given(chat, input_ids=ids)
        assert caught.value.drift.token == len(ids) - 4

    @pytest.mark.parametrize("content", ["a <|im_end|>\u00a0 b", "a\n<|im_end|>  <|im_end|>", "\u2003<|im_end|>\n\n\n"])
    def test_blanks_that_an_added_token_takes_belong_to_no_token(self, content):
        masker = Masker(compile_text(STANDING), chat_tokenizer("byte-strip"))
        chat = [{"role": "user", "content": "x"}, {"role": "assistant", "content": content}]
        own = masker(chat)
        row = masker.mask_given(chat, input_ids=own.input_ids)
        assert row.labels == own.labels
        assert row.tokenized.starts_T.tolist() == own.tokenized.starts_T.tolist()
        assert row.tokenized.ends_T.tolist() == own.tokenized.ends_T.tolist()

    def test_a_tokenizer_without_fixed_bytes_takes_only_its_own_ids(self):
        masker = Masker(compile_text(STANDING), chat_tokenizer("wordpiece-lower"))
        own = masker(CHAT)
        assert masker.mask_given(CHAT, input_ids=own.input_ids).labels == own.labels
        with pytest.raises(AttributionError, match="stand for no fixed bytes"):
            masker.mask_given(CHAT, input_ids=own.input_ids[1:])


def at(row, token):
    return int(row.tokenized.starts_T[token]), int(row.tokenized.ends_T[token])


def byte_id(masker, byte):
    return next(i for i, piece in enumerate(token_bytes(masker.tokenizer).tables[0].pieces) if piece == bytes([byte]))


class TestDrift:
    def test_the_report_names_the_first_token_its_message_and_part(self, builtin):
        masker = Masker(compile_text(STANDING), builtin)
        own = masker(CHAT)
        token = next(i for i, label in enumerate(own.labels) if label != -100) + 1
        other = builtin.tokenizer("Z", add_special_tokens=False)["input_ids"][0]
        with pytest.raises(DriftError) as found:
            masker.mask_given(CHAT, input_ids=swapped(own.input_ids, token, other))
        drift = found.value.drift
        assert (drift.token, drift.turn, drift.role, drift.part) == (token, 1, "assistant", "text")
        assert drift.expected.startswith(own.chat.text[slice(*at(own, token))])
        assert drift.found.startswith("Z")
        assert found.value.code == "PE541"
        assert f"from token {token} on, in `text` of message 1 (`assistant`)" in str(found.value)
        assert pickle.loads(pickle.dumps(found.value)).drift == drift

    def test_ids_that_end_within_an_answer_drift_after_the_last_one(self, builtin):
        masker = Masker(compile_text(STANDING), builtin)
        ids = masker(CHAT).input_ids[:-4]
        with pytest.raises(DriftError, match=f"from token {len(ids)} on.*and the ids end"):
            masker.mask_given(CHAT, input_ids=ids)

    def test_mask_masks_the_turn_of_the_drift_and_trains_the_rest(self, builtin):
        masker = Masker(compile_text(STANDING + "; on drift mask"), builtin)
        own = masker(CHAT)
        token = next(i for i, label in enumerate(own.labels) if label != -100) + 1
        ids = swapped(own.input_ids, token, builtin.tokenizer("Z", add_special_tokens=False)["input_ids"][0])
        row = masker.mask_given(CHAT, input_ids=ids)
        assert trained(row) == "[Six.<|im_end|>]"
        ((first, stop),) = row.tokenized.drifted
        assert row.input_ids == ids
        assert builtin.tokenizer.decode(ids[first:stop]).startswith("<|im_start|>assistant\nIt")
        assert builtin.tokenizer.decode(ids[stop:]).startswith("<|im_start|>user\nAnd 3+3?")
        assert (
            "".join(row.chat.segment_text(s) for s in row.chat.segments)
            == row.chat.text
            == builtin.tokenizer.decode(ids)
        )
        explained = row.explain(token=token)
        assert (explained.reason, explained.weight) == ("drift", 0.0)
        assert "`on drift mask`" in explained.why

    def test_drift_twice_and_at_the_end(self, builtin):
        masker = Masker(compile_text(STANDING + "; on drift mask"), builtin)
        own = masker(CHAT)
        other = builtin.tokenizer("Z", add_special_tokens=False)["input_ids"][0]
        answers = [i for i, label in enumerate(own.labels) if label != -100 and own.labels[i - 1] == -100]
        ids = swapped(swapped(own.input_ids, answers[0], other), answers[1], other)
        assert len(masker.mask_given(CHAT, input_ids=ids).tokenized.drifted) == 2
        more = masker.mask_given(CHAT, input_ids=[*own.input_ids, other])
        assert more.tokenized.drifted == ((len(own.input_ids), len(own.input_ids) + 1),)
        assert more.labels == [*own.labels, -100]

    def test_a_message_that_the_ids_do_not_have(self, builtin):
        masker = Masker(compile_text(STANDING + "; on drift mask"), builtin)
        extra = [*CHAT[:2], {"role": "user", "content": "Hm?"}, *CHAT[2:]]
        row = masker.mask_given(extra, input_ids=masker(CHAT).input_ids)
        assert trained(row) == "[It is four, naïvely 🙂.<|im_end|>][Six.<|im_end|>]"

    def test_an_id_past_the_vocabulary(self, builtin):
        with pytest.raises(RowError, match="token 2 of `input_ids` is 999999"):
            Masker(compile_text(STANDING), builtin).mask_given(CHAT, input_ids=[1, 2, 999999])


class TestArguments:
    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({}, "no token ids are given"),
            ({"sampled": [1]}, "no token ids are given"),
            ({"prompt_ids": [1]}, "no `completion_ids` beside them"),
            ({"input_ids": [1, 2], "sampled": [1]}, "1 value, and the row has 2 token ids"),
            ({"input_ids": [1, 2], "sampled": [1, 2]}, "numbers other than 0 and 1"),
            ({"input_ids": [1, -2]}, "negative numbers"),
            ({"input_ids": [1.5]}, "fractions"),
            ({"input_ids": [-100, 5, -100]}, "has -100, which no token has: it looks like a column of labels"),
            ({"input_ids": [[1]]}, "a flat list of token ids"),
            ({"input_ids": "12"}, "is text"),
            ({"input_ids": []}, "no token ids in"),
            ({"input_ids": [1, 2], "carry": {"logprobs": [0.5]}}, "`logprobs` has 1 value"),
            ({"input_ids": [1], "carry": {"logprobs": [float("nan")]}}, "not finite"),
            ({"input_ids": [1], "carry": {"logprobs": [1e300]}}, "float32"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, builtin, given, message):
        with pytest.raises(RowError, match=message):
            Masker(compile_text(STANDING), builtin).mask_given(CHAT, **given)
