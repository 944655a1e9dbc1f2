"""A small drawn workspace, example pictures and decisions, for the tests of annotation."""

from dataclasses import replace
from pathlib import Path

from PIL import Image, ImageDraw

from annotation.decisions import Decision
from manifests import schema
from manifests.workspace import Workspace

CLASS_NAMES = (
    "tench", "goldfish", "great white shark, white shark", "tiger shark", "hammerhead", "electric ray", "stingray",
    "rooster", "hen", "ostrich", "brambling", "house finch, linnet, Carpodacus mexicanus",
)  # fmt: skip


def image_id_of(number: int) -> str:
    return f"{number:016x}"


def risk_of(number: int) -> float:
    # Not in the order of the ids, and two pictures share a risk.
    return [0.25, 0.5, 0.75, 0.5, 1.0, 0.125, 0.0, 0.875][number % 8]


def shown_classes_of(number: int) -> list[int]:
    return [(number + step) % len(CLASS_NAMES) for step in range(10)]


def draw_picture(path: Path, label: str, *, colour: str = "steelblue", size: tuple[int, int] = (400, 300)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new("RGB", size, colour)
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, 0, size[0] // 4, size[1] // 4), fill="gold")
    pen.text((size[0] // 2 - 40, size[1] // 2), label, fill="white", font_size=28)
    picture.save(path, "JPEG")


def make_workspace(root: Path, *, n_review: int = 6, n_dropped: int = 1) -> Workspace:
    """A workspace as the screen leaves it: `n_review` pictures to judge, one of them a control."""
    workspace = Workspace(root)
    downloads, screen = [], []
    for number in range(n_review + n_dropped):
        image_id = image_id_of(number)
        path = workspace.relative_image_path(image_id)
        width_px, height_px = (400, 300) if number % 2 else (300, 400)
        draw_picture(root / path, f"{number}", size=(width_px, height_px))
        downloads.append(
            dict.fromkeys(schema.DOWNLOADS.schema.names)
            | {"image_id": image_id, "status": "ok", "attempts": 1, "path": path}
            | {"width_px": width_px, "height_px": height_px}
        )
        is_dropped = number >= n_review
        screen.append(
            {
                "image_id": image_id,
                "status": "dropped" if is_dropped else "review",
                "reason": "in_class" if is_dropped else None,
                "duplicate_of": None,
                "risk": risk_of(number),
                "shown_classes": shown_classes_of(number),
                "shown_similarities": [round(0.31 - 0.01 * place, 2) for place in range(10)],
                "is_control": number == 1,
            }
        )
    workspace.write(
        schema.CANDIDATES,
        [{"image_id": row["image_id"], "subset": "test", "url": "http://mirror.invalid"} for row in downloads],
    )
    workspace.write(schema.DOWNLOADS, downloads)
    workspace.write(schema.SCREEN, screen)
    lines = [f'{index},"{name}",n{index:08d}' for index, name in enumerate(CLASS_NAMES)]
    (root / "classes.csv").write_text("class_index,name,wnid\n" + "\n".join(lines) + "\n")
    return workspace


def make_examples(root: Path, *, n_classes: int = len(CLASS_NAMES)) -> Path:
    for class_index in range(n_classes):
        # Both names of a folder that are allowed.
        folder = str(class_index) if class_index % 2 else f"n{class_index:08d}"
        draw_picture(root / folder / "a.jpg", CLASS_NAMES[class_index][:8], colour="darkgreen")
    return root


def decision(name: str, image_id: str = "a", answer: str = "out", **changes: object) -> Decision:
    made = Decision(
        decision_id=name,
        image_id=image_id,
        answer="out",
        class_index=None,
        shown_classes=(3, 7),
        queue="first",
        seconds=1.5,
        guideline="vim-section-5",
        tool_version="0.1.0",
        at="2026-01-02T03:04:05.678+00:00",
    )
    return replace(made, **{"answer": answer, "class_index": 7 if answer == "in" else None} | changes)
