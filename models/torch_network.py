"""A network of torch's in memory on one device."""

import torch
from torch import Tensor, nn


class TorchNetwork:
    """A torch network that takes any batch, as arena.tagger.Network asks.

    Half precision is torch's autocast: weights and sums that need it stay in float32.
    """

    batch: int | None = None
    wants_padding = False

    def __init__(self, net: nn.Module, device: torch.device, precision: str) -> None:
        halves = {"float16": torch.float16, "bfloat16": torch.bfloat16}
        self._half = halves.get(precision)
        self._net = net.to(device)
        self._device = device

    @torch.inference_mode()
    def outputs(self, images: Tensor, padding: Tensor | None = None) -> Tensor:
        """Logits, float32 (n, tags), of float32 images (n, 3, size, size)."""
        with torch.autocast(self._device.type, self._half, enabled=self._half is not None):
            logits: Tensor = self._net(images)
        return logits.float()
