"""``potstill playbook``: look at a playbook, change it by hand, go back, forget, import and export.

What it knows: which commands there are. What it does not do: anything of theirs; every command's heavy imports are in
its function, so that help costs nothing. Texts of a playbook come from models and strangers: ``output`` makes what a
terminal would obey visible, and no command puts them into markup.
"""

from __future__ import annotations

import click

from potstill.cli.playbook import change, credit, edit, erase, files, look, past, upkeep


@click.group()
def playbook() -> None:
    """Look at, change, import and export playbooks: what agents have learnt, as bullets that they are shown."""


for _command in (
    look.list_,
    look.show,
    change.add,
    edit.edit,
    change.pin,
    change.unpin,
    change.stage,
    change.tag,
    change.quarantine,
    change.restore,
    change.remove,
    change.merge,
    past.log,
    past.diff,
    past.blame,
    past.rollback,
    erase.forget,
    files.import_,
    files.export,
    credit.report,
    upkeep.duplicates,
    upkeep.compact,
    upkeep.check,
    upkeep.runs,
):
    playbook.add_command(_command)
