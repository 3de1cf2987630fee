"""Messages and answers as the tokens of one language model: the same for scoring, writing and learning.

What a student is tuned on must be, token by token, what it reads when it acts, so there is one function for both. Knows
a checkpoint folder's tokenizer and its template. Does not run models (``torch_engine``) and makes no prompts (``run``).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from potstill.errors import ConfigError
from potstill.models import templates
from potstill.models.convert import load_transformers, offline
from potstill.models.likelihood import Tokens
from potstill.types import Message

TemplateChoice = Literal["auto", "chat", "plain"]


class LmTexts:
    """A tokenizer and a template. Raises ``ConfigError`` for a chat template that is not there."""

    def __init__(self, folder: Path, template: TemplateChoice = "auto") -> None:
        with offline():
            self.tokenizer: Any = load_transformers().AutoTokenizer.from_pretrained(str(folder))
        has_template = bool(self.tokenizer.chat_template)
        if template == "chat" and not has_template:
            raise ConfigError(f"{folder} has no chat template: it is a base model. Use template 'plain'.")
        self.template: templates.Template = "chat" if has_template and template != "plain" else "plain"
        # Gemma's tokenizer names five special tokens and has thousands, such as <start_of_turn>
        added = (str(one) for one in self.tokenizer.added_tokens_decoder.values() if one.special)
        self._control = templates.control_pattern([*self.tokenizer.all_special_tokens, *added])
        self.gap = " " if self.template == "plain" else ""
        """Stands between the prompt and the answer."""

    def render(self, messages: Sequence[Message]) -> str:
        """The text that the model reads."""
        if self.template == "plain":
            return templates.plain(messages, self._control)
        return self._rendered(self.told(messages), answer_next=True)

    def told(self, messages: Sequence[Message]) -> list[dict[str, str]]:
        """The messages as the chat template takes them: text only."""
        return templates.chat_messages(messages, self._control)

    def ids_of(self, told: Sequence[dict[str, str]], *, answer_next: bool) -> list[int]:
        """The tokens of messages as ``told`` gives them, as the chat template renders them.

        ``answer_next``: with what begins an answer.
        """
        ids: list[int] = self.tokenizer.encode(self._rendered(told, answer_next=answer_next), add_special_tokens=False)
        return ids

    def _rendered(self, told: Sequence[dict[str, str]], *, answer_next: bool) -> str:
        return str(self.tokenizer.apply_chat_template(list(told), tokenize=False, add_generation_prompt=answer_next))

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """The tokens of a prompt. Raises ``ConfigError`` where there are none."""
        ids: list[int] = self.tokenizer.encode(self.render(messages), add_special_tokens=self.template == "plain")
        if not ids:
            raise ConfigError("The request renders to an empty prompt. Give it at least one message with text.")
        return ids

    def answer_ids(self, text: str) -> Tokens:
        """The tokens of text within an answer, as it stands."""
        return tuple(self.tokenizer.encode(text, add_special_tokens=False)) if text else ()

    def begun_ids(self, begun: str) -> Tokens:
        """The tokens that an answer begins with. Each line is split by itself, so that what follows changes nothing."""
        if not begun:
            return ()
        lines = (self.gap + templates.neutralise(begun, self._control)).split("\n")
        parts = [*(f"{line}\n" for line in lines[:-1]), lines[-1]]
        return tuple(token for part in parts for token in self.answer_ids(part))

    def action_ids(self, action: str, begun: str = "") -> Tokens:
        """The tokens of an answer that is this action, or goes on with it. Raises ``ConfigError`` where it has none."""
        ids = self.answer_ids((" " if begun else self.gap) + action) if action else ()
        if not ids:
            raise ConfigError(f"The admissible action {action!r} has no tokens. Actions must not be empty.")
        return ids

    def end_ids(self) -> Tokens:
        """What ends an answer: the tokenizer's own token, or in a transcript the end of the line."""
        if self.template == "plain":
            return self.answer_ids("\n")
        end = self.tokenizer.eos_token_id
        return () if end is None else (int(end),)

    def alone_ids(self, text: str) -> Tokens:
        """The tokens of a text that stands alone."""
        return tuple(self.tokenizer.encode(templates.neutralise(text, self._control), add_special_tokens=False))
