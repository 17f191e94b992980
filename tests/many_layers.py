"""A network of many kinds of layers, so that the rules for a trace meet more operators than those of VeerNet."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def build(*, num_classes: int) -> nn.Module:
    return ManyLayers(num_classes)


class ManyLayers(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.GELU(), nn.MaxPool2d(2))
        self.deep = nn.Sequential(
            nn.Conv2d(16, 16, 3, padding="same", groups=16, bias=False),
            nn.GroupNorm(4, 16),
            nn.PReLU(),
            nn.Conv2d(16, 32, 1),
            nn.Dropout(0.1),
            nn.ELU(),
            nn.AvgPool2d(4),
        )
        self.tokens = nn.TransformerEncoderLayer(32, 2, 64, dropout=0.1, batch_first=True)
        self.plain_norm = nn.LayerNorm(32)
        self.token_norms = nn.ModuleList([nn.RMSNorm(32), nn.BatchNorm1d(32)])
        self.up = nn.ConvTranspose2d(32, 16, 4, stride=4)
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 16, 1), nn.Sigmoid())
        self.fuse = nn.Bilinear(16, 16, 16)
        self.weight = nn.Parameter(torch.ones(1, 16, 1, 1))
        self.head = nn.Conv2d(16, num_classes, 1)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        x_BCHW = self.stem(images_BCHW)
        y_BCHW = self.deep(x_BCHW)
        height, width = y_BCHW.shape[2:]
        tokens_BND = self.plain_norm(self.tokens(y_BCHW.flatten(2).transpose(1, 2)))
        tokens_BDN = self.token_norms[1](self.token_norms[0](tokens_BND).transpose(1, 2))
        y_BCHW = F.instance_norm(self.up(tokens_BDN.reshape(-1, 32, height, width)))
        gate_BCHW = self.squeeze(x_BCHW) * torch.exp(-self.weight.pow(2))
        pooled_BC = torch.einsum("bchw,bchw->bc", x_BCHW, y_BCHW) / x_BCHW.norm(dim=(2, 3)).clamp_min(1.0)
        fused_BC = self.fuse(pooled_BC.softmax(1), pooled_BC.mean(1, keepdim=True).expand(-1, 16))
        y_BCHW = torch.addcmul(y_BCHW, x_BCHW, gate_BCHW) + fused_BC[:, :, None, None].cumsum(1)
        y_BCHW = F.interpolate(y_BCHW, scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.head(F.relu(y_BCHW))
