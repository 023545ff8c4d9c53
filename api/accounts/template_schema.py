"""What a template must look like, and where it does not: the field, the rule, and the line.   Catalogue §6.4. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import orjson
import yaml
from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from api.http import yaml_text
from api.http.problems import Problem, invalid
from api.http.yaml_text import Unwelcome
from api.sessions.environ import Environ
from api.sessions.requests import Amount
from domain.directory.messages.personal import TemplateKind
from domain.session.status import ClusterMode

TEMPLATES_MAX: Final = 20
"""In one request."""

PAYLOAD_MAX: Final = 65536

Json = dict[str, Any]


def _text(value: Any) -> Any:
    """Numbers written without quotes are meant as text."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else value


def _texts(value: Any) -> Any:
    return {name: _text(each) for name, each in value.items()} if isinstance(value, dict) else value


Text = Annotated[str, BeforeValidator(_text), Field(max_length=4096)]
Needed = Annotated[str, BeforeValidator(_text), Field(min_length=1, max_length=512)]
Name = Annotated[str, BeforeValidator(_text), Field(min_length=1, max_length=128)]
Variables = Annotated[Environ, BeforeValidator(_texts)]


class Part(BaseModel):
    """A key that is not known is a slip of the pen, and is told."""

    model_config = ConfigDict(extra="forbid")


class Metadata(Part):
    name: Name
    tag: Text | None = None


class Run(Part):
    bootstrap: Annotated[str, Field(max_length=65536)] | None = None
    startup_command: Text | None = Field(
        None, validation_alias=AliasChoices("startup_command", "startupCommand", "startup", "stratup")
    )


class Credential(Part):
    username: Text
    password: Text


class Git(Part):
    repository: Needed
    commit: Text | None = None
    branch: Text | None = None
    credential: Credential | None = None
    destination_dir: Text | None = Field(None, validation_alias=AliasChoices("destination_dir", "destinationDir"))


class Kernel(Part):
    image: Needed
    environ: Variables | None = None
    run: Run | None = None
    git: Git | None = None


class TaskSpec(Part):
    session_type: Literal["interactive", "batch"] = Field(
        "interactive", validation_alias=AliasChoices("type", "sessionType", "session_type")
    )
    kernel: Kernel | None = None
    mounts: Annotated[dict[str, Text | None], Field(max_length=256)] | None = None
    resources: Annotated[dict[str, Amount], Field(max_length=64)] | None = None


class Task(Part):
    api_version: Name = Field(validation_alias=AliasChoices("api_version", "apiVersion"))
    kind: Literal["taskTemplate", "task_template"]
    metadata: Metadata
    spec: TaskSpec


class Node(Part):
    """`session_template`: the id of a task template."""

    role: Name
    session_template: Name = Field(validation_alias=AliasChoices("session_template", "sessionTemplate"))
    replicas: int = Field(1, ge=1, le=512)


class ClusterSpec(Part):
    environ: Variables | None = None
    mounts: Annotated[dict[str, Text | None], Field(max_length=256)] | None = None
    nodes: Annotated[list[Node], Field(min_length=1, max_length=64)]


class Cluster(Part):
    api_version: Name = Field(validation_alias=AliasChoices("api_version", "apiVersion"))
    kind: Literal["clusterTemplate", "cluster_template"]
    mode: ClusterMode
    metadata: Metadata
    spec: ClusterSpec


_MODELS: Final[Mapping[TemplateKind, type[Task] | type[Cluster]]] = {
    TemplateKind.TASK: Task,
    TemplateKind.CLUSTER: Cluster,
}


@dataclass(frozen=True, slots=True)
class Draft:
    """A template that fits the schema. `body`: as it was written, parsed."""

    name: str
    body: Json


def drafts(payload: str | Json | list[Any], kind: TemplateKind) -> list[Draft]:
    """Of YAML or JSON text (several documents, or a list), or of values. Raises `Problem` that names field and line."""
    return [_draft(value, node, kind) for value, node in _documents(payload)]


def _draft(value: Any, node: yaml.Node | None, kind: TemplateKind) -> Draft:
    name = None
    path: list[str | int] = []
    if isinstance(value, dict) and "template" in value:  # as a list of them is given to the reference
        name, value, path = value.get("name"), value["template"], ["template"]
    try:
        read = _MODELS[kind].model_validate(value)
    except ValidationError as error:
        raise _not_valid(error, path, node) from None
    if name is not None and not (isinstance(name, str) and 1 <= len(name) <= 128):
        raise invalid("payload.name", "string", "the name of a template has 1 to 128 characters")
    return Draft(name or read.metadata.name, value)


def _documents(payload: str | Json | list[Any]) -> list[tuple[Any, yaml.Node | None]]:
    if not isinstance(payload, str):
        values = payload if isinstance(payload, list) else [payload]
        return [(value, None) for value in _some(values)]
    if len(payload) > PAYLOAD_MAX:
        raise invalid("payload", "length", f"a payload has at most {PAYLOAD_MAX} characters")
    try:
        yaml_text.check(payload)
        loaded = list(_loaded(payload))
    except Unwelcome as error:
        raise invalid("payload", error.rule, f"line {error.line}: {error}") from None
    except yaml.MarkedYAMLError as error:
        raise invalid("payload", "yaml", f"{_at(error.problem_mark)}{error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise invalid("payload", "yaml", f"this is no YAML: {str(error)[:200]}") from None
    documents: list[tuple[Any, yaml.Node | None]] = []
    for value, node in loaded:
        if isinstance(value, list) and isinstance(node, yaml.SequenceNode):
            documents += zip(value, node.value, strict=True)
        elif value is not None:
            documents.append((value, node))
    return list(_some(documents))


def _loaded(text: str) -> Iterator[tuple[Any, yaml.Node]]:
    """Each document and where its parts stand in the text."""
    loader = yaml_text.Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            assert node is not None
            yield _plain(loader.construct_document(node)), node
    finally:
        loader.dispose()


def _some(documents: Sequence[Any]) -> Sequence[Any]:
    if not 1 <= len(documents) <= TEMPLATES_MAX:
        raise invalid(
            "payload", "count", f"a payload has 1 to {TEMPLATES_MAX} templates, and this has {len(documents)}"
        )
    return documents


def _at(mark: Any) -> str:
    """`mark`: of either of the two loaders."""
    return "" if mark is None else f"line {mark.line + 1}: "


def _plain(value: Any) -> Any:
    """Itself, if JSON can say the same: dates and the like must be quoted. Raises `ValueError`."""
    try:
        return orjson.loads(orjson.dumps(value, option=orjson.OPT_PASSTHROUGH_DATETIME))
    except TypeError as error:
        raise ValueError(f"{error}: put it in quotes") from error


def _not_valid(error: ValidationError, path: Sequence[str | int], node: yaml.Node | None) -> Problem:
    told: list[tuple[str, str, str]] = []
    for each in error.errors(include_url=False, include_input=False, include_context=False)[:20]:
        location = [*path, *each["loc"]]
        line = _line(node, location)
        detail = str(each["msg"]) if line is None else f"line {line}: {each['msg']}"
        told.append((".".join(["payload", *map(str, location)])[:200], str(each["type"]), detail))
    problem = invalid(*told[0])
    problem.members["data"] = {field: detail for field, _, detail in told}
    return problem


def _line(node: yaml.Node | None, location: Sequence[str | int]) -> int | None:
    """Of the value there, or of the innermost thing that should have it."""
    if node is None:
        return None
    for step in location:
        inner = next((value for name, value in _inner(node) if name == step), None)
        if inner is None:
            break
        node = inner
    return int(node.start_mark.line) + 1


def _inner(node: yaml.Node) -> Iterator[tuple[str | int, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        yield from ((key.value, value) for key, value in node.value)
    elif isinstance(node, yaml.SequenceNode):
        yield from enumerate(node.value)
