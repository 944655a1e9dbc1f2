"""What a curator's browser may ask of FiftyOne's server: the grid, views of it, and how it looks.

A curator sees everything that is known of a picture and changes nothing but views, colours and layout, which are
FiftyOne's own. No operator that writes a sample or reads the disk passes, and decisions are not written from here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from annotation.app.graphql_rules import ANNOTATOR_RULES, GraphqlRules, objects_in
from annotation.app.policy import CheckedBody, Policy, PostRule, Refusal

# Stages that choose, order or hide samples. Not among them: Mongo, which can write, and those that make datasets
# (ToPatches, ToClips, ...), for which there is nothing here.
_STAGES = frozenset(
    f"fiftyone.core.stages.{name}"
    for name in (
        "Exclude", "ExcludeBy", "ExcludeFields", "Exists", "GroupBy", "Limit", "Match", "MatchTags", "Select",
        "SelectBy", "SelectFields", "Shuffle", "Skip", "SortBy", "SortBySimilarity", "Take",
    )
)  # fmt: skip
# What MongoDB runs as a program, and what could read or write another collection.
_REFUSED_MONGODB = frozenset(
    (
        "$accumulator", "$function", "$graphLookup", "$lookup", "$merge", "$out", "$unionWith", "$where",
    )
)  # fmt: skip
# Filters have paths as keys, and these are the documents in which paths of a sample go on.
_DOCUMENTS = ("metadata.", "clip.")

# Space and Panel are of the layout: FiftyOne looks these two up in a list of its own.
_CLASSES = (*_STAGES, "Space", "Panel")

_READING_OPERATORS = frozenset(
    (
        "@voxel51/operators/get_field_schema", "@voxel51/operators/get_label_schemas",
        "@voxel51/operators/list_saved_views", "@voxel51/operators/list_workspaces",
    )
)  # fmt: skip


# What the sidebar, the similarity search and the map of embeddings read, all by POST.
_VIEW_PATHS = (
    "/aggregate", "/embeddings/color-by-choices", "/embeddings/extended-stage", "/embeddings/plot",
    "/embeddings/selection", "/embeddings/v2/color", "/embeddings/v2/geometry", "/embeddings/v2/ids",
    "/embeddings/v2/lasso-stage", "/embeddings/v2/masks", "/embeddings/v2/run-info",
    "/embeddings/v2/runs-status", "/embeddings/v2/sample-info", "/sort", "/tagging", "/values",
)  # fmt: skip


def curator_objection(value: Any) -> str | None:
    """Return what of a JSON value with stages of views may not pass, or None."""
    for part in objects_in(value):
        if "_cls" in part and part["_cls"] not in _CLASSES:
            return f"{part['_cls']!r} in a view"
        for name in part:
            # Stages stand also as keys, with their arguments beside them.
            is_strange = "." in name and name not in _STAGES and not name.startswith(_DOCUMENTS)
            if is_strange or name in _REFUSED_MONGODB:
                return f"{name!r} in a view"
        if _writes_distances(part):
            return "distances written into the samples"
    return None


def _writes_distances(part: Mapping[str, Any]) -> bool:
    arguments = part.get("kwargs")
    pairs = [pair for pair in arguments if isinstance(pair, list)] if isinstance(arguments, list) else []
    given = [*part.items(), *((pair[0], pair[1]) for pair in pairs if len(pair) == 2)]
    return any(name == "dist_field" and value is not None for name, value in given)


CURATOR_RULES = GraphqlRules(
    "curators",
    {
        **ANNOTATOR_RULES.readable, "aggregations": "form.dataset", "estimatedDatasetCount": "",
        "lightning": "input.dataset", "sample": "dataset", "samples": "dataset",
    },
    {
        "createSavedView": "datasetName", "deleteSavedView": "datasetName", "updateSavedView": "datasetName",
        "searchSelectFields": "datasetName", "setDatasetColorScheme": "datasetName",
        "setSidebarGroups": "dataset", "setView": "datasetName",
        **dict.fromkeys(
            (
                "setColorScheme", "setFieldVisibilityStage", "setGroupSlice", "setLabelSelectionStyle",
                "setSample", "setSampleSelectionStyle", "setSelected", "setSelectedLabels", "setSelectedSamples",
                "setSpaces",
            ),
            "",
        ),
    },
    curator_objection,
)  # fmt: skip


@dataclass(frozen=True)
class CuratorPolicy(Policy):
    """The rules of the curator's server; `tokens` are for one who is no annotator.

    Attributes
    ----------
    dataset_id : str
        FiftyOne's own id of the dataset, by which one request names it.
    """

    dataset_id: str

    def page(self, annotator_id: str) -> str:
        """Return the path of the page that a login leads to."""
        return f"/datasets/{self.dataset_name}"

    def _view(self, body: dict[str, Any], logged_in: Sequence[str]) -> CheckedBody:
        objection = curator_objection(body)
        if objection:
            raise Refusal(403, f"curators may not ask for {objection}")
        # Whatever dataset the browser names, by whichever of FiftyOne's three words for it.
        own = {"dataset": self.dataset_name, "datasetName": self.dataset_name, "datasetId": self.dataset_id}
        return CheckedBody(body | {word: name for word, name in own.items() if word in body})

    def _execute_reading(self, body: dict[str, Any], logged_in: Sequence[str]) -> CheckedBody:
        uri = body.get("operator_uri")
        if uri not in _READING_OPERATORS:
            raise Refusal(403, f"curators may not run {uri!r}")
        return CheckedBody({"operator_uri": uri, "dataset_name": self.dataset_name, "params": {}})

    def _stream(self, body: dict[str, Any], logged_in: Sequence[str]) -> CheckedBody:
        checked = self._events(body, logged_in)
        given = body.get("initializer")
        view = given.get("view") if isinstance(given, dict) else None
        # The name of a saved view, which stands in the page's address.
        initializer = {"dataset": self.dataset_name} | ({"view": view} if isinstance(view, str) else {})
        return CheckedBody(checked.forwarded | {"initializer": initializer})

    bundle_path: ClassVar[str] = "/plugins/curate/dist/index.umd.js"
    graphql_rules: ClassVar[GraphqlRules] = CURATOR_RULES
    post_rules: ClassVar[Mapping[str, PostRule]] = {
        **Policy.post_rules,
        "/operators/execute": _execute_reading,
        "/events": _stream,
        **dict.fromkeys(_VIEW_PATHS, _view),
    }
