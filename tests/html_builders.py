"""An audit made by hand, with every part of the report in it, for the tests of the report."""

from __future__ import annotations

from typing import Any

from potstill.measure.audit.result import (
    Audit,
    BudgetCurve,
    CacheUse,
    Example,
    ExampleCall,
    FileRead,
    FrontierRow,
    Group,
    Skips,
    Spend,
    StudentStep,
    Warned,
    Waste,
)

BASE, POLICY = "retail base, 2026-02-21", "retail policy v2, 2026-02-23"
SMALL, LARGE = "gpt-4.1-mini", "gpt-5-mini"
COMMAND = "potstill audit episodes.jsonl --html report.html"


def group(model: str = SMALL, run: str = BASE, **changes: Any) -> Group:
    values: dict[str, Any] = {
        "n": 110, "n_infrastructure_errors": 4, "n_duplicates": 0, "tasks": 114, "successes": 55, "unknown_outcomes": 0,
        "success": 0.5, "success_ci": (0.41, 0.59), "success_with_errors_failed": 0.482, "cost_usd": 1.71,
        "cost_per_episode_usd": 0.015, "cost_of_pass_usd": 0.0311, "cost_of_pass_ci_usd": (0.0254, 0.0389),
        "input_tokens": 7_120_344, "cached_input_tokens": 5_904_001, "cache_write_tokens": None,
        "output_tokens": 201_877, "latency_s_mean": 41.2,
    }  # fmt: skip
    return Group(model=model, run=run, **(values | changes))


def groups() -> tuple[Group, ...]:
    return (
        group(pass_hat_k={"1": 0.5, "2": 0.37, "4": 0.24}),
        group(run=POLICY, success=0.61, success_ci=(0.52, 0.69), successes=67, cost_per_episode_usd=0.0214,
              cost_usd=2.44, cost_of_pass_usd=0.0364, cost_of_pass_ci_usd=(0.0301, 0.0447)),
        group(LARGE, run=BASE, success=0.78, success_ci=(0.69, 0.84), successes=86, cost_per_episode_usd=0.0461,
              cost_usd=5.26, cost_of_pass_usd=0.0612, cost_of_pass_ci_usd=(0.0533, 0.0709), n_infrastructure_errors=0),
    )  # fmt: skip


def spend(name: str, usd: float | None, share: float | None, *examples: str) -> Spend:
    return Spend(
        name=name, usd=usd, share=share, calls=4021, episodes=212, input_tokens=6_201_300,
        cached_input_tokens=5_010_222, output_tokens=152_201, examples=examples,
    )  # fmt: skip


def call(number: int, **changes: Any) -> ExampleCall:
    values: dict[str, Any] = {
        "model": SMALL, "step_type": "get_order_details", "prompt": '{"order_id": "#W2378156", "status": "delivered"}',
        "answer": 'get_order_details({"order_id": "#W2378156"})', "input_tokens": 4117, "cached_input_tokens": 3840,
        "output_tokens": 31, "usd": 0.00054,
    }  # fmt: skip
    return ExampleCall(number=number, **(values | changes))


def examples() -> tuple[Example, ...]:
    calls = (
        call(1, step_type="message", answer="Could you please give me your email address?"),
        call(2),
        call(3, marks=("redundant_calls", "loops")),
        call(4, answerer="teacher", model=LARGE, usd=0.0051,
             votes=("exchange now", "exchange now", "ask first", "decided: teacher, no majority"),
             demonstrations=("exchange of a lamp, step 4",), marks=("calls_after_last_useful_step",)),
    )  # fmt: skip
    first = Example(
        id="sim-1", model=SMALL, run=BASE, task_id="12", success=False, error=None, usd=0.0213, file="episodes.jsonl",
        line=41, calls=calls,
    )  # fmt: skip
    return (
        first,
        Example(id="sim-2", model=LARGE, run=BASE, task_id="7", success=True, error=None, usd=0.0401,
                file="episodes.jsonl", line=1204, calls=calls[:2]),
        Example(id="sim-3", model=SMALL, run=POLICY, task_id="99", success=None, error="RateLimitError: 429",
                usd=0.0, file="episodes.jsonl", line=9, calls=()),
    )  # fmt: skip


def curve(model: str, run: str, top: float, end: float) -> BudgetCurve:
    budgets = tuple(end * at / 60 for at in range(1, 61))
    return BudgetCurve(
        model=model, run=run, budgets_usd=budgets, success=tuple(top * (1 - (1 - at / 60) ** 3) for at in range(1, 61)),
        auc=0.75 * top,
    )  # fmt: skip


def audit(**changes: Any) -> Audit:
    values: dict[str, Any] = {
        "prices_date": "2026-11-01",
        "groups": groups(),
        "frontier": tuple(
            FrontierRow(model=g.model, run=g.run, cost_per_episode_usd=g.cost_per_episode_usd, success=g.success,
                        on_hull=True) for g in groups()
        ),
        "aiq": 0.671,
        "warnings": (
            Warned(kind="infrastructure_errors", run=BASE, count=4, detail="attempts that ended in a refused key"),
            Warned(kind="different_harness", run=None, count=2, detail="base and policy_v2: compare within one only"),
            *(Warned(kind="missing_tasks", run=f"run {at}", count=79, detail="tasks of other runs") for at in range(4)),
        ),
        "files": (
            FileRead(path="logs/episodes.jsonl", format="tau2", rows=1262, understood=1259, skipped=(
                Skips(reason="truncated_line", count=2, lines=(77, 1262), detail="the line ends in a string"),
                Skips(reason="not_json", count=1, lines=(300,)),
            )),
        ),
        "total_usd": 9.41,
        "calls": 12_877,
        "episodes": 338,
        "stitched_episodes": 12,
        "by_model": (spend(LARGE, 5.26, 0.559, "sim-2"), spend(SMALL, 4.15, 0.441, "sim-1")),
        "by_step_type": (
            spend("message", 3.6, 0.383, "sim-1", "sim-2"), spend("get_order_details", 2.1, 0.223, "sim-1"),
            spend("get_product_details", 1.5, 0.159), spend("exchange_delivered_order_items", 0.9, 0.096),
            spend("find_user_id_by_email", 0.6, 0.064), spend("return_delivered_order_items", 0.4, 0.043),
            spend("calculate", 0.2, 0.021), spend("think", 0.08, 0.009), spend("transfer_to_human_agents", 0.03, 0.003),
        ),
        "by_outcome": (spend("success", 5.9, 0.627, "sim-2"), spend("failure", 3.4, 0.361, "sim-1"),
                       spend("infrastructure_error", 0.11, 0.012, "sim-3")),
        "cache": CacheUse(
            input_tokens=24_100_000, cached_tokens=19_280_000, hit_rate=0.8, repeated_prefix_tokens=21_900_000,
            repeated_prefix_share=0.909, repeated_elsewhere_tokens=310_000, saving_if_cached_usd=0.74,
            saving_if_laid_out_usd=0.83, examples=("sim-1",),
        ),
        "waste": (
            Waste(kind="redundant_calls", count=310, episodes=121, share=0.024, tokens=1_204_000, usd=0.41,
                  examples=("sim-1",)),
            Waste(kind="bloated_observations", count=88, episodes=60, share=0.11, tokens=2_651_000, usd=0.95,
                  examples=("sim-2",)),
            Waste(kind="calls_after_last_useful_step", count=201, episodes=97, share=0.016, tokens=1_000_400, usd=0.33,
                  examples=("sim-1",)),
        ),
        "student_steps": (
            StudentStep(model=SMALL, against=LARGE, step_type="get_order_details", n=240, agreement=0.93,
                        agreement_ci=(0.89, 0.956), success=None, examples=("sim-1",)),
            StudentStep(model=SMALL, against=LARGE, step_type="message", n=410, agreement=0.52,
                        agreement_ci=(0.472, 0.568), success=0.44),
        ),
        "budget_curves": (
            curve(SMALL, BASE, 0.5, 0.05), curve(SMALL, POLICY, 0.61, 0.07), curve(LARGE, BASE, 0.78, 0.16),
        ),
        "examples": examples(),
    }  # fmt: skip
    return Audit(**(values | changes))
