"""A small training as its own process, for tests that kill it or run it twice at once.

python train_walkers.py WALKERS OUT [--kind vit] [--workers 0] [--epochs 12] [--minutes 0.1] ...
"""

import argparse
import json
import time
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from keyreid.appearance.aggregators import AveragePool, ClipEncoder
from keyreid.appearance.backbones import small_vit
from keyreid.appearance.heads import BNNeck
from keyreid.data.batches import train_loader
from keyreid.data.readers import read_mars
from keyreid.data.transforms import Augment
from keyreid.learning.branch_losses import BranchObjective, add_centres, branch_outputs
from keyreid.learning.checkpoints import save_state
from keyreid.learning.devices import accelerator_for
from keyreid.learning.losses import id_triplet_objective
from keyreid.learning.schedule import StepCosine, TrainConfig, adamw, sgd
from keyreid.learning.trainer import Trainer
from keyreid.settings import seed_everything

SIZE = (32, 16)


class Plain(nn.Module):
    "Pixels to logits and embedding without batch normalisation or chance."

    def __init__(self, n_ids: int):
        super().__init__()
        self.embed = nn.Linear(3 * SIZE[0] * SIZE[1], 8)
        self.classify = nn.Linear(8, n_ids)

    def forward(self, frames):
        embedding = torch.tanh(self.embed(frames.mean(1).flatten(1)))
        return self.classify(embedding), embedding


class Branches(nn.Module):
    "Seven linear looks at a clip and a score for each frame, without chance."

    def __init__(self, n_ids: int):
        super().__init__()
        n_pixels, widths = 3 * SIZE[0] * SIZE[1], [8] + 6 * [5]
        self.embed = nn.ModuleList(nn.Linear(n_pixels, width) for width in widths)
        self.classify = nn.ModuleList(nn.Linear(width, n_ids) for width in widths)
        self.score = nn.Linear(n_pixels, 1)

    def forward(self, frames, part_weights, camids):
        pixels = frames.flatten(2)
        scores = F.softplus(self.score(pixels)).squeeze(-1)
        clip = (scores.softmax(1)[..., None] * pixels).sum(1)
        features = [torch.tanh(embed(clip)) for embed in self.embed]
        logits = [classify(x) for classify, x in zip(self.classify, features, strict=True)]
        return logits, features, scores


def build(kind: str, n_ids: int) -> nn.Module:
    if kind != "vit":
        return {"plain": Plain, "branches": Branches}[kind](n_ids)
    vit = small_vit(SIZE, width=24, depth=2, heads=3, drop_path=0.2)
    return ClipEncoder(vit, AveragePool(), BNNeck(vit.width, n_ids))


def recipe(kind: str, model: nn.Module, n_ids: int, rank: int) -> tuple:
    "Objective, optimizer, what the trainer is told, and other values of its configuration."
    if kind != "branches":
        told = dict(schedule=StepCosine(4), clip_norm=1.0, average_decay=0.99)
        return id_triplet_objective, adamw(model, 1e-2), {}, told
    torch.manual_seed(100 + rank)  # the first process decides where centres start
    objective, optimizer = BranchObjective(n_ids, 8, 5), sgd(model)
    add_centres(optimizer, objective)
    return objective, optimizer, {"forward": partial(branch_outputs, weigh=lambda joints: None)}, {}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("walkers", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--every", type=int, default=5)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--kind", default="vit", choices=["vit", "plain", "branches"])
    parser.add_argument("--pause", type=float, default=0.0, help="seconds to wait in each step")
    args = parser.parse_args()

    torch.set_num_threads(1)
    seed_everything(3)
    accelerator = accelerator_for("cpu", "no")
    train = read_mars(args.walkers).train
    loader = train_loader(
        train,
        n_ids=4,
        n_clips=3,
        clip_length=2,
        size=SIZE,
        augment=None if args.kind == "plain" else Augment(size=SIZE),
        seed=3,
        workers=args.workers,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
    )
    n_ids = len({t.pid for t in train})
    model = build(args.kind, n_ids)
    wish, optimizer, hooks, told = recipe(args.kind, model, n_ids, accelerator.process_index)
    gradients, losses = {}, []

    def objective(outputs, labels):
        time.sleep(args.pause)
        terms = wish(outputs, labels)
        losses.append(sum(terms.values()).item())
        if accelerator.is_main_process:
            with open(args.out / "steps.txt", "a") as file:
                file.write(f"{trainer.step}\n")
        return terms

    def keep_gradients(optimizer, *_):
        if not gradients:
            named = accelerator.unwrap_model(trainer.model).named_parameters()
            gradients.update(
                {f"gradient.{n}": p.grad.clone() for n, p in named if p.grad is not None}
            )

    args.out.mkdir(parents=True, exist_ok=True)
    config = TrainConfig(
        epochs=args.epochs,
        minutes=args.minutes,
        checkpoint_every=args.every,
        log_every=3,
        **told,
    )
    optimizer.register_step_pre_hook(keep_gradients)
    trainer = Trainer(
        model,
        wish,
        loader,
        optimizer,
        config,
        accelerator,
        checkpoint=args.out / "checkpoint.safetensors",
        about={"walkers": "mini"},
        **hooks,
    )
    trainer.objective = objective
    trainer.fit(resume=args.resume)
    (args.out / f"steps.rank{accelerator.process_index}.txt").write_text(str(trainer.step))
    if accelerator.is_main_process:
        tensors = {f"model.{n}": t for n, t in accelerator.unwrap_model(model).state_dict().items()}
        tensors |= {f"average.{n}": t for n, t in trainer.averaged.state_dict().items()}
        tensors |= {f"objective.{n}": t for n, t in trainer.learnt.state_dict().items()}
        save_state(args.out / "end.safetensors", tensors | gradients, {"kind": "end"})
        history = [{k: v for k, v in h.items() if "second" not in k} for h in trainer.history]
        (args.out / "end.json").write_text(json.dumps({"losses": losses, "history": history}))


if __name__ == "__main__":
    main()
