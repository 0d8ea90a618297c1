"""The genotype: a flat set of genes that says which network is meant.

Every `ArchSpec` is in canonical form: a gene that has no effect (the body's kernel where the body has no
blocks, say) holds its default. So two specs are equal exactly where they mean one network, and the content
hash can tell a duplicate before it is trained. A gene is declared once, on its field: what it may be, its
default, whether its values are ordered, and when it is active.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from typing import Any

from search_spaces.errors import SpecError, UnknownNameError

Value = int | str
# Any of the alternatives, each a conjunction {gene: the values it must have one of}; empty means always.
Condition = tuple[dict[str, tuple[Value, ...]], ...]


@dataclass(frozen=True)
class Gene:
    """What one field of `ArchSpec` may hold."""

    meaning: str
    default: Value
    legal: tuple[Value, ...]
    ordered: bool
    active_when: Condition = ()

    def check(self, name: str, value: object) -> None:
        """Raise SpecError unless `value` is one that this gene may have."""
        if type(value) is type(self.default) and value in self.legal:
            return
        if isinstance(value, str) and not self.ordered:
            raise UnknownNameError(f"value of gene {name}:", value, map(str, self.legal))
        raise SpecError(f"Gene {name} takes {_listed(self.legal)}, got {value!r}.")

    def is_active(self, values: Mapping[str, Value]) -> bool:
        """Tell whether the gene has an effect beside these other values."""
        return not self.active_when or any(
            all(values[other] in wanted for other, wanted in alternative.items()) for alternative in self.active_when
        )


def _listed(legal: tuple[Value, ...]) -> str:
    return ", ".join(map(str, legal)) if len(legal) <= 10 else f"{legal[0]}, {legal[1]}, … {legal[-1]}"


def _ordinal(meaning: str, default: int, legal: tuple[int, ...] | range, active_when: Condition = ()) -> Any:
    return field(default=default, metadata={"gene": Gene(meaning, default, tuple(legal), True, active_when)})


def _nominal(meaning: str, default: str, legal: tuple[str, ...], active_when: Condition = ()) -> Any:
    return field(default=default, metadata={"gene": Gene(meaning, default, legal, False, active_when)})


BODY_ACTIVATIONS = ("relu", "prelu", "leaky_relu", "relu6", "tanh", "elu", "hard_swish")
BLOCKS = ("plain", "residual", "expanded")
ATTENTIONS = ("none", "channel", "spatial", "dual")
UPSAMPLERS = ("depth_to_space", "transposed")

_HAS_BODY: Condition = ({"depth": tuple(range(1, 17))},)
_USES_BODY_ACTIVATION: Condition = (
    {"stem_depth": (2,)},
    {"depth": tuple(range(1, 17))},
    {"refine_width": tuple(range(4, 65, 4))},
)


@dataclass(frozen=True)
class ArchSpec:
    """One architecture of the challenge's family, from stem to RGB. All values are in canonical form."""

    scale: int = _ordinal("the body runs at R/scale, R being the output resolution", 2, (2, 4))
    stem_depth: int = _ordinal("convolutions before the body", 1, (1, 2))
    stem_activation: str = _nominal("after the first convolution", "relu", BODY_ACTIVATIONS)
    width: int = _ordinal("channels of the body", 16, range(4, 129, 4))
    depth: int = _ordinal("blocks in the body", 1, range(17))
    block: str = _nominal("kind of block", "plain", BLOCKS, _HAS_BODY)
    kernel: int = _ordinal("kernel of the first convolution of a block", 3, (1, 3, 5, 7), _HAS_BODY)
    attention: str = _nominal("recalibration inside each block", "none", ATTENTIONS, _HAS_BODY)
    activation: str = _nominal("inside the body and the head", "relu", BODY_ACTIVATIONS, _USES_BODY_ACTIVATION)
    long_skip: str = _nominal("from the stem over the whole body", "none", ("none", "add", "concat"), _HAS_BODY)
    body_upsampler: str = _nominal("from R/4 to R/2", "transposed", UPSAMPLERS, ({"scale": (4,)},))
    output_upsampler: str = _nominal("from R/2 to R", "depth_to_space", UPSAMPLERS)
    refine_width: int = _ordinal("channels of a last convolution at R; 0: none", 0, range(0, 65, 4))
    output_activation: str = _nominal("after the last convolution", "none", ("none", "relu", "sigmoid"))

    def __post_init__(self) -> None:
        values = asdict(self)
        for name, gene in GENES.items():
            gene.check(name, values[name])
        for name, gene in GENES.items():
            if not gene.is_active(values):
                object.__setattr__(self, name, gene.default)

    @property
    def hash(self) -> str:
        """The content hash: twelve hex digits over the genes that differ from their defaults.

        Defaults are left out so that a gene added later, with the old behaviour as its default, keeps every old hash.
        """
        told = {name: value for name, value in asdict(self).items() if value != GENES[name].default}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def description(self) -> str:
        """The architecture in a few words, for tables."""
        attention = "" if self.attention == "none" else f"+{self.attention}"
        body = f"{self.depth}×{self.block}{attention} k{self.kernel}" if self.depth else "no body"
        up = "→".join(_SHORT[up] for up in (*self._inner_upsampler, self.output_upsampler))
        refine = f" →{self.refine_width}" if self.refine_width else ""
        skip = "" if self.long_skip == "none" else f" skip:{self.long_skip}"
        out = "" if self.output_activation == "none" else f" {self.output_activation}"
        stem = f"{self.stem_depth}×stem {self.stem_activation}"
        return f"R/{self.scale} {self.width}ch {stem} {body} {self.activation}{skip} {up}{refine}{out}"

    @property
    def _inner_upsampler(self) -> tuple[str, ...]:
        return (self.body_upsampler,) if self.scale == 4 else ()

    def to_dict(self) -> dict[str, Value]:
        """Return all genes, inactive ones at their default."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "ArchSpec":
        """Read genes; a missing one has its default. Raise SpecError for an unknown gene or an illegal value."""
        for name in data:
            if name not in GENES:
                raise UnknownNameError("gene", name, GENES)
        return cls(**data)

    def with_genes(self, **genes: Value) -> "ArchSpec":
        """Return this spec with some genes changed."""
        return replace(self, **genes)  # type: ignore[arg-type]  # from_dict-like: checked in __post_init__


_SHORT = {"depth_to_space": "d2s", "transposed": "tconv"}
GENES: dict[str, Gene] = {f.name: f.metadata["gene"] for f in fields(ArchSpec) if f.default is not MISSING}
