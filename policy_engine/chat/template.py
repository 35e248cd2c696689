"""A chat template that renders a conversation once, into text that knows where it came from."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import jinja2
import jinja2.nodes

from policy_engine.chat.flags import Flags, WrittenPieces
from policy_engine.chat.label.board import Chart, Signs, last_data, with_prompt
from policy_engine.chat.label.cut import Cutter
from policy_engine.chat.label.dropped import unwritten
from policy_engine.chat.label.layout import Layout, PlacedSegments, Scan, lay_out, part_types
from policy_engine.chat.label.learn import TOOL, Raw, learn
from policy_engine.chat.label.markers import Markers, delimiters_in
from policy_engine.chat.label.miswritten import miswritten
from policy_engine.chat.label.parts import label
from policy_engine.chat.label.profile import TemplateProfile, added_prompt, has_word
from policy_engine.chat.label.sources import Bit, flatten, own_unclaimed
from policy_engine.chat.label.thinking import reading_of, thinking_in_content
from policy_engine.chat.remedies import explained, not_compiled, not_rendered, reads_words, too_much
from policy_engine.chat.rewording import OwnText, Rewording, own_text, reading
from policy_engine.chat.segments import RenderedChat, Unrendered
from policy_engine.chat.trace.environment import TracingEnvironment, run_template
from policy_engine.chat.trace.origins import Scaffold
from policy_engine.chat.trace.text import runs_of
from policy_engine.chat.variables import Arguments, Inputs, variables_of
from policy_engine.core.bounded import Bounded
from policy_engine.core.errors import TemplateError, TemplateLimitError
from policy_engine.data.conversation import Conversation

if TYPE_CHECKING:
    from policy_engine.chat.skeleton.skeletons import Attempt, Skeletons

_MOST_READ = 16
"""Conversations, of each set of arguments, that are rendered in other words too."""
_MOST_LEARNED = 1 << 16
"""Most pieces of text that a template may make of a synthetic conversation; usual are dozens."""
_MOST_WRITTEN = 1 << 22
_MOST_FOR_EACH = 64
"""Most characters that a template may write: so many, and so many for each that it is given."""
_NOTHING = WrittenPieces([])
_MOST_PROFILES = 256
"""Profiles kept at once, one for each set of arguments; past it they are learned again."""
_MOST_KEPT = 1 << 18
"""Segments of all layouts kept at once; past it they are forgotten and learned again."""


class ChatTemplate:
    """A compiled chat template.

    `special_tokens` are the tokenizer's named ones (`bos_token` …), which templates may print; `tokens` its further
    special and added tokens; `stops` those at which the model is known to stop; `model_roles` the roles a model
    writes; `seconds` bounds one rendering. With `hides_media` the template sees that a content part has a medium, and
    not its data, as with a processor. `controls` are the tokens that count as control tokens under
    `sanitize_control_tokens`; with `infers_controls` so do those of `tokens` that the template writes. Raises
    TemplateError if the source does not compile.
    """

    is_code = False
    """True if code renders in place of Jinja: see `chat.encoders`."""

    def __repr__(self) -> str:
        return f"<ChatTemplate {self.name}>"

    # A parameter for each fact of a tokenizer that decides a rendering. Users make templates, so they come one by one,
    # by name; a record of them would be one more class to import.
    def __init__(
        self,
        source: str,
        *,
        special_tokens: Mapping[str, str] | None = None,
        tokens: Iterable[str] = (),
        stops: Iterable[str] = (),
        model_roles: Iterable[str] = ("assistant",),
        name: str = "<template>",
        seconds: float = 10.0,
        hides_media: bool = False,
        controls: Iterable[str] = (),
        infers_controls: bool = True,
        skeletons: bool = True,
    ) -> None:
        self.source = source
        self._hides_media = hides_media
        self.name = name
        self.special_tokens = dict(special_tokens or {})
        self.model_roles = frozenset(model_roles)
        self.stops = frozenset(stops)
        self._tokens = tuple(sorted(set(tokens)))
        self._flags = Flags(
            name=name,
            source=source,
            tokens=self._tokens,
            controls=tuple(sorted(set(controls))),
            infers=infers_controls,
            literal_text=self._literal_text,
        )
        self._seconds = seconds
        self._environment = TracingEnvironment()
        try:
            code = self._environment.compile(source)
            self._template = jinja2.Template.from_code(self._environment, code, self._environment.make_globals(None))
        except Exception as error:
            line = error.lineno if isinstance(error, jinja2.TemplateSyntaxError) else None
            raise not_compiled(error, name, line) from (None if isinstance(error, RecursionError) else error)
        self._has_skeletons = skeletons
        self.skeletons: Skeletons | None = None
        """The template's skeletons; None where every row is rendered in full."""
        if skeletons and not hides_media:
            # Imported here: `show` and `explain` have too few rows for it to pay.
            from policy_engine.chat.skeleton.skeletons import Skeletons

            self.skeletons = Skeletons(self._environment, code, name, seconds)
        named = self.special_tokens
        self._markers = Markers.of(
            [*named.values(), *self._tokens], bos=named.get("bos_token"), eos=named.get("eos_token"), stops=self.stops
        )
        self._delimiters = delimiters_in(source)
        self._profiles: Bounded[Any, TemplateProfile] = Bounded(_MOST_PROFILES)
        self._layouts: Bounded[Any, Layout] = Bounded(_MOST_KEPT)
        self._unread: Bounded[Any, int] = Bounded(_MOST_READ * _MOST_PROFILES)

    def __reduce__(self) -> tuple[Any, ...]:
        facts: dict[str, Any] = {
            "special_tokens": self.special_tokens, "tokens": self._tokens, "stops": tuple(sorted(self.stops)),
            "model_roles": tuple(sorted(self.model_roles)), "name": self.name, "seconds": self._seconds,
            "controls": self._flags.controls, "infers_controls": self._flags.infers,
            "hides_media": self._hides_media, "skeletons": self._has_skeletons,
        }  # fmt: skip
        return functools.partial(ChatTemplate, self.source, **facts), ()

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides how a conversation renders and is told apart (hex)."""
        key = [self.source, sorted(self.special_tokens.items()), self._tokens, sorted(self.model_roles)]
        if self.stops:
            key.append(sorted(self.stops))
        return hashlib.sha256(json.dumps(key, default=str).encode()).hexdigest()

    def render(
        self, conversation: Conversation, *, add_generation_prompt: bool = False, in_other_words: bool = True
    ) -> RenderedChat:
        """The conversation as text in segments.

        The first conversations are rendered in other words, too, and the template's own text compared. After one that
        is refused for it, every later one is compared. `in_other_words=False` leaves that to `reading_of`.

        Raises TemplateError where the template raises (with its reason), exceeds its limits, or writes text of its own
        that depends on what a message says.
        """
        kwargs = conversation.template_kwargs
        messages = conversation.messages
        key = self._profile_key(bool(conversation.tools), bool(conversation.documents), kwargs)
        profile = self._profiles.get(key) or self._learn(key, bool(conversation.tools), kwargs)
        now = datetime.now()
        given = (*key[:2], *kwargs)
        left = self._unread.get(given, _MOST_READ) if in_other_words else 0
        # Another row of the same pieces may have another layout, so nothing is kept of these.
        varies = profile.varies or (bool(profile.flags) and has_word(messages, profile.flags))
        attempt = None
        if self.skeletons is not None and not (left or add_generation_prompt or varies or conversation.has_flags):
            attempt = self.skeletons.attempt(conversation, self._arguments.read(kwargs), now)
            if attempt is not None and attempt.replay is not None and not attempt.is_compared:
                chat = self._replayed(conversation, attempt)
                if chat is not None:
                    self.skeletons.replays += 1
                    return chat
        written = self._written_or_why(conversation, add_generation_prompt, now)
        pieces = written.pieces
        if left:
            found = self._reading(conversation, pieces, add_generation_prompt, now)
            if left > 0:  # a template that reads one conversation may read any, and -1 never ends
                self._unread.keep(given, left - 1 if found is None else -1)
            if found is not None:
                raise reads_words(self.name, found)
        thinking = thinking_in_content(messages, delimiters=self._delimiters, model_roles=self.model_roles)
        scan = Scan(pieces, thinking)
        if len(scan.text) > _MOST_WRITTEN:
            self._check_written(len(scan.text), conversation)
        thoughts = reading_of(scan, messages, self._delimiters) if thinking else ()
        shape = (key, tuple(scan.key), part_types(messages), thoughts)
        is_one_of_many = thoughts is not None and not (add_generation_prompt or varies)
        layout = self._layouts.get(shape) if is_one_of_many else None
        if layout is None:
            bits = self._owned(pieces)
            labelled = label(
                Chart(
                    text=scan.text,
                    bits=bits,
                    messages=messages,
                    profile=profile,
                    signs=Signs(markers=self._markers, delimiters=self._delimiters, models=self.model_roles),
                    ask=functools.partial(self._prompt_before, conversation) if varies else None,
                )
            )
            if add_generation_prompt:
                labelled = with_prompt(labelled, self._prompt_start(scan.text, bits, conversation))
            layout = lay_out(labelled, bits, scan.text)
            if is_one_of_many:
                self._layouts.keep(shape, layout, len(layout.kinds))
        if attempt is not None and self.skeletons is not None:
            variables = functools.partial(self._variables, Inputs.of(conversation))
            self.skeletons.learn(attempt, variables, pieces, scan, layout if is_one_of_many else None, thoughts)
        lost = unwritten(layout.written, conversation, scan, self._cutter)
        return self._finished(self._placed(conversation, scan, layout, lost, written, add_generation_prompt), pieces)

    def _replayed(self, conversation: Conversation, attempt: Attempt) -> RenderedChat | None:
        """The chat of a skeleton; None where its layout is not known."""
        scan, messages = attempt.replay, conversation.messages
        assert scan is not None
        thinking = thinking_in_content(messages, delimiters=self._delimiters, model_roles=self.model_roles)
        scan.watch(thinking)
        thoughts = reading_of(scan, messages, self._delimiters, self._cutter.front_thinking) if thinking else ()
        layout = scan.leaf.layouts.get((tuple(scan.key), thoughts))
        if layout is None or len(scan.text) > _MOST_WRITTEN:
            return None
        lost = scan.leaf.lost(layout, conversation, scan, self._cutter)
        scan.forget()
        return self._placed(conversation, scan, layout, lost, _NOTHING, False)

    def _placed(
        self, conversation: Conversation, scan: Scan, layout: Layout, lost: Sequence[Unrendered],
        written: WrittenPieces, prompt: bool,
    ) -> RenderedChat:  # fmt: skip
        suspects, messages = layout.written.suspects, conversation.messages
        unread = self._arguments.unread(conversation.template_kwargs) if conversation.template_kwargs else ()
        return RenderedChat(
            text=scan.text,
            segments=PlacedSegments(layout, scan),
            messages=messages,
            sample=conversation.sample,
            unrendered=(*lost, *unread, *written.lost),
            miswritten=miswritten(suspects, messages, scan.text, scan.lengths, scan.offsets) if suspects else (),
            generation_prompt=prompt,
            literals=written.literals,
            stays_open=conversation.continue_final_message is not None,
        )

    @functools.cached_property
    def _cutter(self) -> Cutter:
        return Cutter(words=self._environment.words, delimiters=self._delimiters, models=self.model_roles)

    def _finished(self, chat: RenderedChat, pieces: Sequence[tuple[str, Scaffold]]) -> RenderedChat:
        """The chat, with its ids where what wrote it gives ids: see `chat.encoders`."""
        return chat

    def _written_or_why(self, conversation: Conversation, add_generation_prompt: bool, now: datetime) -> WrittenPieces:
        """The pieces; where the template raises, the error names the field that it cannot take."""
        try:
            return self._written(conversation, add_generation_prompt, now)
        except TemplateLimitError:
            raise
        except TemplateError as error:
            raise explained(error, conversation, self.render_plain) from error

    def _written(self, conversation: Conversation, prompt: bool, now: datetime | None = None) -> WrittenPieces:
        """The pieces of a conversation, under its flags."""
        inputs = Inputs.of(conversation, prompt=prompt)
        if conversation.has_flags:
            return self._flags.written(conversation, inputs, functools.partial(self._pieces, now=now))
        return WrittenPieces(self._pieces(inputs, now))

    def _literal_text(self) -> str:
        """Text that the template writes or compares with."""
        tree = self._environment.parse(self.source)
        texts = [node.data for node in tree.find_all(jinja2.nodes.TemplateData)]
        texts += [node.value for node in tree.find_all(jinja2.nodes.Const) if isinstance(node.value, str)]
        return "\0".join(texts)

    def reading_of(self, conversation: Conversation) -> str | None:
        """Text that the template writes because of a message's words; None if there is no such text.

        A template that compares the letters of a message and prints its own writes that message's text, and no trace
        leads there. Raises TemplateError where `render` does.
        """
        now = datetime.now()
        return self._reading(conversation, self._written(conversation, False, now).pieces, False, now)

    def _reading(
        self, conversation: Conversation, pieces: Sequence[tuple[str, Scaffold]], prompt: bool, now: datetime
    ) -> str | None:
        inputs = Inputs.of(conversation, prompt=prompt)
        markers = (*self.special_tokens.values(), *self._tokens)
        words = Rewording(self._environment.words, markers, f"{self.fingerprint}{conversation.messages!r}")

        def render(messages: Sequence[Mapping[str, Any]], documents: Sequence[Any] | None) -> OwnText | str:
            lines: list[int] = []
            try:
                return own_text(
                    self._pieces(replace(inputs, messages=messages, documents=documents), now, lines), lines
                )
            except TemplateError as error:
                return error.message

        if conversation.has_flags:  # the template is asked, and not the flags
            try:
                pieces = self._pieces(inputs, now)
            except TemplateError:
                return None
        return reading(words, conversation, own_text(pieces), render)

    def render_plain(self, conversation: Conversation, *, add_generation_prompt: bool = False) -> str:
        """The text alone; equals `tokenizer.apply_chat_template(..., tokenize=False)`."""
        return "".join([piece for piece, _ in self._written(conversation, add_generation_prompt).pieces])

    def pieces_by_output(self, conversation: Conversation) -> list[tuple[int | None, str]]:
        """Every piece that the template writes, with the number of the output that writes it.

        Outputs are the texts and `{{ }}` of the source, counted as Jinja's parser finds them. None is what blocks such
        as `call` collect before it is written. Raises TemplateError where `render` does.
        """
        outputs: list[int | None] = []
        pieces = self._pieces(Inputs.of(conversation), outputs=outputs)
        return [(number, str(piece)) for number, (piece, _) in zip(outputs, pieces, strict=True)]

    def profile(
        self, *, tools: bool = False, documents: bool = False, kwargs: Mapping[str, Any] | None = None
    ) -> TemplateProfile:
        """The template's profile with these arguments; learned on first use."""
        key = self._profile_key(tools, documents, kwargs or {})
        return self._profiles.get(key) or self._learn(key, tools, kwargs or {})

    def _profile_key(self, tools: bool, documents: bool, kwargs: Mapping[str, Any]) -> Any:
        # Arguments that the template does not read, such as the name of a row, make no difference.
        read = self._arguments.read(kwargs)
        if not read:
            return tools, documents
        return tools, documents, json.dumps(read, sort_keys=True, default=repr)

    @functools.cached_property
    def _arguments(self) -> Arguments:
        return Arguments(self._environment.names_read)

    def _learn(self, key: Any, tools: bool, kwargs: Mapping[str, Any]) -> TemplateProfile:
        def render(messages: Sequence[Mapping[str, Any]], with_tools: bool, prompt: bool) -> Raw | None:
            try:
                tools = [TOOL] if with_tools else None
                pieces = self._pieces(Inputs(messages=messages, tools=tools, kwargs=kwargs, prompt=prompt))
            except TemplateLimitError:
                raise  # else each of the synthetic conversations would take as long
            except TemplateError:
                return None
            text = "".join([piece for piece, _ in pieces])
            if len(text) > _MOST_WRITTEN or sum(len(runs_of(piece)) for piece, _ in pieces) > _MOST_LEARNED:
                raise too_much(self.name)
            return Raw(text=text, bits=self._owned(pieces))

        model = min(self.model_roles) if "assistant" not in self.model_roles else "assistant"
        found = learn(render, self._markers, model=model, tools=tools, words=self._environment.tested)
        return self._profiles.keep(key, found)

    def _check_written(self, size: int, conversation: Conversation) -> None:
        # Rendering such a text is quick, labelling and tokenizing it are not, and nothing there can be interrupted.
        given = [*conversation.messages, *(conversation.tools or ()), *(conversation.documents or ())]
        if size > _MOST_WRITTEN + _MOST_FOR_EACH * sum(len(str(value)) for value in given):
            raise too_much(self.name)

    def _owned(self, pieces: Sequence[tuple[str, Scaffold]]) -> list[Bit]:
        bits = flatten(pieces)
        own_unclaimed(bits, self._environment.branch_parents)
        return bits

    def _prompt_start(self, text: str, bits: Sequence[Bit], conversation: Conversation) -> int:
        without = self.render_plain(conversation)
        return len(without) if text.startswith(without) else last_data(bits)

    def _prompt_before(self, conversation: Conversation, turn: int) -> str | None:
        part = conversation.until(turn)
        try:
            return added_prompt(
                self.render_plain(part), self.render_plain(part, add_generation_prompt=True), self._markers
            )
        except TemplateError:
            return None

    def _variables(self, inputs: Inputs) -> dict[str, Any]:
        return variables_of(inputs, self.special_tokens, hides_media=self._hides_media)

    def _pieces(
        self,
        inputs: Inputs,
        now: datetime | None = None,
        lines: list[int] | None = None,
        outputs: list[int | None] | None = None,
    ) -> list[tuple[str, Scaffold]]:
        if not inputs.messages:
            raise TemplateError("cannot render a conversation without messages", help="drop the row, or add messages")
        try:
            return run_template(self._template, self._variables(inputs), self._seconds, now, lines, outputs)
        except Exception as error:
            # It gets no name here: its traceback has this frame, so they would stay for the garbage collector.
            raise not_rendered(error, self.name, self._seconds)  # noqa: B904  # it has its cause
