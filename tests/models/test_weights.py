import socket
from http.client import IncompleteRead
from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest
import torch
import torchvision
from torch import Tensor
from torch.testing import assert_close

from detector.config import BackboneConfig, FpnConfig, HeadConfig, ModelConfig
from detector.errors import UserError
from detector.models import build_model
from detector.models.backbone import ResNetBackbone
from detector.models.weights import load_backbone_weights

WEIGHTS = torchvision.models.ResNet18_Weights


@pytest.fixture
def state() -> dict[str, Tensor]:
    """A whole classifier's state dict, all values drawn anew."""
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        names = torchvision.models.resnet18().state_dict()
    return {
        name: torch.tensor(7) if value.ndim == 0 else torch.rand(value.shape, generator=generator) * 0.01
        for name, value in names.items()
    }


@pytest.fixture
def backbone() -> ResNetBackbone:
    return ResNetBackbone("resnet18", norm="frozen")


def save(content: object, path: Path) -> str:
    torch.save(content, path)
    return str(path)


def test_a_classifiers_file_fills_the_backbone(state: dict[str, Tensor], tmp_path: Path) -> None:
    config = ModelConfig(
        backbone=BackboneConfig(name="resnet18", weights=save(state, tmp_path / "resnet18.pth")),
        fpn=FpnConfig(channels=8),
        head=HeadConfig(num_convs=0),
    )
    for key, value in build_model(config, num_classes=2).backbone.state_dict().items():
        assert_close(value.contiguous(), state[key], atol=0, rtol=0)


@pytest.mark.parametrize("norm", ["frozen", "batch"])
def test_a_file_of_the_backbone_alone_works_with_and_without_batch_counts(norm, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    source = ResNetBackbone("resnet18", norm="frozen").state_dict()
    target = ResNetBackbone("resnet18", norm=norm)
    load_backbone_weights(target, "resnet18", save(source, tmp_path / "backbone.pth"))
    assert_close({key: target.state_dict()[key] for key in source}, dict(source), atol=0, rtol=0)


@pytest.mark.parametrize(("name", "member"), [("imagenet", "IMAGENET1K_V1")])
def test_a_version_by_name_is_torchvisions_with_its_hash_checked(
    name: str, member: str, state: dict[str, Tensor], backbone: ResNetBackbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def get_state_dict(self: object, *, progress: bool, check_hash: bool, weights_only: bool) -> dict[str, Tensor]:
        asked.append((self, progress, check_hash, weights_only))
        return state

    monkeypatch.setattr(WEIGHTS, "get_state_dict", get_state_dict)
    load_backbone_weights(backbone, "resnet18", name)
    assert asked == [(WEIGHTS[member], False, True, True)]
    assert_close(backbone.state_dict()["conv1.weight"], state["conv1.weight"], atol=0, rtol=0)


def test_weights_of_another_architecture_are_refused(state: dict[str, Tensor], tmp_path: Path) -> None:
    path = save(state, tmp_path / "r18.pth")
    with pytest.raises(
        UserError,
        match=r"r18\.pth does not fit resnet50: \d+ entries are missing and \d+ have another shape; "
        r"'layer1\.0\.conv3\.weight' is missing, expected shape \(256, 64, 1, 1\)",
    ):
        load_backbone_weights(ResNetBackbone("resnet50"), "resnet50", path)


def test_one_entry_of_another_shape_is_named(
    state: dict[str, Tensor], backbone: ResNetBackbone, tmp_path: Path
) -> None:
    state["layer2.0.conv1.weight"] = torch.zeros(128, 64, 5, 5)
    before = backbone.conv1.weight.clone()  # type: ignore[operator,union-attr]
    with pytest.raises(
        UserError,
        match=r"0 entries are missing and 1 have another shape; 'layer2\.0\.conv1\.weight' has shape "
        r"\(128, 64, 5, 5\), expected shape \(128, 64, 3, 3\)",
    ):
        load_backbone_weights(backbone, "resnet18", save(state, tmp_path / "w.pth"))
    assert_close(backbone.conv1.weight, before, atol=0, rtol=0)  # type: ignore[arg-type]


def test_a_missing_file_is_named_with_what_is_possible(backbone: ResNetBackbone, tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.pth", tmp_path):
        with pytest.raises(
            UserError, match=rf"model\.backbone\.weights: {path} is not a file; expected none, imagenet, imagenet_v2 or"
        ):
            load_backbone_weights(backbone, "resnet18", str(path))


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"PK\x03\x04 cut off"])
def test_a_file_that_is_no_checkpoint_is_refused(content: bytes, backbone: ResNetBackbone, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"model\.backbone\.weights: {path} is not a PyTorch state dict \(\w+\)"):
        load_backbone_weights(backbone, "resnet18", str(path))


@pytest.mark.parametrize(
    "content", [{"state_dict": {"conv1.weight": torch.zeros(1)}}, [torch.zeros(1)], torch.zeros(1)]
)
def test_a_checkpoint_of_another_form_is_refused(content: object, backbone: ResNetBackbone, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"w\.pth is not a state dict \(name -> tensor\)"):
        load_backbone_weights(backbone, "resnet18", save(content, tmp_path / "w.pth"))


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code of the file was run",)


def test_code_in_a_file_is_not_run(
    backbone: ResNetBackbone, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save({"conv1.weight": Malicious()}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"is not a PyTorch state dict \(UnpicklingError\)"):
        load_backbone_weights(backbone, "resnet18", path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "error",
    [
        URLError("name resolution failed"),
        HTTPError("https://example.org", 403, "Forbidden", {}, None),  # type: ignore[arg-type]
        TimeoutError("timed out"),
        ConnectionResetError("reset by peer"),
        RuntimeError('invalid hash value (expected "5c106cde", got "0")'),
        EOFError("Ran out of input"),
        IncompleteRead(b"half", 4),
    ],
)
def test_a_failed_download_says_what_to_do_without_network(
    error: Exception, backbone: ResNetBackbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def fail(self: object, **_: object) -> None:
        raise error

    monkeypatch.setattr(WEIGHTS, "get_state_dict", fail)
    with pytest.raises(UserError) as caught:
        load_backbone_weights(backbone, "resnet18", "imagenet")
    message = str(caught.value)
    assert message.startswith("model.backbone.weights: imagenet for resnet18 could not be downloaded from https://")
    assert str(error) in message
    assert "download resnet18-f37072fd.pth on another machine" in message
    assert "model.backbone.weights=path/to/resnet18-f37072fd.pth" in message
    assert f"or put it into {tmp_path / 'checkpoints'}" in message
    assert "model.backbone.weights=none" in message


def test_a_server_that_never_answers_is_given_up_after_a_while(
    backbone: ResNetBackbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("detector.models.weights.TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/resnet18-f37072fd.pth"
        weights = WEIGHTS.IMAGENET1K_V1.value
        monkeypatch.setattr(weights, "url", address)
        with pytest.raises(UserError, match=rf"could not be downloaded from {address} \(timed out\)"):
            load_backbone_weights(backbone, "resnet18", "imagenet")
    assert socket.getdefaulttimeout() is None
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_damaged_file_of_an_earlier_download_is_named(
    backbone: ResNetBackbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    cached = tmp_path / "checkpoints/resnet18-f37072fd.pth"
    cached.parent.mkdir()
    cached.write_bytes(b"cut off")
    with pytest.raises(UserError, match=rf"{cached}, which an earlier download left there, cannot be read .* remove"):
        load_backbone_weights(backbone, "resnet18", "imagenet")


def test_a_checkpoint_of_a_whole_detector_is_told_where_it_belongs(backbone: ResNetBackbone, tmp_path: Path) -> None:
    path = save({"format": "x", "model": {}}, tmp_path / "last.pt")
    with pytest.raises(UserError, match=r"but a dict with the keys 'format', 'model'; .* go to --init-from"):
        load_backbone_weights(backbone, "resnet18", path)


def test_a_version_that_torchvision_lacks_is_named_with_those_it_has(backbone: ResNetBackbone) -> None:
    with pytest.raises(UserError, match=r"imagenet_v2 does not exist for resnet18; torchvision has \['IMAGENET1K_V1'"):
        load_backbone_weights(backbone, "resnet18", "imagenet_v2")
