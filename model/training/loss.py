"""Dice and cross-entropy over all scales of the decoder; see docs/model_recipe.md, Loss and optimiser."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch import distributed as dist
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate


def scale_weights(count: int) -> tuple[float, ...]:
    """Return the weights of the scales, full resolution first: each half of the one before, their sum 1.

    The last of several scales has weight 0.
    """
    raw = [2.0**-scale for scale in range(count)]
    if count > 1:
        raw[-1] = 0.0
    return tuple(weight / sum(raw) for weight in raw)


class SegmentationLoss:
    """Cross-entropy minus soft Dice of the lesion, 1:1, as weighted sum over the decoder's scales.

    The softmax over background and lesion is computed as the sigmoid of the difference of their logits: the
    same values with half the memory, and with deterministic gradients on CUDA too.
    """

    def __init__(self, batch_dice: bool, smooth: float, hardest: float = 1.0) -> None:
        """Set up the loss.

        Args:
            batch_dice: compute one Dice over all samples of a step, including those of other processes;
                otherwise one for each sample.
            smooth: added to numerator and denominator of the Dice.
            hardest: share of the voxels of each sample that the cross-entropy is averaged over, those with
                the largest one; 1 averages over all of them.
        """
        self._batch_dice, self._smooth, self._hardest = batch_dice, smooth, hardest

    def __call__(self, logits: Sequence[Tensor], target: Tensor) -> Tensor:
        """Compute the loss, a scalar of at least -1.

        Args:
            logits: [B, 2, z, y, x] of each scale, full resolution first.
            target: [B, z, y, x] at full resolution, 0 and 1.

        Returns:
            float32 scalar, cross-entropy minus Dice.
        """
        full = target[:, None].float()
        total = logits[0].new_zeros((), dtype=torch.float32)
        for weight, scale in zip(scale_weights(len(logits)), logits, strict=True):
            if weight == 0:  # keep its head in the graph: DDP waits for a gradient, here 0
                total = total + 0.0 * scale.float().mean()
                continue
            smaller = interpolate(full, size=scale.shape[2:], mode="nearest-exact")
            margin = scale[:, 1:].float() - scale[:, :1].float()
            total = total + weight * (self._entropy(margin, smaller) - self._dice(margin, smaller))
        return total

    def _entropy(self, margin: Tensor, target: Tensor) -> Tensor:
        if self._hardest == 1:
            return binary_cross_entropy_with_logits(margin, target)
        each = binary_cross_entropy_with_logits(margin, target, reduction="none").flatten(1)
        count = max(1, round(self._hardest * each.shape[1]))
        return each.topk(count, dim=1, sorted=False).values.mean()

    def _dice(self, margin: Tensor, target: Tensor) -> Tensor:
        probability = torch.sigmoid(margin)
        sums = torch.stack(
            [(probability * target).flatten(1).sum(1), (probability + target).flatten(1).sum(1)]
        )
        if self._batch_dice:
            sums = sums.sum(1)
            if dist.is_available() and dist.is_initialized() and torch.is_grad_enabled():
                sums = _SumOverProcesses.apply(sums)
        ratio: Tensor = (2 * sums[0] + self._smooth) / (sums[1] + self._smooth).clamp_min(1e-8)
        return ratio.mean()


class _SumOverProcesses(torch.autograd.Function):
    """A sum over all processes whose gradient is summed over them too.

    Each process then has the loss of all samples. DDP averages the gradients of the processes, which the sum
    in the backward pass compensates for.
    """

    @staticmethod
    def forward(ctx: object, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total
