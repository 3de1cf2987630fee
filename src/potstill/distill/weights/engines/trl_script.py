"""Runs a trainer of TRL on a prepared folder: ``python train.py FOLDER``. Every run's folder holds a copy of this file.

What it knows: ``job.json``, files of rows, and the TRL of the environment that it is started in. It imports nothing of
potstill, which need not be installed there, and every text that it reads is data. What it does not do: make data or
students.

``python train.py --check JSON`` says whether a trainer takes settings, and a launcher its words; nothing is trained.

It ends with 0 and ``report.json`` beside the trained weights, with 3 where it was asked to stop (the file ``stop``) and
has kept a checkpoint, and with 2 where the job cannot be; ``refused.txt`` then says why.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import importlib
import importlib.metadata
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TRAINERS = {"sft": "SFT", "dpo": "DPO", "distill": "Distillation"}
"""Names of TRL's classes without Trainer and Config."""
PACKAGES = ("trl", "torch", "transformers", "peft", "accelerate", "datasets")
JOB, REPORT, REFUSED, STOP, LOCK = "job.json", "report.json", "refused.txt", "stop", "lock"
CHECKPOINTS, TRAINED = "checkpoints", "trained"
REFUSES, STOPPED = 2, 3


class Refused(Exception):
    """A job that cannot be; the message is one line."""


def main(words: list[str]) -> int:
    """``words``: the folder; ``--versions`` to print those of the packages as JSON; or ``--check`` and what ``check``
    takes as JSON, to print what is refused."""
    if words == ["--versions"]:
        sys.stdout.write(json.dumps(versions()) + "\n")
        return 0
    if words[0] == "--check":
        try:
            check(**json.loads(words[1]))
        except Refused as why:
            sys.stdout.write(f"{why}\n")
            return REFUSES
        return 0
    folder = Path(words[0])
    try:
        with _alone(folder / LOCK):
            return _run(folder, json.loads((folder / JOB).read_text(encoding="utf-8")))
    except Refused as why:
        if _is_first():
            (folder / REFUSED).write_text(f"{why}\n", encoding="utf-8")
        return REFUSES


def versions() -> dict[str, str]:
    """Of the packages that are installed."""
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def check(method: str, settings: dict[str, Any], launch: list[str]) -> None:
    """Raises ``Refused``. ``settings``: none for those that potstill makes alone. ``launch``: what stands before the
    script; where that is nothing, this machine trains, and values of settings are looked at as well as names."""
    if launch[:2] == ["accelerate", "launch"]:
        _check_accelerate(launch[2:])
    if settings:
        torch, trl = importlib.import_module("torch"), importlib.import_module("trl")
        kind = getattr(trl, f"{TRAINERS[method]}Config")
        known = _settings(kind, settings, torch)
        if not launch:
            _configured(kind, known)


def _check_accelerate(words: list[str]) -> None:
    parser = importlib.import_module("accelerate.commands.launch").launch_command_parser()

    def refuse(message: str) -> None:
        options = re.findall(r"--\w+", parser.format_usage())
        wrong = re.search(r"unrecognized arguments: (--[^\s=]+)", message)
        raise Refused(f"accelerate launch: {message}.{_nearest(wrong[1], options) if wrong else ''}")

    parser.error = refuse
    started = parser.parse_args([*words, __file__]).training_script
    if started != __file__:
        raise Refused(f"accelerate launch would start '{started}' and not the script. Take it out of --launch.")


def _run(folder: Path, job: dict[str, Any]) -> int:
    torch = importlib.import_module("torch")
    torch.set_num_threads(job["threads"])
    started = time.process_time()
    trainer = _trainer(folder, job, torch)
    done = trainer.train(resume_from_checkpoint=_last(folder / CHECKPOINTS))
    if trainer.state.global_step < trainer.state.max_steps:
        return STOPPED
    new = folder / f"{TRAINED}.new"
    trainer.save_model(str(new))  # every process takes part where weights are sharded
    asked = _ask(folder / "asked.jsonl", trainer, torch)
    if _is_first():
        report = {
            "steps": trainer.state.global_step,
            "loss": done.training_loss,
            "log": trainer.state.log_history,
            "dtype": str(next(trainer.model.parameters()).dtype).removeprefix("torch."),
            "device": str(trainer.args.device.type),
            "processes": trainer.args.world_size,
            "cpu_s": time.process_time() - started,
            "versions": versions(),
            "asked": asked,
        }
        (new / REPORT).write_text(json.dumps(report), encoding="utf-8")
        shutil.rmtree(folder / TRAINED, ignore_errors=True)
        new.rename(folder / TRAINED)
    return 0


# --- the trainer ------------------------------------------------------------------------------------------------------


def _trainer(folder: Path, job: dict[str, Any], torch: Any) -> Any:
    trl, peft, datasets = (importlib.import_module(name) for name in ("trl", "peft", "datasets"))
    name = TRAINERS[job["method"]]
    kind = getattr(trl, f"{name}Config")
    config = _configured(kind, _settings(kind, job["settings"], torch) | {"output_dir": str(folder / CHECKPOINTS)})
    transformers = importlib.import_module("transformers")
    transformers.set_seed(config.seed)  # TRL before 1.16 draws the adapters without a seed
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    tokenizer = transformers.AutoTokenizer.from_pretrained(job["model"])
    more = {"teacher_model": job["teacher"]} if job["method"] == "distill" else {}
    return getattr(trl, f"{name}Trainer")(
        model=job["model"],
        args=config,
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=peft.LoraConfig(**job["adapter"]),
        callbacks=[_stopper(folder / STOP, torch)],
        **more,
    )


def _settings(kind: Any, given: dict[str, Any], torch: Any) -> dict[str, Any]:
    """With what suits a machine without a GPU, where nothing else is said. Raises ``Refused`` for an unknown one."""
    known = [field.name for field in dataclasses.fields(kind) if field.init]
    for name in given:
        if name not in known:
            raise Refused(f"{kind.__name__} of this TRL has no setting '{name}'.{_nearest(name, known)}")
    on_gpu = torch.cuda.is_available()
    plain = {} if on_gpu else {"bf16": False, "gradient_checkpointing": False, "use_cpu": True}
    return {**plain, "model_init_kwargs": {"dtype": "auto" if on_gpu else "float32"}, **given}


def _configured(kind: Any, settings: dict[str, Any]) -> Any:
    try:
        return kind(**settings)
    except (TypeError, ValueError) as error:
        raise Refused(f"TRL does not take these settings: {' '.join(str(error).split())}") from None


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f" Did you mean '{near[0]}'?" if near else ""


def _stopper(path: Path, torch: Any) -> Any:
    """Ends the training after a step, with a checkpoint, once the file is there."""

    def on_step_end(self: Any, args: Any, state: Any, control: Any, **more: Any) -> Any:
        if any_of(path.exists(), args.world_size, args.device, torch) and state.global_step < state.max_steps:
            control.should_save = control.should_training_stop = True
        return control

    base = importlib.import_module("transformers").TrainerCallback
    return type("Stopper", (base,), {"on_step_end": on_step_end})()


def any_of(mine: bool, processes: int, device: Any, torch: Any) -> bool:
    """Whether it is so in any process. One that stopped alone would leave the others waiting for its gradients."""
    if processes == 1:
        return mine
    told = torch.tensor([int(mine)], device=device)
    torch.distributed.all_reduce(told, op=torch.distributed.ReduceOp.MAX)
    return bool(told.item())


def _last(folder: Path) -> str | None:
    """The newest whole checkpoint: its state is the last file that is written. Broken ones are removed."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
    for path in found:
        with contextlib.suppress(OSError, ValueError):
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
            return str(path)
        if _is_first():
            shutil.rmtree(path, ignore_errors=True)
    return None


# --- what was trained, told by its answers ----------------------------------------------------------------------------


def _ask(path: Path, trainer: Any, torch: Any) -> list[list[float]] | None:
    """Of each question the log-probability of every candidate, in nats; None where no process holds all weights.

    A line is ``{"prompt": ids, "candidates": [ids]}``; a log-probability is the sum over the candidate's tokens.
    """
    if trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled:
        return None
    model = trainer.accelerator.unwrap_model(trainer.model).eval()
    answers = []
    with torch.no_grad():
        for line in path.read_text(encoding="utf-8").splitlines():
            question = json.loads(line)
            answers.append([_likelihood(model, question["prompt"], ids, torch) for ids in question["candidates"]])
    return answers


def _likelihood(model: Any, prompt: list[int], answer: list[int], torch: Any) -> float:
    ids = torch.tensor([[*prompt, *answer]], device=model.device)
    logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].float()
    chosen = logits.log_softmax(-1).gather(1, ids[0, len(prompt) :, None])
    return float(chosen.double().sum())


# --- processes --------------------------------------------------------------------------------------------------------


def _is_first() -> bool:
    """Whether this is the process that writes, of those that a launcher started."""
    return int(os.environ.get("RANK", "0")) == 0


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Two trainings in one folder would write each other's checkpoints."""
    with path.open("a+b") as file:
        if _is_first() and sys.platform != "win32":
            fcntl = importlib.import_module("fcntl")
            try:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Refused("A training is running in this folder already. Wait until it has ended.") from None
        yield


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
