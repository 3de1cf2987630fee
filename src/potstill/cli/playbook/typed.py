"""Texts that somebody typed, piped in or wrote in an editor, before they become a bullet's.

What it knows: what makes such a text safe (``neutral``, ``record.redact``), and to say so. What it does not do:
keep it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import click
import msgspec

from potstill.cli.output import note
from potstill.cli.playbook.shown import many, shortened
from potstill.errors import ConfigError

if TYPE_CHECKING:
    from potstill.distill.playbook.formats import Imported

MASKED = "What looks like a secret was masked: a playbook is shown to models."


def read_text(stream: BinaryIO, name: str) -> str:
    """All of a stream. Raises ``ConfigError`` where it is not UTF-8."""
    data = stream.read()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name} is not UTF-8 text: byte {error.start} is 0x{data[error.start]:02x}.") from None


def safe_text(text: str) -> str:
    """The text as it will be kept, with a note where that is another one.

    Raises ``ConfigError`` for one that is empty or too long: what a person writes is never cut.
    """
    from potstill.distill.playbook import neutral
    from potstill.distill.playbook.operations import MAX_CONTENT_CHARACTERS

    text = without_secrets(text)
    content = neutral.content(text, len(text) * 8)
    if not content:
        raise ConfigError("The text is empty; a bullet must say something.")
    if len(content) > MAX_CONTENT_CHARACTERS:
        raise ConfigError(
            f"The text has {len(content):,} characters; a bullet has at most {MAX_CONTENT_CHARACTERS:,}. Nothing was "
            "changed. Make two bullets of it, or say it in fewer words."
        )
    if " ".join(content.split()) != " ".join(text.split()):
        note(f"Kept as: {shortened(content)}")
    return content


def without_secrets(text: str) -> str:
    """The text with keys, tokens and passwords masked, those in plain words too; a note where there were some."""
    from potstill.record.redact import Redactor

    masked = Redactor(prose=True).text(text)
    if masked != text:
        note(MASKED)
    return masked


def safe_import(imported: Imported, *, skip_bad: bool = False) -> Imported:
    """What a file holds, without secrets; the warnings say how many bullets held some.

    Raises ``BadPlaybookFile`` as ``formats.read`` does: a mask may be longer than what it masks.
    """
    from potstill.distill.playbook.formats.imported import checked
    from potstill.record.redact import Redactor

    redactor = Redactor(prose=True)
    items = [msgspec.structs.replace(item, content=redactor.text(item.content)) for item in imported.items]
    count = sum(before.content != after.content for before, after in zip(imported.items, items, strict=True))
    kept, notes = checked(items, skip_bad=skip_bad)
    warnings = [*imported.warnings, *notes, *([f"{many(count, 'bullet')}: {MASKED.lower()}"] if count else [])]
    return msgspec.structs.replace(imported, items=tuple(kept), warnings=tuple(warnings))


def safe_option(context: click.Context, option: click.Parameter, value: str) -> str:
    """Callback of an option whose text is kept in the log."""
    return without_secrets(value) if value else value
