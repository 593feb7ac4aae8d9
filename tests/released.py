"""KeyRe-ID as its authors released it, read literally from our specification, sections 1 to 1.4.

Nothing here is fast or sensible on purpose: it is what the package's own model is compared with,
and the slow side of a benchmark. It shares no code with the package. Names in the state dict are
those of the released checkpoints.
"""

import copy
import math

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

GROUPS = {
    "head": (0, 1, 2, 3, 4),
    "torso": (5, 6, 11, 12),
    "left_arm": (7, 9),
    "right_arm": (8, 10),
    "left_leg": (13, 15),
    "right_leg": (14, 16),
}


class Attention(nn.Module):
    "Every token asks every token, in several heads."

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:  # [B, N, D] both
        q, k, v = rearrange(self.qkv(x), "b n (three h d) -> three b h n d", three=3, h=self.heads)
        shares = (q @ k.transpose(-2, -1) * self.scale).softmax(-1)
        return self.proj(rearrange(shares @ v, "b h n d -> b n (h d)"))


class Mlp(nn.Module):
    "Four times as wide and back."

    def __init__(self, width: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    "A pre-norm transformer block; in training each sample skips a half with probability `drop`."

    def __init__(self, width: int, heads: int, drop: float = 0.0):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn, self.mlp, self.drop = Attention(width, heads), Mlp(width), drop

    def kept(self, x: Tensor) -> Tensor:
        if not self.training or not self.drop:
            return x
        keep = torch.rand(len(x), 1, 1, device=x.device) >= self.drop
        return x * keep / (1 - self.drop)

    def forward(self, x: Tensor) -> Tensor:  # [B, N, D] both
        x = x + self.kept(self.attn(self.norm1(x)))
        return x + self.kept(self.mlp(self.norm2(x)))


class PatchEmbed(nn.Module):
    "Patches that do not overlap, row by row."

    def __init__(self, width: int, patch: int):
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)

    def forward(self, frames: Tensor) -> Tensor:  # [B*T, 3, H, W] -> [B*T, N, D]
        return rearrange(self.proj(frames), "f d r c -> f (r c) d")


class Backbone(nn.Module):
    "The backbone (1.1): all blocks but the last are run; last block, norm and fc only lie there."

    def __init__(self, n_patches: int, n_cams: int, width: int, depth: int, heads: int, patch: int):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + n_patches, width))
        self.Cam = nn.Parameter(torch.zeros(n_cams, 1, width))
        self.patch_embed = PatchEmbed(width, patch)
        drops = [0.1 * i / max(depth - 1, 1) for i in range(depth)]
        self.blocks = nn.ModuleList([Block(width, heads, drop) for drop in drops])
        self.norm, self.fc = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, 1000)
        for table in (self.cls_token, self.pos_embed, self.Cam):
            nn.init.trunc_normal_(table, std=0.02)
        for linear in (module for module in self.modules() if isinstance(module, nn.Linear)):
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)

    def forward(self, frames: Tensor, camids: Tensor) -> Tensor:  # -> [B*T, 1+N, D]
        patches = self.patch_embed(frames)
        x = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], 1)
        x = x + self.pos_embed + 3.0 * self.Cam[camids]
        for block in self.blocks[:-1]:
            x = block(x)
        return x


def neck(width: int) -> nn.BatchNorm1d:
    "A batch norm whose bias stays 0."
    norm = nn.BatchNorm1d(width)
    norm.bias.requires_grad_(False)
    return norm


def classifier(width: int, n_ids: int) -> nn.Linear:
    "Small weights, no bias."
    linear = nn.Linear(width, n_ids, bias=False)
    nn.init.normal_(linear.weight, std=0.001)
    return linear


def released_order(n: int = 128) -> list[int]:  # numbers from 1 to n
    "The row of the re-viewed memory at each place after TCSS (1.3); row 0 is the class token."
    order = list(range(5, n + 1)) + list(range(1, 5))  # shift by 5
    if len(order) % 2:
        order.append(order[-2])
    half = len(order) // 2
    dealt = []
    for i in range(half):  # shuffle: first half and second half in turn
        dealt += [order[i], order[half + i]]
    return dealt


def released_patch_weights(maps: Tensor, patch: int) -> Tensor:  # [B, T, 6, H, W] -> [B, N, 6]
    "The mean of each map in each patch, then over the frames (1.4)."
    cells = F.avg_pool2d(maps.flatten(0, 1), patch)
    return rearrange(cells, "(b t) k r c -> b t (r c) k", b=len(maps)).mean(1)


class ReleasedReading(nn.Module):
    "The released model (1); in eval mode the descriptor, else logits, features and scores."

    def __init__(
        self,
        n_ids: int = 625,
        n_cams: int = 6,
        n_frames: int = 4,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        image_size: tuple[int, int] = (256, 128),  # height, width
        patch: int = 16,
    ):
        super().__init__()
        n_patches, wide = image_size[0] // patch * (image_size[1] // patch), n_frames * width
        self.patch = patch
        self.base = Backbone(n_patches, n_cams, width, depth, heads, patch)
        self.b1 = nn.Sequential(copy.deepcopy(self.base.blocks[-1]), copy.deepcopy(self.base.norm))
        self.block1 = Block(wide, heads)
        self.b2 = nn.Sequential(self.block1, nn.LayerNorm(wide))
        self.bottleneck, self.classifier = neck(width), classifier(width, n_ids)
        for part in GROUPS:
            setattr(self, f"bottleneck_{part}", neck(wide))
            setattr(self, f"classifier_{part}", classifier(wide, n_ids))
        self.attention_conv = nn.Conv2d(width, 256, 1)
        self.attention_tconv = nn.Conv1d(256, 1, 3, padding=1)
        for conv in (self.attention_conv, self.attention_tconv):
            nn.init.kaiming_normal_(conv.weight, mode="fan_in")
            nn.init.zeros_(conv.bias)

    def whole(self, tokens: Tensor, n_frames: int) -> tuple[Tensor, Tensor]:
        "The global feature [B, D] and the scores [B, T] (1.2)."
        c = self.b1(tokens)[:, 0]
        u = F.relu(self.attention_conv(c[:, :, None, None]))[:, :, 0, 0]
        u = rearrange(u, "(b t) a -> b a t", t=n_frames)
        scores = F.relu(self.attention_tconv(u))[:, 0]
        alpha = scores.softmax(1)
        c = rearrange(c, "(b t) d -> b t d", t=n_frames)
        return (alpha[:, :, None] * c).sum(1), scores

    def parts(self, tokens: Tensor, weights: Tensor) -> list[Tensor]:
        "Six part features [B, 4D] (1.3, 1.4), from tokens [B*T, 1+N, D] and weights [B, N, 6]."
        # as released: memory viewed in another shape, so a row is four tokens that lie side by side
        rows = tokens.contiguous().view(len(weights), tokens.shape[1], -1)
        token, rows = rows[:, :1], rows[:, released_order(tokens.shape[1] - 1)]
        features = []
        for k in range(len(GROUPS)):  # weights in the order of the picture, rows in another
            weighted = rows * weights[:, :, k, None]
            features.append(self.b2(torch.cat([token, weighted], 1))[:, 0])
        return features

    def seven(self, name: str) -> list[nn.Module]:
        "The module of this name of the whole and those of the parts."
        return [getattr(self, name + tail) for tail in ("", *(f"_{part}" for part in GROUPS))]

    def forward(
        self,
        frames: Tensor,  # [B, T, 3, H, W], mean 0.5 and deviation 0.5 taken out
        maps: Tensor,  # [B, T, 6, H, W], from -1 to 1
        camids: Tensor,  # [B*T], from 0
    ) -> Tensor | tuple[list[Tensor], list[Tensor], Tensor]:
        tokens = self.base(frames.flatten(0, 1), camids)
        feature, scores = self.whole(tokens, frames.shape[1])
        weights = released_patch_weights(maps, self.patch).to(tokens)
        features = [feature, *self.parts(tokens, weights)]
        after = [norm(x) for norm, x in zip(self.seven("bottleneck"), features, strict=True)]
        if not self.training:
            return torch.cat([after[0], *(x / 6 for x in after[1:])], 1)
        logits = [linear(x) for linear, x in zip(self.seven("classifier"), after, strict=True)]
        return logits, features, scores


def heatmap(joints: np.ndarray, height: int, width: int) -> np.ndarray:  # [V, 3] -> [H, W]
    "Windows of the joints of one part, averaged where they overlap (1.4, variant J)."
    radius = width // 11
    n = 2 * radius + 1
    line = np.array([math.exp(-(i**2) / 2 / (n / 4) ** 2) for i in range(-radius, radius + 1)])
    kernel = np.outer(line, line) / line.sum() ** 2
    total, covered = np.zeros((height, width)), np.zeros((height, width))
    for x, y, confidence in joints.tolist():
        if confidence > 0.1:
            left, top = int(x) - radius, int(y) - radius  # int cuts towards 0: -0.9 is pixel 0
            for row in range(max(top, 0), min(top + n, height)):
                for column in range(max(left, 0), min(left + n, width)):
                    total[row, column] += kernel[row - top, column - left]
                    covered[row, column] += 1
    return total / np.maximum(covered, 1)


def released_maps(
    joints: Tensor,  # [..., 17, 3], pixels of the crop and confidences
    size: tuple[int, int] = (256, 128),  # height and width of the result
    crop: tuple[int, int] | None = None,  # height and width of the crop, None for `size`
) -> Tensor:  # [..., 6, H, W], from -1 to 1, float64
    "The maps of a frame as training sees them before it flips, pads, crops and erases."
    seen = joints[..., 2:] > 0.1  # compared in the precision the joints came in
    poses = torch.cat([joints[..., :2], seen], -1).cpu().double().reshape(-1, 17, 3).numpy()
    drawn = [[heatmap(pose[list(v)], *(crop or size)) for v in GROUPS.values()] for pose in poses]
    maps = torch.from_numpy(np.array(drawn))
    if maps.shape[2:] != tuple(size):
        maps = F.interpolate(maps, size, mode="bilinear", align_corners=False)
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    maps = (maps - low) / (high - low + 1e-6)
    return ((maps - 0.5) / 0.5).reshape(*joints.shape[:-2], *maps.shape[1:])
