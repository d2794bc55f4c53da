"""Dice and cross-entropy of organs over all scales of the decoder, beside the loss of the lesion."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate

from ...data.pet_ct.prepared_study import UNKNOWN_ORGAN
from ..loss import scale_weights


def organ_loss(logits: Sequence[Tensor], organs: Tensor, batch_dice: bool, smooth: float) -> Tensor:
    """Cross-entropy minus the mean soft Dice of all organs, as weighted sum over the scales.

    Voxels of unknown organs do not count; of studies without organ labels the loss is 0.

    Args:
        logits: [B, organs + 1, z, y, x] of each scale, full resolution first.
        organs: [B, z, y, x] at full resolution, labels from 0 on or `UNKNOWN_ORGAN`.
        batch_dice: compute one Dice over all samples of this process, otherwise one for each sample.
        smooth: added to numerator and denominator of the Dice.

    Returns:
        float32 scalar, at least -1.
    """
    full = organs[:, None].float()
    total = logits[0].new_zeros((), dtype=torch.float32)
    for weight, scale in zip(scale_weights(len(logits)), logits, strict=True):
        if weight == 0:  # keep its head in the graph: DDP waits for a gradient, here 0
            total = total + 0.0 * scale.float().mean()
            continue
        smaller = interpolate(full, size=scale.shape[2:], mode="nearest-exact")[:, 0].long()
        total = total + weight * _organ_loss_of_scale(scale.float(), smaller, batch_dice, smooth)
    return total


def _organ_loss_of_scale(logits: Tensor, organs: Tensor, batch_dice: bool, smooth: float) -> Tensor:
    known = organs != UNKNOWN_ORGAN
    if not bool(known.any()):
        return 0.0 * logits.mean()
    entropy = cross_entropy(logits, organs, ignore_index=UNKNOWN_ORGAN, reduction="sum") / known.sum()
    probability = torch.softmax(logits, 1) * known[:, None]
    labels = organs.where(known, torch.zeros_like(organs))[:, None]
    # Sums by class without a one-hot volume, which would be several times as large as the logits.
    classes, flat = logits.new_zeros(logits.shape[:2]), labels.flatten(1)
    common = classes.scatter_add(1, flat, probability.gather(1, labels).flatten(1))
    voxels = classes.scatter_add(1, flat, known.flatten(1).to(classes.dtype))
    sums = torch.stack([common, probability.flatten(2).sum(2) + voxels])[:, :, 1:]
    sums = sums.sum(1) if batch_dice else sums[:, known.flatten(1).any(1)]
    ratio: Tensor = (2 * sums[0] + smooth) / (sums[1] + smooth).clamp_min(1e-8)
    return entropy - ratio.mean()
