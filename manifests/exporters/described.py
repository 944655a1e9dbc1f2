"""The words that describe a set, for every format that carries a description."""

from collections import Counter

from manifests.exporters.exported_set import ExportedSet

SOURCE_URL = "https://storage.googleapis.com/openimages/web/index.html"
ANNOTATION_LICENSE_URL = "https://creativecommons.org/licenses/by/4.0/"
"""Of Open Images' own annotations, as its site states."""

CITATION = (
    "@inproceedings{wang2022vim, title={ViM: Out-Of-Distribution with Virtual-logit Matching}, "
    "author={Wang, Haoqi and Li, Zhizhong and Feng, Litong and Zhang, Wayne}, "
    "booktitle={IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)}, year={2022}}"
)
"""As in CITATION.cff: the paper that the set and its protocol are of."""

LABEL_SENTENCE = (
    "Every image has the label -1: it shows no object of the 1,000 classes of ImageNet-1K, so a detector should "
    "call it out-of-distribution."
)
USE_CASE = "Evaluation of out-of-distribution detection for classifiers trained on ImageNet-1K; not for training."
RIGHTS_SENTENCE = (
    "Licences and authors are those that the metadata of Open Images lists; ATTRIBUTION.csv names them for every "
    "image. Verify a licence yourself before you redistribute."
)
PEOPLE_SENTENCE = (
    "The pictures were published on Flickr by their authors and may show people and private property; "
    "`retire` withdraws an image from every later export and version."
)


def summary(export: ExportedSet) -> str:
    """Return one paragraph: what the set is, how large, and by which digest it is known."""
    splits = ", ".join(f"{split}: {len(records):,}" for split, records in export.by_split().items())
    retired = f" {export.n_retired:,} images retired since are left out." if export.n_retired else ""
    return (
        f"{export.name} {export.version}: {len(export.records):,} images of Open Images ({splits}). "
        f"{LABEL_SENTENCE} The manifest's records have the SHA-256 {export.header['content_sha256']}.{retired}"
    )


def protocol(export: ExportedSet) -> str:
    """Return how it was decided that the images are out of distribution, as far as the logs tell."""
    sources = Counter(record["verdict_source"] or "not known" for record in export.records)
    parts = ", ".join(f"{source}: {n:,}" for source, n in sorted(sources.items()))
    text = f"Where the verdicts come from: {parts}."
    facts = export.facts
    if facts.n_answers:
        text += (
            f" {facts.n_annotators} annotators, each blind to the others, saw every image beside the ten most "
            f"similar ImageNet classes and gave {facts.n_answers:,} answers that stand, from {facts.first_day} to "
            f"{facts.last_day} (UTC). Guidelines: {', '.join(facts.guidelines)}."
        )
    return text


def votes(export: ExportedSet) -> str | None:
    """Return how many annotators called an image out, as a sentence; None where nothing is known of votes."""
    n_out = Counter(record["n_out"] for record in export.records if record["n_out"] is not None)
    if not n_out:
        return None
    parts = ", ".join(f"{n} votes: {images:,} images" for n, images in sorted(n_out.items()))
    return f"Answers 'out' an image: {parts}."


def certificate(export: ExportedSet) -> str | None:
    """Return what an audit of the frozen set found, as its header states it; None where there was none."""
    stated = export.header.get("certificate")
    if not stated:
        return None
    removed = stated["n_removed_since"]
    of_what = f" of this version, which leaves out {removed:,} of them," if removed else ""
    outcome = "certifies" if stated["is_certified"] else "does not certify"
    return (
        f"The blind audit {stated['audit']} of {stated['manifest']} found {stated['n_defects']:,} defects in a "
        f"sample of {stated['n_sample']:,} of {stated['n_images']:,} images: with {stated['confidence']:.0%} "
        f"confidence, at most {stated['upper_bound_here']:.4%}{of_what} are defects. For "
        f"{stated['manifest']} it {outcome} the bound of {stated['bound']:.4%} that it was planned for."
    )
