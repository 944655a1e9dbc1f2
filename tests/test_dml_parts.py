"""Losses, networks, schedules and crops of DML+ against small implementations of their own."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from manifests.errors import InputError, ModelError
from scoring.dml.augmentation import cropped_and_mirrored
from scoring.dml.losses import center_loss, focal_loss, moved_centers
from scoring.dml.networks import WideResNet, classifier_network
from scoring.dml.recipe import LOSSES, Recipe
from scoring.dml.training_run import SAMPLE_RECIPE, chosen_recipe


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def numeric_gradient(function, values: np.ndarray, step: float = 1e-6) -> np.ndarray:
    gradient = np.zeros_like(values)
    for index in np.ndindex(*values.shape):
        moved = [values.copy(), values.copy()]
        moved[0][index] += step
        moved[1][index] -= step
        gradient[index] = (function(moved[0]) - function(moved[1])) / (2 * step)
    return gradient


class TestLosses:
    TARGETS = np.array([0, 2, 1, 1, 0])

    @pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
    def test_focal_loss_and_its_gradient_equal_numpy(self, gamma):
        logits = np.random.default_rng(0).normal(size=(5, 3)) * 3

        def naive(values: np.ndarray) -> float:
            p = softmax(values)[np.arange(5), self.TARGETS]
            return float(np.mean(-((1 - p) ** gamma) * np.log(p)))

        tensor = torch.tensor(logits, requires_grad=True)
        loss = focal_loss(tensor, torch.from_numpy(self.TARGETS), gamma)
        loss.backward()
        assert loss.item() == pytest.approx(naive(logits), rel=1e-12)
        np.testing.assert_allclose(tensor.grad.numpy(), numeric_gradient(naive, logits), rtol=1e-6, atol=1e-9)

    def test_focal_loss_of_two_classes_by_hand(self):
        # p = 3/4 of the own class: 1/16 of log(4/3).
        logits = torch.tensor([[math.log(3), 0.0]], dtype=torch.float64)
        assert float(focal_loss(logits, torch.tensor([0]), 2.0)) == pytest.approx(math.log(4 / 3) / 16, rel=1e-12)

    @pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
    def test_focal_loss_of_an_image_that_cannot_be_more_right_has_a_finite_gradient(self, gamma):
        logits = torch.tensor([[90.0, -90.0], [-90.0, 90.0]], requires_grad=True)
        loss = focal_loss(logits, torch.tensor([0, 0]), gamma)
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(logits.grad).all()
        # The second image is as wrong as can be: its gradient is that of cross-entropy, over two images.
        assert logits.grad[1].tolist() == pytest.approx([-0.5, 0.5], rel=1e-5)

    def test_center_loss_and_its_gradient_equal_numpy(self):
        rng = np.random.default_rng(1)
        features, centers = rng.normal(size=(5, 4)), rng.normal(size=(3, 4))

        def naive(values: np.ndarray) -> float:
            return sum(((x - centers[c]) ** 2).sum() for x, c in zip(values, self.TARGETS, strict=True)) / 5

        tensor = torch.tensor(features, requires_grad=True)
        loss = center_loss(tensor, torch.from_numpy(centers), torch.from_numpy(self.TARGETS))
        loss.backward()
        assert loss.item() == pytest.approx(naive(features), rel=1e-12)
        np.testing.assert_allclose(tensor.grad.numpy(), numeric_gradient(naive, features), rtol=1e-6, atol=1e-9)

    def test_centers_move_as_by_sgd_of_one_half_on_the_numeric_gradient(self):
        rng = np.random.default_rng(2)
        features, centers = rng.normal(size=(5, 4)), rng.normal(size=(4, 4))

        def naive(values: np.ndarray) -> float:
            return sum(((x - values[c]) ** 2).sum() for x, c in zip(features, self.TARGETS, strict=True)) / 5

        moved = moved_centers(*map(torch.from_numpy, (features, centers, self.TARGETS)))
        np.testing.assert_allclose(moved.numpy(), centers - 0.5 * numeric_gradient(naive, centers), atol=1e-8)
        assert (moved[3].numpy() == centers[3]).all()  # a class without an image stays where it is

    @pytest.mark.parametrize("gamma", [0.5, 2.0])
    def test_focal_loss_as_published_has_the_gradient_of_cross_entropy_times_its_weight(self, gamma):
        logits = np.random.default_rng(3).normal(size=(5, 3)) * 3
        p = softmax(logits)
        weight = (1 - p[np.arange(5), self.TARGETS]) ** gamma
        tensor = torch.tensor(logits, requires_grad=True)
        targets = torch.from_numpy(self.TARGETS)
        loss = focal_loss(tensor, targets, gamma, is_weight_constant=True)
        loss.backward()
        expected = weight[:, None] * (p - np.eye(3)[self.TARGETS]) / 5
        np.testing.assert_allclose(tensor.grad.numpy(), expected, rtol=1e-10)
        assert loss.item() == pytest.approx(focal_loss(tensor, targets, gamma).item(), rel=1e-12)


class TestNetworks:
    def test_wide_resnet_40_2_has_the_published_2_2_million_parameters(self):
        # By hand: convolutions 3x3, of each group of 6 blocks the first widens and has a 1x1 shortcut; norms have
        # two numbers a channel.
        stem = 3 * 16 * 9
        total = stem
        for n_in, n_out in ((16, 32), (32, 64), (64, 128)):
            first = 2 * n_in + 9 * n_in * n_out + 2 * n_out + 9 * n_out * n_out + n_in * n_out
            others = 5 * (2 * n_out + 9 * n_out * n_out) * 2
            total += first + others
        total += 2 * 128
        network = WideResNet(40, 2, 0.3)
        assert sum(weight.numel() for weight in network.parameters()) == total == 2_242_256
        # With a classifier of 10 classes and a bias it is the 2,243,546 that is 2.2 M in Table 3 of the paper.
        assert total + 128 * 10 + 10 == 2_243_546

    def test_wide_resnet_has_128_features_and_no_bias_but_in_norms(self):
        network = classifier_network("wrn-40-2", 100, side_px=32, dropout=0.3)
        assert network.weight.shape == (100, 128)
        assert {name.split(".")[-2] for name, _ in network.named_parameters() if name.endswith("bias")} == {
            "norm", "norm1", "norm2",
        }  # fmt: skip
        assert [module.p for module in network.modules() if isinstance(module, torch.nn.Dropout)] == [0.3] * 18

    def test_wide_residual_block_equals_its_formula(self):
        network = WideResNet(10, 1, 0.0).eval()
        block = network.blocks[1]
        maps = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(0))
        relu, convolve = torch.relu, torch.nn.functional.conv2d
        activated = relu(maps / math.sqrt(1 + 1e-5))
        inner = convolve(activated, block.conv1.weight, stride=2, padding=1)
        expected = convolve(relu(inner / math.sqrt(1 + 1e-5)), block.conv2.weight, padding=1)
        expected += convolve(activated, block.shortcut.weight, stride=2)
        torch.testing.assert_close(block(maps), expected, rtol=1e-5, atol=1e-5)

    def test_networks_of_both_classifiers_begin_with_the_same_weights_before_them(self):
        networks = []
        for is_cosine in (True, False):
            torch.manual_seed(5)
            networks.append(classifier_network("tiny", 7, side_px=32, dropout=0.0, is_cosine=is_cosine))
        cosine, linear = networks
        assert all(map(torch.equal, cosine.body.state_dict().values(), linear.body.state_dict().values()))
        assert linear.classifier == (linear.weight, linear.bias)
        assert (linear.weight.shape, linear.bias.shape) == ((7, 128), (7,))
        # As torch begins every linear layer: within one over the root of the number of features.
        assert 0.9 / math.sqrt(128) < linear.weight.abs().max() <= 1 / math.sqrt(128)
        with torch.no_grad():
            cosine.weight *= 3
        unit, bias = cosine.classifier
        assert bias is None
        torch.testing.assert_close(unit.norm(dim=1), torch.ones(7))

    def test_network_of_timm_ends_in_its_features(self):
        network = classifier_network("timm:test_resnet", 5, side_px=32, dropout=0.0).eval()
        assert network(torch.zeros(2, 3, 32, 32)).shape == (2, network.weight.shape[1])

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("wrn-41-2", "expected wrn-DEPTH-WIDTH with a depth of 10, 16, 22"),
            ("wrn-4-2", "expected wrn-DEPTH-WIDTH"),
            ("resnet", "expected wrn-DEPTH-WIDTH"),
            ("timm:resnet5O", "timm has none of that name; close: resnet50"),
        ],
    )
    def test_unknown_network_is_refused(self, name, message):
        with pytest.raises(ModelError, match=message):
            classifier_network(name, 5, side_px=32, dropout=0.0)

    def test_picture_too_small_is_refused(self):
        with pytest.raises(ModelError, match=r"expected pictures of at least 16 px \(--side\), found 8"):
            classifier_network("tiny", 5, side_px=8, dropout=0.0)


class TestRecipe:
    def test_center_loss_follows_the_published_epochs(self):
        recipe = Recipe("mnc")
        weights = [recipe.center_weight(epoch) for epoch in (0, 59, 60, 79, 80, 199)]
        assert weights == [0, 0, 0.001, 0.001, 0.005, 0.005]
        assert Recipe("mcf").center_weight(150) == 0

    def test_scaled_schedule_begins_at_three_tenths_and_four(self):
        recipe = Recipe("mnc", n_epochs=10, center_schedule="scaled")
        assert [recipe.center_weight(epoch) for epoch in range(10)] == [0] * 3 + [0.001] + [0.005] * 6

    def test_learning_rate_is_half_a_cosine_of_torch(self):
        recipe = Recipe("mcf", n_epochs=7)
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=recipe.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 7, eta_min=0.0)
        for epoch in range(7):
            assert recipe.learning_rate_at(epoch) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
            optimizer.step()
            schedule.step()

    def test_mnc_in_fewer_epochs_than_its_schedule_is_refused_unless_scaled_by_name(self):
        told = "a center loss from epoch 60 on, and --epochs is 60: give --center-schedule scaled"
        with pytest.raises(InputError, match=told):
            Recipe("mnc", n_epochs=60)
        assert Recipe("mnc", n_epochs=61).center_weight(60) == 0.001
        with pytest.raises(InputError, match="mnc needs at least 2 epochs"):
            Recipe("mnc", n_epochs=1, center_schedule="scaled")

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"loss": "arcface"}, "loss: expected one of linear, cosine, mcf, mnc, found 'arcface'"),
            ({"n_epochs": 0}, "n_epochs: expected at least 1, found 0"),
            ({"batch_size": 1}, "batch_size: expected at least 2"),
            ({"learning_rate": math.nan}, "learning_rate: expected above 0, found nan"),
            ({"learning_rate": 0.0}, "learning_rate: expected above 0, found 0.0"),
            ({"learning_rate": math.inf}, "learning_rate: expected above 0, found inf"),
            ({"momentum": 1.0}, r"momentum: expected in \[0, 1\), found 1.0"),
            ({"momentum": -0.1}, r"momentum: expected in \[0, 1\), found -0.1"),
            ({"weight_decay": -1e-4}, "weight_decay: expected at least 0, found -0.0001"),
            ({"weight_decay": math.nan}, "weight_decay: expected at least 0, found nan"),
            ({"dropout": 1.0}, r"dropout: expected in \[0, 1\), found 1.0"),
            ({"dropout": math.nan}, r"dropout: expected in \[0, 1\), found nan"),
            ({"gamma": -1.0}, "gamma: expected at least 0, found -1.0"),
            ({"gamma": math.inf}, "gamma: expected at least 0, found inf"),
            ({"focal_gradient": "own"}, "focal_gradient: expected one of equation, published, found 'own'"),
            ({"scale": 0.0}, "scale: expected above 0, found 0.0"),
            ({"scale": math.nan}, "scale: expected above 0, found nan"),
            ({"seed": -1}, "seed: expected at least 0, found -1"),
            ({"center_schedule": "mine"}, "center_schedule: expected one of published, scaled"),
        ],
    )
    def test_impossible_setting_is_refused(self, changes, message):
        with pytest.raises(InputError, match=message):
            replace(Recipe("cosine"), **changes)


class TestChosenRecipe:
    def test_a_loss_keeps_of_the_others_settings_none_so_that_it_goes_on_alone(self):
        together = Recipe(
            "cosine", gamma=1, focal_gradient="published", scale=20, center_schedule="scaled", seed=3
        )
        assert together.for_loss("mnc") == Recipe("mnc", center_schedule="scaled", seed=3)
        assert together.for_loss("mcf") == Recipe("mcf", gamma=1, focal_gradient="published", scale=20, seed=3)
        assert together.for_loss("cosine") == Recipe("cosine", scale=20, seed=3)
        assert together.for_loss("linear") == Recipe("linear", seed=3)

    def test_what_is_not_given_is_the_papers_or_that_of_the_sample(self):
        assert chosen_recipe({"gamma": None, "n_epochs": None}, LOSSES, is_sample=False) == Recipe("cosine")
        given = {
            "gamma": 1.0,
            "momentum": 0.5,
            "weight_decay": 0.0,
            "scale": 20.0,
            "dropout": 0.0,
            "n_epochs": None,
        }
        recipe = chosen_recipe(given, LOSSES, is_sample=True)
        assert recipe == replace(SAMPLE_RECIPE, gamma=1.0, momentum=0.5, weight_decay=0.0, scale=20.0, dropout=0.0)

    @pytest.mark.parametrize(
        ("given", "losses", "message"),
        [
            (
                {"gamma": 1.0},
                ["mnc", "cosine"],
                "--gamma has no effect on mnc, cosine, it is for mcf: leave it out",
            ),
            ({"focal_gradient": "published"}, ["mnc"], "--focal-gradient has no effect on mnc, it is for mcf"),
            ({"scale": 10.0}, ["mnc", "linear"], "--scale has no effect on mnc, linear, it is for cosine, mcf"),
            (
                {"center_schedule": "scaled"},
                ["mcf"],
                "--center-schedule has no effect on mcf, it is for mnc: leave it out, a training of mcf goes on",
            ),
            (
                {"dropout": 0.1, "network": "timm:test_resnet"},
                LOSSES,
                "--dropout has no effect on timm:test_resnet",
            ),
            ({"n_epochs": 3}, LOSSES, "give --center-schedule scaled, which begins after 30 % of them"),
            ({}, ["arc"], "loss: expected one of linear, cosine, mcf, mnc, found 'arc'"),
        ],
    )
    def test_setting_that_is_impossible_or_without_effect_is_refused(self, given, losses, message):
        with pytest.raises(InputError, match=message):
            chosen_recipe(given, losses, is_sample=False)


class TestAugmentation:
    def test_each_picture_is_a_window_of_its_padded_self_or_the_mirror_of_one(self):
        pixels = torch.randint(
            1, 256, (40, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
        )
        found = cropped_and_mirrored(pixels, torch.Generator().manual_seed(1)).numpy()
        padded = np.pad(pixels.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)))
        seen = set()
        for image in range(40):
            for y, x, flip in itertools.product(range(5), range(5), (False, True)):
                window = padded[image, :, y : y + 16, x : x + 16]
                if (found[image] == (window[:, :, ::-1] if flip else window)).all():
                    seen.add((y, x, flip))
                    break
            else:
                pytest.fail(f"picture {image} is no window")
        assert {y for y, _, _ in seen} == {x for _, x, _ in seen} == set(range(5))
        assert {flip for _, _, flip in seen} == {True, False}
