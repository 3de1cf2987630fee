"""Pure decisions: which samples are the same action, who acts, how many samples to ask for. No I/O in this layer."""

from potstill.decide.agreement import agreement_rule, rule_names
from potstill.decide.cascade import AskStudent, AskTeacher, Effect, Failed, Resolution, decide_step
from potstill.decide.labelling import label_step
from potstill.decide.policy import CascadeState, Labelling, Policy, PolicyKind, Signal, TeacherView

__all__ = [
    "AskStudent",
    "AskTeacher",
    "CascadeState",
    "Effect",
    "Failed",
    "Labelling",
    "Policy",
    "PolicyKind",
    "Resolution",
    "Signal",
    "TeacherView",
    "agreement_rule",
    "decide_step",
    "label_step",
    "rule_names",
]
