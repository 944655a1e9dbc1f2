"""Which GraphQL requests may be sent: those that a role names, of one dataset, with no class but those it allows.

FiftyOne makes an object of whatever class stands as ``_cls`` in the stages of a view, with the arguments that
stand beside it, and one kind of stage is any MongoDB pipeline, which can also write: a query is no less dangerous
than a mutation. The App of FiftyOne 1.22 sends no mutation when it opens the panel's page, so none passes there.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import graphql
from graphql.language import ast

_NO_DATASET = ""


@dataclass(frozen=True)
class GraphqlRules:
    """What one role may send.

    Attributes
    ----------
    who : str
        The role, in the plural, as messages name it.
    readable, changeable : mapping of str to str
        Root fields of queries and of mutations, each with the argument that names the dataset (``form.dataset``:
        in an input object); empty where none does.
    objection : callable
        Takes a JSON value that may hold stages of views, and tells why it may not pass, or None.
    """

    who: str
    readable: Mapping[str, str]
    changeable: Mapping[str, str]
    objection: Callable[[Any], str | None]


def _class_objection(value: Any) -> str | None:
    return "views of their own making" if any("_cls" in part for part in objects_in(value)) else None


def objects_in(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every JSON object in a JSON value, however deep."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield part
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)


ANNOTATOR_RULES = GraphqlRules(
    "annotators",
    # What the page with the panel reads; the list of datasets is narrowed by a search to one name.
    {
        **dict.fromkeys(("colorscale", "config", "context", "dev", "doNotTrack", "uid", "version"), _NO_DATASET),
        "stageDefinitions": _NO_DATASET, "dataset": "name", "datasets": "search", "savedViews": "datasetName",
        "schemaForViewStages": "datasetName",
    },
    {},
    _class_objection,
)  # fmt: skip

# The page's own query has about 700; a longer one only costs time.
_MOST_TOKENS = 5000


def checked_graphql(
    body: Mapping[str, Any], dataset_name: str, rules: GraphqlRules
) -> tuple[dict[str, Any], str | None]:
    """Return the request to pass on, and why not to pass it on (None: it may pass).

    Parameters
    ----------
    body : mapping
        The request as it came.
    dataset_name : str
        The only dataset that may be read.
    rules : GraphqlRules
        Of whoever asks.
    """
    query, variables = body.get("query"), body.get("variables") or {}
    if not isinstance(query, str) or not isinstance(variables, dict):
        return {}, "expected the text of one query; stored and batched ones are not taken"
    try:
        document = graphql.parse(query, no_location=True, max_tokens=_MOST_TOKENS)
    except (graphql.GraphQLError, RecursionError) as error:
        return {}, f"not GraphQL: {error}"
    operations = [part for part in document.definitions if isinstance(part, ast.OperationDefinitionNode)]
    allowed = _allowed_fields(operations, rules)
    if not allowed:
        more = "" if rules.changeable else "mutation or "
        return {}, f"{rules.who} may send one query, and no {more}subscription"
    # The App sends variables that its query does not declare, the panels' layout with its classes among them.
    declared = {definition.variable.name.value for definition in operations[0].variable_definitions}
    # The page's variable `search` is what is typed where another dataset is chosen.
    used = {name: value for name, value in (variables | {"search": dataset_name}).items() if name in declared}
    objection = rules.objection(used)
    # In the text itself, where the App never has one, a class is never right: its arguments may stand elsewhere.
    if _literals_name_a_class(document):
        objection = "views of their own making"
    if objection:
        return {}, f"{rules.who} may not ask for {objection}"
    refused = _refused_field(document, operations[0], used, (allowed, dataset_name))
    return {"query": query, "variables": used}, refused and f"{rules.who} may {refused}"


def _allowed_fields(
    operations: Sequence[ast.OperationDefinitionNode], rules: GraphqlRules
) -> Mapping[str, str] | None:
    fields = {ast.OperationType.QUERY: rules.readable, ast.OperationType.MUTATION: rules.changeable}
    return fields.get(operations[0].operation) if len(operations) == 1 else None


def _refused_field(
    document: ast.DocumentNode,
    operation: ast.OperationDefinitionNode,
    variables: dict[str, Any],
    allowed: tuple[Mapping[str, str], str],
) -> str | None:
    dataset_arguments, dataset_name = allowed
    defaults = {
        definition.variable.name.value: graphql.value_from_ast_untyped(definition.default_value)
        for definition in operation.variable_definitions
        if definition.default_value is not None
    }
    for name, arguments in _root_fields(document, operation.selection_set, defaults | variables):
        if name not in dataset_arguments:
            return f"not read {name}" if operation.operation is ast.OperationType.QUERY else f"not change {name}"
        where = dataset_arguments[name]
        if where != _NO_DATASET and _at(arguments, where) != dataset_name:
            return "read only the dataset that is served"
    return None


def _at(arguments: Any, where: str) -> Any:
    found = arguments
    for name in where.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


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
