"""The network for PET/CT with a second head for organs on each stage of its decoder.

Organs are learned beside the tumour, so that physiological uptake is recognised ([Rokuss2025b]). The heads
have the published names, `resenc_unet.ORGAN_HEADS`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .plan import Architecture
from .resenc_unet import ResEncUNet


class OrganUNet(ResEncUNet):
    """A residual-encoder U-Net that returns the logits of tumour and, behind them, of organs.

    Args:
        inputs: number of input channels.
        classes: of the tumour heads, with background.
        organ_classes: of the organ heads, with background.
        plan: the architecture.
        deep_supervision: return all scales.
    """

    def __init__(
        self,
        inputs: int,
        classes: int,
        organ_classes: int,
        plan: Architecture,
        deep_supervision: bool = False,
    ) -> None:
        super().__init__(inputs, classes, plan, deep_supervision)
        features = plan.features_per_stage
        self.decoder.organ_seg_layers = nn.ModuleList(
            nn.Conv3d(features[stage], organ_classes, 1) for stage in range(len(features) - 2, -1, -1)
        )

    def forward(self, channels: Tensor) -> Tensor | list[Tensor]:
        """Compute logits; those of tumour are the numbers of `ResEncUNet`.

        Args:
            channels: float tensor [B, inputs, z, y, x] of the plan's patch size, in network axes.

        Returns:
            Logits [B, classes + organ_classes, z, y, x]; with deep supervision a list, full resolution first.
        """
        decoder, skips = self.decoder, self.encoder(channels)
        organ_heads = decoder.get_submodule("organ_seg_layers")
        assert isinstance(organ_heads, nn.ModuleList)
        logits = []
        for x, head, organ_head in zip(
            decoder.stage_features(skips), decoder.seg_layers, organ_heads, strict=True
        ):
            if self.deep_supervision or not skips:  # the last stage takes the last skip
                logits.append(torch.cat((head(x), organ_head(x)), 1))
        return logits[::-1] if self.deep_supervision else logits[0]
