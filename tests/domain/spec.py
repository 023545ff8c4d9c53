"""Given events, when a command comes, then these events follow: the one form of every example in this folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from domain.context import AnyContext, Send
from domain.messages import Command, Event, Refused, Unneeded


@dataclass(frozen=True)
class Outcome:
    """What came of a command."""

    context: AnyContext
    state: Any
    events: Sequence[Event]
    refused: Refused | None = None
    unneeded: Unneeded | None = None

    def then(self, *expected: Event) -> "Outcome":
        """Exactly these events."""
        assert self.refused is None, f"refused: {self.refused}"
        assert list(self.events) == list(expected)
        return self

    def then_types(self, *expected: type[Event]) -> "Outcome":
        """Events of exactly these classes, whatever they say."""
        assert self.refused is None, f"refused: {self.refused}"
        assert [type(event) for event in self.events] == list(expected)
        return self

    def then_refused(self, code: str) -> None:
        assert self.refused is not None, f"not refused: {[type(event).__name__ for event in self.events]}"
        assert self.refused.code == code

    def then_nothing(self) -> None:
        """It was so already: no events, and no refusal either."""
        assert self.refused is None, f"refused: {self.refused}"
        assert not self.events

    def only(self, kind: type[Event]) -> Any:
        """The one event of that class."""
        found = [event for event in self.events if isinstance(event, kind)]
        assert len(found) == 1, [type(event).__name__ for event in self.events]
        return found[0]

    @property
    def sends(self) -> list[Send]:
        """All consequences, in order."""
        state, sends = self.state, list[Send]()
        for event in self.events:
            sends += self.context.consequences(event, state)
            state = self.context.evolve(state, event)
        return sends

    def told(self, context: str) -> list[Send]:
        """The consequences for one context, or for agents."""
        return [send for send in self.sends if send.to == context]

    @property
    def after(self) -> Any:
        """The state when all of it has happened."""
        state = self.state
        for event in self.events:
            state = self.context.evolve(state, event)
        return state


@dataclass(frozen=True)
class Given:
    context: AnyContext
    state: Any

    def when(self, command: Command) -> Outcome:
        try:
            events = self.context.decide(command, self.state)
        except Refused as refused:
            return Outcome(self.context, self.state, [], refused=refused)
        except Unneeded as unneeded:
            return Outcome(self.context, self.state, [], unneeded=unneeded)
        for event in events:
            assert self.context.events.validate_json(event.model_dump_json()) == event, "does not survive the log"
        return Outcome(self.context, self.state, events)

    def and_when(self, *commands: Command) -> "Given":
        """What the commands led to has happened as well."""
        given = self
        for command in commands:
            given = Given(self.context, given.when(command).after)
        return given


def given(context: AnyContext, *events: Event) -> Given:
    """These events have happened under one key of the context."""
    state = context.empty
    for event in events:
        state = context.evolve(state, event)
    return Given(context, state)
