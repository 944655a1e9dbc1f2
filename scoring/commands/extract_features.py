"""`extract-features`: what a network makes of pictures, and its head, as `score` reads them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from manifests.commands.options import (
    DEFAULT_WORKSPACE,
    DeviceOption,
    WorkspaceOption,
    pairs,
    recorded_arguments,
)
from manifests.commands.summary import announce
from manifests.completion import manifest_names, words
from manifests.errors import InputError
from manifests.run_report import current_report
from scoring.commands.offered import check_named_classifier

if TYPE_CHECKING:
    from scoring.feature_model import FeatureModel
    from scoring.odin_input import OdinInput
    from scoring.zero_shot import ImageTextEncoder


@dataclass(frozen=True)
class ClipModels:
    """CLIP models, which are `curation`'s, as this command needs them.

    Attributes
    ----------
    check : callable
        Takes model and weights, and refuses what `load` would, as far as that takes no weights.
    check_templates : callable
        Refuses a prompt ensemble that there is not.
    load : callable
        Takes model, weights and device.
    class_names : callable
        Returns the names of ImageNet-1K, in torchvision's order.
    """

    check: Callable[[str, str | None], None]
    check_templates: Callable[[str], None]
    load: "Callable[[str, str | None, str], ImageTextEncoder]"
    class_names: Callable[[], list[str]]


@dataclass(frozen=True)
class _ModelChoice:
    """Which model, of timm or of open_clip; attributes as the options of these names."""

    model: str | None
    checkpoint: Path | None
    n_classes: int | None
    model_arg: list[str] | None
    preprocess: list[str] | None
    clip: str | None
    pretrained: str | None
    classes: Path | None
    templates: str

    def __post_init__(self) -> None:
        """Refuse a choice of both or of none, and options that belong to the other."""
        if (self.model is None) == (self.clip is None):
            raise InputError("extract-features: expected either --model (timm) or --clip (open_clip)")
        own, of_other = "--model", ["pretrained", "classes"]
        if self.model is None:
            own, of_other = "--clip", ["checkpoint", "n_classes", "model_arg", "preprocess"]
        for option in of_other:
            if getattr(self, option):
                raise InputError(f"--{option.replace('_', '-')}: does not go with {own}")

    @property
    def files(self) -> list[Path]:
        """What it is made of, where those are files."""
        given = (self.checkpoint, self.clip, self.pretrained, self.classes)
        return [Path(file) for file in given if file is not None]

    @property
    def weights(self) -> tuple[str, str]:
        """Model and weights by name."""
        return str(self.model or self.clip), str(self.checkpoint or self.pretrained or "")

    def folder_name(self, odin: "OdinInput | None") -> str:
        """Return what the folder of its features is called: its name, that of its weights, ODIN's setting."""
        names = [part for part in (self.model, self.clip, self.pretrained) if part]
        parts = [Path(name).stem if Path(name).is_file() else Path(name).name for name in names]
        return ".".join([*parts, *([odin.suffix] if odin else [])])

    def check(self, clip_models: ClipModels) -> None:
        """Refuse what `load` would, as far as that takes no weights."""
        clip_models.check_templates(self.templates)
        if self.model is None:
            clip_models.check(str(self.clip), self.pretrained)
            return
        settings = {
            "n_classes": self.n_classes, "model_arguments": pairs(self.model_arg or (), "--model-arg"),
            "preprocess": self.preprocess or (),
        }  # fmt: skip
        check_named_classifier(self.model, self.checkpoint, settings)

    def load(self, clip_models: ClipModels, *, device: str, features_dir: Path) -> "FeatureModel":
        """Return the model; CLIP's head is made of the names of the classes, and kept in `features_dir`."""
        if self.clip is not None:
            from manifests.label_space import read_label_space
            from scoring.zero_shot import zero_shot_model

            clip_models.check_templates(self.templates)
            known = [one.name for one in read_label_space(self.classes)] if self.classes else None
            names = clip_models.class_names() if known is None else known
            encoder = clip_models.load(self.clip, self.pretrained, device)
            return zero_shot_model(encoder, names, self.templates, features_dir=features_dir, announce=announce)
        from scoring.classifier import load_classifier
        from scoring.named_preprocessing import preprocessing_changes

        return load_classifier(
            str(self.model), checkpoint=self.checkpoint, n_classes=self.n_classes, device=device,
            model_arguments=pairs(self.model_arg or (), "--model-arg"),
            preprocessing=preprocessing_changes(self.preprocess or (), str(self.model)),
        )  # fmt: skip


def extract_features(
    clip_models: ClipModels,
    context: typer.Context,
    feature_set: Annotated[str, typer.Option("--set", help="Name of the set to write: train, val, ...")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    model: Annotated[str | None, typer.Option(help="timm model name.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="With --model: local weights instead of timm's.")] = None,
    n_classes: Annotated[
        int | None, typer.Option(help="With --model: size of the head, where it is not timm's.")
    ] = None,
    model_arg: Annotated[
        list[str] | None, typer.Option(help="With --model: its argument KEY=VALUE, e.g. pad_type=same.")
    ] = None,
    preprocess: Annotated[
        list[str] | None,
        typer.Option(
            help="With --model: vim (as in the ViM repository), and KEY=VALUE of input_size_px, mean, std, "
            "interpolation, crop_fraction, crop_mode; default: the model's own."
        ),
    ] = None,
    clip: Annotated[
        str | None, typer.Option(help="Instead of --model: open_clip model name, or an open_clip config (.json).")
    ] = None,
    pretrained: Annotated[
        str | None, typer.Option(help="With --clip: weights tag of that model, or a local checkpoint.")
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(help="With --clip: CSV class_index,name[,wnid]; default: ImageNet-1K.")
    ] = None,
    templates: Annotated[
        str,
        typer.Option(
            help="With --clip: prompt ensemble, openai (80) or simple (7).",
            autocompletion=words("openai", "simple"),
        ),
    ] = "openai",
    images: Annotated[
        Path | None, typer.Option(help="Folder of pictures; default: the workspace's downloads.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="CSV file,class_index for the pictures of --images.")] = None,
    image_ids: Annotated[Path | None, typer.Option(help="Keep only the images of this list.")] = None,
    manifest: Annotated[
        str | None,
        typer.Option(
            help="Keep only the images of this manifest of the workspace.", autocompletion=manifest_names
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Folder below features/; default: named after model and ODIN setting.")
    ] = None,
    odin_epsilon: Annotated[
        float, typer.Option(help="ODIN's step in pixel values of 0 to 1, e.g. 0.0014; 0: pictures as they are.")
    ] = 0.0,
    odin_temperature: Annotated[
        float | None, typer.Option(help="With --odin-epsilon: its temperature; default: 1000.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Pictures in one call of the model.")] = 64,
    workers: Annotated[int, typer.Option(help="Threads that decode ahead of the model.")] = 2,
    device: DeviceOption = "auto",
) -> None:
    """Write the penultimate features of a set of pictures, and the head, of a timm or open_clip model.

    \b
    Example: python cli.py extract-features --model resnet50.tv_in1k --set val --images imagenet/val
    """
    choice = _ModelChoice(
        model, checkpoint, n_classes, model_arg, preprocess, clip, pretrained, classes, templates
    )
    from manifests import schema
    from manifests.workspace import Workspace, checked_name
    from scoring.extract import extract_features as extract
    from scoring.extract import extract_summary, plan_extract
    from scoring.odin_input import odin_input
    from scoring.pictures import pictures_to_extract

    space = Workspace(workspace)
    odin = odin_input(odin_epsilon, odin_temperature)
    folder = space.features_dir / checked_name(name or choice.folder_name(odin), "--name")
    tables = [] if images else [space.path_of(schema.CANDIDATES), space.path_of(schema.DOWNLOADS)]
    inputs = [*tables, *choice.files, *(path for path in (labels, image_ids) if path is not None)]
    record_name = f"extract-features.{folder.name}.{checked_name(feature_set, '--set')}"
    find_pictures = partial(
        pictures_to_extract, space, images_dir=images, labels_path=labels, image_ids_path=image_ids,
        manifest_name=manifest,
    )  # fmt: skip
    if current_report().is_dry_run:
        choice.check(clip_models)
        plan = plan_extract(
            find_pictures(n_classes=n_classes), set_name=feature_set, features_dir=folder, batch_size=batch_size,
            weights=choice.weights,
        )  # fmt: skip
        current_report().plan = plan.recorded_as(workspace, record_name)
        return
    with space.stage("extract-features", recorded_arguments(context), inputs, record_as=record_name) as record:
        network = choice.load(clip_models, device=device, features_dir=folder)
        source = find_pictures(n_classes=network.head.n_classes)
        result = extract(
            source, network, set_name=feature_set, features_dir=folder, odin=odin, batch_size=batch_size,
            n_workers=workers,
        )  # fmt: skip
        record.counts = {"images": result.n_images, "unreadable": result.n_unreadable}
    print(extract_summary(result))
