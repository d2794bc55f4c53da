"""Dice and cross-entropy over all scales of the decoder (facts A4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch import distributed as dist
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate


def scale_weights(count: int) -> tuple[float, ...]:
    """Weights of the scales, full resolution first: halved from one to the next, the last 0, their sum 1.

    A single scale has weight 1.
    """
    raw = [2.0**-scale for scale in range(count)]
    if count > 1:
        raw[-1] = 0.0
    return tuple(weight / sum(raw) for weight in raw)


class SegmentationLoss:
    """Soft Dice of the lesion plus cross-entropy, 1:1, summed over the decoder's scales by weight.

    The softmax over background and lesion is written as the sigmoid of their logits' difference: the same
    numbers with half the memory, and with gradients that are the same in each run also on CUDA.
    """

    def __init__(self, batch_dice: bool, smooth: float) -> None:
        """
        Args:
            batch_dice: one Dice over all samples of a step, also those of other processes; else one each.
        """
        self._batch_dice, self._smooth = batch_dice, smooth

    def __call__(self, logits: Sequence[Tensor], target: Tensor) -> Tensor:
        """The loss, a scalar: cross-entropy minus Dice, -1 at best.

        Args:
            logits: [B, 2, *patch of the scale], full resolution first.
            target: [B, *patch], 0 and 1.
        """
        full = target[:, None].float()
        total = logits[0].new_zeros((), dtype=torch.float32)
        for weight, scale in zip(scale_weights(len(logits)), logits, strict=True):
            if weight == 0:  # its layer takes part with a gradient of 0, which DDP waits for
                total = total + 0.0 * scale.float().mean()
                continue
            smaller = interpolate(full, size=scale.shape[2:], mode="nearest-exact")
            margin = scale[:, 1:].float() - scale[:, :1].float()
            total = total + weight * (self._entropy(margin, smaller) - self._dice(margin, smaller))
        return total

    @staticmethod
    def _entropy(margin: Tensor, target: Tensor) -> Tensor:
        return binary_cross_entropy_with_logits(margin, target)

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
    """A sum over all processes whose gradient is theirs, too.

    Each process has the loss of all samples then. DDP takes the mean of the processes' gradients, and the
    sum here makes up for that.
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
