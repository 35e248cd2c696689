"""Messages in, masked tokens out: a policy, a tokenizer and a chat template put together."""

from __future__ import annotations

import copy
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from policy_engine.chat.loading import chat_tokenizer_of
from policy_engine.chat.segments import TokenizedChat
from policy_engine.core.choices import PairColumns
from policy_engine.core.errors import ConfigError, PolicyEngineError, RowError
from policy_engine.data.conversation import Conversation, read_row, without_null_fields
from policy_engine.data.dataset import Beside, DatasetSpec, SeenFormats, dataset_spec_of
from policy_engine.data.formats import Format, FormatKind, named_format
from policy_engine.data.given import given_tools
from policy_engine.data.pairs import PAIR_KINDS
from policy_engine.data.token_columns import join_tokens
from policy_engine.lang.checked import CheckedPolicy
from policy_engine.mask.batch import as_columns, attempt, columns_of, mask_rows, mask_samples, rows_of_columns
from policy_engine.mask.hashing import fingerprint_of, register_with_datasets
from policy_engine.mask.preferences.answers import MaskedPair
from policy_engine.mask.preferences.pair_batch import mask_pair, preference_rows
from policy_engine.mask.preferences.pair_columns import columns_for, pair_types
from policy_engine.mask.row import LIST_TYPES, SAMPLE_COLUMNS, MaskedRow, column_names, features_of
from policy_engine.mask.row_masker import RowMasker
from policy_engine.mask.unroll import UnrolledRow, unroll, unrolling_writes
from policy_engine.mask.warner import DoubtfulRoleWarning, LostFieldWarning, QuotedArgumentsWarning, Warner
from policy_engine.rules.compile import compile_policy
from policy_engine.rules.program import Program

if TYPE_CHECKING:
    from policy_engine.chat.media.open_media import MediaOptions

__all__ = ["DoubtfulRoleWarning", "LostFieldWarning", "MaskedRow", "Masker", "OnError", "QuotedArgumentsWarning"]

OnError = Literal["raise", "drop"]

_log = logging.getLogger("policy_engine")


class Masker:
    """Masks conversations: decides every token of them.

    Each conversation takes one call of the template and one of the tokenizer.

    `policy` is a compiled program or a checked policy; `tokenizer` a transformers fast tokenizer or processor, an
    encoder that `ChatTokenizer.from_encoder` takes, a ChatTokenizer, or what `load_tokenizer` takes; `template` (text
    or path) replaces the tokenizer's own. `dataset`, the path of a dataset file, says how rows are read and which
    roles the model writes; what it leaves open is detected from the first batch and logged. `on_error="drop"` leaves
    out rows of `batch` that fail, and counts them. With `unroll`, `batch` makes samples of one turn each, for
    templates that rewrite history. `media` says where a processor's images, sounds and videos may come from.

    Pickles, for worker processes, whose counts do not come back. `counts` says what became of the rows of `batch`:
    `rows`, `masked`, `empty`, `drift`, `failed`, and `failed: CODE` for each kind of failure.

    Raises ConfigError for arguments that mean nothing, TokenizerError and TemplateError as `load_tokenizer` does.
    """

    def __init__(
        self,
        policy: Program | CheckedPolicy,
        tokenizer: Any,
        *,
        template: str | Path | None = None,
        dataset: DatasetSpec | str | Path | None = None,
        on_error: OnError = "raise",
        unroll: bool = False,
        media: MediaOptions | None = None,
    ) -> None:
        if isinstance(policy, CheckedPolicy):
            policy = compile_policy(policy)
        if not isinstance(policy, Program):
            raise ConfigError(
                f"a Masker takes a compiled policy, not {type(policy).__name__}",
                help="give it `load_policy(path)` or `policy_from_text(text)`",
            )
        if on_error not in get_args(OnError):
            raise ConfigError(f"on_error={on_error!r} means nothing", help='say on_error="raise" or on_error="drop"')
        self.program = policy
        self.dataset = dataset_spec_of(dataset)
        roles = None if dataset is None else self.dataset.trained_roles
        self.tokenizer = chat_tokenizer_of(tokenizer, template, roles, media)
        self.on_error = on_error
        self.unrolls = unroll
        self.counts: Counter[str] = Counter()
        self._formats = SeenFormats(self.dataset)
        self._warner = Warner(program=policy, tokenizer=self.tokenizer)
        register_with_datasets(type(self))

    def __repr__(self) -> str:
        return f"<Masker {self.program.policy.description}; {self.tokenizer.name}>"

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides what comes out.

        It covers the policy (not its comments), tokenizer, template and versions.
        """
        how = [self.on_error, *(["unrolled"] if self.unrolls else [])]
        return fingerprint_of(self.program.fingerprint, self.tokenizer.fingerprint, self._reading, *how)

    @property
    def _reading(self) -> str:
        spec = self.dataset
        facts: list[Any] = [spec.kind, spec.names, sorted(spec.trained_roles), spec.template_kwargs]
        facts += [] if spec.pairs is None else [spec.pairs]
        facts += [list(spec.carry)] if spec.carry else []
        return json.dumps(facts, sort_keys=True, default=repr)

    def __getstate__(self) -> dict[str, Any]:
        warner = Warner(program=self.program, tokenizer=self.tokenizer)
        return {**self.__dict__, "counts": Counter(), "_formats": SeenFormats(self.dataset), "_warner": warner}

    def __call__(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Any] | None = None,
        documents: Sequence[Any] | None = None,
        sample: Mapping[str, Any] | None = None,
        *,
        images: Sequence[Any] | None = None,
        videos: Sequence[Any] | None = None,
        audios: Sequence[Any] | None = None,
        **template_kwargs: Any,
    ) -> MaskedRow:
        """Masks one conversation.

        `sample` is the row it came from, for conditions on `sample.`; `images`, `videos` and `audios` fill the places
        that the messages have for them (`<image>`, or a part of type `image` without data); further arguments go to the
        template.

        `tools` are schemas or Python functions. Messages, tools and documents may be JSON text. A key that is null
        counts as absent, as in `batch`, since rows that come out of Arrow have every key of their column.

        Raises RowError for what is not a list of messages, for data the policy cannot use, for an argument of
        `apply_chat_template` that would change the ids (`truncation=True`), and under `on empty error`; TemplateError,
        AttributionError, UnrenderedError and GuardError where their steps do.

        >>> from policy_engine.rules.compile import compile_text
        >>> masker = Masker(compile_text("train assistant; train eos of assistant"), "builtin")
        >>> row = masker([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes."}])
        >>> row
        <MaskedRow: 13 tokens, 3 trained>
        >>> masker.tokenizer.tokenizer.decode([label for label in row.labels if label != -100])
        'Yes.<|im_end|>'
        """
        columns = {"images": images, "videos": videos, "audios": audios}
        media = {name: files for name, files in columns.items() if files is not None}
        given = Beside(tools=tools, documents=documents, sample=sample, media=media, template_kwargs=template_kwargs)
        return self.mask(self._conversation(messages, given))

    def mask_given(  # a parameter for each column of a rollout, by the name that it has in data
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        input_ids: Any = None,
        prompt_ids: Any = None,
        completion_ids: Any = None,
        sampled: Any = None,
        carry: Mapping[str, Any] | None = None,
        tools: Sequence[Any] | None = None,
        documents: Sequence[Any] | None = None,
        sample: Mapping[str, Any] | None = None,
        **template_kwargs: Any,
    ) -> MaskedRow:
        """Masks one conversation whose token ids are given, as a rollout's are; tokenizes nothing.

            masker.mask_given(messages, prompt_ids=prompt, completion_ids=completion, sampled=response_mask)

        The ids (`input_ids`, or `prompt_ids` and `completion_ids`) have to spell the rendered text byte for byte, in
        whatever segmentation. `sampled` has 1 for each token that the model sampled, of all ids or of the completion's;
        without it, a completion was sampled. `carry` has columns with a number per token, which become float32 columns
        of the row. Lists, arrays and tensors of one dimension are taken.

        Raises DriftError where the ids spell something else, unless the policy says `on drift mask`; RowError for
        columns that do not fit each other; else what calling the masker raises.
        """
        columns = (("input_ids", input_ids), ("prompt_ids", prompt_ids), ("completion_ids", completion_ids))
        given = {name: (name, value) for name, value in (*columns, ("sampled", sampled)) if value is not None}
        if not given.keys() - {"sampled"}:
            raise RowError(
                "no token ids are given",
                help="give `input_ids`, or `prompt_ids` and `completion_ids`; or call the masker",
            )
        beside = Beside(tools=tools, documents=documents, sample=sample, template_kwargs=template_kwargs)
        read = self._conversation(messages, beside)
        return self.mask(replace(read, given=join_tokens(**given, carried=carry or {})))

    def mask_turns(
        self, turns: Sequence[Mapping[str, Any]], *, carry: Sequence[str] = (), sample: Mapping[str, Any] | None = None
    ) -> MaskedRow:
        """Masks a conversation that is given as ids with their authors; nothing is rendered.

            masker.mask_turns([{"role": "user", "ids": [1, 2]}, {"role": "assistant", "ids": [3, 4], "sampled": True}])

        `data.token_columns.read_turns` documents the entries, `chat.given.turns` the parts. Raises RowError,
        GuardError, and AttributionError where ids stand for no fixed bytes.
        """
        read = read_row({"turns": list(turns)}, named_format("turns", carry=tuple(carry)))
        return self.mask(read if sample is None else replace(read, sample=sample))

    def _conversation(self, messages: Any, beside: Beside) -> Conversation:
        read, layout = self.dataset.read_given(messages, beside)
        self._warner.look_at_roles(read, layout, self.known_roles)
        return read

    @property
    def known_roles(self) -> frozenset[str]:
        """The roles that policy, dataset file and template declare."""
        schema = self.dataset.to_schema()
        return schema.roles | schema.trained_roles | self.program.policy.roles | self.tokenizer.model_roles

    def mask(self, conversation: Conversation) -> MaskedRow:
        """Masks one read `Conversation`; messages are a TypeError: call `masker(messages)`."""
        return self.row_masker.mask(conversation)

    def mask_tokenized(self, tokenized: TokenizedChat) -> MaskedRow:
        """Masks a chat that is tokenized already, such as another policy's row.

        Raises what `mask` raises.
        """
        masker = self.row_masker
        masker.check_lost(tokenized.chat)
        return masker.finish(tokenized)

    @property
    def row_masker(self) -> RowMasker:
        """Program and tokenizer put together, which gives a LostFieldWarning once per kind of field."""
        declared = (name.split(".")[1] for name in self.dataset.fields or () if name.startswith("message."))
        return RowMasker(
            program=self.program,
            tokenizer=self.tokenizer,
            on_lost=lambda lost: self._warner.lost(lost, unrolling_writes=self.unrolling_writes),
            on_miswritten=self._warner.miswritten,
            on_masked=self._warner.look_at_rows,
            fields=frozenset(declared),
        )

    def unrolling_writes(self, piece: str) -> bool:
        """True if `unroll` keeps a piece that never reached the text, such as `reasoning_content`.

        Templates drop the thinking of earlier turns; some never write it.
        """
        return not self.unrolls and unrolling_writes(piece, self.tokenizer, self.dataset.template_kwargs)

    def unrolled(self) -> Masker:
        """A masker that is this one with `unroll`."""
        made = copy.copy(self)
        made.unrolls, made.counts = True, Counter()
        return made

    def unroll(self, conversation: Conversation) -> list[UnrolledRow]:
        """The samples of one conversation, which together train each turn once.

        Each trained turn is in the context that inference gives it. See `policy_engine.mask.unroll`, also for what is
        raised. Where nothing is trained there is no sample; under `on empty keep` there is one that trains no turn, and
        `on empty error` raises RowError.
        """
        made = unroll(conversation, masker := self.row_masker)
        masker.on_masked([[sample.row for sample in made]])
        return made

    def pair(
        self,
        chosen: Any,
        rejected: Any,
        prompt: Any = None,
        tools: Sequence[Any] | None = None,
        sample: Mapping[str, Any] | None = None,
        *,
        images: Sequence[Any] | None = None,
        **template_kwargs: Any,
    ) -> MaskedPair:
        """Masks two answers to one prompt, of which the first is preferred.

        Each is a list of messages, or text that the model writes; `prompt` is a list of messages, or text of the user.
        Without it, the messages that both answers begin with are the prompt. Other arguments are the masker's own.

            masker.pair(prompt="Hi", chosen="Hello", rejected="What?")["chosen_labels"]

        Raises RowError if the answers have no prompt in common or its ids differ, MediaError for media in an answer,
        ConfigError for a policy with weights, else as the masker does.
        """
        self.pair_columns("preference")
        given = without_null_fields({"prompt": prompt, "chosen": chosen, "rejected": rejected, "images": images})
        kwargs = {**self.dataset.template_kwargs, **template_kwargs}
        made = given_tools(without_null_fields(tools), "`tools`", functions=True)
        beside = {"tools": made, "sample": given if sample is None else sample}
        return mask_pair(given, named_format("preference", template_kwargs=kwargs, tools=None), beside, self.row_masker)

    def pair_columns(self, kind: FormatKind) -> PairColumns:
        """The trainer that rows of preferences make columns for.

        That is the dataset file's `pairs`, or the one that fits `kind`. Raises ConfigError where it takes no such rows.
        """
        spec = self.dataset
        return columns_for(kind, spec.pairs, self.row_masker, unrolls=self.unrolls, carry=spec.carry)

    def mask_batch(self, conversations: Iterable[Conversation]) -> list[MaskedRow | PolicyEngineError]:
        """Masks many conversations with one tokenizer call. A row that fails becomes its error."""
        return mask_rows(conversations, self.row_masker)

    @property
    def batch(self) -> Callable[..., dict[str, Any]]:
        """Masks columns of rows, for `dataset.map(masker.batch, batched=True)`.

        Returns the columns `input_ids`, `labels`, `attention_mask` and, if the policy has weights, `loss_weights`, as
        one array per row. With `unroll` there are `turn` and `samples` too, and the columns it was given are repeated
        for each sample of a row, in place.

        Under `on empty drop` (the default) rows with nothing to train are left out; under `on_error="drop"` rows that
        fail are, too. Then the columns that were given are cut to the rows that are left, in place, as `map` asks of a
        function that removes rows. With `with_indices=True`, errors name the row of the dataset, else the row of the
        batch.

        Raises the error of the first row that fails, with its row number.

        >>> from policy_engine.rules.compile import compile_text
        >>> masker = Masker(compile_text("train assistant"), "builtin")
        >>> chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes."}]
        >>> columns = masker.batch({"messages": [chat, chat], "id": [1, 2]})
        >>> list(columns), len(columns["labels"]), dict(masker.counts)
        (['input_ids', 'labels', 'attention_mask'], 2, {'rows': 2, 'masked': 2})
        """
        # On access, so that it works whichever of the two was imported first.
        register_with_datasets(type(self))
        return self._map_batch

    @property
    def features(self) -> Any:
        """The types of the columns that `batch` makes, as `datasets.Features`.

        Give them to `map(features=…)` where no other column is kept. Without them a stream (`IterableDataset`) does not
        know its types.
        """
        return features_of(self._types(self.dataset.kind or self._formats.kind))

    def _types(self, kind: FormatKind | None) -> dict[str, str]:
        """The columns that `batch` makes of rows of a kind, with the types of their numbers."""
        if kind in PAIR_KINDS:
            return pair_types(self.pair_columns(kind), self.tokenizer, unrolled=self.unrolls)
        names = column_names(self.program, self.tokenizer, unrolled=self.unrolls, carried=self.dataset.carry)
        known = LIST_TYPES | dict.fromkeys(SAMPLE_COLUMNS, "int32")
        return {name: known.get(name, "float32") for name in names}

    def _map_batch(self, columns: Any, indices: Sequence[int] | None = None) -> Any:
        given, rows = rows_of_columns(columns)
        layout = self._formats.of(rows) if rows else None
        kept: list[int] = []
        masked: list[Mapping[str, Any]] = []
        for place, result in enumerate(self._mask_rows(rows, layout)):
            self.counts["rows"] += 1
            where = f"row {place} of the batch" if indices is None else f"row {indices[place]}"
            if isinstance(result, PolicyEngineError) and not self.row_masker.leaves_out(result):
                self._count_failure(result, where)
            elif isinstance(result, PolicyEngineError) or not result:
                self.counts[why := "drift" if result else "empty"] += 1
                self._warner.left_out(why, where)
            else:
                self.counts["masked"] += 1
                kept += [place] * len(result)
                masked += result
        return as_columns(columns, given, kept, masked, list(self._types(None if layout is None else layout.kind)))

    def _mask_rows(
        self, rows: list[dict[str, Any]], layout: Format | None
    ) -> list[list[Mapping[str, Any]] | PolicyEngineError]:
        """The columns of the samples that each row becomes.

        A row becomes one sample, no sample if nothing is trained, or several if unrolled.
        """
        if layout is None:
            return []
        self._warner.look_at_columns(layout)
        if layout.kind in PAIR_KINDS:
            read_rows = [without_null_fields(row) for row in rows]
            wanted = self.pair_columns(layout.kind)
            return list(preference_rows(read_rows, layout, self.row_masker, wanted, unrolled=self.unrolls))
        read = [attempt(self._read, row, layout) for row in rows]
        made = mask_samples(read, self.row_masker, unrolled=self.unrolls)
        empty = self.program.setting("empty")
        return [r if isinstance(r, PolicyEngineError) else columns_of(r, empty) for r in made]

    def _read(self, row: dict[str, Any], layout: Format) -> Conversation:
        conversation = read_row(without_null_fields(row), layout)
        self._warner.look_at_roles(conversation, layout, self.known_roles)
        return conversation

    def _count_failure(self, error: PolicyEngineError, place: str) -> None:
        if self.on_error == "raise":
            raise error.reworded(f"{place}: {error.message}") from error
        self.counts["failed"] += 1
        self.counts[f"failed: {error.code}"] += 1
        _log.warning("%s is left out: %s", place, error)
