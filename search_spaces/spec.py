"""Genotype: a flat set of genes that specifies a network.

Every `ArchSpec` is in canonical form: a gene that has no effect (the body's kernel where the body has no
blocks, say) holds its default. So the content hash can tell a duplicate before it is trained. The few networks that
canonical specs still share are told by `Graph.structure`: a second stem convolution, a tail and a head convolution may
each be what one more plain block is, a gate inside a single plain block is one behind the body, and four channels
cannot be squeezed further than to two. A gene is declared once, on its field: what it may be, its default, whether its
values are ordered, and when it is active.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any

from search_spaces.activations import BODY_ACTIVATIONS
from search_spaces.errors import SpecError, UnknownNameError
from search_spaces.parts import ATTENTIONS, BLOCKS, TOPOLOGIES, reading

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


DOWNSAMPLERS = ("strided", "max_pool", "average_pool")
UPSAMPLERS = ("depth_to_space", "transposed", "bilinear")
OUTPUT_ACTIVATIONS = ("none", "relu", "sigmoid", "scaled_tanh")

# No published design has a wider level; wider ones would be all of a network's weights and none of its pixels.
WIDEST_LEVEL = 256
_WIDTHS = tuple(range(4, 129, 4))
_DEPTHS = tuple(range(17))
_REFINE_WIDTHS = tuple(range(0, 65, 2))
_HAS_BLOCKS: dict[str, tuple[Value, ...]] = {"depth": _DEPTHS[1:]}
_HAS_REFINING: dict[str, tuple[Value, ...]] = {"refine_width": _REFINE_WIDTHS[1:]}
_SMALLER_BODY: Condition = ({"topology": ("flat",), "scale": (4, 8)}, {"topology": ("unet", "two_path")})
# The levels of a U-Net below its first; the colour path of two has its first at R/4.
_LEVELS: Condition = ({"topology": ("unet",)}, {"topology": ("two_path",), "levels": (2, 3, 4)})
# Where the cap holds the lowest two levels at one width already, widening the lowest has no effect. A U-Net's level n
# has width · 2ⁿ channels; the colour path of two begins one level later.
_NARROW_ENOUGH: Condition = tuple(
    {
        "topology": (topology,),
        "levels": (levels,),
        "width": tuple(w for w in _WIDTHS if w << (levels - late) < WIDEST_LEVEL),
    }
    for topology, late, least in (("unet", 1, 1), ("two_path", 2, 2))
    for levels in range(least, 5)
)
_WIDENING_LEVELS: Condition = tuple(
    {**narrow, **widens}
    for narrow in _NARROW_ENOUGH
    for widens in ({"encoder_depth": (1, 2)}, {"downsampler": ("strided",)})
)
_SEVERAL_SKIPS: Condition = (
    {"topology": ("unet",), "levels": (2, 3, 4), "skip": ("add", "concat")},
    {"topology": ("two_path",), "levels": (3, 4), "skip": ("add", "concat")},
)
_HALVES: Condition = ({"topology": ("flat",), "scale": (4, 8)}, *_LEVELS)
_STRIDED_LEVELS: Condition = (
    {"topology": ("flat",), "scale": (8,), "downsampler": ("strided",)},
    *({**alternative, "downsampler": ("strided",)} for alternative in _LEVELS),
)
_TRANSPOSED: Condition = (
    {"output_upsampler": ("transposed",)},
    {"global_residual": ("transposed",)},
    *({**alternative, "body_upsampler": ("transposed",)} for alternative in _SMALLER_BODY),
)
# A U-Net may be made of pools and bilinear ways alone; the colour path of two has a convolution always.
_CONVOLVES_BELOW: Condition = (
    {"topology": ("two_path",)},
    {"topology": ("unet",), "downsampler": ("strided",)},
    {"topology": ("unet",), "encoder_depth": (1, 2)},
    {"topology": ("unet",), "decoder_depth": (1, 2)},
    {"topology": ("unet",), "body_upsampler": ("depth_to_space", "transposed")},
)
_USES_BODY_ACTIVATION: Condition = (
    {"stem_depth": (2,)},
    _HAS_BLOCKS,
    {"head_depth": (1, 2)},
    {**_HAS_REFINING, "head_activation": ("body",)},
    {"topology": ("flat",), "scale": (8,), "downsampler": ("strided",)},
    *_CONVOLVES_BELOW,
)


@dataclass(frozen=True)
class ArchSpec:
    """One architecture of the challenge's family, from stem to RGB. All values are in canonical form.

    A condition speaks of genes declared before its own, so one pass over them finds the canonical form.
    """

    topology: str = _nominal("one scale, a U-Net, or a texture and a colour path", "flat", tuple(TOPOLOGIES))
    scale: int = _ordinal(
        "the body runs at R/scale, R being the output resolution",
        2,
        (2, 4, 8),
        ({"topology": reading(TOPOLOGIES, "scale")},),
    )
    levels: int = _ordinal(
        "how often a U-Net, or the colour path, is halved below R/2",
        2,
        (1, 2, 3, 4),
        ({"topology": reading(TOPOLOGIES, "levels")},),
    )
    stem_depth: int = _ordinal("convolutions before the body", 1, (1, 2))
    stem_kernel: int = _ordinal("kernel of the first convolution", 3, (3, 5, 7, 9))
    stem_activation: str = _nominal("after the first convolution", "relu", ("none", *BODY_ACTIVATIONS))
    width: int = _ordinal("channels of the body; of a U-Net's first level", 16, _WIDTHS)
    downsampler: str = _nominal("how maps are halved", "strided", DOWNSAMPLERS, _HALVES)
    down_kernel: int = _ordinal("kernel of strided convolutions behind the stem", 3, (2, 3, 4), _STRIDED_LEVELS)
    encoder_depth: int = _ordinal(
        "convolutions on each level on the way down; 0: the strided one alone", 1, (0, 1, 2), _LEVELS
    )
    decoder_depth: int = _ordinal("convolutions on each level on the way up", 1, (0, 1, 2), _LEVELS)
    bottleneck_widening: int = _ordinal(
        "channels of the last level over those of the one above", 2, (1, 2), _WIDENING_LEVELS
    )
    skip: str = _nominal("from each level down to the same level up", "add", ("none", "add", "concat"), _LEVELS)
    skip_reach: str = _nominal("which levels have the skip", "all", ("all", "top"), _SEVERAL_SKIPS)
    depth: int = _ordinal("blocks in the body", 1, _DEPTHS)
    block: str = _nominal("kind of block", "plain", tuple(BLOCKS), (_HAS_BLOCKS,))
    kernel: int = _ordinal("kernel of the first convolution of a block", 3, (1, 3, 5, 7), (_HAS_BLOCKS,))
    convolution: str = _nominal(
        "in blocks: full, or depthwise and then 1×1", "full", ("full", "separable"), (_HAS_BLOCKS,)
    )
    block_layers: int = _ordinal(
        "convolutions in a block",
        2,
        (1, 2, 3, 4),
        ({**_HAS_BLOCKS, "block": reading(BLOCKS, "block_layers")},),
    )
    block_end: str = _nominal(
        "what a residual block adds",
        "linear",
        ("linear", "activated"),
        ({**_HAS_BLOCKS, "block": reading(BLOCKS, "block_end")},),
    )
    growth: int = _ordinal(
        "channels that each dense layer adds",
        8,
        range(4, 65, 4),
        ({**_HAS_BLOCKS, "block": reading(BLOCKS, "growth")},),
    )
    # Not of a flat body without blocks: genes of older runs hold it there, where it never had an effect.
    attention: str = _nominal(
        "recalibration of the body", "none", ("none", *ATTENTIONS), (_HAS_BLOCKS, {"topology": ("unet", "two_path")})
    )
    attention_position: str = _nominal(
        "inside each block, or once behind the body",
        "block",
        ("block", "body"),
        ({**_HAS_BLOCKS, "attention": tuple(ATTENTIONS)},),
    )
    attention_reduction: int = _ordinal(
        "how far channel attention squeezes", 4, (2, 4), ({"attention": reading(ATTENTIONS, "attention_reduction")},)
    )
    long_skip: str = _nominal("over the whole body", "none", ("none", "add", "concat", "local_fusion"), (_HAS_BLOCKS,))
    tail: str = _nominal(
        "behind the blocks; a skip by add or concat has a convolution anyway",
        "none",
        ("none", "conv"),
        ({**_HAS_BLOCKS, "long_skip": ("none", "local_fusion")},),
    )
    body_upsampler: str = _nominal("from the body back to R/2", "transposed", UPSAMPLERS, _SMALLER_BODY)
    output_upsampler: str = _nominal("from R/2 to R", "depth_to_space", UPSAMPLERS)
    global_residual: str = _nominal("from the input to the output", "none", ("none", *UPSAMPLERS))
    up_kernel: int = _ordinal("kernel of transposed convolutions", 3, (2, 3, 4), _TRANSPOSED)
    refine_width: int = _ordinal("channels of a last convolution at R; 0: none", 0, _REFINE_WIDTHS)
    head_depth: int = _ordinal("3×3 convolutions just before the last one", 0, (0, 1, 2))
    head_activation: str = _nominal(
        "after the step to R: the body's, or none", "body", ("body", "none"), (_HAS_REFINING,)
    )
    output_kernel: int = _ordinal(
        "kernel of the last convolution",
        3,
        (1, 3, 5, 7, 9),
        (_HAS_REFINING, {"output_upsampler": ("depth_to_space", "bilinear")}),
    )
    activation: str = _nominal("inside the body and the head", "relu", BODY_ACTIVATIONS, _USES_BODY_ACTIVATION)
    normalisation: str = _nominal(
        "behind the convolutions of blocks, levels and ways up",
        "none",
        ("none", "instance"),
        (_HAS_BLOCKS, *_CONVOLVES_BELOW),
    )
    output_activation: str = _nominal("after the last convolution", "none", OUTPUT_ACTIVATIONS)

    def __post_init__(self) -> None:
        values = self.to_dict()
        for name, gene in GENES.items():
            gene.check(name, values[name])
        for name, gene in GENES.items():
            if not gene.is_active(values):
                values[name] = gene.default
                object.__setattr__(self, name, gene.default)

    @property
    def hash(self) -> str:
        """The content hash: twelve hex digits over the genes that differ from their defaults.

        Defaults are left out so that a gene added later, with the old behaviour as its default, keeps every old hash.
        """
        genes = {name: value for name, value in self.to_dict().items() if value != GENES[name].default}
        return hashlib.sha256(json.dumps(genes, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def description(self) -> str:
        """The main genes in a few words, for tables; the hash tells apart what they leave out."""
        parts = (self._place, f"{self.width}ch", self._stem, self._body, self.activation, self._ways, self._head)
        return " ".join(part for part in parts if part)

    @property
    def _place(self) -> str:
        return (
            f"R/{self.scale}" if self.topology == "flat" else f"{_SHORT.get(self.topology, self.topology)}{self.levels}"
        )

    @property
    def _stem(self) -> str:
        kernel = "" if self.stem_kernel == 3 else f" k{self.stem_kernel}"
        return f"{self.stem_depth}×stem {self.stem_activation}{kernel}"

    @property
    def _body(self) -> str:
        if not self.depth:
            return "no body" if self.attention == "none" else f"{self.attention} attention"
        attention = "" if self.attention == "none" else f"+{self.attention}"
        separable = " separable" if self.convolution == "separable" else ""
        norm = " norm" if self.normalisation == "instance" else ""
        return f"{self.depth}×{self.block}{attention} k{self.kernel}{separable}{norm}"

    @property
    def _ways(self) -> str:
        skip = "" if self.long_skip == "none" else f"skip:{self.long_skip} "
        inner = () if self.topology == "flat" and self.scale == 2 else (self.body_upsampler,)
        return skip + "→".join(_SHORT[up] for up in (*inner, self.output_upsampler))

    @property
    def _head(self) -> str:
        refine = f"→{self.refine_width}" if self.refine_width else ""
        residual = "" if self.global_residual == "none" else "+input"
        out = "" if self.output_activation == "none" else self.output_activation
        return " ".join(part for part in (refine, residual, out) if part)

    @property
    def size_multiple(self) -> int:
        """What the sides of the mosaic, and so of the photograph, must be multiples of."""
        return self.scale if self.topology == "flat" else 2 ** (self.levels + 1)

    @property
    def active_genes(self) -> dict[str, Value]:
        """The genes that have an effect beside the others."""
        values = self.to_dict()
        return {name: value for name, value in values.items() if GENES[name].is_active(values)}

    def to_dict(self) -> dict[str, Value]:
        """Return all genes, inactive ones at their default."""
        return {name: getattr(self, name) for name in GENES}  # a tenth of the time of `dataclasses.asdict`

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "ArchSpec":
        """Read genes; a missing one has its default. Raise SpecError for an unknown gene or an illegal value."""
        for name in data:
            if name not in GENES:
                raise UnknownNameError("gene", name, GENES)
        return cls(**data)

    @classmethod
    def from_file(cls, data: Mapping[str, Any]) -> "ArchSpec":
        """Read genes that a person wrote: every gene that has an effect is there, and no other says anything.

        Raises SpecError for a missing gene and for one that contradicts the others.
        """
        spec = cls.from_dict(data)
        active = spec.active_genes
        for name, gene in GENES.items():
            if name in active and name not in data:
                raise SpecError(
                    f"Gene {name} is missing ({gene.meaning}); it takes {_listed(gene.legal)}. "
                    "`isp-nas show smallnet --format json` prints a whole set of genes to start from."
                )
            if name in data and data[name] not in (getattr(spec, name), gene.default):
                raise SpecError(f"Gene {name}, {data[name]!r}, has no effect here: {_needed(gene)}; leave it out.")
        return spec

    def with_genes(self, **genes: Value) -> "ArchSpec":
        """Return this spec with some genes changed."""
        return replace(self, **genes)  # type: ignore[arg-type]  # from_dict-like: checked in __post_init__


def _needed(gene: Gene) -> str:
    """Say when a gene has an effect."""
    alternatives = (
        " and ".join(f"{other} {_any_of(GENES[other], wanted)}" for other, wanted in alternative.items())
        for alternative in gene.active_when
    )
    return f"it needs {', or '.join(alternatives)}"


def _any_of(gene: Gene, wanted: tuple[Value, ...]) -> str:
    return f"{wanted[0]} or more" if gene.ordered and len(wanted) > 3 else "/".join(map(str, wanted))


_SHORT = {
    "depth_to_space": "d2s",
    "transposed": "tconv",
    "bilinear": "bilinear",
    "unet": "U-Net",
    "two_path": "two-path",
}
GENES: dict[str, Gene] = {f.name: f.metadata["gene"] for f in fields(ArchSpec) if f.default is not MISSING}
