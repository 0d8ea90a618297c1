# ruff: noqa: E501 (rows of networks, as their papers have them)
# Branches are lambdas with bound defaults, whose types mypy cannot infer:
# mypy: disable-error-code=misc
"""The 23 public networks that Qualcomm AI Hub timed, rebuilt kernel by kernel from their papers and public code.

The `.tflite` files are not published. A network here is what a converter makes of the PyTorch model of that name:
batch normalisation folded, a ReLU fused, a PAD before a convolution or pool of stride two that PyTorch pads. The file's
own layer counts are the check: `tests/benchmarks/test_aihub_networks.py` holds how far each is from them.

Sources: torchvision's models of the same names; QuickSRNet (arXiv 2303.04336), XLSR (arXiv 2105.10288), Real-ESRGAN
(arXiv 2107.10833: RRDBNet of 23 blocks, SRVGGNetCompact of 32), U-Net as in milesial/Pytorch-UNet.
"""

from collections.abc import Callable, Sequence
from typing import Self

from latency_models.kernels import Kernel, Network


class Builder:
    """Kernels one after the other over a current map of height, width and channels."""

    def __init__(self, h: int, w: int, c: int = 3) -> None:
        self.h, self.w, self.c = h, w, c
        self.start = h * w * c
        self.kernels: list[Kernel] = []

    def done(self) -> Network:
        return Network(tuple(self.kernels), self.start, self.h * self.w * self.c)

    def emit(
        self,
        cls: str,
        op: str,
        read: int,
        weights: int = 0,
        macs: int = 0,
        cin: int | None = None,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        dilation: int = 1,
    ) -> Self:
        """Append a kernel that makes the current map; `read` is what it reads of maps."""
        name = f"{len(self.kernels)}"
        self.kernels.append(
            Kernel(
                name, (name,), cls, op, macs, read, self.h * self.w * self.c, weights, cin or self.c, self.c, kernel,
                stride, self.h, self.w, (), name, groups=groups, dilation=dilation,
            )
        )  # fmt: skip
        return self

    def pad(self, by: int) -> Self:
        read = self.h * self.w * self.c
        self.h, self.w = self.h + 2 * by, self.w + 2 * by
        return self.emit("memory", "PAD", read)

    def _strided(self, kernel: int, stride: int, valid: bool) -> None:
        """Move to the output's size; a padded window of stride two is a PAD and a window without."""
        if stride > 1 and kernel > 1 and not valid:
            self.pad(kernel // 2)
            valid = True
        if valid:
            self.h, self.w = (self.h - kernel) // stride + 1, (self.w - kernel) // stride + 1
        else:
            self.h, self.w = -(-self.h // stride), -(-self.w // stride)

    def conv(
        self, cout: int, kernel: int | tuple[int, int] = 3, stride: int = 1, groups: int = 1, valid: bool = False
    ) -> Self:
        kh, kw = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        side, cin = max(kh, kw) if kh == kw else 3, self.c
        self._strided(side, stride, valid)
        read = self.kernels[-1].output_elements if self.kernels and stride > 1 and not valid and side > 1 else None
        read = read or (self.h * stride) * (self.w * stride) * cin
        taps, depthwise = kh * kw, groups == cin > 1
        self.c = cout
        weights = taps * cin // groups * cout + cout
        macs = self.h * self.w * cout * taps * cin // groups
        if depthwise:
            return self.emit("depthwise", "DEPTHWISE_CONV_2D", read, weights, macs, cin, side, stride)
        cls = "conv_1x1" if taps == 1 else "conv"
        return self.emit(cls, "CONV_2D", read, weights, macs, cin, side, stride, groups)

    def transposed(self, cout: int) -> Self:
        cin, read = self.c, self.h * self.w * self.c
        macs = read * 4 * cout
        self.h, self.w, self.c = 2 * self.h, 2 * self.w, cout
        return self.emit("transpose_conv", "TRANSPOSE_CONV", read, 4 * cin * cout + cout, macs, cin, 2, 2)

    def pool(self, kernel: int, stride: int, op: str = "MAX_POOL_2D", valid: bool = False) -> Self:
        read = self.h * self.w * self.c
        self._strided(kernel, stride, valid)
        return self.emit("memory", op, read, kernel=kernel, stride=stride)

    def each(self, op: str, cls: str = "memory", maps: int = 1, weights: int = 0) -> Self:
        return self.emit(cls, op, maps * self.h * self.w * self.c, weights)

    def add(self) -> Self:
        return self.each("ADD", maps=2)

    def concat(self, more: int) -> Self:
        self.c += more
        return self.each("CONCATENATION")

    def swish(self) -> Self:
        return self.each("LOGISTIC", "activation").each("MUL", maps=2)

    def hard_swish(self) -> Self:
        return self.each("HARD_SWISH", "activation")

    def mean(self) -> Self:
        read = self.h * self.w * self.c
        self.h = self.w = 1
        return self.emit("memory", "MEAN", read)

    def dense(self, cout: int) -> Self:
        cin, self.c = self.c, cout
        return self.emit("fully_connected", "FULLY_CONNECTED", cin, cin * cout + cout, cin * cout, cin)

    def squeeze(self, to: int, swish: bool) -> Self:
        """Squeeze and excitation: a gate from the map's mean."""
        h, w, c = self.h, self.w, self.c
        self.mean().conv(to, 1)
        if swish:
            self.swish()
        self.conv(c, 1).each("LOGISTIC", "activation")
        self.h, self.w = h, w
        return self.emit("memory", "MUL", h * w * c + c)

    def depth_to_space(self, block: int) -> Self:
        read = self.h * self.w * self.c
        self.h, self.w, self.c = self.h * block, self.w * block, self.c // block**2
        return self.emit("memory", "DEPTH_TO_SPACE", read)

    def enlarge(self, by: int) -> Self:
        read = self.h * self.w * self.c
        self.h, self.w = self.h * by, self.w * by
        return self.emit("memory", "RESIZE_NEAREST_NEIGHBOR", read)


def resnet(depths: Sequence[int], bottleneck: bool = True, width: int = 64, groups: int = 1) -> Network:
    net = Builder(224, 224).conv(64, 7, 2).pool(3, 2)
    for stage, depth in enumerate(depths):
        out, inner = 64 * 2**stage * (4 if bottleneck else 1), width * groups * 2**stage
        for block in range(depth):
            stride, cin, h, w = (2 if block == 0 and stage else 1), net.c, net.h, net.w
            if bottleneck:
                net.conv(inner, 1).conv(inner, 3, stride, groups).conv(out, 1)
            else:
                net.conv(out, 3, stride).conv(out, 3)
            if block == 0 and cin != out:
                net.h, net.w, net.c = h, w, cin
                net.conv(out, 1, stride)
            net.add()
    return net.mean().dense(1000).done()


def mobilenet_v2() -> Network:
    net = Builder(224, 224).conv(32, 3, 2)
    rows = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for widen, out, count, stride in rows:
        for index in range(count):
            inverted(net, widen * net.c, out, 3, stride if index == 0 else 1)
    return net.conv(1280, 1).mean().dense(1000).done()


def inverted(net: Builder, inner: int, out: int, kernel: int, stride: int) -> None:
    cin = net.c
    if inner != cin:
        net.conv(inner, 1)
    net.conv(inner, kernel, stride, inner).conv(out, 1)
    if stride == 1 and cin == out:
        net.add()


def mnasnet05() -> Network:
    net = Builder(224, 224).conv(16, 3, 2).conv(16, 3, 1, 16).conv(8, 1)
    rows = ((3, 16, 3, 3, 2), (5, 24, 3, 3, 2), (5, 40, 3, 6, 2), (3, 48, 2, 6, 1), (5, 96, 4, 6, 2), (3, 160, 1, 6, 1))
    for kernel, out, count, widen, stride in rows:
        for index in range(count):
            inverted(net, widen * net.c, out, kernel, stride if index == 0 else 1)
    return net.conv(1280, 1).mean().dense(1000).done()


# kernel, inner, out, squeezed, hard swish, stride
V3_LARGE = ((3, 16, 16, 0, 0, 1), (3, 64, 24, 0, 0, 2), (3, 72, 24, 0, 0, 1), (5, 72, 40, 1, 0, 2), (5, 120, 40, 1, 0, 1),
            (5, 120, 40, 1, 0, 1), (3, 240, 80, 0, 1, 2), (3, 200, 80, 0, 1, 1), (3, 184, 80, 0, 1, 1), (3, 184, 80, 0, 1, 1),
            (3, 480, 112, 1, 1, 1), (3, 672, 112, 1, 1, 1), (5, 672, 160, 1, 1, 2), (5, 960, 160, 1, 1, 1),
            (5, 960, 160, 1, 1, 1))  # fmt: skip
V3_SMALL = ((3, 16, 16, 1, 0, 2), (3, 72, 24, 0, 0, 2), (3, 88, 24, 0, 0, 1), (5, 96, 40, 1, 1, 2), (5, 240, 40, 1, 1, 1),
            (5, 240, 40, 1, 1, 1), (5, 120, 48, 1, 1, 1), (5, 144, 48, 1, 1, 1), (5, 288, 96, 1, 1, 2), (5, 576, 96, 1, 1, 1),
            (5, 576, 96, 1, 1, 1))  # fmt: skip


def mobilenet_v3(rows: Sequence[tuple[int, ...]], last: int, hidden: int) -> Network:
    net = Builder(224, 224).conv(16, 3, 2).hard_swish()
    for kernel, inner, out, squeezed, hard, stride in rows:
        cin = net.c
        act: Callable[[], object] = net.hard_swish if hard else lambda: None
        if inner != cin:
            net.conv(inner, 1)
            act()
        net.conv(inner, kernel, stride, inner)
        act()
        if squeezed:
            net.squeeze(-(-inner // 4 // 8) * 8, swish=False)
        net.conv(out, 1)
        if stride == 1 and cin == out:
            net.add()
    return net.conv(last, 1).hard_swish().mean().dense(hidden).hard_swish().dense(1000).done()


def efficientnet(side: int, width: float, depth: float) -> Network:
    def channels(c: float) -> int:
        rounded = max(8, int(c * width + 4) // 8 * 8)
        return rounded + 8 if rounded < 0.9 * c * width else rounded

    net = Builder(side, side).conv(channels(32), 3, 2).swish()
    rows = ((1, 16, 1, 3, 1), (6, 24, 2, 3, 2), (6, 40, 2, 5, 2), (6, 80, 3, 3, 2), (6, 112, 3, 5, 1), (6, 192, 4, 5, 2),
            (6, 320, 1, 3, 1))  # fmt: skip
    for widen, out, count, kernel, stride in rows:
        for index in range(-(-int(count * depth * 10) // 10)):
            cin, step = net.c, stride if index == 0 else 1
            if widen > 1:
                net.conv(widen * cin, 1).swish()
            net.conv(net.c, kernel, step, net.c).swish().squeeze(max(1, cin // 4), swish=True).conv(channels(out), 1)
            if step == 1 and cin == net.c:
                net.add()
    return net.conv(4 * channels(320), 1).swish().mean().dense(1000).done()


def branches(net: Builder, paths: Sequence[Callable[[Builder], object]]) -> Builder:
    """Run every path on the current map and join what they make."""
    h, w, c, joined = net.h, net.w, net.c, 0
    for path in paths:
        net.h, net.w, net.c = h, w, c
        path(net)
        joined += net.c
    net.c = joined
    return net.each("CONCATENATION")


def googlenet() -> Network:
    net = Builder(224, 224).conv(64, 7, 2).pool(3, 2).conv(64, 1).conv(192, 3).pool(3, 2)
    rows = ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64), None, (192, 96, 208, 16, 48, 64),
            (160, 112, 224, 24, 64, 64), (128, 128, 256, 24, 64, 64), (112, 144, 288, 32, 64, 64),
            (256, 160, 320, 32, 128, 128), None, (256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128))  # fmt: skip
    for row in rows:
        if row is None:
            net.pool(3, 2)
            continue
        a, b, c, d, e, f = row
        branches(net, (lambda n, a=a: n.conv(a, 1), lambda n, b=b, c=c: n.conv(b, 1).conv(c, 3),
                       lambda n, d=d, e=e: n.conv(d, 1).conv(e, 3), lambda n, f=f: n.pool(3, 1).conv(f, 1)))  # fmt: skip
    return net.mean().dense(1000).done()


def inception_v3() -> Network:
    net = Builder(299, 299).conv(32, 3, 2, valid=True).conv(32, 3, valid=True).conv(64, 3).pool(3, 2, valid=True)
    net.conv(80, 1).conv(192, 3, valid=True).pool(3, 2, valid=True)
    for last in (32, 64, 64):
        branches(net, (lambda n: n.conv(64, 1), lambda n: n.conv(48, 1).conv(64, 5),
                       lambda n: n.conv(64, 1).conv(96, 3).conv(96, 3),
                       lambda n, last=last: n.pool(3, 1, "AVERAGE_POOL_2D").conv(last, 1)))  # fmt: skip
    branches(net, (lambda n: n.conv(384, 3, 2, valid=True), lambda n: n.conv(64, 1).conv(96, 3).conv(96, 3, 2, valid=True),
                   lambda n: n.pool(3, 2, valid=True)))  # fmt: skip
    for c in (128, 160, 160, 192):
        branches(net, (lambda n: n.conv(192, 1), lambda n, c=c: n.conv(c, 1).conv(c, (1, 7)).conv(192, (7, 1)),
                       lambda n, c=c: n.conv(c, 1).conv(c, (7, 1)).conv(c, (1, 7)).conv(c, (7, 1)).conv(192, (1, 7)),
                       lambda n: n.pool(3, 1, "AVERAGE_POOL_2D").conv(192, 1)))  # fmt: skip
    branches(
        net,
        (
            lambda n: n.conv(192, 1).conv(320, 3, 2, valid=True),
            lambda n: n.conv(192, 1).conv(192, (1, 7)).conv(192, (7, 1)).conv(192, 3, 2, valid=True),
            lambda n: n.pool(3, 2, valid=True),
        ),
    )

    def split(n: Builder) -> object:
        return branches(n, (lambda m: m.conv(384, (1, 3)), lambda m: m.conv(384, (3, 1))))

    for _ in range(2):
        branches(net, (lambda n: n.conv(320, 1), lambda n: split(n.conv(384, 1)),
                       lambda n: split(n.conv(448, 1).conv(384, 3)),
                       lambda n: n.pool(3, 1, "AVERAGE_POOL_2D").conv(192, 1)))  # fmt: skip
    return net.mean().dense(1000).done()


def densenet121() -> Network:
    net = Builder(224, 224).conv(64, 7, 2).pool(3, 2)
    for block, layers in enumerate((6, 12, 24, 16)):
        for layer in range(layers):
            c = net.c
            net.each("MUL", weights=c).each("ADD", weights=c).conv(128, 1).conv(32, 3)
            net.c = c
            net.concat(32)
            assert layer >= 0
        net.each("MUL", weights=net.c).each("ADD", weights=net.c)
        if block < 3:
            net.conv(net.c // 2, 1).pool(2, 2, "AVERAGE_POOL_2D", valid=True)
    return net.mean().dense(1000).done()


def squeezenet() -> Network:
    net = Builder(224, 224).conv(64, 3, 2, valid=True).pool(3, 2, valid=True)
    for row in ((16, 64), (16, 64), None, (32, 128), (32, 128), None, (48, 192), (48, 192), (64, 256), (64, 256)):
        if row is None:
            net.pool(3, 2, valid=True)
            continue
        narrow, wide = row
        net.conv(narrow, 1)
        branches(net, (lambda n, wide=wide: n.conv(wide, 1), lambda n, wide=wide: n.conv(wide, 3)))
    return net.conv(1000, 1).mean().done()


def quicksrnet(channels: int, inner: int, skip: bool) -> Network:
    net = Builder(128, 128)
    for _ in range(inner + 1):
        net.conv(channels, 3).each("RELU_0_TO_1", "activation")
    net.conv(48, 3)
    if skip:
        net.c = 3
        net.conv(48, 1).add()
    return net.depth_to_space(4).each("RELU_0_TO_1", "activation").done()


def xlsr() -> Network:
    net = Builder(128, 128).conv(16, 3)
    net.c = 3
    net.conv(32, 3)
    for _ in range(3):
        net.conv(32, 3, groups=4).conv(32, 1)
    return net.concat(16).conv(32, 1).conv(48, 3).depth_to_space(4).each("RELU_0_TO_1", "activation").done()


def real_esrgan_general() -> Network:
    net = Builder(128, 128)
    for _ in range(33):
        net.conv(64, 3).each("PRELU", "activation", weights=64)
    net.conv(48, 3).depth_to_space(4)
    net.h, net.w = 128, 128
    return net.enlarge(4).add().done()


def real_esrgan_x4plus() -> Network:
    net = Builder(128, 128).conv(64, 3)
    for _ in range(23):
        for _ in range(3):
            for grown in range(4):
                net.c = 64 + 32 * grown
                net.conv(32, 3).each("LEAKY_RELU", "activation")
                net.c = 64 + 32 * grown
                net.concat(32)
            net.conv(64, 3).add()
        net.each("MUL").add()
    net.conv(64, 3).add()
    for _ in range(2):
        net.enlarge(2).conv(64, 3).each("LEAKY_RELU", "activation")
    return net.conv(64, 3).each("LEAKY_RELU", "activation").conv(3, 3).done()


def unet() -> Network:
    net = Builder(640, 1280).conv(64, 3).conv(64, 3)
    for c in (128, 256, 512, 1024):
        net.pool(2, 2, valid=True).conv(c, 3).conv(c, 3)
    for c in (512, 256, 128, 64):
        net.transposed(c).concat(c).conv(c, 3).conv(c, 3)
    return net.conv(2, 1).done()


NETWORKS: dict[str, Callable[[], Network]] = {
    "densenet121": densenet121,
    "efficientnet_b0": lambda: efficientnet(224, 1.0, 1.0),
    "efficientnet_b4": lambda: efficientnet(380, 1.4, 1.8),
    "googlenet": googlenet,
    "inception_v3": inception_v3,
    "mnasnet05": mnasnet05,
    "mobilenet_v2": mobilenet_v2,
    "mobilenet_v3_large": lambda: mobilenet_v3(V3_LARGE, 960, 1280),
    "mobilenet_v3_small": lambda: mobilenet_v3(V3_SMALL, 576, 1024),
    "quicksrnetsmall": lambda: quicksrnet(32, 2, False),
    "quicksrnetmedium": lambda: quicksrnet(32, 5, False),
    "quicksrnetlarge": lambda: quicksrnet(64, 11, True),
    "real_esrgan_general_x4v3": real_esrgan_general,
    "real_esrgan_x4plus": real_esrgan_x4plus,
    "resnet18": lambda: resnet((2, 2, 2, 2), bottleneck=False),
    "resnet50": lambda: resnet((3, 4, 6, 3)),
    "resnet101": lambda: resnet((3, 4, 23, 3)),
    "resnext50": lambda: resnet((3, 4, 6, 3), width=4, groups=32),
    "resnext101": lambda: resnet((3, 4, 23, 3), width=8, groups=32),
    "squeezenet1_1": squeezenet,
    "unet_segmentation": unet,
    "wideresnet50": lambda: resnet((3, 4, 6, 3), width=128),
    "xlsr": xlsr,
}
# Networks that know each other: left out together.
FAMILIES = {
    **dict.fromkeys(("resnet18", "resnet50", "resnet101", "resnext50", "resnext101", "wideresnet50"), "resnet"),
    **dict.fromkeys(("googlenet", "inception_v3"), "inception"),
    **dict.fromkeys(("quicksrnetsmall", "quicksrnetmedium", "quicksrnetlarge"), "quicksrnet"),
    **dict.fromkeys(("real_esrgan_general_x4v3", "real_esrgan_x4plus"), "esrgan"),
    **dict.fromkeys(("efficientnet_b0", "efficientnet_b4"), "efficientnet"),
    **dict.fromkeys(("mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "mnasnet05"), "mobilenet"),
}
