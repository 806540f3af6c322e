"""Writes small TorchScript models into the folder that is its only argument."""

import sys
from typing import Dict, List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor, nn

folder = sys.argv[1]
torch.manual_seed(1)


def save(name: str, module: nn.Module) -> None:
    torch.jit.script(module.eval()).save(f"{folder}/{name}.pt")


class Identity(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


class Scaling(nn.Module):
    def __init__(self, factor: float):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor([factor]))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class TwoByTwo(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tuple[Tensor, Tensor]:
        return a + b, a - b


class FixedShape(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x)


class NonZero(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.nonzero(x).t()


class Failing(nn.Module):
    def forward(self, x: Tensor, to: Tensor) -> Tensor:
        sizes: List[int] = to.tolist()
        return x.reshape(sizes)


class Slow(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x
        for _ in range(16):
            y = y @ x
        return y.max()


class Pair(NamedTuple):
    logits: Tensor
    state: Tensor


class Structures(nn.Module):
    def forward(
        self,
        xs: List[Tensor],
        by_name: Dict[str, Tensor],
        pair: Tuple[Tensor, Tensor],
        scale: float,
        times: int = 2,
        negate: bool = False,
        label: str = "total",
        extra: Optional[Tensor] = None,
        sizes: Optional[List[int]] = None,
    ) -> Dict[str, Tensor]:
        total = pair[0] - pair[1]
        for x in xs:
            total = total + x
        for name, value in by_name.items():
            total = total + value * len(name)
        if extra is not None:
            total = total + extra
        if negate:
            total = -total
        result = {label: total * scale * times}
        if sizes is not None:
            result["sizes"] = torch.tensor(sizes)
        return result


class NamedOutputs(nn.Module):
    def forward(self, x: Tensor) -> Pair:
        return Pair(x + 1, x + 2)


class Nested(nn.Module):
    def forward(self, x: Tensor) -> Tuple[List[Tensor], Tuple[Tensor, int], float, bool]:
        parts: List[Tensor] = []
        for part in x:
            parts.append(part)
        return parts, (x.sum(), x.dim()), 0.5, True


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.arange(3.0))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.weight

    @torch.jit.export
    def backward_of(self, x: Tensor) -> Tensor:
        return x - self.weight


class Methods(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = Block()

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x) * 2

    @torch.jit.export
    def encode(self, x: Tensor) -> Tensor:
        return x * 10


class Counting(nn.Module):
    """Changes itself with every run, and keeps what it was given."""

    seen: List[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.runs = 0
        self.last = torch.zeros(1)
        self.seen = []

    def forward(self, x: Tensor) -> Tuple[Tensor, Tensor, int]:
        before = self.last
        self.last = x
        self.seen.append(x)
        self.runs += 1
        total = torch.zeros(1)
        for each in self.seen:
            total = total + each.sum()
        return before, total, self.runs


class InPlace(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        x.add_(1)
        return x[0:1].mul_(2)


class Dropping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.norm(x))


class Kinds(nn.Module):
    """Outputs of types that JavaScript has no arrays for, or has to get in another."""

    def forward(self, x: Tensor, kind: str) -> Tensor:
        if kind == "bfloat16":
            return x.to(torch.bfloat16)
        if kind == "complex":
            return torch.complex(x, x)
        if kind == "sparse":
            return x.to_sparse()
        if kind == "transposed":
            return x.reshape(2, -1).t()
        return torch.quantize_per_tensor(x, 0.1, 0, torch.qint8)


class Raising(nn.Module):
    def forward(self, x: Tensor, how: str) -> Tensor:
        if how == "raise":
            raise ValueError("as it was told")
        if how == "assert":
            assert x.numel() < 0, "never so few"
        if how == "huge":
            return torch.zeros([1 << 40])
        if how == "index":
            return x[100]
        return torch.mm(x, x)


class Unsupported(nn.Module):
    def forward(self, x: List[List[Tensor]]) -> Tensor:
        return x[0][0]


class Words(nn.Module):
    def forward(self, x: Tensor) -> Tuple[str, List[str], Optional[Tensor]]:
        return "über", ["a", "b"], None


class Nothing(nn.Module):
    def forward(self) -> Tensor:
        return torch.ones(2)


class Linear(nn.Module):
    """Enough weights for a file in which a flipped byte lies somewhere else each time."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


for factor in (1, 2, 3, 4, 5):
    save(f"scaling-{factor}", Scaling(float(factor)))
for module in (
    Identity, TwoByTwo, FixedShape, NonZero, Failing, Slow, Structures, NamedOutputs, Nested, Methods, Counting,
    InPlace, Kinds, Raising, Unsupported, Words, Nothing, Linear,
):
    save(module.__name__, module())
torch.jit.script(Dropping().train()).save(f"{folder}/Training.pt")
torch.save(Linear().state_dict(), f"{folder}/StateDict.pt")
