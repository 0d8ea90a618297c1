"""Choose how many images of a batch a training step processes at once on a CPU.

The gradient of a batch is the mean of its images' gradients: every loss is a mean over images, and nothing in the space
mixes them. Taken a few at a time, their maps stay in a core's cache between one operation and the next, and a step
needs memory for these few. But each pass reads all weights and adds up all their gradients, so a network of many
weights takes more images at once.

Processor time of a step of 16 patches of 128 pixels, L1 and Adam, in ms (one core of an AMD EPYC with 1 MiB of L2):

    images at once      1      2      4      8     16
    Smallnet           28     29     30     33     48
    CSANet             65     69     75     79     94
    Tuned U-Net       274    215    198    193    223

On a GPU the whole batch is one pass.
"""

from nas import backend
from search_spaces.graph import Graph
from search_spaces.system.machine import usable_cores

# So many positions of the packed mosaic for each core: a map of sixteen channels is then 256 KiB. Fewer would only cost
# calls.
LEAST_POSITIONS = 64 * 64
# Each weight should be multiplied so often in a pass, or moving it takes as long as using it.
LEAST_USES = 256


def images_at_once(graph: Graph, *, batch: int, patch: int) -> int:
    """Return the images of one pass, a divisor of `batch`; `patch` in pixels of the mosaic."""
    if backend.expected() != "cpu":
        return batch
    positions, once = (patch // 2) ** 2 // usable_cores(), graph.at((1, patch // 2, patch // 2, 4)).macs
    enough = (
        n
        for n in range(1, batch)
        if batch % n == 0 and n * positions >= LEAST_POSITIONS and n * once >= LEAST_USES * graph.parameters
    )
    return next(enough, batch)
