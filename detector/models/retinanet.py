"""RetinaNet: images to raw outputs, and nothing else."""

from torch import Tensor, nn

from detector.models.backbone import ResNetBackbone
from detector.models.fpn import FeaturePyramid
from detector.models.heads import Subnet
from detector.structures import Activation, HeadOutputs


class RetinaNet(nn.Module):
    """Backbone, pyramid and the two subnets (Lin et al. 2017, "Focal Loss for Dense Object Detection", Sec. 4).

    Args:
        backbone: gives C3, C4, C5.
        fpn: gives P3 ... P7.
        cls_subnet: C logits per anchor: K, or K + 1 with softmax (background last).
        box_subnet: 4 offsets per anchor.
        activation: what makes probabilities of the logits; the network itself does not apply it.
    """

    def __init__(
        self,
        backbone: ResNetBackbone,
        fpn: FeaturePyramid,
        cls_subnet: Subnet,
        box_subnet: Subnet,
        *,
        activation: Activation = "sigmoid",
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.fpn = fpn
        self.cls_subnet = cls_subnet
        self.box_subnet = box_subnet
        self.activation = activation

    @property
    def num_classes(self) -> int:
        """K, real classes."""
        return self.cls_subnet.num_outputs - (self.activation == "softmax")

    def forward(self, images: Tensor) -> HeadOutputs:
        """Return the raw outputs.

        Args:
            images: [N, 3, H, W] RGB, normalised with ImageNet's mean and standard deviation, 0 in the padding.

        Returns:
            Per level class logits [N, Rl, C] and box offsets [N, Rl, 4]; the same in training and evaluation.
        """
        features = self.fpn(self.backbone(images))
        return HeadOutputs(cls_logits=self.cls_subnet(features), bbox_deltas=self.box_subnet(features))
