"""Bodies, parameters and answers of the routes, as the OpenAPI description shows them.

The types below check the shape of a request; `hrnn_jax.ids_and_times` checks the ids and times in
it. The description is in OpenAPI 3.0, because the bundled Swagger UI reads no newer version, and
3.0 has `nullable` in place of a null type.
"""

from __future__ import annotations

import functools
import re
from typing import Annotated, Any, Generic, Literal, TypeVar

import pydantic

from hrnn_jax.ids_and_times import MAX_ID_BYTES, MAX_SECONDS, id_prefix, id_text
from hrnn_jax.live.events import Outcome

MAX_EVENTS = 1_000  # of one request
MAX_ROWS = 1_000  # users, items or sessions in one answer
MAX_RECOMMENDATIONS = 20_000  # in one history, about a megabyte
_CHARACTER = r"[^\u0000-\u001f\u007f-\u009f]"
_TEXT = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_ID_BYTES,  # OpenAPI counts characters, the service bytes
    "pattern": f"^{_CHARACTER}+$",
}
_ID = {"anyOf": [{"type": "integer", "format": "int64"}, _TEXT]}
_SECONDS = {"type": "number", "minimum": 0, "maximum": MAX_SECONDS - 1}
Id = Annotated[Any, pydantic.WithJsonSchema(_ID)]
OptionalId = Annotated[Any, pydantic.WithJsonSchema(_ID | {"nullable": True})]
OptionalTime = Annotated[Any, pydantic.WithJsonSchema(_SECONDS | {"nullable": True})]
Text = Annotated[str | None, pydantic.WithJsonSchema({"type": "string"})]  # left out if None
Number = Annotated[int | None, pydantic.WithJsonSchema({"type": "integer"})]
Titles = Annotated[
    dict[str, str] | None,
    pydantic.WithJsonSchema({"type": "object", "additionalProperties": {"type": "string"}}),
]
TextId = Annotated[  # of a path or a query
    str,
    pydantic.AfterValidator(functools.partial(id_text, "id")),
    pydantic.WithJsonSchema(_TEXT),
]
Prefix = Annotated[  # of ids
    str,
    pydantic.AfterValidator(id_prefix),
    pydantic.WithJsonSchema({"type": "string", "pattern": f"^{_CHARACTER}*$"}),
]


def _digits(value: Any) -> Any:
    """Return a number of a query, which int() reads from 1_0 and from other scripts' digits too."""
    if isinstance(value, str) and not re.fullmatch("-?[0-9]+", value):
        raise ValueError("give a whole number")
    return value


Count = Annotated[int, pydantic.BeforeValidator(_digits)]  # of a query
_PLACE = "^[0-9]{1,9}[.][0-9]{1,9}$"
EventPlace = Annotated[
    Annotated[str, pydantic.Field(pattern=_PLACE)] | None,
    pydantic.WithJsonSchema({"type": "string", "pattern": _PLACE}),
]


class RequestModel(pydantic.BaseModel):
    """A body or the parameters of a request; an unknown name is an error, it may be misspelt."""

    model_config = pydantic.ConfigDict(extra="forbid")

    @pydantic.model_validator(mode="before")
    @classmethod
    def _keep_one_unknown_name(cls, given: Any) -> Any:
        """Leave one unknown name to be refused: errors of 80,000 names would take too long."""
        if not isinstance(given, dict) or given.keys() <= cls.model_fields.keys():
            return given
        known = {name: given[name] for name in cls.model_fields if name in given}
        first = next(name for name in given if name not in known)
        return known | {first: given[first]}


class SessionEvent(RequestModel):
    """An event of an anonymous session."""

    item: Id = pydantic.Field(examples=["i42"])
    time: OptionalTime = pydantic.Field(None, description="Unix seconds; the current time if null")
    event_id: OptionalId = pydantic.Field(
        None,
        description="any id of this event: a second event with the same id changes nothing, as "
        "long as the first is among the newest events that are kept (--kept_events, 1,000 by "
        "default)",
    )


class Event(SessionEvent):
    """An event of a user."""

    user: Id = pydantic.Field(examples=["u1"])
    session: OptionalId = pydantic.Field(
        None,
        description="the session's id; if null, an event after an idle gap opens a new session",
    )

    @pydantic.field_validator("user")
    @classmethod
    def _check_user(cls, user: Any) -> Any:
        if user is None:
            raise ValueError("give an id; without a user, POST to /sessions/SESSION/events")
        return user


AnyEvent = TypeVar("AnyEvent", bound=SessionEvent)


class Several(RequestModel, Generic[AnyEvent]):
    """Several events; those of each user or session in order."""

    events: list[AnyEvent] = pydantic.Field(min_length=1, max_length=MAX_EVENTS)


class PreviewedEvent(RequestModel):
    """An event of a newcomer, which is not stored."""

    item: Id = pydantic.Field(examples=["i42"])
    time: OptionalTime = pydantic.Field(None, description="Unix seconds; the current time if null")
    session: OptionalId = pydantic.Field(
        None,
        description="the session's id; if null, an event after an idle gap opens a new session",
    )


class Preview(RequestModel):
    """The events of a newcomer, in order."""

    events: list[PreviewedEvent] = pydantic.Field(min_length=1, max_length=MAX_EVENTS)


TAGS = ("one", "several")
_ONE_OR_SEVERAL = pydantic.Discriminator(
    lambda body: TAGS[isinstance(body, dict) and "events" in body]
)
AnyEvents = Annotated[
    Annotated[Event, pydantic.Tag("one")] | Annotated[Several[Event], pydantic.Tag("several")],
    _ONE_OR_SEVERAL,
]
AnySessionEvents = Annotated[
    Annotated[SessionEvent, pydantic.Tag("one")]
    | Annotated[Several[SessionEvent], pydantic.Tag("several")],
    _ONE_OR_SEVERAL,
]


class Listing(RequestModel):
    """The parameters of a list of users or items."""

    prefix: Prefix = pydantic.Field("", description="the first characters of the ids")
    limit: Count = pydantic.Field(50, ge=1, le=MAX_ROWS)


@functools.cache
def recommendation_query(max_k: int) -> type[RequestModel]:
    """Return the parameters of a request for a list of at most `max_k` items."""

    class RecommendationQuery(RequestModel):
        k: Count = pydantic.Field(
            10, ge=1, le=max_k, description="items, fewer if no more are left"
        )
        exclude_seen: bool = pydantic.Field(False, description="leave out the user's stored items")
        exclude: list[TextId] = pydantic.Field([], description="items to leave out")
        candidates: list[TextId] = pydantic.Field(
            [], description="items to choose from; all if none is given"
        )

    return RecommendationQuery


class UserListing(Listing):
    """The parameters of a list of users."""

    order: Literal["id", "visits"] = pydantic.Field(
        "id",
        description="by id, or those with the most sessions first: of these the first 1,000 are "
        "known, as they were counted some time ago if there are many events",
    )


class Popular(RequestModel):
    """The parameters of the list of popular items."""

    k: Count = pydantic.Field(10, ge=1, le=MAX_ROWS, description="items")


class Outcomes(pydantic.BaseModel):
    """What happened to each event, in order."""

    outcomes: list[Outcome]


class DescribedItem(pydantic.BaseModel):
    """An item; the other fields are there if the file of --items has them."""

    item: Id
    title: Text = None
    image: Text = pydantic.Field(None, description="the address of a picture")
    url: Text = pydantic.Field(None, description="the address of the item's own page")


class Recommendation(DescribedItem):
    """An item and its score, which orders the items of one list.

    It is a log probability where the network has `places`, else no probability.
    """

    score: float


class Recommendations(pydantic.BaseModel):
    """Recommended items, best first."""

    recommendations: list[Recommendation]


class Step(DescribedItem, Recommendations):
    """An earlier event, and the list right after it."""

    time: float


class PreviewedStep(Recommendations):
    """What happened to an event of a preview, and the list right after it."""

    outcome: Outcome


class PreviewedSteps(pydantic.BaseModel):
    """The list after each event of a preview, in order."""

    events: list[PreviewedStep]


class Session(pydantic.BaseModel):
    """A session of a user; the number counts from 0."""

    session: int
    events: list[Step]


class History(pydantic.BaseModel):
    """The last sessions of a user, oldest first."""

    sessions: list[Session]


class Part(pydantic.BaseModel):
    """A part of a score, or of the part of the neighbours."""

    name: Literal["repeat", "explore", "habit", "network", "item", "neighbours", "others"] = (
        pydantic.Field(
            description="repeat, explore: the logarithm of the probability that the next event is "
            "of an item that the user had, or of another one; habit: when and how often the user "
            "had it; network: what the network reads from the events; item: what it has learnt of "
            "the item, whoever the user is; neighbours: what others had next to the last items; "
            "others: the items that it competes with"
        )
    )
    value: float


class Neighbour(DescribedItem):
    """One of the last items of the session, and its part in the part of the neighbours."""

    value: float


class Explanation(DescribedItem):
    """Why an item has its score."""

    score: float
    parts: list[Part] = pydantic.Field(description="they add up to the score")
    neighbours: list[Neighbour]


class Explanations(pydantic.BaseModel):
    """The explanations of items, in the order of the request."""

    explanations: list[Explanation]


class PopularItem(DescribedItem):
    """An item and the number of its stored events, of all users."""

    events: int


class PopularItems(pydantic.BaseModel):
    """The items with the most stored events, the most first."""

    popular: list[PopularItem]


class User(pydantic.BaseModel):
    """A user and the number of events so far; by visits, of those that are stored."""

    user: str
    events: int
    visits: Number = pydantic.Field(None, description="sessions; there with order=visits alone")


class Users(pydantic.BaseModel):
    """Users in the order that was asked for."""

    users: list[User]


class Items(pydantic.BaseModel):
    """Items that the model knows."""

    items: list[Id]
    titles: Titles = pydantic.Field(
        None, description="by id, those of these items; there with a file of --items alone"
    )


_FOLDER_NAME = "[A-Za-z0-9_-][A-Za-z0-9_.-]{0,254}"
_RUN_NAME = {"type": "string", "maxLength": 511, "pattern": f"^{_FOLDER_NAME}(/{_FOLDER_NAME})*$"}
_RunName = Annotated[
    str, pydantic.Field(max_length=_RUN_NAME["maxLength"], pattern=_RUN_NAME["pattern"])
]


class ReloadedRun(RequestModel):
    """The run folder to reload."""

    run: Annotated[_RunName | None, pydantic.WithJsonSchema(_RUN_NAME | {"nullable": True})] = (
        pydantic.Field(
            None,
            description="path of a run folder in the folder of --reload_runs, as LOG/MODEL; by "
            "default the run folder given at the start, read again",
        )
    )


class Reload(pydantic.BaseModel):
    """How far the last reload is."""

    status: Literal["none", "loading", "computing states", "done", "failed"]
    part: float = pydantic.Field(description="of its states that are computed, from 0 to 1")


class Health(pydantic.BaseModel):
    """What the service serves."""

    status: Literal["ok"]
    model: str
    data: str
    simulated: bool
    items: int
    states: int
    given_sessions: bool
    scores: Literal["log probabilities", "scores"]
    image_hosts: list[str] = pydantic.Field(description="whose pictures the page shows")
    compiled: bool = pydantic.Field(
        description="no request waits for a program any more; soon after the start, the first ones "
        "with candidates or with more than 100 items may wait a second or two"
    )
    reload: Reload


class Error(pydantic.BaseModel):
    """The answer to a request that failed."""

    detail: str = pydantic.Field(description="one line: what is wrong, where, and what to do")
