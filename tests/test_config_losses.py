"""The choice of losses: what fits together, what acts, and what a wrong value is told."""

import re

import pytest

from detector.config import ClsLossConfig, LossConfig
from detector.config_io import ConfigError, dump_config, load_config, load_config_text

SOFTMAX = ("softmax_ce", "softmax_focal")
CLS_NAMES = ClsLossConfig.model_json_schema()["properties"]["name"]["enum"]


def error_of(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config("retina_demo", overrides)
    return str(caught.value)


@pytest.mark.parametrize("name", CLS_NAMES)
def test_every_class_loss_loads_with_its_activation_and_with_no_other(name):
    fitting, other = ("softmax", "sigmoid") if name in SOFTMAX else ("sigmoid", "softmax")
    config = load_config("retina_demo", [f"loss.cls.name={name}", f"model.head.activation={fitting}"])
    assert config.loss.cls.activation == config.model.head.activation == fitting
    message = error_of(f"loss.cls.name={name}", f"model.head.activation={other}")
    assert re.fullmatch(
        rf"model\.head\.activation \(from the command line\): {other} does not fit loss\.cls\.name = {name}; "
        rf"set model\.head\.activation={fitting}, or choose a loss whose name .*\(loss\.cls\.name from the command "
        r"line, model\.head\.activation from the command line\)",
        message,
    )


def test_the_advice_names_the_losses_of_the_other_kind():
    assert "choose a loss whose name does not begin with softmax" in error_of("loss.cls.name=softmax_ce")
    assert "choose a loss whose name begins with softmax" in error_of("model.head.activation=softmax")


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("sigmoid_focal", {"alpha", "gamma"}),
        ("sigmoid_ce", {"alpha"}),
        ("focal_star", {"alpha", "gamma", "beta"}),
        ("quality_focal", {"gamma"}),
        ("varifocal", {"alpha", "gamma"}),
        ("ohem", {"negatives_per_positive"}),
        ("softmax_ce", {"alpha"}),
        ("softmax_focal", {"alpha", "gamma"}),
    ],
)
def test_each_class_loss_reads_its_own_parameters(name, keys):
    assert set(ClsLossConfig(name=name).acting_keys) == keys


def test_the_defaults_are_the_papers():
    loss = LossConfig()
    assert (loss.cls.name, loss.cls.alpha, loss.cls.gamma, loss.cls.beta) == ("sigmoid_focal", 0.25, 2.0, 1.0)
    assert (loss.cls.negatives_per_positive, loss.box.name, loss.box.beta) == (3.0, "smooth_l1", 0.0)


@pytest.mark.parametrize("name", CLS_NAMES)
@pytest.mark.parametrize("alpha", ["null", "0.7", "[0.1, 0.2, 0.3]"])
def test_alpha_is_null_a_number_or_for_some_losses_a_list(name, alpha):
    fitting = "softmax" if name in SOFTMAX else "sigmoid"
    overrides = [f"loss.cls.name={name}", f"model.head.activation={fitting}", f"loss.cls.alpha={alpha}"]
    if name == "varifocal" and alpha.startswith("["):
        assert error_of(*overrides) == (
            "loss.cls.alpha (from the command line): varifocal takes one number or null, found a list; sigmoid_focal, "
            "sigmoid_ce, focal_star, softmax_ce, softmax_focal take a list"
        )
        return
    config = load_config("retina_demo", overrides)
    assert config.loss.cls.alpha == {"null": None, "0.7": 0.7}.get(alpha, (0.1, 0.2, 0.3))
    assert load_config_text(dump_config(config), "dumped") == config


def test_weights_of_a_softmax_loss_may_be_above_one_and_alphas_may_not():
    config = load_config(
        "retina_demo", ["loss.cls.name=softmax_ce", "model.head.activation=softmax", "loss.cls.alpha=[2, 0.5]"]
    )
    assert config.loss.cls.alpha == (2.0, 0.5)
    assert error_of("loss.cls.alpha=[2, 0.5]") == (
        "loss.cls.alpha (from the command line): sigmoid_focal takes numbers from 0 to 1 (the other terms weigh "
        "1 - alpha), found 2"
    )


def test_one_wrong_number_in_a_list_is_one_error():
    assert error_of("loss.cls.alpha=[0.2, -1]") == (
        "loss.cls.alpha[1] (from the command line): expected a number of at least 0, found -1"
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "loss.cls.alpha=1.5",
            "expected a number from 0 to 1, a list of at least one value, each a number of at least 0",
        ),
        (
            "loss.cls.alpha=[]",
            "expected a number from 0 to 1, a list of at least one value, each a number of at least 0",
        ),
        ("loss.cls.gamma=-1", "expected a number of at least 0, found -1"),
        ("loss.cls.negatives_per_positive=-1", "expected a number of at least 0, found -1"),
        ("loss.cls.name=focal", "expected sigmoid_focal, sigmoid_ce, .* or softmax_focal, found the string 'focal'"),
        ("loss.box.name=IoU", "expected smooth_l1, l1, iou, giou, diou or ciou, found the string 'IoU'"),
        ("eval.loss_profile_every=-1", "expected an integer of at least 0, found -1"),
        ("model.head.activation=tanh", "expected sigmoid or softmax, found the string 'tanh'"),
    ],
)
def test_a_value_out_of_range_is_told_what_is_accepted(override, message):
    key = re.escape(override.partition("=")[0])
    assert re.search(rf"^{key} \(from the command line\): {message}", error_of(override))


def test_focal_star_cannot_divide_by_a_gamma_of_zero():
    assert error_of("loss.cls.name=focal_star", "loss.cls.gamma=0") == (
        "loss.cls.gamma (from the command line): focal_star divides by it, so 0 is impossible; its paper takes 2 or 4"
    )
    load_config("retina_demo", ["loss.cls.name=sigmoid_focal", "loss.cls.gamma=0"])


def test_triton_computes_the_sigmoid_focal_loss_only():
    assert load_config("retina_demo", ["loss.backend=triton"]).loss.backend == "triton"
    assert error_of("loss.backend=triton", "loss.cls.name=sigmoid_ce") == (
        "loss.backend (from the command line): triton computes loss.cls.name sigmoid_focal only, found sigmoid_ce; "
        "expected auto or eager (loss.cls.name from the command line)"
    )
