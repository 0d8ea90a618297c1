"""Published designs of the Mobile AI 2021 challenge, each a point of the space, with Table 1's figures.

Source: Ignatov et al., "Learned Smartphone ISP on Mobile NPUs with Deep Learning, Mobile AI 2021 Challenge:
Report", arXiv 2105.07809, Table 1 and §4. Structures that the report leaves open carry a confidence.
"""

from dataclasses import dataclass

from search_spaces.errors import UnknownNameError
from search_spaces.spec import ArchSpec


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


_SMALLNET = Design(
    name="smallnet",
    team="dh_isp",
    title="Smallnet",
    source="arXiv 2105.07809 §4.1",
    confidence="very high: widths, kernels and activations are in the text; size fits to 1.5 %",
    spec=ArchSpec(stem_activation="tanh", output_activation="relu"),
    table1=Table1Row(21, 23.20, 0.8467, 61.0, 25.98),
)

_CSANET = Design(
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
)

DESIGNS: dict[str, Design] = {design.name: design for design in (_SMALLNET, _CSANET)}
_NAME_OF_HASH = {design.spec.hash: design.name for design in DESIGNS.values()}


def find_design(name: str) -> Design:
    """Return a published design by name; raise UnknownNameError with the nearest one."""
    if name not in DESIGNS:
        raise UnknownNameError("design", name, DESIGNS)
    return DESIGNS[name]


def design_name(spec: ArchSpec) -> str | None:
    """Return the published name of `spec`, or None where it is not a published design."""
    return _NAME_OF_HASH.get(spec.hash)
