"""Peak memory that a network's activations take on the phone while it runs.

The Mobile AI 2021 report names memory as the first limit of a phone: maps at Full HD take tens of megabytes each,
weights a hundred kilobytes in all. Kernels run one after the other, so what counts is the moment at which the maps
that exist together are largest. Smallnet at Full HD, in channels at half the side: 4 + 16 while the first convolution
runs, 16 + 16 during tanh and the second one, 16 + 12 and 12 + 12 at the end; 32 channels of 544×960 float32 are
66.8 MB.

What a runtime sets aside can be more. Measured on LiteRT 2.3.0 at 272×480: with reference kernels 1.125 times the peak
for Smallnet and 1.1 times for CSANet, which is the peak and the input to the byte, for LiteRT never frees the input;
with its built-in CPU kernels (no delegate) 5.6 and 7.6 times, for these write a copy of the nine taps of a
convolution's every pixel. The peak is what no runtime that keeps whole maps can go below without working in place.

Source: arXiv 2105.07809 §1 (restricted memory); liveness as in any register allocation.
"""

from collections.abc import Sequence

from latency_models.kernels import Kernel, Network, network
from search_spaces.graph import INPUT, Graph


def peak_activation_bytes(graph: Graph, *, bytes_per_element: int = 4) -> int:
    """Return the largest sum of bytes of the maps that exist at the same time.

    A map exists from the kernel that makes it to the last kernel that reads it; the input from the start, the output
    to the end. An activation fused into the kernel before it makes no map of its own, and no kernel works in place.
    Raises DeviceError for an operation without a latency rule.
    """
    return peak_bytes(network(graph), bytes_per_element=bytes_per_element)


def peak_bytes(network: Network, *, bytes_per_element: int = 4) -> int:
    """Return the same of a network as a device sees it."""
    alive = network.input_elements
    sizes = {INPUT: alive} | {kernel.makes: kernel.output_elements for kernel in network.kernels}
    peak = alive
    for kernel, ended in zip(network.kernels, _ended_after_each(network.kernels), strict=True):
        alive += kernel.output_elements
        peak = max(peak, alive)
        alive -= sum(sizes[name] for name in ended)
    return peak * bytes_per_element


def _ended_after_each(parts: Sequence[Kernel]) -> list[list[str]]:
    """Return, kernel by kernel, the maps that nobody needs once it has run; what the last one makes is the output."""
    last_use = {kernel.makes: index for index, kernel in enumerate(parts)}  # a map that nobody reads ends at once
    last_use |= {name: index for index, kernel in enumerate(parts) for name in kernel.reads}
    last_use.pop(parts[-1].makes)
    ended: list[list[str]] = [[] for _ in parts]
    for name, index in last_use.items():
        ended[index].append(name)
    return ended
