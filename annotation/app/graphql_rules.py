"""Which GraphQL requests an annotator may send: reading, of one dataset, nothing that names a Python class.

FiftyOne makes an object of whatever class stands as ``_cls`` in the stages of a view, with the arguments that
stand beside it, and one kind of stage is any MongoDB pipeline, which can also write: a query is no less dangerous
than a mutation. The App of FiftyOne 1.22 sends no mutation when it opens the panel's page, so none passes.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import graphql
from graphql.language import ast

# What the page with the panel reads.
_READABLE = frozenset(
    {
        "colorscale", "config", "context", "dataset", "datasets", "dev", "doNotTrack", "savedViews",
        "schemaForViewStages", "stageDefinitions", "uid", "version",
    }
)  # fmt: skip
# Which argument of a field names the dataset; the list of datasets is narrowed by a search to one name.
_DATASET_ARGUMENTS = {
    "dataset": "name", "datasets": "search", "savedViews": "datasetName", "schemaForViewStages": "datasetName",
}  # fmt: skip
# The page's own query has about 700; a longer one only costs time.
_MOST_TOKENS = 5000


def checked_graphql(body: Mapping[str, Any], dataset_name: str) -> tuple[dict[str, Any], str | None]:
    """Return the request to pass on, and why not to pass it on (None: it may pass).

    Parameters
    ----------
    body : mapping
        The request as it came.
    dataset_name : str
        The only dataset that may be read.
    """
    query, variables = body.get("query"), body.get("variables") or {}
    if not isinstance(query, str) or not isinstance(variables, dict):
        return {}, "expected the text of one query; stored and batched ones are not taken"
    try:
        document = graphql.parse(query, no_location=True, max_tokens=_MOST_TOKENS)
    except (graphql.GraphQLError, RecursionError) as error:
        return {}, f"not GraphQL: {error}"
    operations = [part for part in document.definitions if isinstance(part, ast.OperationDefinitionNode)]
    if len(operations) != 1 or operations[0].operation is not ast.OperationType.QUERY:
        return {}, "annotators may send one query, and no mutation or subscription"
    # The App sends variables that its query does not declare, the panels' layout with its classes among them.
    declared = {definition.variable.name.value for definition in operations[0].variable_definitions}
    # The page's variable `search` is what is typed where another dataset is chosen.
    used = {name: value for name, value in (variables | {"search": dataset_name}).items() if name in declared}
    return {"query": query, "variables": used}, _objection(document, operations[0], used, dataset_name)


def _objection(
    document: ast.DocumentNode,
    operation: ast.OperationDefinitionNode,
    variables: dict[str, Any],
    dataset_name: str,
) -> str | None:
    if _names_a_class(variables) or _literals_name_a_class(document):
        return "annotators may not ask for views of their own making"
    defaults = {
        definition.variable.name.value: graphql.value_from_ast_untyped(definition.default_value)
        for definition in operation.variable_definitions
        if definition.default_value is not None
    }
    for name, arguments in _root_fields(document, operation.selection_set, defaults | variables):
        if name not in _READABLE:
            return f"annotators may not read {name}"
        if name in _DATASET_ARGUMENTS and arguments.get(_DATASET_ARGUMENTS[name]) != dataset_name:
            return "annotators may read only the dataset that they judge"
    return None


def _root_fields(
    document: ast.DocumentNode, selections: ast.SelectionSetNode, variables: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and arguments of every field asked of the root, also by way of fragments."""
    fragments = {
        part.name.value: part for part in document.definitions if isinstance(part, ast.FragmentDefinitionNode)
    }
    waiting, seen = [selections], set()
    while waiting:
        for selection in waiting.pop().selections:
            if isinstance(selection, ast.FieldNode):
                arguments = {
                    argument.name.value: graphql.value_from_ast_untyped(argument.value, variables)
                    for argument in selection.arguments
                }
                yield selection.name.value, arguments
            elif isinstance(selection, ast.InlineFragmentNode):
                waiting.append(selection.selection_set)
            elif isinstance(selection, ast.FragmentSpreadNode) and selection.name.value not in seen:
                seen.add(selection.name.value)
                # The server itself refuses a fragment that is not there.
                if selection.name.value in fragments:
                    waiting.append(fragments[selection.name.value].selection_set)


def _names_a_class(value: Any) -> bool:
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            if "_cls" in part:
                return True
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)
    return False


class _ClassFinder(graphql.Visitor):
    def __init__(self) -> None:
        super().__init__()
        self.found = False

    def enter_object_field(self, node: ast.ObjectFieldNode, *_: Any) -> None:
        self.found |= node.name.value == "_cls"


def _literals_name_a_class(document: ast.DocumentNode) -> bool:
    finder = _ClassFinder()
    graphql.visit(document, finder)
    return finder.found
