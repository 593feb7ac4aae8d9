"""KeyReID against the literal reading of the release, from joints to gradients, and its properties.

The reading (tests/released.py) and the package share no code; a saved file in released names is all
that goes from one to the other.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import timm
import torch
from einops import repeat
from released import GROUPS, ReleasedReading, released_maps, released_patch_weights
from torch import Tensor, nn
from torch.nn import functional as F

from keyreid.parts.keyreid import KeyReID, KeyReIDConfig
from keyreid.parts.kps import part_weights
from keyreid.parts.released_checkpoints import load_released, released_config, released_names
from keyreid.parts.released_weights import released_weights

TINY = dict(n_ids=7, n_cams=3, width=192, depth=12, heads=3)
SIZE = (256, 128)  # in smaller pictures no released weight is above 0
MAKERS = {"paper": part_weights, "released": released_weights}
LIVELY = {"weight": (1, 0.1), "bias": (0, 0.1), "running_mean": (0, 0.2), "running_var": (1, 0.2)}


def make_lively(model: nn.Module) -> None:
    "Numbers as after training: no norm at 1, no bias at 0, classifiers that say something."
    rng = torch.Generator().manual_seed(5)
    for name, x in model.state_dict().items():
        kind = name.split(".")[-1]
        if x.ndim == 1:
            mean, spread = LIVELY[kind]
            x.copy_(mean + spread * torch.randn(x.shape, generator=rng).clamp(-3, 3))
        elif kind == "num_batches_tracked":
            x.fill_(470)
        elif name.startswith("classifier"):
            x.mul_(30)
    model.attention_tconv.bias.data.fill_(1)  # or most scores are cut off at 0


def poses(n_clips: int, size: tuple[int, int]) -> Tensor:  # [B, 4, 17, 3]
    """Joints inside and a little outside of the picture, a quarter of them not seen.

    The first person stands still, each joint in the middle of a patch: only so a released weight
    is ever above 0, and without that no weight would make a difference."""
    rng = torch.Generator().manual_seed(2)
    places = torch.rand(n_clips, 4, 17, 2, generator=rng) * 1.1 - 0.05
    places = places * torch.tensor([size[1], size[0]])
    places[0] = (places[0, 0] // 16).clamp(0, 7) * 16 + 8
    confidences = torch.rand(n_clips, 4, 17, 1, generator=rng)
    confidences[0] = confidences[0, 0]
    return torch.cat([places, torch.where(confidences > 0.25, confidences, 0.0)], -1)


def clips(n_clips: int, size: tuple[int, int], n_cams: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    "Frames, joints and one camera for each clip."
    rng = torch.Generator().manual_seed(3)
    frames = torch.randn(n_clips, 4, 3, *size, generator=rng)
    return frames, poses(n_clips, size), torch.randint(n_cams, (n_clips,), generator=rng)


def largest_gap(ours: Tensor, theirs: Tensor) -> float:
    "The largest difference, relative to their largest number."
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


# --- one model, twice ---


def twins(path: Path, size: tuple[int, int] = SIZE) -> tuple[ReleasedReading, KeyReID]:
    "The reading, saved to `path`, and a KeyReID that was filled from there."
    torch.manual_seed(0)
    reading = ReleasedReading(**TINY, image_size=size)
    make_lively(reading)
    for block in (module for module in reading.modules() if hasattr(module, "drop")):
        block.drop = 0.0
    torch.save(reading.state_dict(), path)
    model = KeyReID(replace(released_config(path), part_heads=TINY["heads"], drop_path=0.0))
    load_released(model, path)
    return reading.eval(), model.eval()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    "Where the reading is saved."
    return tmp_path_factory.mktemp("released") / "tiny.pth"


@pytest.fixture(scope="module")
def pair(path: Path) -> tuple[ReleasedReading, KeyReID]:
    "Both models, for evaluation only."
    return twins(path)


@pytest.fixture(scope="module")
def both() -> tuple[tuple, tuple]:
    "Three clips, as the reading and as KeyReID want them: each with maps or weights of its own."
    frames, joints, camids = clips(3, SIZE)
    theirs = frames, released_maps(joints), camids.repeat_interleave(4)
    return theirs, (frames, released_weights(joints), camids)


def test_config_is_read_from_the_file(pair, path: Path):
    config = KeyReIDConfig(7, 3, "released", "vit_tiny_patch16_224", SIZE)
    assert released_config(path) == config


def test_every_name_is_reported_once(pair, path: Path):
    reading, model = pair
    report = load_released(model, path)
    sides = [row.split(" -> ") for row in report.loaded + report.resized]
    theirs = [name for row, _ in sides for name in row.split(" [")[0].split(", ")]
    ours = [row.split(" [")[0] for _, row in sides]
    assert sorted(theirs + list(report.unexpected)) == sorted(reading.state_dict())
    assert sorted(ours) == sorted(model.state_dict()) and not report.missing
    assert all(k.startswith(("base.blocks.11.", "base.norm.", "base.fc."))
               for k in report.unexpected)  # fmt: skip
    assert len(report.unexpected) == 12 + 2 + 2


def test_weights_from_joints(both):
    (_, maps, _), (_, weights, _) = both
    theirs = released_patch_weights(maps, 16).transpose(1, 2)
    assert (theirs > 0).any() and (theirs < -0.5).any()
    torch.testing.assert_close(weights.mean(1).double(), theirs, atol=1e-5, rtol=0)


def test_descriptor(pair, both):
    reading, model = pair
    with torch.no_grad():
        theirs, ours = reading(*both[0]), model(*both[1])
    assert ours.shape == (3, 192 * 25)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert (
        theirs[0] - theirs[1]
    ).abs().max() > 0.1  # clips differ, so the agreement says something


def gathered(names: tuple[str, ...], tensors: dict[str, Tensor], like: Tensor) -> Tensor:
    "Tensors of the reading as one of the shape of ours."
    found = [tensors[name] for name in names if name in tensors]  # a shared block has one name
    return (torch.cat(found) if like.ndim == 1 else torch.stack(found)).reshape(like.shape)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_training_outputs_and_gradients(tmp_path: Path, dtype: torch.dtype):
    """All outputs, and where numbers are double all gradients; in single precision those of
    matrices: a batch norm takes most of a bias's gradient back, and what is left is rounding."""
    is_double = dtype == torch.float64
    tolerance, of_gradients = (1e-9, 1e-9) if is_double else (1e-5, 1e-4)
    reading, model = (x.to(dtype).train() for x in twins(tmp_path / "x.pth", (128, 64)))
    frames, _, camids = clips(3, (128, 64))
    weights = torch.rand(3, 4, 6, 32, dtype=torch.float64) * 2 - 1
    maps = repeat(weights, "b t p (r c) -> b t p (r y) (c x)", c=4, y=16, x=16)
    theirs = reading(frames.to(dtype), maps, camids.repeat_interleave(4))
    ours = model(frames.to(dtype), weights.to(dtype), camids)
    labels = torch.tensor([0, 6, 3])
    for logits, features, scores in (theirs, ours):
        assert len(logits) == len(features) == 7
        losses = [F.cross_entropy(x, labels) for x in logits]
        (sum(losses) + sum(x.square().mean() for x in features) + scores.sum()).backward()
    pairs = zip((*ours[0], *ours[1], ours[2]), (*theirs[0], *theirs[1], theirs[2]), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)
    gradients = {name: p.grad for name, p in reading.named_parameters()}
    for name, p in model.named_parameters():
        if not p.requires_grad:
            assert name.endswith("neck.norm.bias") and p.grad is None
        elif is_double or p.ndim > 1:
            expected = gathered(released_names(name), gradients, p)
            assert expected.any() and largest_gap(p.grad, expected) < of_gradients, name
    statistics = dict(reading.named_buffers())  # what training wrote down
    for name, x in model.named_buffers():
        if "running" in name:
            expected = gathered(released_names(name), statistics, x)
            torch.testing.assert_close(x, expected, atol=tolerance, rtol=tolerance)


def test_three_frames_fail_on_both_sides(pair, both):
    reading, model = pair
    (frames, maps, camids), (_, weights, of_clips) = both
    with pytest.raises(RuntimeError, match="normalized_shape"):
        reading(frames[:, :3], maps[:, :3], camids[:9])
    with pytest.raises(ValueError, match="clips of 3 frames came, 4 are needed"):
        model(frames[:, :3], weights[:, :3], of_clips)


def test_parts_by_number(tmp_path: Path):
    "Files that call the six parts 1 to 6 fill the same model."
    _, model = twins(tmp_path / "named.pth", (64, 32))
    state = torch.load(tmp_path / "named.pth", weights_only=True)
    for number, part in enumerate(GROUPS, start=1):
        state = {k.replace(f"_{part}.", f"_{number}."): x for k, x in state.items()}
    assert "bottleneck_3.running_var" in state and "bottleneck_left_arm.running_var" not in state
    torch.save(state, tmp_path / "numbered.pth")
    other = KeyReID(model.config)
    load_released(other, tmp_path / "numbered.pth")
    for name, x in other.state_dict().items():
        assert torch.equal(x, model.state_dict()[name]), name


def test_full_size(tmp_path: Path):
    "19 200 numbers of one clip, 219 million weights, from joints to the descriptor."
    torch.manual_seed(1)
    with torch.device("meta"):
        reading = ReleasedReading()
    reading.to_empty(device="cpu").eval()
    for p in reading.parameters():
        p.data.uniform_(-0.03, 0.03)
    make_lively(reading)
    torch.save(reading.state_dict(), tmp_path / "full.pth")
    config = released_config(tmp_path / "full.pth")
    assert config == KeyReIDConfig(variant="released")
    frames, joints, camids = clips(1, (256, 128), n_cams=6)
    with torch.no_grad():
        theirs = reading(frames, released_maps(joints), camids.repeat_interleave(4))
        del reading
        model = KeyReID(config).eval()
        load_released(model, tmp_path / "full.pth")
        (tmp_path / "full.pth").unlink()
        ours = model(frames, released_weights(joints), camids)
    assert ours.shape == (1, 19_200)
    assert largest_gap(ours, theirs) < 1e-5


# --- properties ---


@pytest.fixture
def shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    "timm's transformers have two blocks, so that many kinds can be tried."
    monkeypatch.setattr(timm, "create_model", partial(timm.create_model, depth=2))


def build(backbone: str = "vit_tiny_patch16_224", **changes) -> KeyReID:
    "A model of random weights, the same for the same choice."
    torch.manual_seed(4)
    options = dict(n_ids=5, n_cams=3, image_size=(128, 64), drop_path=0.0) | changes
    return KeyReID(KeyReIDConfig(backbone=backbone, **options)).eval()


def inputs(model: KeyReID, n_clips: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    "Frames, part weights of the kind that the model wants, cameras."
    size, grid = model.config.image_size, model.vit.grid
    frames, joints, camids = clips(n_clips, size)
    if model.config.variant == "released":
        return frames, released_weights(joints, size, grid), camids
    cut = dict(patch=model.vit.patch_size, stride=model.vit.stride)
    return frames, part_weights(joints, size, grid, **cut), camids


def loss(outputs: tuple[list[Tensor], list[Tensor], Tensor]) -> Tensor:
    "Something that all outputs take part in."
    logits, features, scores = outputs
    labels = torch.arange(len(scores)) % 5
    return sum(F.cross_entropy(x, labels) for x in logits) + scores.sum() + features[6].sum()


@torch.no_grad()
def test_clips_do_not_see_each_other(shallow: None):
    model = build()
    x = inputs(model, n_clips=4)
    order = torch.tensor([2, 0, 3, 1])
    descriptors = model(*x)
    torch.testing.assert_close(model(*(one[order] for one in x)), descriptors[order])
    torch.testing.assert_close(model(*(one[1:2] for one in x)), descriptors[1:2])
    assert (descriptors[0] - descriptors[1]).abs().max() > 0.01


@torch.no_grad()
def test_order_of_patches_is_neutral_in_paper(shallow: None):
    usual = build()
    x = inputs(usual)
    for shift, n_groups in ((0, 1), (7, 1), (4, 16), (31, 4)):
        other = build(shift=shift, n_groups=n_groups)
        assert not torch.equal(other.order, usual.order)
        torch.testing.assert_close(other(*x), usual(*x), atol=1e-5, rtol=1e-5)
    left_behind = (x[0], x[1][..., usual.order[1:] - 1], x[2])
    assert (usual(*left_behind) - usual(*x)).abs().max() > 0.01


@pytest.mark.parametrize("variant", MAKERS)
def test_half_precision_is_finite(shallow: None, variant: str):
    model = build(variant=variant)
    x = inputs(model)
    with torch.no_grad():
        exact = model(*x)
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(*x)
    assert F.cosine_similarity(exact, rough.float()).min() > 0.999
    model.train()
    with torch.autocast("cpu", torch.bfloat16):
        total = loss(model(*x))
    total.backward()
    assert total.isfinite()
    for name, p in model.named_parameters():
        assert not p.requires_grad or p.grad.isfinite().all(), name


KINDS = {  # backbone, and what is special
    "patches of 14": ("vit_small_patch14_dinov2", dict(image_size=(112, 56))),
    "registers": ("vit_small_patch14_reg4_dinov2", dict(image_size=(112, 56))),
    "rotary": ("vit_small_patch16_dinov3", {}),
    "rotary and learned": ("vit_small_patch16_rope_ape_224", {}),
    "overlapping": ("vit_tiny_patch16_224", dict(stride=12, image_size=(124, 64), n_groups=5)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_other_backbones(shallow: None, kind: str):
    "Patches of any cut meet the weights that were made for them, and all weights learn."
    backbone, changes = KINDS[kind]
    model = build(backbone, **changes)
    frames, weights, camids = inputs(model)
    assert weights.shape == (3, 4, 6, model.n_patches) and weights.amax() > 0.3
    with torch.no_grad():
        tokens = model.encode(frames, camids)
        rows = model.rows(tokens)
        assert rows.shape == (3, 1 + model.n_patches, 4 * model.vit.width)
        for i in (0, 5, model.n_patches - 1):  # row of a patch: its tokens of all frames
            place = (model.order == 1 + i).nonzero().item()
            of_frames = [tokens[t, model.vit.n_prefix + i] for t in range(4)]
            assert torch.equal(rows[0, place], torch.cat(of_frames))
            expected = weights[0, :, :, i].mean(0)
            torch.testing.assert_close(model.row_weights(weights)[0, :, place - 1], expected)
        assert model(frames, weights, camids).shape == (3, model.vit.width * 25)
    loss(model.train()(frames, weights, camids)).backward()
    for name, p in model.named_parameters():
        assert not p.requires_grad or p.grad.isfinite().all(), name


@pytest.mark.parametrize("variant", MAKERS)
def test_checkpointing_changes_no_gradient(shallow: None, variant: str):
    gradients, calls = [], []
    for checkpointing in (False, True):
        model = build(variant=variant, checkpointing=checkpointing).train()
        model.vit.blocks[0].mlp.register_forward_pre_hook(lambda *_: calls.append(1))
        loss(model(*inputs(model))).backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    assert len(calls) == 3  # once, and twice where it is computed again
    for name, x in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], x, msg=name)
