"""The network for PET/CT with a second head for organs on each stage of its decoder.

Organs are learned beside the tumour, so that physiological uptake is recognised ([Rokuss2025b]). The heads
have the published names, `resenc_unet.ORGAN_HEADS`; inference leaves them out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...network.plan import Plan
from ...network.resenc_unet import ResEncUNet

LESION_CLASSES = 2


class OrganHeadUNet(ResEncUNet):
    """A residual-encoder U-Net that returns logits of lesions and organs, one after the other."""

    def __init__(self, inputs: int, organs: int, plan: Plan, deep_supervision: bool) -> None:
        """Set up the network with torch's initial weights.

        Args:
            inputs: number of input channels.
            organs: number of organs; their heads have one output more, the background.
            plan: holds the architecture.
            deep_supervision: return all scales.
        """
        super().__init__(inputs, LESION_CLASSES, plan.architecture, deep_supervision)
        features = plan.architecture.features_per_stage
        heads = [nn.Conv3d(features[stage], organs + 1, 1) for stage in range(len(features) - 2, -1, -1)]
        self.decoder.add_module("organ_seg_layers", nn.ModuleList(heads))

    def forward(self, channels: Tensor) -> Tensor | list[Tensor]:
        """Compute logits.

        Args:
            channels: float tensor [B, inputs, z, y, x] of the plan's patch size, in network axes.

        Returns:
            Logits [B, 2 + organs + 1, z, y, x], those of the lesion first; with deep supervision a list, full
            resolution first.
        """
        decoder = self.decoder
        features = list(decoder.stage_features(self.encoder(channels)))
        organ_heads = decoder.get_submodule("organ_seg_layers")
        assert isinstance(organ_heads, nn.ModuleList)
        heads = zip(features, decoder.seg_layers, organ_heads, strict=True)
        kept = list(heads) if self.deep_supervision else list(heads)[-1:]
        logits = [torch.cat((lesion(stage), organ(stage)), 1) for stage, lesion, organ in kept][::-1]
        return logits if self.deep_supervision else logits[0]
