"""The network for PET/CT with its second heads, for organs ([Rokuss2025b]), for inference."""

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
    """

    def __init__(self, inputs: int, classes: int, organ_classes: int, plan: Architecture) -> None:
        super().__init__(inputs, classes, plan)
        features = plan.features_per_stage
        self.decoder.organ_seg_layers = nn.ModuleList(
            nn.Conv3d(features[stage], organ_classes, 1) for stage in range(len(features) - 2, -1, -1)
        )

    def forward(self, channels: Tensor) -> Tensor:
        """Compute logits of full resolution; those of tumour are the numbers of `ResEncUNet`.

        Args:
            channels: float tensor [B, inputs, z, y, x] of the plan's patch size, in network axes.

        Returns:
            Logits [B, classes + organ_classes, z, y, x].
        """
        decoder, skips = self.decoder, self.encoder(channels)
        x = skips.pop()
        for transpconv, stage in zip(decoder.transpconvs, decoder.stages, strict=True):
            x = stage(torch.cat((transpconv(x), skips.pop()), 1))
        organ_head = decoder.get_submodule(f"organ_seg_layers.{len(decoder.stages) - 1}")
        return torch.cat((decoder.seg_layers[-1](x), organ_head(x)), 1)
