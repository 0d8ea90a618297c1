"""Published designs of the Mobile AI 2021 challenge, each a point of the space, with Table 1's figures.

Source: Ignatov et al., "Learned Smartphone ISP on Mobile NPUs with Deep Learning, Mobile AI 2021 Challenge:
Report", arXiv 2105.07809, Table 1 and §4. Structures that the report leaves open carry a confidence.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from search_spaces.errors import UnknownNameError
from search_spaces.spec import GENES, ArchSpec, Value


@dataclass(frozen=True)
class Table1Row:
    """What the challenge's organisers measured: Dimensity 1000+ APU, 1920×1088 output."""

    size_kb: int
    psnr_db: float
    ssim: float
    runtime_ms: float
    score: float


@dataclass(frozen=True)
class Design:
    """A published network: its genes, who made it, and how sure its structure is."""

    name: str
    team: str
    title: str
    source: str
    confidence: str
    spec: ArchSpec
    table1: Table1Row
    variant_of: str | None = None  # another reading of the same row of Table 1


_PUBLISHED = (
    Design(
        name="smallnet",
        team="dh_isp",
        title="Smallnet",
        source="arXiv 2105.07809 §4.1",
        confidence="very high: widths, kernels and activations are in the text; size fits to 1.5 %",
        spec=ArchSpec(stem_activation="tanh", output_activation="relu"),
        table1=Table1Row(21, 23.20, 0.8467, 61.0, 25.98),
    ),
    Design(
        name="csanet",
        team="AIISP",
        title="CSANet",
        source="arXiv 2105.07809 §4.2; public TensorFlow code of the network",
        confidence="very high: code with the team's layer names; size fits to 2 %",
        spec=ArchSpec(
            scale=4,
            stem_depth=2,
            depth=2,
            block="expanded",
            attention="dual",
            long_skip="concat",
            body_upsampler="transposed",
            refine_width=4,
            output_activation="sigmoid",
        ),
        table1=Table1Row(123, 23.73, 0.8487, 90.8, 25.91),
    ),
    Design(
        name="tuned-unet",
        team="Tuned U-Net",
        title="Tuned U-Net baseline",
        source="arXiv 2105.07809 §4.3; depth and widths after the challenge's public baseline code",
        confidence="low: the text gives the changes and no widths; kernels and skips were chosen until the size fitted",
        spec=ArchSpec(
            topology="unet",
            levels=4,
            down_kernel=4,
            depth=2,
            block="residual",
            block_layers=1,
            block_end="activated",
            tail="conv",
            up_kernel=4,
            output_activation="sigmoid",
        ),
        table1=Table1Row(13313, 23.30, 0.8395, 78.0, 25.74),
    ),
    Design(
        name="enerzai-dense",
        team="ENERZAI",
        title="dense network, shrunk from a larger one",
        source="arXiv 2105.07809 §4.4",
        confidence="low to medium: dense module, transposed and last convolution are in the text; widths were fitted",
        spec=ArchSpec(
            width=4,
            depth=2,
            block="dense",
            growth=4,
            output_upsampler="transposed",
            refine_width=6,
            output_activation="sigmoid",
        ),
        table1=Table1Row(9, 22.97, 0.8392, 65.0, 25.67),
    ),
    Design(
        name="isp-forever",
        team="isp_forever",
        title="truncated U-Net with channel attention",
        source="arXiv 2105.07809 §4.5",
        confidence="low to medium: U-Net and attention are in the text; depth, widths and the gate's place were fitted",
        spec=ArchSpec(
            topology="unet",
            levels=2,
            downsampler="max_pool",
            bottleneck_widening=1,
            skip="concat",
            depth=0,
            attention="channel",
            body_upsampler="bilinear",
            output_activation="sigmoid",
        ),
        table1=Table1Row(175, 22.78, 0.8472, 77.0, 25.24),
    ),
    Design(
        name="noahtcv",
        team="NOAHTCV",
        title="chroma and texture paths",
        source="arXiv 2105.07809 §4.6",
        confidence="low: the two paths and their kinds are in the text; the split, scales and widths were fitted",
        spec=ArchSpec(
            topology="two_path",
            levels=3,
            downsampler="max_pool",
            bottleneck_widening=1,
            skip="concat",
            depth=3,
            block="residual",
            body_upsampler="bilinear",
            output_activation="sigmoid",
        ),
        table1=Table1Row(244, 23.08, 0.8237, 94.5, 25.19),
    ),
    Design(
        name="acvlab",
        team="ACVLab",
        title="adaptive weighted residual units with local fusion",
        source="arXiv 2105.07809 §4.7; units after AWSRN, arXiv 1904.02358",
        confidence="low to medium: the units are in the text; channels, their number and the tail were fitted",
        spec=ArchSpec(
            width=4,
            stem_activation="none",
            depth=2,
            block="adaptive_residual",
            long_skip="local_fusion",
            output_kernel=1,
        ),
        table1=Table1Row(7, 22.03, 0.8217, 76.3, 24.5),
    ),
    Design(
        name="cvml",
        team="CVML",
        title="residual blocks, transposed convolution, global residual",
        source="arXiv 2105.07809 §4.8",
        confidence="low to medium: all parts are in the text; channels, blocks and the global branch were fitted",
        spec=ArchSpec(
            depth=3,
            block="residual",
            output_upsampler="transposed",
            global_residual="transposed",
            refine_width=16,
        ),
        table1=Table1Row(76, 22.84, 0.8379, 167.0, 23.5),
    ),
    Design(
        name="enerzai-esrgan",
        team="ENERZAI*",
        title="ESRGAN-like, separable dense blocks, channel attention",
        source="arXiv 2105.07809 §4.4; not an official entry of the challenge",
        confidence="low: all parts are in the text; widths were fitted to a size that the quality makes doubtful",
        spec=ArchSpec(
            width=4,
            stem_activation="prelu",
            depth=2,
            block="residual_dense",
            convolution="separable",
            block_layers=1,
            growth=4,
            attention="channel",
            attention_position="body",
            attention_reduction=2,
            output_upsampler="transposed",
            refine_width=4,
            head_activation="none",
            activation="prelu",
            output_activation="sigmoid",
        ),
        table1=Table1Row(11, 23.41, 0.8534, 231.0, 23.39),
    ),
    Design(
        name="eds",
        team="EdS",
        title="residual network with 4×4 strided and transposed convolutions",
        source="arXiv 2105.07809 §4.9; trunk after the public code of its parent network",
        confidence="trunk high: code of the parent; the third transposed convolution is inferred from title and size",
        spec=ArchSpec(
            topology="unet",
            levels=2,
            stem_kernel=9,
            down_kernel=4,
            encoder_depth=0,
            decoder_depth=0,
            skip_reach="top",
            depth=2,
            block="residual",
            block_end="activated",
            output_upsampler="transposed",
            up_kernel=4,
            refine_width=16,
            head_depth=2,
            output_kernel=9,
            normalisation="instance",
            output_activation="scaled_tanh",
        ),
        table1=Table1Row(1017, 23.23, 0.8481, 1861.0, 22.4),
    ),
)


def _variant(of: str, suffix: str, confidence: str, **genes: Value) -> Design:
    original = next(design for design in _PUBLISHED if design.name == of)
    spec = original.spec.with_genes(**genes)
    return replace(original, name=f"{of}-{suffix}", confidence=confidence, spec=spec, variant_of=of)


_VARIANTS = (
    _variant(
        "enerzai-esrgan",
        "large",
        "low: the size column read as something else than this file; a few thousand weights instead",
        width=8,
        depth=3,
        block_layers=2,
        growth=8,
        refine_width=8,
    ),
    _variant(
        "eds",
        "shuffle",
        "trunk high: code of the parent; last step by depth-to-space, which fits the size where a KB is 1024 bytes",
        output_upsampler="depth_to_space",
        refine_width=0,
    ),
)

DESIGNS: dict[str, Design] = {design.name: design for design in (*_PUBLISHED, *_VARIANTS)}
_NAME_OF_HASH = {design.spec.hash: design.name for design in DESIGNS.values()}


# Genes that have an effect beside all others are in a network as they were given: networks that differ in one of them
# are not the same.
_ALWAYS = tuple(name for name, gene in GENES.items() if not gene.active_when)
_ALWAYS_IN_DESIGNS = {tuple(getattr(design.spec, name) for name in _ALWAYS) for design in DESIGNS.values()}


def may_be_design(genes: Mapping[str, Value]) -> bool:
    """Tell whether genes may be those of a published design, at a hundredth of the cost of reading them."""
    return tuple(genes.get(name, GENES[name].default) for name in _ALWAYS) in _ALWAYS_IN_DESIGNS


def find_design(name: str) -> Design:
    """Return a published design by name; raise UnknownNameError with the nearest one."""
    if name not in DESIGNS:
        raise UnknownNameError("design", name, DESIGNS)
    return DESIGNS[name]


def design_name(spec: ArchSpec) -> str | None:
    """Return the published name of `spec`, or None where it is not a published design."""
    return _NAME_OF_HASH.get(spec.hash)
