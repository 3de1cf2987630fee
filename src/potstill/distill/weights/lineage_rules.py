"""What can be said of a file of rules, which carries a certificate and no manifest.

The certificate is bound to the rules by their hash, so a change of the rules is found. Its own numbers are bound to
nothing: who wants to be sure of them certifies the rules anew.
"""

from __future__ import annotations

from pathlib import Path

from potstill.distill.weights.lineage import beside
from potstill.errors import BadModelFile
from potstill.models.rule_list import FORMAT, rules_sha256
from potstill.models.rules import read_rules

ANEW = "potstill distill rules --rules"


def looks_like_rules(path: Path) -> bool:
    """Whether the file says that it holds rules. One that has a manifest beside it is taken by that."""
    try:
        with path.open("rb") as file:
            return file.read(1) == b"{" and FORMAT.encode() in file.read() and not beside(path).exists()
    except OSError:
        return False


def problem_of(path: Path) -> str:
    """What is wrong with the rules in a file; empty: they are those that were certified.

    Raises ``ConfigError`` for a file that cannot be read.
    """
    try:
        found = read_rules(path)
    except BadModelFile as error:
        return str(error)
    if found.certificate is None:
        return f"They have no certificate. Type: {ANEW} {path} --out certified.rules.json"
    if found.certificate.rules_sha256 != rules_sha256(found.rules):
        return f"They were changed after they were certified. Type: {ANEW} {path} --out certified.rules.json"
    return ""
