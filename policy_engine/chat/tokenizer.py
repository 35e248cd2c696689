"""A tokenizer with its chat template: rendered chats become tokens with known characters."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from policy_engine.chat.encoders.find_encoder import encoder_of, is_encoder, what_instead
from policy_engine.chat.segments import RenderedChat, TokenizedChat
from policy_engine.chat.stops import stop_tokens
from policy_engine.chat.template import ChatTemplate
from policy_engine.chat.tokenizer_facts import (
    bos_finding,
    check_unchanged,
    chosen_templates,
    identity_of,
    no_template,
    own_templates,
    template_name,
    times_opened,
    token_facts,
)
from policy_engine.chat.tokens.cached import CachedTokenizer
from policy_engine.chat.tokens.fast_backend import TokenBackend
from policy_engine.chat.tokens.in_pieces import PieceLocator
from policy_engine.chat.tokens.load import usable
from policy_engine.chat.tokens.locator import TokenLocator
from policy_engine.chat.tokens.qualify import is_known
from policy_engine.core.diagnostics import Diagnostic
from policy_engine.core.errors import AttributionError, ConfigError, PolicyEngineError, TokenizerError
from policy_engine.data.conversation import Conversation

# Encoders and media are imported where there are some: most tokenizers have neither.
if TYPE_CHECKING:
    from policy_engine.chat.encoders.protocol import Encoder
    from policy_engine.chat.media.encode import MediaEncoder
    from policy_engine.chat.media.open_media import MediaOptions
    from policy_engine.chat.media.processor import MediaProcessor


@dataclass(frozen=True, kw_only=True, eq=False)
class ChatTokenizer:
    """A transformers tokenizer and the chat templates it renders with.

    `tokenizer` is used as it is, never changed but for its truncation and padding, which `encode` switches off as
    calling it without options does. `templates` are template sources by name (`default`, `tool_use`), empty if it has
    no template. The tokenizer may not gain tokens afterwards: make a new ChatTokenizer then.
    """

    tokenizer: Any = field(repr=False)
    templates: Mapping[str, str] = field(repr=False)
    name: str = "<tokenizer>"
    model_roles: frozenset[str] = frozenset({"assistant"})
    """Roles the model writes; templates mark their turns' headers and ends accordingly."""
    fast: TokenBackend | None = None
    """Backend that gives the ids in place of the tokenizer; see `with_fast`."""
    stops: frozenset[str] = frozenset()
    """Tokens at which the model stops, of `generation_config.json` beside the tokenizer; mostly empty."""
    template_file: str | None = field(default=None, repr=False, compare=False)
    """The file that replaced the tokenizer's own templates, for errors to name."""
    follows: bool = field(default=False, repr=False, compare=False)
    """`templates` are the tokenizer's own, which may not be set to others afterwards."""
    media: MediaProcessor | None = None
    """The processor that gives the ids, if it was made from one; `tokenizer` is the processor's."""
    skeletons: bool = True
    """True if rows of one shape are replayed: see `with_skeletons`."""
    encoder: Encoder | None = None
    """The code that renders in place of a template, if it was made from one: see `from_encoder`."""

    @classmethod
    def from_encoder(cls, encoder: Any) -> ChatTokenizer:
        """From code that renders conversations without a chat template; ids are those that it gives.

        `encoder` is a `MistralTokenizer` of mistral-common or transformers' `MistralCommonBackend`, a `HarmonyEncoding`
        of openai-harmony, or an `Encoder` of `policy_engine.chat.encoders`. Raises TokenizerError for anything else.

            Masker(policy, ChatTokenizer.from_encoder(MistralTokenizer.from_file("tekken.json")))
        """
        made = encoder_of(encoder)
        return cls(tokenizer=made.tokenizer, templates={}, name=made.name, encoder=made)

    @classmethod
    def from_transformers(cls, tok: Any, template: str | Path | None = None) -> ChatTokenizer:
        """From a loaded transformers tokenizer, fast or slow.

        `template` replaces the tokenizer's own: a template's text, a file of it, or the name of one of the tokenizer's
        templates. One that renders by itself (`MistralCommonBackend`) is taken as `from_encoder` does.

        Raises TokenizerError if it is no tokenizer, or if the same text has no fixed ids.
        """
        if template is None and is_encoder(tok):
            return cls.from_encoder(tok)
        tok = usable(tok)
        templates, file = chosen_templates(own_templates(tok), template)
        name = str(getattr(tok, "name_or_path", "") or "") or "<tokenizer>"
        stops, follows = stop_tokens(name, tok), template is None
        return cls(tokenizer=tok, templates=templates, name=name, stops=stops, template_file=file, follows=follows)

    @classmethod
    def from_processor(
        cls, processor: Any, template: str | Path | None = None, *, options: MediaOptions | None = None
    ) -> ChatTokenizer:
        """From a loaded transformers processor; ids are those of its `apply_chat_template`.

        `options` say where media may come from. Raises TokenizerError for a class that does not write media as text
        before it tokenizes once, with the reason.
        """
        from policy_engine.chat.media.open_media import MediaOptions
        from policy_engine.chat.media.processor import MediaProcessor

        media = MediaProcessor(processor=processor, options=options or MediaOptions())
        own = own_templates(processor)
        made = cls.from_transformers(processor.tokenizer, template)
        # The tokenizer's own template may be older than the processor's, which wins.
        if own and (template is None or template in own):
            made = dataclasses.replace(made, templates=chosen_templates(own, template)[0], template_file=None)
        return dataclasses.replace(made, media=media, follows=False)  # templates are the processor's

    def with_media(self, options: MediaOptions) -> ChatTokenizer:
        """The same processor with other sources of media.

        Raises ConfigError for a tokenizer.
        """
        if self.media is None:
            raise ConfigError(
                f"{self.name} is a tokenizer, which takes no media", help="give the model's processor in its place"
            )
        return self._changed(media=dataclasses.replace(self.media, options=options))

    def with_template(self, template: str | Path) -> ChatTokenizer:
        """The same tokenizer with another chat template, given as `from_transformers` takes it.

        Raises TokenizerError for an encoder that gives ids.

        >>> from policy_engine.chat.loading import load_tokenizer
        >>> load_tokenizer("builtin").with_template("{{ messages[0].content }}").templates
        {'default': '{{ messages[0].content }}'}
        """
        if self.encoder is not None and self.encoder.gives_ids:
            raise TokenizerError(
                f"{self.name} renders chats by itself, without a chat template",
                help="leave the template out, or load the model's tokenizer.json with it",
            )
        other = type(self).from_transformers(self.tokenizer, template)
        facts = {"templates": other.templates, "template_file": other.template_file}
        return self._changed(**facts, encoder=None, follows=False)

    def with_model_roles(self, roles: Iterable[str]) -> ChatTokenizer:
        """The same tokenizer and templates for a model that writes these roles."""
        return self._changed(model_roles=frozenset(roles))

    def with_fast(self, backend: TokenBackend | None) -> ChatTokenizer:
        """The same tokenizer with ids from another backend, compared with its own now and then.

        None takes its own again.
        """
        return dataclasses.replace(self, fast=backend)

    def with_skeletons(self, wanted: bool) -> ChatTokenizer:
        """The same tokenizer, whose template is replayed on rows of one shape, or not.

        False renders every row in full. A replay gives what the template gives, and is compared with it now and then:
        SkeletonMismatch if it does not.
        """
        return self._changed(skeletons=wanted)

    def qualify_fast(
        self, texts: Sequence[str], names: Sequence[str] = ("kitoken", "gigatoken"), *, full: bool = False
    ) -> TokenBackend | str:
        """A backend that gives this tokenizer's ids on the texts of a check and on `texts`.

        Else the reason why no backend does.

        `names` are tried in that order. A `full` check takes ten seconds; its verdict is kept in the cache.
        """
        return self.locator.qualify_fast(texts, names, full=full)

    def known_fast(self) -> TokenBackend | None:
        """The backend that passed a full check in an earlier run, by the cache, or None.

        None too for a tokenizer that was not read out of the cache: looking for its check would take longer than
        encoding some rows.
        """
        locator = self.locator
        if (
            not isinstance(self.tokenizer, CachedTokenizer)
            or locator.pipeline is None
            or locator.pipeline.table is None
        ):
            return None
        found = locator.qualify_fast((), ("kitoken",)) if is_known(locator.subject, "kitoken") else None
        return None if isinstance(found, str) else found

    def _changed(self, **fields: Any) -> ChatTokenizer:
        made = dataclasses.replace(self, **fields)
        # A cached property lives in `__dict__`, also of a frozen dataclass.
        made.__dict__["locator"] = self.locator  # what it learned of the tokenizer holds for any template
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        # By field: cached properties hold backends and compiled templates, which do not pickle or are large.
        facts = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        # In an order of their own, so that pickles of equal tokenizers are equal.
        facts |= {"templates": dict(self.templates), **{name: sorted(facts[name]) for name in _SETS}}
        # A processor and an encoder bring their tokenizer along: the two are one object, and stay so.
        if self._brought is not None:
            facts["tokenizer"] = None
        return _rebuild, (facts,)

    @property
    def _brought(self) -> Any:
        if self.media is not None:
            return self.media.processor.tokenizer
        return None if self.encoder is None or not self.encoder.gives_ids else self.encoder.tokenizer

    @property
    def template(self) -> ChatTemplate:
        """The chat template for conversations without tools.

        Raises TokenizerError if it has no template.
        """
        return self._template(self._choose(has_tools=False))

    def render(self, conversation: Conversation) -> RenderedChat:
        """A conversation rendered with the template that `template_for` gives."""
        return self.template_for(conversation).render(conversation)

    def template_for(self, conversation: Conversation) -> ChatTemplate:
        """The template that transformers would choose: `tool_use` for tools, if any, or `default`."""
        return self._template(self._choose(has_tools=conversation.tools is not None))

    def _choose(self, *, has_tools: bool) -> str:
        if self.encoder is not None:
            return "encoder"
        if self.follows:
            check_unchanged(self.tokenizer, self.templates, self.name)
        if not self.templates:
            raise no_template(self.name, what_instead(self.name))
        # A processor takes its default template, tools or not.
        return template_name(self.templates, self.name, has_tools=has_tools and self.media is None)

    def _template(self, name: str) -> ChatTemplate:
        if name not in self._compiled:
            where = f"chat template of {self.name}" if name == "default" else f"chat template `{name}` of {self.name}"
            facts = {**token_facts(self.tokenizer), "stops": self.stops, "model_roles": self.model_roles}
            if self.encoder is not None:
                from policy_engine.chat.encoders.encoded_template import EncodedTemplate

                self._compiled[name] = EncodedTemplate(self.encoder, **facts)
            else:
                facts |= {"name": self.template_file or where, "hides_media": self.media is not None}
                facts["skeletons"] = self.skeletons
                self._compiled[name] = ChatTemplate(self.templates[name], **facts)
        return self._compiled[name]

    @functools.cached_property
    def _compiled(self) -> dict[str, ChatTemplate]:
        return {}

    @property
    def media_ids(self) -> frozenset[int]:
        """Ids of the tokens that stand for media; empty for a tokenizer."""
        return frozenset() if self.media is None else self.media.ids

    @property
    def why_not_packed(self) -> str | None:
        """Why several rows cannot share a sequence, in one clause; None where they can."""
        return None if self.media is None else self.media.why_not_packed

    @property
    def special_tokens(self) -> dict[str, Any]:
        """The tokenizer's named special tokens (`bos_token` …), which templates may print."""
        return dict(self.tokenizer.special_tokens_map)

    def encode(self, chat: RenderedChat) -> TokenizedChat:
        """Tokenizes the whole text once, adding no special tokens.

        Raises AttributionError if it is not known exactly which characters each token covers; BackendMismatch if a
        fast backend gives other ids than the tokenizer.

        >>> from policy_engine.chat.loading import load_tokenizer
        >>> from policy_engine.data.conversation import Conversation
        >>> tokenizer = load_tokenizer("builtin")
        >>> chat = tokenizer.template.render(Conversation(messages=({"role": "user", "content": "Hi"},), sample={}))
        >>> tokens = tokenizer.encode(chat)
        >>> chat.text, len(tokens.input_ids), tokens.ends_T.tolist()[-1] == len(chat.text)
        ('<|im_start|>user\\nHi<|im_end|>\\n', 6, True)
        """
        found = self.encode_batch([chat])[0]
        assert isinstance(found, TokenizedChat)
        return found

    def encode_batch(self, chats: Sequence[RenderedChat], *, errors: Literal["raise", "return"] = "raise") -> list[Any]:
        """`encode` for many chats, in one call of the tokenizer.

        With `errors="return"` the list has the error of a chat that failed in its place: an AttributionError, or with a
        processor the RowError of a medium.
        """
        made = self._encoded(chats)
        failed = next((one for one in made if isinstance(one, PolicyEngineError)), None)
        if failed is not None and errors == "raise":
            raise failed
        return made

    def encode_written(self, chat: RenderedChat, written: Sequence[str]) -> TokenizedChat:
        """Tokenizes a chat of a processor, with `written` in place of its placeholders, in order.

        No medium is opened. Raises MediaError where there are more or fewer of them, ConfigError for a tokenizer.
        """
        if self._media_encoder is None:
            raise ConfigError(f"{self.name} is a tokenizer, which writes no media", help="give the model's processor")
        return self._media_encoder.encode_written(chat, written, self._pieces.locate)

    def _encoded(self, chats: Sequence[RenderedChat]) -> list[Any]:
        if self._media_encoder is not None:
            return self._media_encoder.encode(chats, self._pieces.locate)
        # An encoder gave the ids of these while it rendered.
        if any(chat.tokens is not None for chat in chats):
            return [self._encoded([c])[0] if c.tokens is None else TokenizedChat.given(c, c.tokens) for c in chats]
        results = self._pieces.locate([chat.text for chat in chats], [chat.literals for chat in chats])
        return [r if isinstance(r, AttributionError) else TokenizedChat.of(chat, *r) for chat, r in zip(chats, results)]

    @functools.cached_property
    def _pieces(self) -> PieceLocator:
        return PieceLocator(tokens=self.locator)

    @functools.cached_property
    def _media_encoder(self) -> MediaEncoder | None:
        if self.media is None:
            return None
        from policy_engine.chat.media.encode import MediaEncoder

        return MediaEncoder.of(self.media, self.locator, self._pieces.locate)

    def decode_token(self, token_id: int) -> str:
        """The text of one token, for people: a part of a character shows as U+FFFD.

        >>> from policy_engine.chat.loading import load_tokenizer
        >>> tokenizer = load_tokenizer("builtin")
        >>> [tokenizer.decode_token(i) for i in tokenizer.locator.call(["Hi there<|im_end|>"])[0][0]]
        ['Hi', ' there', '<|im_end|>']
        """
        pipeline = self.locator.pipeline
        shown = None if pipeline is None or pipeline.table is None else pipeline.table.text_of(token_id)
        # Without bytes, the vocabulary's own writing of the token has to do.
        token = self.tokenizer.convert_ids_to_tokens(token_id) if shown is None else shown
        return "" if token is None else str(token)

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash of all that decides ids and text (hex).

        Vocabulary, pipeline, special tokens, templates and roles go into it.
        """
        return identity_of(self)

    @property
    def prefix_ids(self) -> tuple[int, ...]:
        """Ids that the tokenizer would put in front of a text as special tokens (never done here)."""
        return self.locator.prefix_ids

    @property
    def suffix_ids(self) -> tuple[int, ...]:
        """Ids that the tokenizer would put behind a text as special tokens."""
        return self.locator.suffix_ids

    def times_bos(self, ids: Sequence[int]) -> int:
        """The times that ids open with what the tokenizer adds if asked to: 0, 1 or 2."""
        return times_opened(self.prefix_ids, ids)

    def double_bos(self, times: int) -> Diagnostic | None:
        """The finding for rows that open `times` with what the tokenizer would add once more.

        A warning if a row has it twice already, a hint if once; None for 0 times. A processor adds
        it only to texts that do not open with it.
        """
        if times == 1 and self.media is not None:
            return None
        text = "".join(self.decode_token(i) for i in self.prefix_ids) if times else ""
        return bos_finding(times, text, self.name)

    @functools.cached_property
    def locator(self) -> TokenLocator:
        """The tokenizer without templates: ids of texts, and the characters of each."""
        return TokenLocator(tokenizer=self.tokenizer, name=self.name, fast=self.fast)


_SETS = ("model_roles", "stops")


def _rebuild(facts: dict[str, Any]) -> ChatTokenizer:
    made = ChatTokenizer(**{**facts, **{name: frozenset(facts[name]) for name in _SETS}})
    # A processor's tokenizer is the one inside of the unpickled processor.
    return made if made._brought is None else dataclasses.replace(made, tokenizer=made._brought)
