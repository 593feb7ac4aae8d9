"""The literal reading of released KeyRe-ID says what our specification says of the released code.

Sizes, names and counts at full size; what was found by running the released code (8.1 to 8.4, 8.7)
at width 24, with random weights, on a standing pose in pictures of 256 x 128. Released weights are
not to be had: that they load is shown by names, shapes and bytes only.
"""

import re
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from released import (
    GROUPS,
    ReleasedReading,
    heatmap,
    released_maps,
    released_order,
    released_patch_weights,
)
from timm.models.vision_transformer import Block as TheirBlock
from torch import Tensor

SMALL = dict(n_ids=5, n_cams=3, width=24, depth=3, heads=2)
STANDING = """64 24  67 21  61 21  71 24  57 24  79 52  49 52  86 82  42 82  88 110  40 110
73 120  55 120  75 172  53 172  76 224  52 224"""  # x and y of 17 joints, 256 x 128


@pytest.fixture(scope="module")
def full() -> ReleasedReading:
    "The model at full size, without numbers."
    with torch.device("meta"):
        return ReleasedReading()


@pytest.fixture(scope="module")
def small() -> ReleasedReading:
    "A narrow model in eval mode."
    torch.manual_seed(0)
    return ReleasedReading(**SMALL).eval()


@pytest.fixture(scope="module")
def standing() -> Tensor:  # [17, 3]
    "A person who stands in the middle."
    places = torch.tensor([float(number) for number in STANDING.split()]).reshape(17, 2)
    return torch.cat([places, torch.ones(17, 1)], 1)


@pytest.fixture(scope="module")
def clips(standing: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    "Frames, maps and cameras of two clips; the person moves a little, missing joints differ."
    rng = torch.Generator().manual_seed(0)
    joints = standing.repeat(2, 4, 1, 1)
    joints[..., :2] += torch.randn(2, 4, 17, 2, generator=rng) * 2
    joints[..., 2] = torch.rand(2, 4, 17, generator=rng)
    frames = torch.randn(2, 4, 3, 256, 128, generator=rng)
    return frames, released_maps(joints), torch.randint(3, (8,), generator=rng)


@pytest.fixture(scope="module")
def tokens(small: ReleasedReading, clips: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    "What the backbone makes of the clips, [8, 129, 24], spread as at width 768 (measured: 1.4)."
    with torch.no_grad():
        tokens = small.base(clips[0].flatten(0, 1), clips[2])
    return 1.4 * tokens / tokens.std(-1).mean()


@pytest.fixture(scope="module")
def weights(clips: tuple[Tensor, Tensor, Tensor]) -> Tensor:  # [2, 128, 6]
    "The weights of the clips' patches."
    return released_patch_weights(clips[1], 16).float()


def change(before: list[Tensor], after: list[Tensor]) -> float:
    "The largest relative change of a part feature."
    pairs = zip(before, after, strict=True)
    return max(((a - b).norm(dim=1) / b.norm(dim=1)).max().item() for b, a in pairs)


def test_full_size(full: ReleasedReading):
    parameters = dict(full.named_parameters())
    trained = {name: p.numel() for name, p in parameters.items() if p.requires_grad}
    dead = re.compile(r"base\.(blocks\.11|norm|fc)\.")
    assert sum(p.numel() for p in parameters.values()) == 219_137_769
    assert sum(trained.values()) == 219_118_569
    assert sum(n for name, n in trained.items() if dead.match(name)) == 7_858_408
    assert len(trained) == 199 and sum("bias" in name for name in trained) == 91
    tensors = [*full.parameters(), *full.buffers()]
    assert sum(t.numel() * t.element_size() for t in tensors) == 876_704_732


def test_names(full: ReleasedReading):
    block = [f"{layer}.{kind}" for layer in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1")
             for kind in ("weight", "bias")] + ["mlp.fc2.weight", "mlp.fc2.bias"]  # fmt: skip
    pair, tails = ["weight", "bias"], ["", *(f"_{part}" for part in GROUPS)]
    of_neck = [*pair, "running_mean", "running_var", "num_batches_tracked"]
    expected = ["base.cls_token", "base.pos_embed", "base.Cam"]
    expected += [f"base.blocks.{i}.{name}" for i in range(12) for name in block]
    expected += [f"{at}.{name}" for at in ("b1.0", "block1", "b2.0") for name in block]
    for layer in ("base.patch_embed.proj", "base.norm", "base.fc", "b1.1", "b2.1",
                  "attention_conv", "attention_tconv"):  # fmt: skip
        expected += [f"{layer}.{kind}" for kind in pair]
    expected += [f"bottleneck{tail}.{name}" for tail in tails for name in of_neck]
    expected += [f"classifier{tail}.weight" for tail in tails]
    state = full.state_dict()
    assert sorted(state) == sorted(expected)
    shapes = {name: tuple(state[name].shape) for name in state}
    assert shapes["base.Cam"] == (6, 1, 768) and shapes["base.pos_embed"] == (1, 129, 768)
    assert shapes["b2.0.attn.qkv.weight"] == (9216, 3072)
    assert shapes["classifier_right_leg.weight"] == (625, 3072)
    assert shapes["attention_conv.weight"] == (256, 768, 1, 1)
    assert shapes["attention_tconv.weight"] == (1, 256, 3)


def test_initial_values():
    torch.manual_seed(1)
    model = ReleasedReading(**SMALL)
    copied = zip(model.b1[0].parameters(), model.base.blocks[2].parameters(), strict=True)
    assert all(torch.equal(p, q) for p, q in copied)
    assert model.b1[0] is not model.base.blocks[2] and model.block1 is model.b2[0]
    assert [block.drop for block in model.base.blocks] == [0, 0.05, 0.1]
    assert model.b1[0].drop == 0.1 and model.block1.drop == 0
    assert (model.b1[1].eps, model.b2[1].eps, model.block1.norm1.eps) == (1e-6, 1e-5, 1e-6)
    assert model.classifier_head.weight.std().item() == pytest.approx(0.001, rel=0.2)
    assert model.base.pos_embed.std().item() == pytest.approx(0.02, rel=0.1)
    assert model.attention_conv.weight.std().item() == pytest.approx((2 / 24) ** 0.5, rel=0.05)
    assert model.block1.mlp.fc1.weight.abs().max().item() <= 96**-0.5
    assert not model.attention_conv.bias.any() and not model.bottleneck.bias.requires_grad


def test_shapes_and_gradients(clips: tuple[Tensor, Tensor, Tensor]):
    torch.manual_seed(2)
    model = ReleasedReading(**SMALL)
    logits, features, scores = model(*clips)
    assert [tuple(x.shape) for x in logits] == [(2, 5)] * 7
    assert [tuple(x.shape) for x in features] == [(2, 24)] + [(2, 96)] * 6
    assert scores.shape == (2, 4) and (scores >= 0).all()
    (sum(F.cross_entropy(x, torch.tensor([0, 3])) for x in logits) + scores.sum()).backward()
    without = {name.split(".")[1] for name, p in model.named_parameters() if p.grad is None}
    assert without == {"blocks", "norm", "fc", "bias"}
    assert model.base.blocks[1].norm1.weight.grad.isfinite().all()
    assert model.base.blocks[2].norm1.weight.grad is None
    with torch.no_grad():
        assert model.eval()(*clips).shape == (2, 24 + 6 * 96)


def test_one_clip_trains_not_and_three_frames_fail(clips: tuple[Tensor, Tensor, Tensor]):
    frames, maps, camids = clips
    model = ReleasedReading(**SMALL)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        model(frames[:1], maps[:1], camids[:4])
    assert model.eval()(frames[:1], maps[:1], camids[:4]).shape == (1, 600)
    with pytest.raises(RuntimeError, match="normalized_shape"):
        model(frames[:, :3], maps[:, :3], camids[:6])


def test_descriptor_is_made_of_the_features(
    small: ReleasedReading, clips: tuple[Tensor, Tensor, Tensor], weights: Tensor
):
    with torch.no_grad():
        descriptor = small(*clips)
        tokens = small.base(clips[0].flatten(0, 1), clips[2])
        whole, scores = small.whole(tokens, 4)
        parts = small.parts(tokens, weights)
    c = small.b1(tokens)[:, 0].reshape(2, 4, 24)
    kernel, over = small.attention_tconv.weight[0], small.attention_conv.weight[:, :, 0, 0]
    for b in range(2):  # scores with the convolution written as a sum over neighbours
        u = (c[b] @ over.T).relu()
        padded = torch.cat([torch.zeros(1, 256), u, torch.zeros(1, 256)])
        s = torch.stack([(padded[t : t + 3].T * kernel).sum() for t in range(4)]).relu()
        torch.testing.assert_close(s, scores[b])
        torch.testing.assert_close(s.softmax(0) @ c[b], whole[b])
    scale = (1 + 1e-5) ** 0.5  # a batch norm that has seen nothing yet
    expected = torch.cat([whole, *(part / 6 for part in parts)], 1) / scale
    torch.testing.assert_close(descriptor, expected)


def test_block_is_timms():
    block = ReleasedReading(**SMALL).block1
    other = TheirBlock(96, 2, qkv_bias=True, norm_layer=partial(torch.nn.LayerNorm, eps=1e-6))
    other.load_state_dict(block.state_dict())
    x = torch.randn(2, 7, 96)
    torch.testing.assert_close(block(x), other(x))


def test_tokens_before_the_first_block():
    "Every token gets its place, and three times the camera's row; patches are read row by row."
    torch.manual_seed(5)
    base = ReleasedReading(**SMALL | {"depth": 1}).base  # the last block is not run: here none
    frames, camids = torch.randn(3, 3, 256, 128), torch.tensor([2, 0, 1])
    tokens, kernel = base(frames, camids), base.patch_embed.proj.weight
    for f, (row, column) in enumerate([(0, 1), (15, 7), (7, 2)]):
        patch = frames[f, :, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
        expected = (kernel * patch).sum((1, 2, 3)) + base.patch_embed.proj.bias
        place, camera = 1 + 8 * row + column, 3 * base.Cam[camids[f], 0]
        torch.testing.assert_close(tokens[f, place], expected + base.pos_embed[0, place] + camera)
        class_token = base.cls_token[0, 0] + base.pos_embed[0, 0] + camera
        torch.testing.assert_close(tokens[f, 0], class_token)


def test_what_the_part_block_reads(small: ReleasedReading):
    "Place i holds four tokens that lie side by side in memory, times the weight of patch i."
    numbers = torch.arange(2 * 516.0).reshape(8, 129, 1).expand(8, 129, 24)
    weights, read = torch.randn(2, 128, 6), []
    hook = small.b2.register_forward_pre_hook(lambda _, x: read.append(x[0][..., ::24]))
    small.parts(numbers, weights)
    hook.remove()
    four = torch.arange(4.0)
    for k, rows in enumerate(read):
        for b in range(2):
            torch.testing.assert_close(rows[b, 0], 516 * b + four)
            for i, row in enumerate(released_order()):
                expected = weights[b, i, k] * (516 * b + 4 * row + four)
                torch.testing.assert_close(rows[b, 1 + i], expected)
    assert len(read) == 6


def test_drop_path_keeps_the_mean():
    torch.manual_seed(3)
    block = ReleasedReading(**SMALL).base.blocks[2]
    kept = block.kept(torch.ones(20_000, 1, 1))
    assert sorted(kept.unique().tolist()) == pytest.approx([0, 1 / 0.9])
    assert kept.mean().item() == pytest.approx(1, abs=0.01)
    assert torch.equal(block.eval().kept(x := torch.randn(3, 1, 1)), x)


def test_order():
    order = released_order()
    assert order[:6] == [5, 69, 6, 70, 7, 71]
    assert order[-8:] == [65, 1, 66, 2, 67, 3, 68, 4]
    assert sorted(order) == list(range(1, 129))
    assert released_order(9) == [5, 1, 6, 2, 7, 3, 8, 4, 9, 3]  # 3 came second to last


def test_rows_of_the_memory():
    "8.1 and 8.2: which tokens lie in a row, and how far they are from the patch of its weight."
    frame, token = np.divmod(np.arange(4 * 129).reshape(129, 4), 129)
    order = released_order()
    assert token[0].tolist() == [0, 1, 2, 3] and not frame[0].any()
    assert sum(len(set(frame[row])) == 1 for row in order) == 125
    assert max(len(set(frame[row])) for row in order) == 2
    assert sum(place + 1 in token[row] for place, row in enumerate(order)) == 4
    patches = np.where(token[order] > 0, token[order] - 1, np.nan)
    away = np.abs(patches // 8 - np.arange(128)[:, None] // 8)
    assert np.nanmean(away) == pytest.approx(4.9, abs=0.05)


def test_only_signs_of_weights_matter(small: ReleasedReading, tokens: Tensor, weights: Tensor):
    """8.3: the norm in front of the block takes out how large a weight is, unless it is near 0.

    The 1e-5 of 8.3 holds from 0.05 on. Some weights of a pose are smaller; a tenth of a pose's
    weights changes the features by up to 2e-3 here, and by 2e-4 in one run at full size."""
    ones = torch.ones_like(weights)
    drawn = 0.05 + 0.95 * torch.rand(weights.shape, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        all_seen, parts = small.parts(tokens, ones), small.parts(tokens, weights)
        assert change(all_seen, small.parts(tokens, 0.1 * ones)) < 1e-5
        assert change(all_seen, small.parts(tokens, drawn)) < 1e-5
        assert change(parts, small.parts(tokens, 0.1 * weights)) < 5e-3
        assert change(parts, small.parts(tokens, -weights)) > 3e-2


def test_parts_are_nearly_equal(small: ReleasedReading, tokens: Tensor, weights: Tensor):
    "8.4: six features that are one, but for their names."
    with torch.no_grad():
        parts = F.normalize(torch.stack(small.parts(tokens, weights)), dim=-1)
        same = small.parts(tokens, -torch.ones_like(weights))
    assert torch.einsum("kbd,lbd->bkl", parts, parts).min() > 0.9998
    assert all(torch.equal(part, same[0]) for part in same)


def test_order_of_rows_matters_not(small: ReleasedReading, tokens: Tensor):
    "8.7: without weights that stay behind, the token does not see in which order rows come."
    rows = tokens.reshape(2, 129, 96)
    with torch.no_grad():
        there = small.b2(rows)[:, 0]
        torch.testing.assert_close(small.b2(rows[:, [0, *released_order()]])[:, 0], there)


def test_weights_are_means_over_patches_and_frames(weights: Tensor, clips):
    maps = clips[1]
    for b, patch, part in ((0, 11, 0), (1, 127, 5), (0, 66, 1)):
        row, column = divmod(patch, 8)
        cell = maps[b, :, part, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
        assert weights[b, patch, part].item() == pytest.approx(cell.mean().item())


def test_maps(standing: Tensor):
    seen = standing.clone()
    seen[[7, 9], 2] = torch.tensor([0.1, 0.0])  # 0.1 is not above 0.1, in single precision too
    maps = released_maps(seen)
    assert maps.shape == (6, 256, 128) and maps.dtype == torch.float64
    assert (maps[2] == -1).all()
    others = maps[[0, 1, 3, 4, 5]]
    assert (others.amax((1, 2)) > 0.999).all() and (others.amax((1, 2)) < 1).all()
    assert (others.amin((1, 2)) == -1).all()
    assert (maps[4] > -1).sum() == 2 * 23 * 23  # knee and ankle, two whole windows
    assert maps[4].argmax().item() in (172 * 128 + 75, 224 * 128 + 76)
    assert torch.equal(released_maps(standing * torch.tensor([1, 1, 0.5])), released_maps(standing))
    background = (released_maps(standing) == -1).double().mean()
    assert 0.93 < background < 0.97
    positive = released_patch_weights(released_maps(standing).repeat(1, 4, 1, 1, 1), 16) > 0
    assert 0 < positive[..., :2].sum() < 8 and not positive[..., 2:].any()


def test_one_window():
    "The kernel sums to 1, has its peak at the truncated place and is cut at the border."
    inside = heatmap(np.array([[40.9, 30.2, 0.11]]), 60, 66)  # radius 6, window 13
    assert inside.sum() == pytest.approx(1)
    assert np.unravel_index(inside.argmax(), inside.shape) == (30, 40)
    assert (inside > 0).sum() == 13 * 13
    assert inside[30, 44] / inside[30, 40] == pytest.approx(np.exp(-(4**2) / 2 / 3.25**2))
    corner = heatmap(np.array([[0.0, 0.0, 1.0]]), 60, 66)
    np.testing.assert_allclose(corner[:7, :7], inside[30:37, 40:47])
    assert (corner > 0).sum() == 49
    assert np.array_equal(heatmap(np.array([[-0.9, -0.9, 1.0]]), 60, 66), corner)
    outside = heatmap(np.array([[-3.5, 61.0, 1.0]]), 60, 66)  # at (-3, 61): 4 columns, 5 rows
    assert (outside > 0).sum() == 4 * 5
    np.testing.assert_allclose(outside[55:, :4], inside[24:29, 43:47])
    assert not heatmap(np.array([[-7.0, 30.0, 1.0], [70.0, -90.0, 1.0]]), 60, 66).any()


def test_windows_are_averaged_where_they_overlap():
    a, b = np.array([[20.0, 20.0, 1.0]]), np.array([[24.0, 22.0, 1.0]])
    one, two = heatmap(a, 60, 66), heatmap(b, 60, 66)
    both = (one + two) / np.maximum(1.0 * (one > 0) + (two > 0), 1)
    np.testing.assert_allclose(heatmap(np.concatenate([a, b]), 60, 66), both)
    np.testing.assert_allclose(heatmap(np.concatenate([a, a]), 60, 66), one)


def test_other_crops_are_resized(standing: Tensor):
    half = standing * torch.tensor([0.5, 0.5, 1.0])
    maps = released_maps(half[None, None], crop=(128, 64))
    assert maps.shape == (1, 1, 6, 256, 128)
    raw = torch.stack(
        [torch.from_numpy(heatmap(half[list(v)].numpy(), 128, 64)) for v in GROUPS.values()]
    )
    # pixel 2i+1 lies a quarter of the way from i to i+1
    rows = 0.75 * raw[:, 10:30] + 0.25 * raw[:, 11:31]
    wide = 0.75 * rows[:, :, 20:40] + 0.25 * rows[:, :, 21:41]
    place = maps[0, 0, :, 21:61:2, 41:81:2]
    top = F.interpolate(raw[None], (256, 128), mode="bilinear")[0].amax((1, 2))[:, None, None]
    torch.testing.assert_close(place, 2 * wide / (top + 1e-6) - 1)
