"""Any backbone of timm (pytorch-image-models) that has maps at strides 4, 8, 16 and 32."""

from torch import Tensor

from calipose.errors import InputError, install_hint
from calipose.model.backbones.base import STRIDES, Backbone


class TimmBackbone(Backbone):
    """A timm network as a backbone, with fresh weights; its parameters have timm's names after "network.".

    Args:
        name: timm's name of the network, such as "resnet50".

    Raises:
        InputError: timm is not installed, timm has no network of that name, or the network lacks one of the strides.

    Example:
        >>> TimmBackbone("resnet50").channels
        (256, 512, 1024, 2048)
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        try:
            import timm
        except ImportError as error:
            raise InputError(f"'timm:{name}' needs timm: {install_hint('timm')}") from error
        try:
            network = timm.create_model(name, features_only=True, pretrained=False)
        except (RuntimeError, AttributeError) as error:  # an unknown name; a network without feature maps
            raise InputError(f"'timm:{name}': timm says: {error}") from error

        strides: list[int] = network.feature_info.reduction()
        if missing := [stride for stride in STRIDES if stride not in strides]:
            raise InputError(
                f"'timm:{name}' has maps at strides {strides}, none at {missing}: all of {STRIDES} are needed"
            )
        # Of two maps with the same stride the later one is deeper.
        self._outputs = [len(strides) - 1 - strides[::-1].index(stride) for stride in STRIDES]
        c4, c8, c16, c32 = (network.feature_info.channels()[i] for i in self._outputs)
        self.channels = (c4, c8, c16, c32)
        normalisation = timm.data.resolve_model_data_config(network)  # mean and deviation in units of 0..1
        (r, g, b), (sr, sg, sb) = normalisation["mean"], normalisation["std"]
        self.mean, self.std = (255 * r, 255 * g, 255 * b), (255 * sr, 255 * sg, 255 * sb)
        # Some families (Swin, MambaOut) keep the channels last.
        self._channels_last = getattr(network, "output_fmt", "NCHW") == "NHWC"
        self.network = network
        # timm takes apart the outermost containers of a feature network: "stages.0.x" becomes "stages_0.x".
        self._own_names = {name.removeprefix("network.").replace(".", "_"): name for name in self.state_dict()}

    def own_name(self, published: str) -> str:
        """See `Backbone.own_name`."""
        return self._own_names.get(published.replace(".", "_"), published)

    def forward(self, images: Tensor) -> list[Tensor]:
        """See `Backbone.forward`."""
        every: list[Tensor] = self.network(images)
        maps = [every[i] for i in self._outputs]
        return [x.permute(0, 3, 1, 2) for x in maps] if self._channels_last else maps
