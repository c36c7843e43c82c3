"""Elastic multi-head self-attention with its residual and LayerNorm.

Axes: B batch, S sequence, H hidden, N heads, K key_dim, V value_dim.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cutbert.model.linear import prefix_linear
from cutbert.model.norm import PrefixNorm


class Attention(nn.Module):
    """Self-attention of which any prefix of heads, keys, values and hidden units can run.

    Args:
        hidden_size: width of the residual stream.
        num_heads, key_dim, value_dim: sizes; key_dim and value_dim per head.
        layer_norm_eps, hidden_dropout, attention_dropout: of the family.

    Source:
        Vaswani et al. 2017 (1706.03762), equation 1; Hou et al. 2020 (2004.04037), section 2.1 for heads
        as a sum of which a prefix can be kept. A prefix of the keys keeps the scale of the uncut layer.
    """

    def __init__(
        self,
        *,
        hidden_size: int,
        num_heads: int,
        key_dim: int,
        value_dim: int,
        layer_norm_eps: float,
        hidden_dropout: float,
        attention_dropout: float,
    ) -> None:
        super().__init__()
        self.query = nn.Linear(hidden_size, num_heads * key_dim)
        self.key = nn.Linear(hidden_size, num_heads * key_dim)
        self.value = nn.Linear(hidden_size, num_heads * value_dim)
        self.output = nn.Linear(num_heads * value_dim, hidden_size)
        self.norm = PrefixNorm(hidden_size, eps=layer_norm_eps)
        self.dropout = nn.Dropout(hidden_dropout)
        self.attention_dropout = attention_dropout
        self.num_heads, self.key_dim, self.value_dim = num_heads, key_dim, value_dim

    def forward(self, x_BSH: Tensor, bias: Tensor | None, *, num_heads: int, key_dim: int, value_dim: int) -> Tensor:
        """Return the states after attention, residual and LayerNorm.

        Args:
            x_BSH: hidden states; H may be a prefix of the hidden units.
            bias: [B, 1, 1, S], added to the scores (0 = token, very negative = padding), or None.
            num_heads, key_dim, value_dim: the prefixes that run.

        Returns:
            [B, S, H].
        """
        B, S, H = x_BSH.shape
        q_BNSK = self._heads(x_BSH, self.query, num_heads, key_dim, self.key_dim)
        k_BNSK = self._heads(x_BSH, self.key, num_heads, key_dim, self.key_dim)
        v_BNSV = self._heads(x_BSH, self.value, num_heads, value_dim, self.value_dim)
        dropout = self.attention_dropout if self.training else 0.0
        c_BNSV = attend(q_BNSK, k_BNSK, v_BNSV, bias, self.key_dim**-0.5, dropout)
        c_BSC = c_BNSV.transpose(1, 2).reshape(B, S, num_heads * value_dim)
        weight: Tensor = self.output.weight
        if value_dim != self.value_dim:
            weight = weight.view(-1, self.num_heads, self.value_dim)[:, :num_heads, :value_dim].flatten(1)
        y_BSH = prefix_linear(c_BSC, weight, self.output.bias, H, num_heads * value_dim)
        return self.norm(x_BSH + self.dropout(y_BSH))

    def _heads(self, x_BSH: Tensor, linear: nn.Linear, num_heads: int, dim: int, full_dim: int) -> Tensor:
        """Project to the first heads, and of each its first dimensions: [B, num_heads, S, dim]."""
        B, S, H = x_BSH.shape
        weight: Tensor = linear.weight
        bias: Tensor = linear.bias
        if dim != full_dim:
            weight = weight.view(self.num_heads, full_dim, -1)[:num_heads, :dim].flatten(0, 1)
            bias = bias.view(self.num_heads, full_dim)[:num_heads, :dim].flatten()
        y = prefix_linear(x_BSH, weight, bias, num_heads * dim, H)
        return y.view(B, S, num_heads, dim).transpose(1, 2)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float, dropout: float) -> Tensor:
    """Return softmax(q k' scale + bias) v, by whichever kernel is fast.

    Training on CPU writes the products out: torch's fused CPU kernel has a backward several times slower
    on short texts, and none with dropout. Elsewhere torch's fused attention runs.

    Args:
        q, k: [B, N, S, K].
        v: [B, N, S, V].
        bias: [B, 1, 1, S] or None.
        scale: factor on the scores.
        dropout: probability of dropping an attention weight.

    Returns:
        [B, N, S, V].
    """
    if q.device.type == "cpu" and torch.is_grad_enabled() and q.requires_grad:
        scores_BNSS = (q * scale) @ k.transpose(-1, -2)
        if bias is not None:
            scores_BNSS = scores_BNSS + bias
        return F.dropout(scores_BNSS.softmax(-1), dropout) @ v
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout, scale=scale)
