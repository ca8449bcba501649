"""The grade classifier: network, metrics, module, data, and its features for torch-fidelity."""

from __future__ import annotations

import io
import math
from types import SimpleNamespace

import pytest
import torch
from helpers.command import read_table
from helpers.small_modules import same_weights
from torch import nn

from blastogan.data import GradeDataModule
from blastogan.errors import UserError
from blastogan.evaluation.grader_features import GraderFeatures
from blastogan.metrics.grading import BalancedAccuracy, GradeMetrics
from blastogan.modules import GradeClassifier
from blastogan.modules.grade_classifier import balanced_weights
from blastogan.networks import GraderNetwork
from blastogan.runs.loggers import CSVLog


def images(count=2, channels=1, side=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, channels, side, side), generator=generator).byte()


def grade_data(**settings):
    few = {"num_phantoms": 60, "phantom_counts": "balanced"}
    return GradeDataModule(**{"resolution": 32, **few, "epoch_kimg": 0.064, **settings})


def make_grader(**settings):
    torch.manual_seed(0)
    return GradeClassifier(**{"resolution": 32, "feature_dim": 8, **settings}).eval()


@pytest.fixture
def saved(tmp_path, make_trainer):
    """A grader and its checkpoint, without training."""

    def save(module):
        trainer = make_trainer(callbacks=[])
        trainer.strategy.connect(module)
        path = tmp_path / "grader.ckpt"
        trainer.save_checkpoint(path)
        return path

    return save


# -- network --------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", ["small", "resnet18", "mobilenet_v3_small"])
def test_backbones_work_from_32_pixels_on(backbone):
    network = GraderNetwork(backbone, feature_dim=8).eval()
    for side in (32, 64):
        pictures = torch.rand(2, 1, side, side) * 2 - 1
        assert network.features(pictures).shape == (2, 8)
        assert [logits.shape for logits in network(pictures)] == [(2, 4), (2, 4)]
    assert (network.features(pictures) >= 0).all()
    # no feature dies, and none dominates
    varied = torch.rand(16, 1, 64, 64) * torch.linspace(0, 1, 16).view(-1, 1, 1, 1)
    spread = network.train().features(varied).std(dim=0)
    assert ((spread > 0.1) & (spread < 1.5)).all()
    network.eval()
    with torch.no_grad():
        grey, rgb = (network.features(p) for p in (pictures, pictures.repeat(1, 3, 1, 1)))
    assert torch.equal(grey, rgb)


@pytest.mark.parametrize("name", ["resnet19", "vit_b_16", "fcn_resnet50", ""])
def test_an_unknown_backbone_is_refused_with_the_known_ones(name):
    with pytest.raises(UserError, match=r"expected small or one of .*resnet18"):
        GraderNetwork(name)


# -- metrics and loss -----------------------------------------------------------------------------


def test_balanced_accuracy_is_the_mean_recall_over_the_letters_present():
    metric = BalancedAccuracy(4)
    # A: 2 of 4 right, B: all right; D is predicted, but no image has it
    metric.update(torch.tensor([0, 0, 3, 1, 1]), torch.tensor([0, 0, 0, 0, 1]))
    assert float(metric.compute()) == pytest.approx((0.5 + 1.0) / 2)


def test_kappa_is_quadratic_in_the_distance_of_letters_and_0_where_undefined():
    def kappas(predicted, truth):
        metrics = GradeMetrics()
        scores = nn.functional.one_hot(torch.tensor(predicted), 4).float()
        constant = nn.functional.one_hot(torch.zeros(len(truth), dtype=torch.long), 4).float()
        labels = torch.stack([torch.tensor(truth), torch.zeros(len(truth), dtype=torch.long)], 1)
        metrics.update((scores, constant), labels, torch.tensor(1.0))
        values = metrics.compute()
        assert values["te_kappa"] == 0  # all A, and all predicted A
        assert values["kappa"] == values["icm_kappa"] / 2
        return float(values["icm_kappa"])

    assert kappas([0, 1, 2, 3], [0, 1, 2, 3]) == pytest.approx(1.0)
    assert kappas([3, 2, 1, 0], [0, 1, 2, 3]) == pytest.approx(-1.0)
    # mean squared distance: 1/4 as paired, 32/16 over all pairs
    assert kappas([0, 1, 2, 2], [0, 1, 2, 3]) == pytest.approx(1 - (1 / 4) / (32 / 16))


def test_balanced_weights_make_the_letters_count_alike():
    labels = torch.tensor([[0, 3], [0, 3], [0, 3], [1, 3]])
    expected = [[4 / (2 * 3), 4 / 2, 0, 0], [0, 0, 0, 1]]
    assert torch.allclose(balanced_weights(labels), torch.tensor(expected))


def test_the_loss_is_weighted_and_finite_where_no_letter_was_trained_on():
    module = make_grader()
    module.letter_weights.copy_(torch.tensor([[2.0, 0.5, 0, 0], [1.0, 1, 0, 0]]))
    even = (torch.zeros(2, 4), torch.zeros(2, 4))
    log4 = math.log(4)
    assert float(module._loss(even, torch.tensor([[0, 0], [1, 1]]))) == pytest.approx(2.25 * log4)
    assert float(module._loss(even, torch.tensor([[2, 2], [3, 3]]))) == 0.0


# -- data -----------------------------------------------------------------------------------------


def test_a_grader_and_a_gan_hold_out_the_same_images(make_data):
    for settings in ({}, {"seed": 3, "val_fraction": 0.2, "test_fraction": 0.3}):
        gan, grader = make_data(**settings), grade_data(**settings)
        gan.setup("fit")
        grader.setup("fit")
        assert gan.split == grader.split
        assert [r.path for r in gan.records] == [r.path for r in grader.records]
        assert gan.state_dict()["fingerprint"] == grader.state_dict()["fingerprint"]


def test_an_epoch_is_a_tick_of_an_endless_stream():
    data = grade_data(batch_size=24, epoch_kimg=0.1)
    data.setup("fit")
    assert data.schedule.tick_images == 96
    assert [len(batch["labels"]) for batch in data.train_dataloader()] == [24] * 4
    assert data.images("val").shape[1:] == (1, 32, 32)
    with pytest.raises(UserError, match="resolution is 48"):
        grade_data(resolution=48)
    with pytest.raises(UserError, match="epoch_kimg is 0"):
        grade_data(epoch_kimg=0)


# -- module ---------------------------------------------------------------------------------------


def test_images_of_any_size_and_colour_become_what_the_network_takes():
    grey, rgb = make_grader(), make_grader(img_channels=3)
    pictures = images(channels=1)
    exact = pictures / 127.5 - 1
    assert torch.equal(grey.prepare(pictures), exact)
    assert torch.equal(grey.prepare(pictures.repeat(1, 3, 1, 1)), exact)
    assert torch.equal(rgb.prepare(pictures), exact.repeat(1, 3, 1, 1))
    colours = torch.tensor([0, 3, 255]).byte().view(1, 3, 1, 1).expand(1, 3, 32, 32)
    assert torch.allclose(grey.prepare(colours), torch.tensor(86 / 127.5 - 1))
    # antialiased: every fourth column white is a quarter of the light at a quarter of the size
    columns = torch.arange(128).remainder(4).eq(0).mul(255).byte().expand(1, 1, 128, 128)
    inner = grey.prepare(columns)[..., 2:-2]
    assert torch.allclose(inner, torch.tensor(-0.5), atol=1e-5)
    for wrong in (images().float(), images(channels=2), images()[0]):
        with pytest.raises(UserError, match="of shape"):
            grey.prepare(wrong)


def test_grades_are_the_likeliest_letters_and_leave_the_module_as_it_was():
    module = make_grader().train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    for head, letter in ((module.network.icm_head, 2), (module.network.te_head, 1)):
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        head.bias.data[letter] = 1
        head.requires_grad_(False)
    labels = module.grade(images(3))
    assert labels.tolist() == [[2, 1]] * 3
    assert labels.dtype == torch.int64
    assert module.training
    norms = [name for name in before if "running" in name]
    assert all(torch.equal(module.state_dict()[name], before[name]) for name in norms)


WRONG = [
    {"img_channels": 2},
    {"resolution": 16},
    {"lr": 0.0},
    {"label_smoothing": 1.0},
    {"min_resolution": 16},
    {"min_resolution": 64},
    {"class_weights": "sqrt"},
    {"feature_dim": 0},
]


@pytest.mark.parametrize("settings", WRONG, ids=lambda settings: next(iter(settings)))
def test_settings_out_of_range_are_refused_by_name(settings):
    with pytest.raises(UserError, match=next(iter(settings))):
        make_grader(**settings)


def test_batches_are_trained_on_at_resolutions_drawn_down_to_the_lowest(monkeypatch):
    module = make_grader(resolution=128, min_resolution=32)
    seen = []
    monkeypatch.setattr(module, "prepare", lambda batch: seen.append(batch.shape[-1]) or batch)
    monkeypatch.setattr(module, "_loss", lambda logits, labels: torch.zeros(()))
    monkeypatch.setattr(module, "network", nn.Identity())
    monkeypatch.setattr(type(module), "trainer", SimpleNamespace(world_size=1))
    batch = {"image": images(side=128), "labels": torch.zeros(2, 2)}
    for _ in range(40):
        module.training_step(batch, 0)
    assert set(seen) == {32, 64, 128}
    module.min_resolution = None
    before = torch.get_rng_state()
    module.training_step(batch, 0)
    assert seen[-1] == 128
    assert torch.equal(torch.get_rng_state(), before)


def test_a_fit_counts_images_weighs_letters_lowers_the_rate_and_logs(make_trainer, tmp_path):
    module, data = make_grader().train(), grade_data()
    log = CSVLog(tmp_path)
    trainer = make_trainer(max_epochs=2, callbacks=[], logger=log)
    trainer.fit(module, datamodule=data)
    assert module.images_shown == 128
    assert torch.equal(module.letter_weights, balanced_weights(data.labels("train")))
    rows = read_table(tmp_path / "metrics.csv")
    assert [row["kimg"] for row in rows] == ["0.064", "0.064", "0.128", "0.128"]
    assert [row["learning_rate"] for row in rows[1::2]] == ["0.001", "0.0005"]
    names = {f"{h}_{m}" for h in ("icm", "te") for m in ("balanced_accuracy", "kappa")}
    assert all(float(row[name]) <= 1 for row in rows[::2] for name in names | {"kappa"})
    assert all(float(row["loss"]) > 0 for row in rows[::2])
    assert all(float(row["train_loss"]) > 0 for row in rows[1::2])
    # each row is of its own epoch
    assert module.train_loss.update_count == 0
    # the rows of a validation agree with a plain count
    loader = data.val_dataloader()
    hits = [module.grade(batch["image"]) == batch["labels"] for batch in loader]
    truth = data.labels("val")
    icm = [torch.cat(hits)[truth[:, 0] == k, 0].float().mean() for k in truth[:, 0].unique()]
    logged = float(rows[2]["icm_balanced_accuracy"])
    assert logged == pytest.approx(float(torch.stack(icm).mean()))


def test_letters_are_weighed_by_how_often_training_shows_them(make_trainer):
    weights = {}
    for balance in ("none", "uniform"):
        module, data = make_grader(), grade_data(balance=balance, phantom_counts="study")
        make_trainer(max_epochs=1, callbacks=[], limit_val_batches=0).fit(module, datamodule=data)
        labels, shown = data.labels("train"), data.sampling_weights()
        weights[balance] = module.letter_weights
        assert torch.equal(module.letter_weights, balanced_weights(labels, shown))
        # a letter's weight is the inverse of its share in what is shown
        is_a = labels[:, 0] == 0
        icm = module.letter_weights[0]
        letters = int((icm > 0).sum())
        assert float(icm[0] * shown[is_a].sum() / len(labels)) == pytest.approx(1 / letters)
    assert weights["uniform"][0, 0] > weights["none"][0, 0]


def test_balanced_weights_without_labels_are_refused(make_trainer):
    data = grade_data()
    data.setup("fit")
    loader = data.train_dataloader()
    with pytest.raises(UserError, match="datamodule=GradeDataModule"):
        make_trainer(max_epochs=1, callbacks=[]).fit(make_grader(), loader)
    module = make_grader(class_weights="none")
    make_trainer(max_epochs=1, callbacks=[]).fit(module, loader)
    assert module.images_shown == 64
    assert (module.letter_weights == 1).all()


# -- checkpoints and features ---------------------------------------------------------------------


def test_a_checkpoint_gives_the_same_grader_back_and_no_random_state_moves(saved):
    module = make_grader(img_channels=3)
    module.images_shown = 96
    path = saved(module)
    state = torch.get_rng_state()
    loaded = GradeClassifier.load_from_checkpoint(path)
    assert torch.equal(torch.get_rng_state(), state)
    assert same_weights(loaded, module)
    assert loaded.images_shown == 96
    assert loaded.hparams == module.hparams
    assert not loaded.training


def test_checkpoints_of_other_models_are_refused(make_module, saved, tmp_path):
    gan = saved(make_module())
    for load in (GradeClassifier.load_from_checkpoint, lambda path: GraderFeatures(
        "grader", ["embedding"], path)):  # fmt: skip
        with pytest.raises(UserError, match="holds a ProGANModule, not a GradeClassifier"):
            load(gan)
        with pytest.raises(UserError, match="no checkpoint at"):
            load(tmp_path / "absent.ckpt")
        with pytest.raises(UserError, match="cannot read"):
            load(io.BytesIO(b"GIF89a"))
    path = saved(make_grader())
    with pytest.raises(UserError, match="feature_dim is 8 in the checkpoint and 16"):
        make_grader(feature_dim=16).on_load_checkpoint(torch.load(path, weights_only=True))
    with pytest.raises(UserError, match="does not fit a GradeClassifier"):
        GradeClassifier.load_from_checkpoint(path, feature_dim=16)


def test_features_are_those_before_the_heads_for_torch_fidelity(saved):
    module = make_grader()
    path = saved(module)
    extractor = GraderFeatures("grader", ["embedding"], str(path))
    assert extractor.feature_dim == 8
    assert not any(parameter.requires_grad for parameter in extractor.parameters())
    grey = images(4, side=48)
    (features,) = extractor(grey.repeat(1, 3, 1, 1))
    assert features.shape == (4, 8)
    assert features.dtype == torch.float32
    assert features.std(dim=0).max() > 0
    with torch.no_grad():
        network = module.network
        assert torch.equal(network.features(module.prepare(grey)), features)
        icm, te = network(module.prepare(grey))
    heads = network.icm_head(features), network.te_head(features)
    assert torch.equal(heads[0], icm)
    assert torch.equal(heads[1], te)
    again = GraderFeatures("grader", ["embedding"], io.BytesIO(path.read_bytes()))
    assert torch.equal(again(grey.repeat(1, 3, 1, 1))[0], features)
    assert extractor.get_default_feature_layer_for_metric("fid") == "embedding"


def test_without_a_checkpoint_the_message_says_how_to_get_one():
    with pytest.raises(UserError, match="blastogan grade"):
        GraderFeatures("grader", ["embedding"])
    with pytest.raises(UserError, match="float64"):
        GraderFeatures("grader", ["embedding"], "x.ckpt", "float64")
