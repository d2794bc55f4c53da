"""The residual-encoder U-Net with temporal difference weighting ([Rokuss2024]).

One encoder sees each time point, its CT and its point; at every skip the features of the follow-up are
weighted by their normalised difference from those of the baseline (docs/model_recipe.md, Difference
weighting). State-dict names are those of the published checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .plan import Architecture
from .resenc_unet import ResEncUNet

BLOCK = "skip_diff_weighting."
"""Prefix of the block's tensors, `norm_<stage>.weight` and `.bias`, each [features of the stage]."""

# The block's own, independent of the backbone's norms in the plan.
_EPS = 1e-5


class DifferenceWeighting(nn.Module):
    """Weights the features of the follow-up by their difference from those of the baseline.

    With follow-up features F and baseline features B of a stage, and an instance norm with a scale and an
    offset of its own for each stage, the result is F + F * norm(F - B).

    Args:
        features: number of features of each stage, full resolution first.
    """

    def __init__(self, features: Sequence[int]) -> None:
        super().__init__()
        for stage, count in enumerate(features):
            self.add_module(f"norm_{stage}", nn.InstanceNorm3d(count, eps=_EPS, affine=True))

    def forward(self, skips: list[Tensor]) -> list[Tensor]:
        """Join the features of both time points.

        Args:
            skips: of each stage, [2 * B, features, z, y, x]; all follow-ups first, then all baselines. The
                list is emptied, so that its memory is freed as early as possible.

        Returns:
            Of each stage, [B, features, z, y, x].
        """
        joined = []
        for norm in self.children():
            followup, baseline = skips.pop(0).chunk(2)
            joined.append(torch.addcmul(followup, followup, norm(followup - baseline)))
        return joined


class DifferenceWeightedUNet(ResEncUNet):
    """U-Net of two time points: logits [B, classes, *patch] from channels [B, 4, *patch].

    The channels are follow-up CT, follow-up heat map, baseline CT, baseline heat map. Both time points go
    through the encoder as one batch.
    """

    def __init__(self, classes: int, plan: Architecture, deep_supervision: bool = False) -> None:
        super().__init__(2, classes, plan, deep_supervision)
        self.skip_diff_weighting = DifferenceWeighting(plan.features_per_stage)

    def forward(self, channels: Tensor) -> Tensor | list[Tensor]:
        """Compute logits.

        Args:
            channels: float tensor [B, 4, z, y, x] of the plan's patch size, in network axes.

        Returns:
            Logits [B, classes, z, y, x]; with deep supervision a list, full resolution first.
        """
        skips = self.encoder(torch.cat(channels.chunk(2, 1)))
        logits: list[Tensor] = self.decoder(self.skip_diff_weighting(skips), self.deep_supervision)
        return logits if self.deep_supervision else logits[0]
